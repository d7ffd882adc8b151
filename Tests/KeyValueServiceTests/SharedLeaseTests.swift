import Dispatch
import KeyValue
import NIOCore
import NIOPosix
import RaftNode
import Synchronization
import Testing

@testable import KeyValueService

@Suite("Locks with a lease that several requests share", .timeLimit(.minutes(5)))
struct SharedLeaseTests {
    private let name = Array("the/lock".utf8)

    private func request(_ lease: LeaseChoice = .ttl(milliseconds: 10_000), waits: Bool = true) -> LockRequest {
        LockRequest(name: name, lease: lease, waits: waits)
    }

    private func acquired(_ answer: LockAnswer) throws -> LockTicketStatus {
        guard case .acquired(let ticket) = answer else { throw NotReached() }
        return ticket
    }

    private func tickets(_ node: ServiceNode) throws -> [UInt64] {
        guard let lock = try node.store.lock(name: name).lock else { return [] }
        return [lock.holder.token] + lock.waiters.map(\.token)
    }

    /// A lease of the client's.
    private func grant(_ service: KeyValueNode) async throws -> LeaseChoice {
        guard case .lease(let lease) = try await service.grantLease(ttl: .seconds(60)).outcome else {
            throw NotReached()
        }
        return .attached(lease.id)
    }

    @Test("Who is gone before the lock was asked for takes no place: nobody would know of it")
    func goneBefore() async throws {
        try await ServiceCluster.with { _, first in
            let lease = try await grant(first.service)
            let wait = LockWait(
                first.service,
                request(lease),
                .none,
                deadline: .now() + .seconds(60),
                eventLoop: first.loop
            ) { _ in }
            wait.cancel()
            wait.start()
            try await eventually { first.service.pendingCount == 0 }
            try await first.put("behind it")
            #expect(try tickets(first) == [])
        }
    }

    @Test(
        "Who goes away keeps the place of its lease, and asks again elsewhere: the same ticket, queued and then holding"
    )
    func askedAgain() async throws {
        try await ServiceCluster.with { cluster, first in
            let all = try await cluster.addTwo(to: first)
            let lease = try await grant(first.service)
            let holder = try acquired(try await first.service.acquireLock(request()))
            let left = first.service.acquireLock(
                request(lease),
                deadline: .now() + .seconds(60),
                eventLoop: first.loop
            ) { _ in }
            try await eventually { try tickets(first).count == 2 && first.service.watchCount == 1 }
            let token = try #require(try tickets(first).last)
            left.cancel()
            async let again = all[1].service.acquireLock(request(lease))
            try await eventually { all[1].service.watchCount == 1 }
            // Nor does the first one take it away later.
            try await eventually { first.service.watchCount == 0 && first.service.pendingCount == 0 }
            #expect(try tickets(first) == [holder.token, token])
            guard case .refused(let refused) = try await all[2].service.acquireLock(request(lease, waits: false)),
                case .lockHeld = refused.outcome
            else { throw NotReached() }
            _ = try await first.service.releaseLock(name: name, token: holder.token)
            #expect(try acquired(try await again).token == token)
            for waits in [true, false] {
                let once = try acquired(try await all[2].service.acquireLock(request(lease, waits: waits)))
                #expect(once.token == token && once.revision > token)
            }
            _ = try await first.service.releaseLock(name: name, token: token)
            #expect(try tickets(first) == [])
        }
    }

    @Test("A task that is cancelled leaves the place of its lease")
    func cancelled() async throws {
        try await ServiceCluster.with { _, first in
            let lease = try await grant(first.service)
            let holder = try acquired(try await first.service.acquireLock(request()))
            let task = Task { try await first.service.acquireLock(request(lease)) }
            try await eventually { first.service.watchCount == 1 }
            let both = try tickets(first)
            task.cancel()
            guard case .notGranted(nil) = try await task.value else { throw NotReached() }
            async let again = first.service.acquireLock(request(lease))
            try await eventually { first.service.watchCount == 1 && first.service.pendingCount == 0 }
            #expect(try tickets(first) == both)
            _ = try await first.service.releaseLock(name: name, token: holder.token)
            #expect([try acquired(try await again).token] == both.suffix(1))
        }
    }

