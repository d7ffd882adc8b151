internal import KeyValue
internal import KeyValueService
internal import LMDB
internal import Raft
internal import RaftNode

/// What a client of leases, locks, transactions and idempotency keys asks for, in turns that touch all of them.
///
/// Time is the clock's that the servers were given, so nothing ends by itself: what is due is ended by command, as a leader does it.
struct Coordination {
    let server: Server
    let clock: ManualClock
    /// Sets idempotency keys apart.
    let round: Int

    private func keyed(_ name: String) -> CommandOptions {
        CommandOptions(idempotency: IdempotencyKey(key: Array("\(round)-\(name)".utf8), fingerprint: UInt128(round)))
    }

    private func bytes(_ text: String) -> ArraySlice<UInt8> { Array(text.utf8)[...] }

    func play() async throws {
        let shared = try await grant(id: 0), own = try await grant(id: UInt64(1_000 + round))
        try await increments(one: 4)
        try await transactions(lease: shared)
        try await leased(shared, own)
        let token = try await locks(shared, own)
        try await concurrentIncrements()
        try await expire()
        try await fenced(token)
        try await server.carryOut(.revokeLease(shared), keyed("revoke"))
        try await server.carryOut(.deletePrefix(bytes("leased/")))
        try await transactions(lease: own)
        try await increments(one: 3)
    }

    private func grant(id: UInt64) async throws -> UInt64 {
        let options = id == 0 ? keyed("grant") : .none
        guard
            case .lease(let lease) = try await server.carryOut(.grantLease(id: id, ttlMilliseconds: 10_000), options)
        else { throw Violation("no lease was granted") }
        return lease.id
    }

    // MARK: Exactly once

    private var counter: String { String(decoding: AnswerCheck.counters, as: UTF8.self) }

    private func increments(one count: Int) async throws {
        for number in 0..<count {
            let command = Command.increment(key: bytes(counter + "one"), by: Int64(1 + number))
            let options = keyed("one-\(count)-\(number)")
            let first = try await server.carryOut(command, options)
            // The client did not hear the answer, and asks again.
            guard number % 2 == 0 else { continue }
            let again = try await server.carryOut(command, options, isRepeated: true)
            guard again == .replayed(first) else { throw Violation("the answer to the same request is \(again)") }
        }
        try await server.carryOut(.increment(key: bytes(counter + "two"), by: 7))
        try await server.carryOut(.increment(key: bytes("balance"), by: -7))
    }

