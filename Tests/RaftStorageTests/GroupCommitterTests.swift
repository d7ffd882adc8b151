import Foundation
import LMDB
import Raft
import Testing

@testable import RaftStorage

@Suite("The storage thread")
struct GroupCommitterTests {
    @Test("makes writes durable in order and in groups, and reports them")
    func groups() async throws {
        let world = try LogWorld()
        let (store, _) = try world.open()
        let (persisted, commits, failures) = (
            Reports<WriteSequence>(), Reports<GroupCommitter.Commit>(), Reports<StorageError>()
        )
        let committer = GroupCommitter(
            store: store,
            onPersisted: { persisted.add($0) },
            onFailure: { failures.add($0) },
            onCommit: { commits.add($0) }
        )
        for sequence in 1...WriteSequence(500) {
            committer.submit(.of(sequence, append: [command(sequence)]))
        }
        let reported = await persisted.wait { $0.last == 500 }
        #expect(reported == reported.sorted())
        #expect(store.lastPosition.index == 500)
        #expect(commits.all.map(\.sequence) == reported)
        #expect(commits.all.reduce(0) { $0 + $1.writes } == 500)
        #expect(commits.all.count < 500, "what waits while the disk works goes into one commit")
        committer.submit(.of(501, append: [command(501)]))
        committer.shutdown()
        #expect(persisted.all.last == 501, "a shutdown writes what waits")
        #expect(committer.backlog == GroupCommitter.Backlog())
        #expect(failures.all.isEmpty)
        committer.submit(.of(502, append: [command(502)]))
        #expect(committer.backlog == GroupCommitter.Backlog())
        try store.close()
        #expect(try world.recover().entries.count == 501)
    }

    @Test("writes nothing after a failure (R6)")
    func failure() async throws {
        let world = try LogWorld()
        let (store, _) = try world.open()
        let (persisted, failures) = (Reports<WriteSequence>(), Reports<StorageError>())
        let committer = GroupCommitter(
            store: store,
            onPersisted: { persisted.add($0) },
            onFailure: { failures.add($0) }
        )
        committer.submit(.of(1, append: [command(1)]))
        _ = await persisted.wait { $0 == [1] }
        committer.submit(.of(2, append: [command(7)]))
        #expect(await failures.wait { !$0.isEmpty }.map(\.code) == [.outOfOrder])
        committer.submit(.of(3, append: [command(2)]))
        committer.shutdown()
        #expect(persisted.all == [1])
        #expect(failures.all.count == 1)
        #expect(store.lastPosition.index == 1)
        #expect(committer.backlog == GroupCommitter.Backlog())
    }

    @Test("keeps what the disk has no room for, says so once, and writes it when there is room")
    func noRoom() async throws {
        let world = try LogWorld()
        let (store, _) = try world.open()
        try store.write([.of(append: commands(1...4000, size: 8000))])
        let (persisted, failures, room) = (Reports<WriteSequence>(), Reports<StorageError>(), Reports<LackOfRoom?>())
        let committer = GroupCommitter(
            store: store,
            onPersisted: { persisted.add($0) },
            onFailure: { failures.add($0) },
            onRoom: { room.add($0) }
        )
        withFullDisk {
            committer.submit(.of(2, append: commands(4001...4100, size: 8000)))
            while room.all.isEmpty {}
            committer.submit(.of(3, append: commands(4101...4101)))
            // Long enough for a second try.
            usleep(300_000)
            #expect(persisted.all.isEmpty)
            #expect(committer.backlog.writes == 2)
        }
        _ = await persisted.wait { $0.last == 3 }
        #expect(room.all.count == 2)
        #expect(room.all.first??.directory == world.log)
        #expect(room.all.last == .some(nil))
        #expect(failures.all.isEmpty)
        committer.shutdown()
        try store.close()
        #expect(try world.recover().entries.count == 4101)
    }