    @Test("When the time is up while it waits, the place of its lease is given back, and never granted later")
    func timeIsUp() async throws {
        try await ServiceCluster.with { _, first in
            let lease = try await grant(first.service)
            let holder = try acquired(try await first.service.acquireLock(request()))
            var answer: LockAnswer?
            for seconds in [1, 4, 16, 60] as [Int64] where answer == nil {
                // With a key, too: the lease may last for long.
                let key = IdempotencyKey(key: Array("\(seconds)".utf8), fingerprint: 1)
                answer = try? await first.service.acquireLock(
                    request(lease),
                    options: CommandOptions(idempotency: key),
                    timeout: .seconds(seconds)
                )
            }
            guard case .notGranted(let lock) = answer else { throw NotReached() }
            #expect(lock?.holder.token == holder.token && lock?.waiters == [])
            _ = try await first.service.releaseLock(name: name, token: holder.token)
            #expect(try tickets(first) == [])
        }
    }

    private typealias Answer = Result<LockAnswer, ServiceError>

    /// Has a request wait, lets the holder give the lock back when the request cannot see it, and then its time is up. Answers its ticket's
    /// token and what it was answered.
    private func letTimePass(
        _ first: ServiceNode,
        _ lease: LeaseChoice,
        _ meanwhile: (UInt64) async throws -> Void = { _ in }
    ) async throws -> (waiting: UInt64, answer: Answer) {
        let holder = try acquired(try await first.service.acquireLock(request()))
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let answers = Mutex<[Answer]>([])
        let wait = first.service.acquireLock(request(lease), deadline: .now() + .hours(1), eventLoop: loop) { result in
            answers.withLock { $0.append(result) }
        }
        try await eventually { try first.service.watchCount == 1 && tickets(first).count == 2 }
        let waiting = try #require(try tickets(first).last)
        // What it sees of the lock it sees on its event loop, which has something else to do now.
        let isBusy = Atomic(false)
        let gate = DispatchSemaphore(value: 0)
        loop.execute {
            isBusy.store(true, ordering: .sequentiallyConsistent)
            gate.wait()
        }
        defer { gate.signal() }
        try await eventually { isBusy.load(ordering: .sequentiallyConsistent) }
        _ = try await first.service.releaseLock(name: name, token: holder.token)
        try await meanwhile(waiting)
        #expect(answers.withLock { $0.isEmpty })
        wait.timeIsUp()
        try await eventually { answers.withLock { !$0.isEmpty } }
        #expect(answers.withLock { $0.count } == 1)
        return (waiting, try #require(answers.withLock { $0.first }))
    }

    @Test(
        "When the time is up and the lock was granted by then, the answer is that it is held",
        arguments: [true, false]
    )
    func grantedAtTheEnd(isShared: Bool) async throws {
        try await ServiceCluster.with { _, first in
            let lease = isShared ? try await grant(first.service) : .ttl(milliseconds: 10_000)
            let (waiting, answer) = try await letTimePass(first, lease)
            let ticket = try acquired(try answer.get())
            #expect(ticket.token == waiting && ticket.holds)
            #expect(try tickets(first) == [waiting])
        }
    }

    @Test("When the time is up and the place was given back by another, it is not granted")
    func givenBackByAnother() async throws {
        try await ServiceCluster.with { _, first in
            let lease = try await grant(first.service)
            let (_, answer) = try await letTimePass(first, lease) {
                _ = try await first.service.releaseLock(name: name, token: $0)
            }
            guard case .success(.notGranted(nil)) = answer else { throw NotReached() }
        }
    }

    @Test("When the time is up and the place of a lease cannot be given back, nobody knows what becomes of it")
    func notGivenBack() async throws {
        try await ServiceCluster.with { _, first in
            let lease = try await grant(first.service)
            let (_, answer) = try await letTimePass(first, lease) { _ in first.service.close() }
            guard case .failure(let error) = answer else { throw NotReached() }
            #expect(error.code == .shuttingDown && error.mayHaveExecuted)
        }
    }

    @Test("A wait that fails leaves the place of its lease, and says so")
    func failure() async throws {
        try await ServiceCluster.with { cluster, first in
            let all = try await cluster.addTwo(to: first)
            let lease = try await grant(first.service)
            _ = try acquired(try await first.service.acquireLock(request()))
            for (node, isShared) in [(all[1], true), (all[2], false)] {
                async let waiting = node.service.acquireLock(request(isShared ? lease : .ttl(milliseconds: 10_000)))
                try await eventually { try node.service.watchCount == 1 && tickets(first).count == (isShared ? 2 : 3) }
                node.service.close()
                do {
                    _ = try await waiting
                    throw NotReached()
                } catch let error as ServiceError {
                    #expect(error.code == .shuttingDown && error.mayHaveExecuted == isShared)
                }
            }
            let stays = try first.store.lock(name: name).lock?.waiters.first?.lease
            #expect(stays.map { .attached($0) } == lease)
        }
    }
}
