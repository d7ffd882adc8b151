import KeyValue
import NIOCore
import RaftNode
import Synchronization
import Testing

@testable import KeyValueService

@Suite("Locks", .timeLimit(.minutes(5)))
struct LockTests {
    private let name = Array("the/lock".utf8)

    private func request(waits: Bool = true, ttl: UInt64 = 10_000) -> LockRequest {
        LockRequest(name: name, lease: .ttl(milliseconds: ttl), waits: waits)
    }

    private func acquired(_ answer: LockAnswer) throws -> LockTicketStatus {
        guard case .acquired(let ticket) = answer else { throw NotReached() }
        return ticket
    }

    private func waiters(_ node: ServiceNode) throws -> Int? { try node.store.lock(name: name).lock?.waiters.count }

    @Test("The lock goes from one to the next, in the order in which they asked")
    func queue() async throws {
        try await ServiceCluster.with { _, first in
            let service = first.service
            let holder = try acquired(try await service.acquireLock(request()))
            async let second = service.acquireLock(request())
            try await eventually { try waiters(first) == 1 }
            async let third = service.acquireLock(request())
            try await eventually { try waiters(first) == 2 }
            guard case .refused(let refused) = try await service.acquireLock(request(waits: false)),
                case .lockHeld = refused.outcome
            else { throw NotReached() }
            _ = try await service.releaseLock(name: name, token: holder.token)
            let next = try acquired(try await second)
            #expect(next.token > holder.token && next.holds)
            _ = try await service.releaseLock(name: name, token: next.token)
            let last = try acquired(try await third)
            #expect(last.token > next.token)
            _ = try await service.releaseLock(name: name, token: last.token)
            #expect(try first.store.lock(name: name).lock == nil)
        }
    }

    @Test("Who waits over another node is granted it there")
    func otherNode() async throws {
        try await ServiceCluster.with { cluster, first in
            let all = try await cluster.addTwo(to: first)
            let holder = try acquired(try await all[1].service.acquireLock(request()))
            async let waiting = all[2].service.acquireLock(request())
            try await eventually { try waiters(first) == 1 }
            _ = try await first.service.releaseLock(name: name, token: holder.token)
            #expect(try acquired(try await waiting).token > holder.token)
        }
    }

    @Test("When the time is up, the place is given back")
    func timeIsUp() async throws {
        try await ServiceCluster.with { _, first in
            let holder = try acquired(try await first.service.acquireLock(request()))
            // On a busy machine the time may be up before it is in the queue.
            var answer: LockAnswer?
            for seconds in [1, 4, 16, 60] as [Int64] where answer == nil {
                answer = try? await first.service.acquireLock(request(), timeout: .seconds(seconds))
            }
            guard case .notGranted(let lock) = answer else { throw NotReached() }
            #expect(lock?.holder.token == holder.token)
            try await eventually { try waiters(first) == 0 && first.service.watchCount == 0 }
        }
    }

    @Test("When the client goes away, the place is given back, at whatever moment")
    func clientGone() async throws {
        try await ServiceCluster.with { _, first in
            let service = first.service
            let holder = try acquired(try await service.acquireLock(request()))
            let answers = Mutex(0)
            func ask() -> LockWait {
                service.acquireLock(
                    request(),
                    deadline: .now() + .seconds(60),
                    eventLoop: first.loop
                ) { _ in answers.withLock { $0 += 1 } }
            }
            let early = ask()
            early.cancel()
            let late = ask()
            try await eventually { try waiters(first) ?? 0 > 0 }
            late.cancel()
            try await eventually { try waiters(first) == 0 && service.pendingCount == 0 }
            let task = Task { try await service.acquireLock(request()) }
            try await eventually { try waiters(first) == 1 }
            task.cancel()
            guard case .notGranted = try await task.value else { throw NotReached() }
            try await eventually { try waiters(first) == 0 }
            #expect(try first.store.lock(name: name).lock?.holder.token == holder.token)
            #expect(answers.withLock { $0 } == 0)
            try await eventually { service.watchCount == 0 }
        }
    }

    private var clientsKey: CommandOptions {
        CommandOptions(idempotency: IdempotencyKey(key: Array("client".utf8), fingerprint: 1))
    }

