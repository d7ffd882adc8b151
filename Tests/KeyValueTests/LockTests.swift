import KeyValueModel
import Testing

@testable import KeyValue

private struct Unexpected: Error {}

@Suite struct LockTests {
    private let name = Array("l".utf8)

    private func withFixture(_ body: (StoreFixture) throws -> Void) throws {
        try withTemporaryDirectory { directory in try body(try StoreFixture(directory: directory + "/s")) }
    }

    private func acquire(ttl: UInt64 = 5_000, waits: Bool = true) -> Command {
        .acquireLock(LockRequest(name: name, lease: .ttl(milliseconds: ttl), waits: waits, value: [1]))
    }

    @Test("The lock goes in the order of the queue, tokens only grow, and the next holder has its full time")
    func queue() throws {
        try withFixture { fixture in
            try fixture.append([.put(key: "k".bytes, value: [])])
            let outcomes = try fixture.append((0..<3).map { _ in Request(command: acquire(), timestamp: 100) })
            let tickets = outcomes.compactMap { if case .lock(let status) = $0 { status } else { nil } }
            #expect(tickets.map(\.token) == [2, 3, 4])
            #expect(tickets.map(\.position) == [0, 1, 2])
            guard case .lockHeld(let held) = try fixture.append([Request(command: acquire(waits: false))])[0] else {
                Issue.record("a held lock was given away")
                return
            }
            #expect(held.holder.token == 2 && held.waiters.map(\.token) == [3, 4])
            #expect(held.position(ofToken: 4) == 2 && held.position(ofToken: 9) == nil)
            // The second one leaves the queue, the holder's lease ends.
            try fixture.append([Request(command: .releaseLock(name: name, token: 3), timestamp: 4_000)])
            try fixture.append([Request(command: .keepLeasesAlive([tickets[2].ticket.lease]), timestamp: 4_500)])
            try fixture.append([Request(command: .expireLeases([tickets[0].ticket.lease]), timestamp: 6_000)])
            let lock = try fixture.store.lock(name: name).lock
            #expect(lock?.holder.token == 4 && lock?.waiters == [])
            #expect(try fixture.store.lease(id: tickets[2].ticket.lease).lease?.remainingMilliseconds == 5_000)
            let released = try fixture.append([Request(command: .releaseLock(name: name, token: 4), timestamp: 6_000)])
            #expect(released == [.lockReleased(revision: fixture.model.revision)])
            #expect(try fixture.store.lock(name: name).lock == nil)
            #expect(fixture.store.leaseCount == 0)
            #expect(try fixture.append([Request(command: .releaseLock(name: name, token: 4))]) == [.lockNotFound])
        }
    }

    @Test("A fence lets through the holder's commands only, and says who holds the lock")
    func fences() throws {
        try withFixture { fixture in
            try fixture.append([acquire(), acquire()])
            func put(_ token: UInt64) -> Request {
                var request = Request(command: .put(key: "k".bytes, value: []))
                request.options.fence = Fence(lock: name, token: token)
                return request
            }
            let status = try fixture.store.lock(name: name).lock
            #expect(try fixture.append([put(2)]) == [.fenced(revision: 2, current: status)])
            guard case .put = try fixture.append([put(1)])[0] else {
                Issue.record("the holder was fenced off")
                return
            }
            try fixture.append([.releaseLock(name: name, token: 1)])
            guard case .fenced = try fixture.append([put(1)])[0], case .put = try fixture.append([put(2)])[0] else {
                Issue.record("the fence did not follow the lock")
                return
            }
        }
    }

    private func outcome(of command: Command, _ fixture: StoreFixture) throws -> Outcome {
        try #require(try fixture.append([Request(command: command)]).first)
    }

    private func acquire(_ lease: UInt64, waits: Bool = true, value: [UInt8] = []) -> Command {
        .acquireLock(LockRequest(name: name, lease: .attached(lease), waits: waits, value: value))
    }

    @Test("A lease has one ticket of a lock: asked again, holding or queued, it is that one, and nothing changes")
    func sameLease() throws {
        try withFixture { fixture in
            try fixture.append([1, 2].map { .grantLease(id: $0, ttlMilliseconds: 1_000) })
            try fixture.append([acquire(1, value: [7]), acquire(), acquire(2)])
            try fixture.append([.put(key: "k".bytes, value: [])])
            let (store, before) = (fixture.store, try fixture.store.lock(name: name).lock)
            func expect(_ command: Command, _ token: UInt64, at position: Int, _ revision: UInt64) throws {
                guard case .lock(let status) = try outcome(of: command, fixture) else { throw Unexpected() }
                #expect(status.token == token && status.position == position && status.revision == revision)
                #expect(status.name == name && store.mark.revision == revision)
            }
            // Whether it waits or not, and with the value that was given first.
            try expect(acquire(1, value: [8]), 1, at: 0, 4)
            try expect(acquire(1, waits: false), 1, at: 0, 4)
            try expect(acquire(2), 3, at: 2, 4)
            guard case .lockHeld = try outcome(of: acquire(2, waits: false), fixture) else { throw Unexpected() }
            #expect(try store.lock(name: name).lock == before && before?.holder.value == [7])
            // With its lease goes the only place that it has; and the next one moves up.
            try fixture.append([.revokeLease(1)])
            try expect(acquire(2), 3, at: 1, 5)
            #expect(try outcome(of: acquire(1), fixture) == .leaseNotFound(1))
            try fixture.append([.releaseLock(name: name, token: 2)])
            try expect(acquire(2, waits: false), 3, at: 0, 6)
            try fixture.append([.releaseLock(name: name, token: 3)])
            #expect(try store.lock(name: name).lock == nil)
            // Given back, it is a new one.
            try expect(acquire(2), 8, at: 0, 8)
            try fixture.append([Request(command: .expireLeases([2]), timestamp: 10_000)])
            #expect(try store.lock(name: name).lock == nil)
            #expect(store.leaseCount == 0)
        }
    }

