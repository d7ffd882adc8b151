import Foundation
import KeyValue
import NIOCore
import NIOPosix
import RaftNode
import Synchronization
import Testing

@testable import KeyValueService

/// Takes what a watch has, whenever it is told to.
final class WatchReader: Sendable {
    private struct State {
        var watch: Watch?
        var events: [Event] = []
        var through: UInt64 = 0
        var end: Watch.End?
    }

    private let state = Mutex(State())

    convenience init(
        _ service: KeyValueNode,
        _ filter: EventFilter = EventFilter(),
        after revision: UInt64? = nil,
        on loop: any EventLoop
    ) throws {
        try self.init(on: loop) { try service.watch(filter, after: revision, eventLoop: $0, onReady: $1) }
    }

    init(
        on loop: any EventLoop,
        _ begin: (any EventLoop, @escaping @Sendable () -> Void) throws -> Watch
    ) throws {
        let watch = try begin(loop) { [weak self] in self?.read() }
        state.withLock { $0.watch = watch }
        loop.execute { self.read() }
    }

    var watch: Watch? { state.withLock { $0.watch } }
    var events: [Event] { state.withLock { $0.events } }
    var revisions: [UInt64] { events.map(\.revision) }
    var keys: [String] { events.map { String(decoding: $0.item.key, as: UTF8.self) } }
    var end: Watch.End? { state.withLock { $0.end } }

    private func read() {
        guard let watch else { return }
        let batch = watch.take()
        state.withLock { state in
            state.events += batch.events
            state.through = batch.through
            state.end = state.end ?? batch.end
        }
    }
}

/// Says when something has come.
private final class Notice: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let body: () -> Void

    init(_ body: @escaping () -> Void) { self.body = body }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { body() }
}

@Suite("Watches", .timeLimit(.minutes(5)))
struct WatchTests {
    private func prefix(_ text: String) -> EventFilter { EventFilter(.prefix(Array(text.utf8))) }

    @Test("Live: a key and a prefix hear what is theirs, in order, with what was there before for those who ask")
    func live() async throws {
        try await ServiceCluster.with { _, first in
            let service = first.service
            let one = try WatchReader(service, EventFilter(.key(Array("a/1".utf8))), on: first.loop)
            let many = try WatchReader(service, prefix("a/"), on: first.loop)
            let previous = try WatchReader(
                service,
                EventFilter(.prefix([]), withPrevious: true),
                on: first.loop
            )
            try await first.put("a/1", "x")
            try await first.put("a/2")
            try await first.put("b")
            try await first.put("a/1", "y")
            _ = try await service.delete(key: Array("a/1".utf8))
            try await eventually { one.events.count == 3 && many.events.count == 4 && previous.events.count == 5 }
            #expect(one.events.map(\.kind) == [.put, .put, .delete])
            #expect(many.keys == ["a/1", "a/2", "a/1", "a/1"])
            #expect(previous.keys == ["a/1", "a/2", "b", "a/1", "a/1"])
            #expect(one.events.allSatisfy { $0.previous == nil })
            let before = previous.events.map { $0.previous.map { String(decoding: $0.value, as: UTF8.self) } }
            #expect(before == [nil, nil, nil, "x", "y"])
        }
    }

    @Test("Who joins while others are told, and asks for what was there before, is told it from the first event on")
    func joiningWithPrevious() async throws {
        try await ServiceCluster.with { _, first in
            let plain = try WatchReader(first.service, on: first.loop)
            try await first.put("k")
            let isOver = Atomic(false)
            async let written: Void = {
                while !isOver.load(ordering: .relaxed) { try await first.put("k", "x") }
            }()
            for _ in 0..<100 {
                let reader = try WatchReader(
                    first.service,
                    EventFilter(.prefix([]), withPrevious: true),
                    on: first.loop
                )
                try await eventually { reader.events.count > 2 || reader.end != nil }
                let events = reader.events
                #expect(events.count > 2 && events.allSatisfy { $0.previous != nil })
                reader.watch?.cancel()
            }
            isOver.store(true, ordering: .relaxed)
            try await written
            let last = first.store.mark.revision
            try await eventually { plain.revisions.last == last }
            #expect(plain.events.allSatisfy { $0.previous == nil })
        }
    }