    @Test("What was asked for with the client's key is not given back: who asked again with it holds that very ticket")
    func sharedTicket() async throws {
        try await ServiceCluster.with { cluster, first in
            let all = try await cluster.addTwo(to: first)
            let holder = try acquired(try await first.service.acquireLock(request()))
            let left = first.service.acquireLock(
                request(),
                options: clientsKey,
                deadline: .now() + .seconds(60),
                eventLoop: first.loop
            ) { _ in }
            try await eventually { try waiters(first) == 1 }
            let token = try first.store.lock(name: name).lock?.waiters.first?.token
            async let again = all[1].service.acquireLock(request(), options: clientsKey)
            // Live, so that it hears of what comes now.
            try await eventually { all[1].service.watchCount == 1 }
            left.cancel()
            _ = try await first.service.releaseLock(name: name, token: holder.token)
            #expect(try acquired(try await again).token == token)
            _ = try await first.put("later")
            #expect(try first.store.lock(name: name).lock?.holder.token == token)
        }
    }

    @Test("When the time is up for one with the client's key, it stays in the queue, and is found again with the key")
    func timeIsUpWithKey() async throws {
        try await ServiceCluster.with { _, first in
            let holder = try acquired(try await first.service.acquireLock(request()))
            var answer: LockAnswer?
            for seconds in [1, 4, 16, 60] as [Int64] where answer == nil {
                answer = try? await first.service.acquireLock(
                    request(),
                    options: clientsKey,
                    timeout: .seconds(seconds)
                )
            }
            guard case .notGranted(let lock) = answer else { throw NotReached() }
            #expect(lock?.waiters.count == 1)
            _ = try await first.service.releaseLock(name: name, token: holder.token)
            let granted = try acquired(try await first.service.acquireLock(request(), options: clientsKey))
            #expect(granted.token == lock?.waiters.first?.token)
        }
    }

    @Test("What is granted to a task that was just told that it is cancelled is given back")
    func grantedTooLate() async throws {
        try await ServiceCluster.with { _, first in
            let service = first.service
            let ticket = try acquired(try await service.acquireLock(request()))
            let grant = Mutex<LockWait.Completion?>(nil)
            let answers = Mutex<[LockAnswer]>([])
            let handle = LockHandle()
            handle.begin { result in
                answers.withLock { answers in if let answer = try? result.get() { answers.append(answer) } }
            } _: { completion in
                grant.withLock { $0 = completion }
                return LockWait(service, request(), .none, deadline: .now(), eventLoop: first.loop) { _ in }
            }
            handle.cancel()
            grant.withLock { $0 }?(.success(.acquired(ticket)))
            try await eventually { try first.store.lock(name: name).lock == nil }
            guard case .notGranted = answers.withLock({ $0.first }) else { throw NotReached() }
            #expect(answers.withLock { $0.count } == 1)
        }
    }

    @Test("A holder whose lease ends gives way to the next, who has its whole time")
    func leaseEnds() async throws {
        try await ServiceCluster.with { _, first in
            let holder = try acquired(try await first.service.acquireLock(request(ttl: 5_000)))
            async let waiting = first.service.acquireLock(request(ttl: 60_000))
            try await eventually { try waiters(first) == 1 }
            first.clock.advance(5_000)
            let next = try acquired(try await waiting)
            #expect(next.token > holder.token)
            let lease = try first.store.lease(id: next.ticket.lease).lease
            #expect(lease?.remainingMilliseconds == 60_000)
        }
    }

    @Test("While it waits, the ticket's lease is kept alive")
    func keptAlive() async throws {
        try await ServiceCluster.with { _, first in
            let service = first.service
            let holder = try acquired(try await service.acquireLock(request(ttl: 3_600_000)))
            async let waiting = service.acquireLock(request(ttl: 1_000))
            try await eventually { try waiters(first) == 1 }
            let lease = try first.store.lock(name: name).lock?.waiters.first?.lease ?? 0
            for _ in 0..<4 {
                // Only a command makes the state's time go on: what keeps it alive, since a third of its time is soon over.
                let kept = first.store.mark.timestampMilliseconds + 700
                first.clock.advance(700)
                try await eventually {
                    try first.store.mark.timestampMilliseconds >= kept
                        && first.store.lease(id: lease).lease?.remainingMilliseconds == 1_000
                }
            }
            _ = try await service.releaseLock(name: name, token: holder.token)
            _ = try acquired(try await waiting)
        }
    }

    @Test("A ticket that somebody else gave back is lost")
    func lost() async throws {
        try await ServiceCluster.with { _, first in
            _ = try acquired(try await first.service.acquireLock(request()))
            async let waiting = first.service.acquireLock(request())
            try await eventually { try waiters(first) == 1 }
            let token = try first.store.lock(name: name).lock?.waiters.first?.token ?? 0
            _ = try await first.service.releaseLock(name: name, token: token)
            guard case .lost = try await waiting else { throw NotReached() }
        }
    }
}