    @Test("A lease of a ticket's own is nobody's to ask again with")
    func ownLease() throws {
        try withFixture { fixture in
            guard case .lock(let held) = try outcome(of: acquire(), fixture) else { throw Unexpected() }
            let lease = held.ticket.lease
            #expect(try outcome(of: acquire(lease), fixture) == .leaseNotFound(lease))
            guard case .lockHeld = try outcome(of: acquire(lease, waits: false), fixture) else { throw Unexpected() }
        }
    }

    @Test("What is to be given back only while it waits stays when it holds")
    func onlyWhileWaiting() throws {
        try withFixture { fixture in
            func giveUp(_ token: UInt64) -> Command { .releaseLock(name: name, token: token, onlyWhileWaiting: true) }
            try fixture.append([acquire(), acquire(), acquire()])
            #expect(try outcome(of: giveUp(2), fixture) == .lockReleased(revision: 4))
            #expect(try outcome(of: giveUp(2), fixture) == .lockNotFound)
            let lock = try #require(try fixture.store.lock(name: name).lock)
            #expect(lock.holder.token == 1 && lock.waiters.map(\.token) == [3])
            let held = LockTicketStatus(name: name, ticket: lock.holder, position: 0, revision: 4)
            #expect(try outcome(of: giveUp(1), fixture) == .lock(held))
            #expect(fixture.store.mark.revision == 4 && fixture.store.leaseCount == 2)
            #expect(try fixture.store.lock(name: name).lock == lock)
            #expect(try outcome(of: .releaseLock(name: name, token: 1), fixture) == .lockReleased(revision: 5))
        }
    }

    @Test("Whose lease has a place in a full queue is not refused")
    func fullQueue() throws {
        try withFixture { fixture in
            let store = fixture.store
            var index: UInt64 = 0
            func apply(_ command: Command) throws -> Outcome {
                index += 1
                return try store.apply(index: index, term: 1, payload: command.encode(timestampMilliseconds: 0))
            }
            _ = try apply(.grantLease(id: 1_000, ttlMilliseconds: 1_000))
            for _ in 0...KeyValueLimits.maximumLockWaiters { _ = try apply(acquire()) }
            #expect(try apply(acquire(1_000)) == .tooLarge(.lockQueue))
            _ = try apply(.releaseLock(name: name, token: 1))
            for _ in 0..<2 {
                guard case .lock(let status) = try apply(acquire(1_000)) else { throw Unexpected() }
                #expect(status.position == KeyValueLimits.maximumLockWaiters)
            }
            #expect(try apply(acquire()) == .tooLarge(.lockQueue))
        }
    }

    @Test("A queue has an end")
    func limits() throws {
        try withFixture { fixture in
            let store = fixture.store
            for number in 1...UInt64(KeyValueLimits.maximumLockWaiters + 2) {
                let outcome = try store.apply(
                    index: number,
                    term: 1,
                    payload: acquire().encode(timestampMilliseconds: 0)
                )
                let isBeyond = number > UInt64(KeyValueLimits.maximumLockWaiters + 1)
                #expect((outcome == .tooLarge(.lockQueue)) == isBeyond)
            }
            #expect(store.leaseCount == KeyValueLimits.maximumLockWaiters + 1)
        }
    }
    @Test("Those in a queue tell little of themselves in all: each change of a lock stores the whole queue again")
    func queueBytes() throws {
        try withFixture { fixture in
            let store = fixture.store
            let value = [UInt8](repeating: 1, count: KeyValueLimits.maximumLockValueLength)
            let request = LockRequest(name: name, lease: .ttl(milliseconds: 60_000), waits: true, value: value)
            for number in 1...UInt64(9) {
                let payload = Command.acquireLock(request).encode(timestampMilliseconds: 0)
                let outcome = try store.apply(index: number, term: 1, payload: payload)
                #expect((outcome == .tooLarge(.lockQueue)) == (number == 9))
            }
            // What the history keeps of the queue's growth and of its end.
            for token in 1...UInt64(8) { try release(token, at: token + 9, store) }
            #expect(try store.statistics().historyBytes < 16 * ((32 << 10) + 1_024))
        }
    }

    private func release(_ token: UInt64, at index: UInt64, _ store: Store) throws {
        let payload = Command.releaseLock(name: name, token: token).encode(timestampMilliseconds: 0)
        #expect(try store.apply(index: index, term: 1, payload: payload) == .lockReleased(revision: token + 8))
    }
}
