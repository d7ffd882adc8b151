import KeyValue
import NIOCore
import NIOPosix
import RaftNode
import Synchronization
import Testing

@testable import KeyValueService

@Suite("Leases", .timeLimit(.minutes(5)))
struct LeaseTests {
    private func item(_ node: ServiceNode, _ key: String) throws -> Item? {
        try node.store.get(Array(key.utf8)[...]).item
    }

    @Test("A key with a ttl goes when the leader's clock says so, and not before")
    func ttl() async throws {
        try await ServiceCluster.with { _, first in
            _ = try await first.service.put(
                key: Array("k".utf8),
                value: ByteBuffer(string: "v"),
                lease: .ttl(milliseconds: 10_000)
            )
            first.clock.advance(9_999)
            try await first.put("other")
            #expect(try item(first, "k") != nil)
            first.clock.advance(1)
            try await eventually { try item(first, "k") == nil }
            #expect(first.store.nextLeaseDeadline == nil)
            #expect(try item(first, "other") != nil)
        }
    }

    @Test("A lease that is kept alive over another node lives on, and ends with what is attached to it")
    func keptAlive() async throws {
        try await ServiceCluster.with { cluster, first in
            let all = try await cluster.addTwo(to: first)
            guard case .lease(let lease) = try await all[1].service.grantLease(ttl: .seconds(10)).outcome else {
                throw NotReached()
            }
            _ = try await all[2].service.put(
                key: Array("k".utf8),
                value: ByteBuffer(),
                lease: .attached(lease.id)
            )
            for _ in 0..<5 {
                first.clock.advance(9_000)
                let status = try await all[2].service.keepLeaseAlive(lease.id)
                #expect(status?.remainingMilliseconds == 10_000)
            }
            try await first.put("other")
            #expect(try item(first, "k") != nil)
            first.clock.advance(10_000)
            try await eventually { try all.allSatisfy { try item($0, "k") == nil } }
            #expect(try await all[1].service.keepLeaseAlive(lease.id) == nil)
        }
    }

    @Test("A new leader gives what it cannot know of, and takes nothing")
    func changeOfLeader() async throws {
        try await ServiceCluster.with { cluster, first in
            let all = try await cluster.addTwo(to: first)
            _ = try await first.service.put(
                key: Array("k".utf8),
                value: ByteBuffer(),
                lease: .ttl(milliseconds: 10_000)
            )
            first.clock.advance(8_000)
            try await first.put("tick")
            try await first.node.transferLeadership(to: all[1].node.status.serverID, timeout: .seconds(30))
            try await eventually { all[1].node.machine.clock.now != nil }
            // The old leader's clock counts no more.
            first.clock.advance(1_000_000)
            all[1].clock.advance(1_999)
            try await all[0].put("tock")
            #expect(try item(all[1], "k") != nil)
            all[1].clock.advance(1)
            try await eventually { try all.allSatisfy { try item($0, "k") == nil } }
        }
    }

    @Test("While there are leases, an idle leader tells what time it is")
    func idleTick() async throws {
        try await ServiceCluster.with { _, first in
            try await first.put("a")
            let before = first.store.mark.timestampMilliseconds
            _ = try await first.service.grantLease(ttl: .seconds(3_600))
            first.clock.advance(5_000)
            try await eventually { first.store.mark.timestampMilliseconds >= before + 5_000 }
        }
    }