    @Test("From the past, over the change to live, while others write: every event once and in order")
    func catchingUp() async throws {
        try await ServiceCluster.with { _, first in
            var all: [UInt64] = []
            for number in 0..<100 { all.append(try await first.put("k/\(number % 7)")) }
            let start = first.store.mark.revision - 100
            let readers = try (0..<5).map { number in
                try WatchReader(
                    first.service,
                    prefix("k/"),
                    after: start + UInt64(number) * 20,
                    on: first.loop
                )
            }
            for number in 0..<300 {
                all.append(try await first.put("k/\(number % 5)"))
                if number % 100 == 50 { try await first.put("other") }
            }
            let last = all[all.count - 1]
            try await eventually { readers.allSatisfy { $0.revisions.last == last } }
            for (number, reader) in readers.enumerated() {
                #expect(reader.revisions == Array(all.dropFirst(number * 20)), "reader \(number)")
            }
        }
    }

    @Test("A reader that does not read costs its buffer, and gets the rest from the history when it does")
    func slowReader() async throws {
        try await ServiceCluster.with { options in
            options.maximumBufferedEvents = 4
        } _: { _, first in
            let watch = try first.service.watch(prefix("k"), eventLoop: first.loop) {}
            // Live once it has heard of the first.
            try await first.put("k")
            try await eventually { watch.state.withLock { $0.events.count } == 1 }
            for _ in 0..<50 { try await first.put("k") }
            try await eventually { !watch.state.withLock { $0.isLive } }
            #expect(watch.state.withLock { $0.events.count } <= 5)
            var revisions: [UInt64] = []
            try await eventually {
                let batch = watch.take(maximumEvents: 3)
                #expect(batch.end == nil)
                revisions += batch.events.map(\.revision)
                if let last = revisions.last { #expect(batch.through >= last) }
                return revisions.count == 51
            }
            #expect(revisions == Array(watch.start + 1...watch.start + 51))
            watch.cancel()
            #expect(first.service.keyWatches.bufferedBytes == 0)
            #expect(first.service.watchCount == 0)
        }
    }

    @Test("A reader that leaves its full buffer for too long is cut off, with the revision to go on from")
    func cutOff() async throws {
        try await ServiceCluster.with { options in
            options.maximumBufferedEvents = 2
            options.maximumWatchLag = 20
        } _: { _, first in
            let watch = try first.service.watch(prefix("k"), eventLoop: first.loop) {}
            try await first.put("k")
            try await eventually { watch.state.withLock { $0.events.count } == 1 }
            let taken = watch.take()
            #expect(taken.events.count == 1)
            let other = try WatchReader(first.service, prefix("x"), on: first.loop)
            try await first.put("x")
            try await eventually { other.events.count == 1 }
            for count in 1...60 {
                try await first.put("k")
                try await first.put("x")
                // Who keeps up is not cut off; the bound is as narrow for both.
                try await eventually { other.events.count == 1 + count }
            }
            try await eventually { watch.state.withLock { $0.end } != nil }
            let batch = watch.take()
            #expect(batch.events.isEmpty)
            #expect(
                batch.end == .tooSlow(resumeAfter: taken.through) || batch.end == .tooSlow(resumeAfter: watch.start + 1)
            )
            // It is told a moment before it is taken out.
            try await eventually { first.service.watchCount == 1 }
        }
    }