    @Test("ends without what there is no room for, and reports none of it")
    func shutdownWithoutRoom() async throws {
        var world = try LogWorld()
        world.options.environment.mapSize = 512 << 10
        let (store, _) = try world.open()
        let (persisted, failures, room) = (Reports<WriteSequence>(), Reports<StorageError>(), Reports<LackOfRoom?>())
        let committer = GroupCommitter(
            store: store,
            onPersisted: { persisted.add($0) },
            onFailure: { failures.add($0) },
            onRoom: { room.add($0) }
        )
        committer.submit(.of(1, append: commands(1...100, size: 8000)))
        _ = await room.wait { !$0.isEmpty }
        committer.shutdown()
        #expect(persisted.all.isEmpty && failures.all.isEmpty)
        #expect(committer.backlog == GroupCommitter.Backlog())
        try store.close()
        #expect(try world.recover().entries.isEmpty)
    }

    @Test("what is written ahead is the reserve: when the disk gives no more, that shows before a write fails")
    func reserve() async throws {
        var world = try LogWorld()
        world.options.zeroFillBytes = 8 << 20
        let (store, _) = try world.open()
        #expect(try store.extendFile() == nil)
        let lack = try withFullDisk { () -> LackOfRoom? in
            var index: LogIndex = 1
            while true {
                try store.write([.of(append: commands(index...index + 20, size: 8000))])
                index += 21
                if let lack = try store.extendFile() { return lack }
            }
        }
        #expect(lack?.directory == world.log)
        #expect(try #require(lack).neededBytes >= 2 << 20)
        #expect(try store.extendFile() == nil, "there is room again")
        try store.close()
    }

    @Test("removes trimmed entries when nobody waits")
    func housekeeping() async throws {
        let world = try LogWorld()
        let (store, _) = try world.open()
        let committer = GroupCommitter(store: store, onPersisted: { _ in }, onFailure: { _ in })
        committer.submit(.of(1, append: commands(1...30_000)))
        committer.submit(.of(2, trimTo: base(30_000, 1)))
        while store.base.position.index == 0 || store.needsMaintenance { await Task.yield() }
        committer.shutdown()
        try store.close()
        #expect(try world.storedKeys() == [0])
    }

    @Test("a store that failed refuses later writes")
    func stopped() throws {
        let world = try LogWorld()
        let (store, _) = try world.open()
        _ = store.stop(StorageError(.failed, "the disk did not answer"))
        #expect(#expect(throws: StorageError.self) { try store.write([.of()]) }?.code == .stopped)
        #expect(#expect(throws: StorageError.self) { try store.maintain() }?.code == .stopped)
    }
}

@Suite("A worker thread")
struct WorkerThreadTests {
    @Test("runs jobs in order, and those that wait before it ends")
    func order() {
        let worker = WorkerThread(name: "test", capacity: 1000)
        let done = Reports<Int>()
        for number in 0..<1000 { #expect(worker.submit { done.add(number) }) }
        worker.shutdown()
        worker.shutdown()
        #expect(done.all == Array(0..<1000))
        #expect(!worker.submit {})
    }

    @Test("refuses jobs beyond its capacity, counting the one that runs")
    func bounded() async {
        let worker = WorkerThread(name: "test", capacity: 2)
        let (started, gate) = (Reports<Int>(), Reports<Int>())
        #expect(
            worker.submit {
                started.add(1)
                while gate.all.isEmpty {}
            }
        )
        _ = await started.wait { !$0.isEmpty }
        #expect(worker.submit {})
        #expect(!worker.submit {})
        #expect(worker.waiting == 2)
        gate.add(1)
        worker.shutdown()
        #expect(worker.waiting == 0)
    }

    @Test("ends when it is dropped")
    func dropped() async {
        let done = Reports<Int>()
        do {
            let worker = WorkerThread(name: "a name that is far too long for the system", capacity: 5)
            _ = worker.submit { done.add(1) }
        }
        _ = await done.wait { $0 == [1] }
    }
}