    private func concurrentIncrements() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for client in 0..<4 {
                group.addTask {
                    for number in 0..<2 {
                        let key = bytes(counter + "all")
                        try await server.carryOut(.increment(key: key, by: 1), keyed("\(client)-\(number)"))
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    // MARK: Transactions

    private func transactions(lease: UInt64) async throws {
        for number in 0..<2 {
            let together = String(decoding: AnswerCheck.together, as: UTF8.self)
            let first = bytes(together + "0")
            let value = bytes("\(round)-\(number)-\(lease)" + String(repeating: "v", count: 60))
            var puts = (0..<4).map { Put(key: bytes(together + "\($0)"), value: value) }
            // One of them goes with the lease: the same for all, and it is taken from it again by the next one.
            for index in puts.indices where number == 0 { puts[index].lease = .attached(lease) }
            let all = Transaction(
                compares: [.init(key: first, .notEqual, .value(Array(value)))],
                success: puts.map { .put($0) } + [
                    .increment(key: bytes("sum"), by: 10), .put(Put(key: bytes("txn/\(number)"), value: value)),
                    .delete(bytes("txn/\(1 - number)")), .range(prefix: bytes(together), limit: 2),
                ],
                failure: [.get(first)]
            )
            let options = keyed("txn-\(lease)-\(number)")
            try await server.carryOut(.transaction(all), options)
            try await server.carryOut(.transaction(all), options, isRepeated: true)
            // The comparison does not hold now, and nothing is written.
            try await server.carryOut(.transaction(all))
        }
    }

    // MARK: Leases

    private func leased(_ shared: UInt64, _ own: UInt64) async throws {
        for number in 0..<3 {
            var put = Put(key: bytes("leased/\(number)"), value: bytes(String(repeating: "x", count: 50 + number)))
            put.lease = .attached(number == 0 ? own : shared)
            try await server.carryOut(.put(put))
            put = Put(key: bytes("short/\(number)"), value: bytes("\(round)"))
            put.lease = .ttl(milliseconds: UInt64(2_000 + 20_000 * (number % 2)))
            try await server.carryOut(.put(put), number == 1 ? keyed("ttl") : .none)
        }
        clock.advance(milliseconds: 1_500)
        try await server.carryOut(.keepLeasesAlive([shared, 999, own]))
        try await server.put("short/0", Array("for ever".utf8))
        try await server.delete("leased/2")
    }

    /// What is due by now: keys with a life of their own, and a waiter's place.
    private func expire() async throws {
        clock.advance(milliseconds: 3_000)
        try await server.put("clock", Array("\(round)".utf8))
        let store = server.node.machine.store
        var due: [UInt64] = []
        try await eventually("two leases are due") {
            due = store.dueLeases(at: store.mark.timestampMilliseconds, limit: 100)
            return due.count >= 2
        }
        try await server.carryOut(.expireLeases(due))
        try await server.carryOut(.expireLeases([]))
    }

    // MARK: Locks

    /// Two rounds share one.
    private var lock: [UInt8] { Array("lock/\(round / 2)".utf8) }

    private func acquire(_ lease: LeaseChoice, waits: Bool = true) async throws -> UInt64? {
        let request = LockRequest(name: lock, lease: lease, waits: waits, value: Array("\(lease)".utf8))
        switch try await server.carryOut(.acquireLock(request), waits ? keyed("lock-\(lease)") : .none) {
        case .lock(let status): return status.token
        case .lockHeld where !waits: return nil
        case let other: throw Violation("a lock is answered by \(other)")
        }
    }

    /// - Returns: the token of who holds the lock in the end.
    private func locks(_ shared: UInt64, _ own: UInt64) async throws -> UInt64 {
        // From a round before.
        while let held = try server.node.machine.store.lock(name: lock).lock {
            try await server.carryOut(.releaseLock(name: lock, token: held.holder.token))
        }
        guard let first = try await acquire(.ttl(milliseconds: 20_000)),
            let second = try await acquire(.ttl(milliseconds: 1_000)),
            let third = try await acquire(.attached(shared)), let fourth = try await acquire(.attached(own))
        else { throw Violation("who waits has no ticket") }
        if try await acquire(.attached(own), waits: false) != nil { throw Violation("a lock is held twice") }
        var put = Put(key: bytes("guarded"), value: bytes("\(first)"))
        try await server.carryOut(.put(put), CommandOptions(fence: Fence(lock: lock, token: first)))
        try await server.carryOut(.releaseLock(name: lock, token: first), keyed("release"))
        put.value = bytes("not any more")
        try await server.carryOut(.put(put), CommandOptions(fence: Fence(lock: lock, token: first)))
        // The second one's life ends in ``expire()``, the third one's lease is revoked.
        guard first < second, second < third, third < fourth else { throw Violation("tokens do not grow") }
        return third
    }

    private func fenced(_ token: UInt64) async throws {
        let options = CommandOptions(fence: Fence(lock: lock, token: token))
        guard case .put = try await server.carryOut(.put(Put(key: bytes("guarded"), value: bytes("\(token)"))), options)
        else { throw Violation("who holds the lock is fenced off") }
    }
}

extension Stage {
    private static let hour: UInt64 = 3_600_000

    /// All kinds of commands, with a flush of all of it and a snapshot in between, restarts, and an hour that goes by.
    func coordination() async throws {
        for round in 0..<3 {
            let server = try await startSubject(round == 0 ? .bootstrap : .mustExist)
            try await coordinate(on: server, round)
            try await eventually("everything is flushed") {
                let machine = server.node.machine
                return machine.durablePosition.index == machine.store.mark.index
            }
            if round == 0 {
                // Outcomes and the past are forgotten.
                clock.advance(milliseconds: Self.hour)
                let snapshots = ImageCheck.options(directory + "/disk") { _ in }.directory + "/snapshots"
                try await eventually("there is a snapshot") {
                    try isDirectory(snapshots) && fileNames(in: snapshots).contains { $0.hasSuffix(".snapshot") }
                }
            }
            try await server.put("round", Array("\(round)".utf8))
            try await server.stop()
        }
    }

    func coordinate(on server: Server, _ round: Int) async throws {
        try await Coordination(server: server, clock: clock, round: round).play()
    }
}