    @Test("Thousands of leases that end at once let writes through, in bounded commands")
    func manyAtOnce() async throws {
        try await ServiceCluster.with { _, first in
            let count = 3_000
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<count {
                    group.addTask {
                        _ = try await first.service.put(
                            key: Array("lease/\(number)".utf8),
                            value: ByteBuffer(),
                            lease: .ttl(milliseconds: 5_000)
                        )
                    }
                }
                try await group.waitForAll()
            }
            #expect(first.store.leaseCount == count)
            first.clock.advance(5_000)
            // Written while they go.
            var written = 0
            repeat {
                try await first.put("written/\(written)")
                written += 1
            } while first.store.leaseCount > 0
            #expect(try first.store.count(prefix: Array("lease/".utf8)).count == 0)
            #expect(try first.store.count(prefix: Array("written/".utf8)).count == written)
        }
    }

    @Test("However fast requests follow one another, commands that keep leases alive begin at intervals")
    func paced() async throws {
        let commands = Mutex<[NIODeadline]>([])
        let keepAlives = KeepAlives(
            eventLoop: MultiThreadedEventLoopGroup.singleton.next(),
            maximumCount: 2_000
        ) { leases, _, completion in
            commands.withLock { $0.append(.now()) }
            completion(.success(leases.map { _ in nil }))
        }
        let begin = NIODeadline.now()
        for _ in 0..<50 {
            // Each waits for its own answer: nothing goes together here.
            await withCheckedContinuation { continuation in
                keepAlives.add(1, deadline: .distantFuture) { _ in continuation.resume() }
            }
        }
        let times = commands.withLock { $0 }
        #expect(times.count == 50)
        #expect(times[49] - begin >= .milliseconds(490))
    }

    @Test("What keeps leases alive goes together, each answered for its own")
    func gathered() async throws {
        let commands = Mutex<[[UInt64]]>([])
        // All are added in one turn of the loop that the commands are made on.
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let keepAlives = KeepAlives(eventLoop: loop, maximumCount: 2_000) { leases, _, completion in
            commands.withLock { $0.append(leases) }
            completion(
                .success(
                    leases.map { id in
                        id == 7
                            ? nil
                            : LeaseStatus(id: id, ttlMilliseconds: 1, remainingMilliseconds: 1, keys: 0)
                    }
                )
            )
        }
        let answers = Mutex<[UInt64: [UInt64?]]>([:])
        try await loop.submit {
            for number in 0..<1_200 {
                let id = UInt64(number % 600)
                keepAlives.add(id, deadline: .distantFuture) { result in
                    let status = try? result.get()
                    answers.withLock { $0[id, default: []].append(status?.id) }
                }
            }
        }.get()
        try await eventually { answers.withLock { $0.values.reduce(0) { $0 + $1.count } } == 1_200 }
        #expect(commands.withLock { $0.allSatisfy { Set($0).count == $0.count && $0.count <= 500 } })
        #expect(commands.withLock { $0.count } < 100)
        answers.withLock { answers in
            #expect(answers[7] == [nil, nil])
            #expect(answers[8] == [8, 8])
        }
    }

    @Test("What keeps a lease alive is tried again after a pause, and not at all where that mends nothing")
    func triedAgain() async throws {
        let tries = Mutex<[UInt64: Int]>([:])
        let keepAlives = KeepAlives(
            eventLoop: MultiThreadedEventLoopGroup.singleton.next(),
            maximumCount: 10
        ) { leases, _, completion in
            let count = tries.withLock { tries in
                tries[leases[0], default: 0] += 1
                return tries[leases[0], default: 0]
            }
            switch leases[0] {
            case 1: completion(.failure(ServiceError(.quarantined)))
            case 2 where count > 3: completion(.success(leases.map { _ in nil }))
            default: completion(.failure(ServiceError(.noLeader)))
            }
        }
        let codes = Mutex<[UInt64: ServiceError.Code?]>([:])
        func keep(_ lease: UInt64, _ deadline: NIODeadline) async throws {
            keepAlives.add(lease, deadline: deadline) { result in
                codes.withLock { codes in
                    if case .failure(let error) = result {
                        codes[lease] = .some(error.code)
                    } else {
                        codes[lease] = .some(nil)
                    }
                }
            }
            try await eventually { codes.withLock { $0[lease] } != nil }
        }
        try await keep(1, .distantFuture)
        #expect(codes.withLock { $0[1] } == .quarantined)
        #expect(tries.withLock { $0[1] } == 1)
        try await keep(2, .distantFuture)
        #expect(codes.withLock { $0[2] } == .some(nil))
        #expect(tries.withLock { $0[2] } == 4)
        try await keep(3, .now() + .milliseconds(200))
        #expect(codes.withLock { $0[3] } == .noLeader)
        #expect(tries.withLock { $0[3] ?? 0 } <= 22)
    }
}
