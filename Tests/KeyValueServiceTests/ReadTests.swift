import KeyValue
import NIOCore
import NIOPosix
import RaftNode
import Synchronization
import Testing

@testable import KeyValueService

@Suite("Reads", .timeLimit(.minutes(5)))
struct ReadTests {
    @Test("A bounded read is answered from what is proven, and asks when that is too old")
    func bounded() async throws {
        try await ServiceCluster.with { _, first in
            let service = first.service
            #expect(service.provenStaleness == nil)
            let stale = try await service.permitRead(.stale)
            #expect(stale.staleness == nil)
            _ = try await service.permitRead(.strong)
            first.clock.advance(300)
            #expect(service.provenStaleness == .milliseconds(300))
            let old = try await service.permitRead(ReadRequirement(.bounded(.milliseconds(500))))
            #expect(old.stalenessMilliseconds == 300)
            let new = try await service.permitRead(ReadRequirement(.bounded(.milliseconds(299))))
            #expect(new.stalenessMilliseconds == 0)
            // Whoever proved it: the next one profits.
            #expect(service.provenStaleness == .zero)
        }
    }

    @Test("A follower's forwarded confirmations prove its own freshness")
    func follower() async throws {
        try await ServiceCluster.with { cluster, first in
            let all = try await cluster.addTwo(to: first)
            let revision = try await first.put("a")
            let permit = try await all[2].service.permitRead(ReadRequirement(.bounded(.zero)))
            #expect(permit.staleness == .zero)
            #expect(all[2].store.mark.revision >= revision)
            all[2].clock.advance(10)
            #expect(all[2].service.provenStaleness == .milliseconds(10))
        }
    }

    @Test("Without a majority nothing new is proven, and the bound runs out")
    func withoutMajority() async throws {
        try await ServiceCluster.with { cluster, first in
            let all = try await cluster.addTwo(to: first)
            _ = try await all[0].service.permitRead(.strong)
            // Neither hands over nor is voted for.
            try await all[1].stop()
            try await all[2].stop()
            let service = first.service
            let within = try await service.permitRead(ReadRequirement(.bounded(.seconds(5))))
            #expect(within.staleness != nil)
            first.clock.advance(6_000)
            await #expect(throws: ServiceError.self) {
                _ = try await service.permitRead(
                    ReadRequirement(.bounded(.seconds(5))),
                    timeout: .milliseconds(50)
                )
            }
            _ = try await service.permitRead(.stale)
        }
    }

    @Test("A read at a revision waits until it is applied")
    func minimumRevision() async throws {
        try await ServiceCluster.with { _, first in
            let revision = try await first.put("a")
            _ = try await first.service.permitRead(ReadRequirement(.stale, minimumRevision: revision))
            async let waiting = first.service.permitRead(ReadRequirement(.stale, minimumRevision: revision + 2))
            try await eventually { first.service.revisions.count == 1 }
            try await first.put("b")
            #expect(first.service.revisions.count == 1)
            try await first.put("c")
            _ = try await waiting
            #expect(first.store.mark.revision >= revision + 2)
        }
    }

    @Test("Who waits for a revision that does not come is told so, and leaves nothing behind")
    func late() async throws {
        try await ServiceCluster.with { _, first in
            let error = await #expect(throws: ServiceError.self) {
                try await first.service.permitRead(
                    ReadRequirement(.strong, minimumRevision: 1_000),
                    timeout: .milliseconds(20)
                )
            }
            #expect(error?.code == .notCaughtUp)
            #expect(first.service.revisions.count == 0)
        }
    }

    @Test("Those who wait for revisions are released in order, are bounded, and end with the node")
    func gate() async throws {
        let gate = RevisionGate(
            revision: 5,
            eventLoop: MultiThreadedEventLoopGroup.singleton.next(),
            maximumCount: 1_000
        )
        let released = Mutex<[UInt64]>([])
        let failed = Mutex<[ServiceError.Code]>([])
        func wait(_ revision: UInt64, _ deadline: NIODeadline = .distantFuture) {
            gate.wait(for: revision, deadline: deadline) { result in
                switch result {
                case .success: released.withLock { $0.append(revision) }
                case .failure(let error): failed.withLock { $0.append(error.code) }
                }
            }
        }
        wait(5)
        #expect(released.withLock { $0 } == [5])
        for revision in [9, 7, 8, 7] as [UInt64] { wait(revision) }
        gate.advance(to: 6)
        #expect(released.withLock { $0 } == [5])
        gate.advance(to: 8)
        #expect(released.withLock { $0 } == [5, 7, 7, 8])
        gate.advance(to: 7)
        wait(8)
        #expect(released.withLock { $0.count } == 5)
        // Those who give up do not pile up behind one who waits for long.
        for _ in 0..<299 { wait(1_000, .now()) }
        try await eventually { gate.count == 1 && failed.withLock { $0.count } == 299 }
        #expect(gate.keptCount < 200)
        #expect(failed.withLock { Set($0) } == [.notCaughtUp])
        gate.close()
        wait(3_000)
        #expect(failed.withLock { $0.filter { $0 == .shuttingDown }.count } == 2)
        #expect(released.withLock { $0.count } == 5)
    }

    @Test("Only so many wait for revisions")
    func boundedGate() {
        let gate = RevisionGate(
            revision: 5,
            eventLoop: MultiThreadedEventLoopGroup.singleton.next(),
            maximumCount: 1
        )
        let failed = Mutex<[ServiceError.Code?]>([])
        for revision in [6, 7] as [UInt64] {
            gate.wait(for: revision, deadline: .distantFuture) { result in
                failed.withLock { failed in
                    if case .failure(let error) = result { failed.append(error.code) } else { failed.append(nil) }
                }
            }
        }
        #expect(failed.withLock { $0 } == [.overloaded])
        gate.advance(to: 6)
        #expect(failed.withLock { $0 } == [.overloaded, nil])
    }
}