    @Test("What is not there any more is told with the revision to list from, to who begins and to who fell behind")
    func compacted() async throws {
        try await ServiceCluster.with(historyEvents: 10) { options in
            options.maximumBufferedEvents = 2
        } _: { _, first in
            let behind = try first.service.watch(prefix("k"), eventLoop: first.loop) {}
            try await first.put("k")
            try await eventually { behind.state.withLock { $0.events.count } == 1 }
            for _ in 0..<50 { try await first.put("k") }
            try await eventually { !behind.state.withLock { $0.isLive } }
            let compact = first.store.compactRevision
            #expect(compact > behind.start + 10)
            #expect(throws: Watch.End.compacted(compactRevision: compact)) {
                _ = try first.service.watch(prefix("k"), after: behind.start, eventLoop: first.loop) {}
            }
            // What it has in memory it gets; then the truth.
            var end: Watch.End?
            var revisions: [UInt64] = []
            try await eventually {
                let batch = behind.take()
                revisions += batch.events.map(\.revision)
                end = batch.end
                return end != nil
            }
            #expect(end == .compacted(compactRevision: compact))
            #expect(revisions == Array(behind.start + 1..<behind.start + 1 + UInt64(revisions.count)))
            // From there on a new one goes on.
            let again = try WatchReader(first.service, prefix("k"), after: compact, on: first.loop)
            try await eventually { again.revisions.last == first.store.mark.revision }
            #expect(again.revisions.first == compact + 1)
        }
    }

    @Test(
        "A node that was away as long as the history is told the state by a snapshot: its watches go on or end, without a gap"
    )
    func laterNode() async throws {
        try await ServiceCluster.with { cluster, first in
            for number in 0..<20 { try await first.put("k/\(number)") }
            let all = try await cluster.addTwo(to: first)
            let reader = try WatchReader(all[2].service, prefix("k/"), after: 0, on: all[2].loop)
            try await first.put("k/20")
            let last = first.store.mark.revision
            try await eventually { reader.revisions.last == last || reader.end != nil }
            if reader.end == nil { #expect(reader.keys == (0...20).map { "k/\($0)" }) }
        }
    }

    @Test("Nothing is told from a state that is known to be wrong: a watch ends where it is, and none begins")
    func quarantine() async throws {
        try await ServiceCluster.with { cluster, first in
            let isWrong = Atomic(false)
            let hub = WatchHub(space: .keys, store: first.store, options: WatchHub.Options()) {
                isWrong.load(ordering: .relaxed) ? ServiceError(.quarantined) : nil
            }
            let all = EventFilter()
            let good = try await first.put("k/1")
            let live = try WatchReader(on: first.loop) { try hub.watch(all, after: 0, eventLoop: $0, onReady: $1) }
            try await eventually { live.watch?.state.withLock { $0.isLive } == true && live.revisions.last == good }
            // This one has more to read than it takes.
            for number in 0..<200 { try await first.put("k/\(number)") }
            hub.wake()
            try await eventually { live.revisions.last == first.store.mark.revision }
            let behind = try hub.watch(all, after: good, eventLoop: first.loop) {}
            try await eventually { behind.state.withLock { !$0.events.isEmpty && !$0.isQueued } }
            let last = first.store.mark.revision
            isWrong.store(true, ordering: .relaxed)
            try await first.put("k/wrong")
            hub.wake()
            try await eventually { live.end != nil }
            #expect(live.end == .failed(ServiceError(.quarantined), resumeAfter: last))
            #expect(live.revisions.last == last)
            var taken: [UInt64] = []
            var end: Watch.End?
            try await eventually {
                let batch = behind.take()
                taken += batch.events.map(\.revision)
                end = batch.end
                return end != nil
            }
            let resume = good + UInt64(taken.count)
            #expect(end == .failed(ServiceError(.quarantined), resumeAfter: resume))
            #expect(taken == Array(good + 1..<resume + 1))
            #expect(resume < last)
            #expect(throws: Watch.End.failed(ServiceError(.quarantined), resumeAfter: resume)) {
                _ = try hub.watch(all, after: resume, eventLoop: first.loop) {}
            }
            try await eventually { hub.count == 0 }
            // The node itself, when it wakes up in quarantine.
            try await first.stop()
            try Data("wrong".utf8).write(to: URL(fileURLWithPath: cluster.root + "/node1/quarantine"))
            let again = try await cluster.start("node1", .mustExist)
            let refused = #expect(throws: Watch.End.self) {
                _ = try again.service.watch(all, after: resume, eventLoop: again.loop) {}
            }
            guard case .failed(let error, resume)? = refused else { throw NotReached() }
            #expect(error.code == .quarantined)
        }
    }

    @Test("Between many watches that are told, their event loop serves other connections")
    func turns() async throws {
        try await ServiceCluster.with { _, first in
            let pipe = Pipe()
            let count = 100
            let told = Atomic(0)
            let toldBefore = Atomic(-1)
            let channel = try await NIOPipeBootstrap(group: first.loop)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(
                            Notice { toldBefore.store(told.load(ordering: .relaxed), ordering: .relaxed) }
                        )
                    }
                }
                .takingOwnershipOfDescriptor(input: dup(pipe.fileHandleForReading.fileDescriptor)).get()
            let watches = try (0..<count).map { _ in
                try first.service.watch(prefix("k"), eventLoop: first.loop) {
                    if told.add(1, ordering: .relaxed).newValue == 1 { pipe.fileHandleForWriting.write(Data([1])) }
                    usleep(1_000)
                }
            }
            try await eventually { watches.allSatisfy { $0.state.withLock { $0.isLive } } }
            try await first.put("k")
            try await eventually { told.load(ordering: .relaxed) == count }
            try await eventually { toldBefore.load(ordering: .relaxed) >= 0 }
            #expect(toldBefore.load(ordering: .relaxed) < count)
            for watch in watches { watch.cancel() }
            try await channel.close()
        }
    }

    @Test("What is to come is waited for")
    func future() async throws {
        try await ServiceCluster.with { _, first in
            let revision = try await first.put("k")
            let future = try WatchReader(first.service, prefix("k"), after: revision + 2, on: first.loop)
            for _ in 0..<4 { try await first.put("k") }
            try await eventually { future.revisions == [revision + 3, revision + 4] }
        }
    }

    @Test("The end of the node ends its watches, and says why")
    func closing() async throws {
        try await ServiceCluster.with { _, first in
            let reader = try WatchReader(first.service, on: first.loop)
            let revision = try await first.put("k")
            try await eventually { reader.revisions == [revision] }
            first.service.close()
            try await eventually { reader.end != nil }
            #expect(reader.end == .failed(ServiceError(.shuttingDown), resumeAfter: revision))
            #expect(throws: Watch.End.self) { try WatchReader(first.service, on: first.loop) }
        }
    }

    @Test("Too many watches are refused, and one that ends makes room")
    func bounded() async throws {
        try await ServiceCluster.with { options in
            options.maximumWatches = 2
        } _: { _, first in
            let one = try first.service.watch(prefix("a"), eventLoop: first.loop) {}
            _ = try first.service.watch(prefix("b"), eventLoop: first.loop) {}
            let refused = #expect(throws: Watch.End.self) {
                _ = try first.service.watch(prefix("c"), eventLoop: first.loop) {}
            }
            guard case .failed(let error, _) = refused else { throw NotReached() }
            #expect(error.code == .overloaded)
            one.cancel()
            _ = try first.service.watch(prefix("c"), eventLoop: first.loop) {}
        }
    }

    @Test("Progress moves on with what others write")
    func progress() async throws {
        try await ServiceCluster.with { _, first in
            let quiet = try WatchReader(first.service, prefix("quiet"), on: first.loop)
            let revision = try await first.put("loud")
            try await eventually { quiet.watch?.progress ?? 0 >= revision }
            #expect(quiet.events.isEmpty)
        }
    }

    @Test("A long poll answers the first change, or nothing in time")
    func longPoll() async throws {
        try await ServiceCluster.with { _, first in
            let revision = try await first.put("k")
            let answers = Mutex<[UInt64?]>([])
            func poll(_ deadline: NIODeadline) -> LongPoll {
                first.service.firstEvents(prefix("k"), after: revision, deadline: deadline, eventLoop: first.loop) {
                    let first = (try? $0.get())?.events.first?.revision
                    answers.withLock { $0.append(first) }
                }
            }
            _ = poll(.now() + .milliseconds(10))
            try await eventually { answers.withLock { $0 } == [nil] }
            _ = poll(.distantFuture)
            poll(.distantFuture).cancel()
            try await first.put("k")
            try await eventually { answers.withLock { $0 } == [nil, revision + 1] }
            // What was there already is answered at once.
            _ = poll(.distantFuture)
            try await eventually { answers.withLock { $0.count } == 3 }
            #expect(first.service.watchCount == 0)
        }
    }

    @Test("Thousands of watches: each hears of its own only")
    func thousands() async throws {
        try await ServiceCluster.with { _, first in
            let heard = Atomic(0)
            let watches = try (0..<2_000).map { number in
                let name = Array("key/\(number)".utf8)
                let filter = number % 2 == 0 ? EventFilter(.key(name)) : EventFilter(.prefix(name + [47]))
                return try first.service.watch(filter, eventLoop: first.loop) {
                    heard.add(1, ordering: .relaxed)
                }
            }
            try await eventually { watches.allSatisfy { $0.state.withLock { $0.isLive } } }
            for number in 0..<10 { try await first.put("key/\(number * 100)") }
            for number in 0..<10 { try await first.put("key/\(number * 100 + 1)/x") }
            try await eventually { heard.load(ordering: .relaxed) == 20 }
            #expect(watches.filter { !$0.take().events.isEmpty }.count == 20)
            for watch in watches { watch.cancel() }
            #expect(first.service.watchCount == 0)
        }
    }
}
