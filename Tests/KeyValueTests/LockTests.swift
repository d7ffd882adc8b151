import KeyValueModel
import Testing

@testable import KeyValue

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

    @Test("One lease may stand in a queue twice, and all its places go with it")
    func sameLease() throws {
        try withFixture { fixture in
            try fixture.append([.grantLease(id: 1, ttlMilliseconds: 1_000)])
            let request = LockRequest(name: name, lease: .attached(1), waits: true)
            try fixture.append([.acquireLock(request), .acquireLock(request), acquire()])
            try fixture.append([.releaseLock(name: name, token: 1)])
            #expect(try fixture.store.lock(name: name).lock?.holder.token == 2)
            try fixture.append([.revokeLease(1)])
            #expect(try fixture.store.lock(name: name).lock?.holder.token == 3)
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
