internal import KeyValue
internal import KeyValueModel
internal import Raft

/// A command whose client was told that it is done.
struct Acknowledgement: Sendable {
    let position: LogPosition
    /// What the client was told; nil where a trace does not say.
    let answer: KeyValue.Outcome?
}

/// Holds a recovered state against what clients were told, without a model of what commands do: only with what answers promise, and
/// with the commands in the log that may have ended a promise since.
struct AnswerCheck {
    /// Keys that begin with it only ever grow.
    static let counters = Array("count/".utf8)
    /// Keys that begin with it are only ever written together, with one value.
    static let together = Array("together/".utf8)

    private let acknowledged: [Acknowledgement]
    private let path: [Step]
    private let store: Store
    /// The last entry, by its index, that names a lease to end it, or a ticket to give it back.
    private var leaseEnds: [UInt64: LogIndex] = [:]
    private var releases: [Ticket: LogIndex] = [:]
    /// What the increments of the log come to, each idempotency key once.
    private var sums: [ArraySlice<UInt8>: Int64] = [:]

    private struct Ticket: Hashable {
        var name: [UInt8]
        var token: UInt64
    }

    init(_ store: Store, _ acknowledged: [Acknowledgement], end: Step) {
        (self.store, self.acknowledged, path) = (store, acknowledged, end.path)
        var seen: Set<[UInt8]> = []
        for step in path {
            guard let request = step.request else { continue }
            switch request.command {
            case .revokeLease(let id): leaseEnds[id] = step.position.index
            case .expireLeases(let ids): for id in ids { leaseEnds[id] = step.position.index }
            case .releaseLock(let name, let token, _): releases[Ticket(name: name, token: token)] = step.position.index
            case .increment(let key, let by, _) where key.starts(with: Self.counters):
                if let key = request.options.idempotency?.key, !seen.insert(key).inserted { continue }
                sums[key, default: 0] += by
            default: break
            }
        }
    }

    /// - Throws: ``Violation``.
    func run() throws {
        var holders: [[UInt8]: UInt64] = [:]
        for one in acknowledged {
            guard path.indices.contains(Int(one.position.index)), path[Int(one.position.index)].position == one.position
            else { throw Violation("the acknowledged entry \(one.position) is not in the log") }
            guard let answer = one.answer else { continue }
            let step = path[Int(one.position.index)]
            guard answer == step.outcome else {
                throw Violation(
                    "a client was told \(answer), and \(one.position) must give \(String(describing: step.outcome))"
                )
            }
            try check(answer, step, &holders)
        }
        for (name, token) in holders {
            guard let lock = try store.lock(name: name).lock else { continue }
            let tokens = [lock.holder.token] + lock.waiters.map(\.token)
            guard lock.holder.token >= token, zip(tokens, tokens.dropFirst()).allSatisfy(<) else {
                throw Violation("the tokens of a lock have gone back: \(tokens), \(token) held it")
            }
        }
        try checkCounters()
        try checkTogether()
    }

    private func check(_ answer: KeyValue.Outcome, _ step: Step, _ holders: inout [[UInt8]: UInt64]) throws {
        switch (answer, step.request?.command) {
        case (.incremented(_, let value, _, _), .increment(let key, _, _)) where key.starts(with: Self.counters):
            guard try number(key) >= value else {
                throw Violation("a client was told \(value), the counter stands at \(try number(key))")
            }
        case (.lease(let lease), _):
            if try store.lease(id: lease.id).lease == nil, (leaseEnds[lease.id] ?? 0) < step.position.index {
                throw Violation("the lease \(lease.id) was granted, nothing ended it, and it is not there")
            }
        case (.lock(let status), _):
            if status.holds { holders[status.name] = max(status.token, holders[status.name] ?? 0) }
            let isEnded =
                releases[Ticket(name: status.name, token: status.token)] != nil
                || (leaseEnds[status.ticket.lease] ?? 0) > step.position.index
            if !isEnded, try position(status.name, status.token) == nil {
                throw Violation("the ticket \(status.token) was given, nothing ended it, and it is not there")
            }
        case (.lockReleased, .releaseLock(let name, let token, _)):
            if try position(name, token) != nil { throw Violation("the ticket \(token) was given back and is there") }
        default: break
        }
    }

    private func position(_ name: [UInt8], _ token: UInt64) throws -> Int? {
        try store.lock(name: name).lock?.position(ofToken: token)
    }

    private func number(_ key: ArraySlice<UInt8>) throws -> Int64 {
        guard let item = try store.get(key).item else { return 0 }
        return Int64(String(decoding: item.value, as: UTF8.self)) ?? .min
    }

    private func checkCounters() throws {
        for (key, sum) in sums {
            let found = try number(key)
            guard found == sum else { throw Violation("a counter stands at \(found), its requests come to \(sum)") }
        }
    }

    /// A transaction is there as a whole or not at all, now and at each revision of the past that can be read.
    private func checkTogether() throws {
        let revision = max(store.compactRevision, store.mark.revision / 2)
        for revision in [revision, store.mark.revision] {
            let items = try store.range(RangeQuery(prefix: Self.together, limit: .max, revision: revision)).items
            guard Set(items.map(\.modRevision)).count <= 1, Set(items.map { Array($0.value) }).count <= 1,
                items.isEmpty || items.count == 4
            else { throw Violation("at revision \(revision) a transaction is there in part: \(items)") }
        }
    }

    // MARK: Asking again

    /// Commands with idempotency keys whose outcomes must still be known, at most `limit` of them.
    static func remembered(_ end: Step, limit: Int, _ random: inout SeededNumbers) -> [Step] {
        var found = end.path.filter { step in
            guard step.request?.options.idempotency != nil else { return false }
            switch step.outcome {
            case nil, .replayed, .idempotencyMismatch, .invalid, .fenced, .tooLarge: return false
            default: return step.state.now + KeyValueLimits.idempotencyAgeMilliseconds > end.state.now
            }
        }
        while found.count > limit { found.remove(at: Int(random.next() % UInt64(found.count))) }
        return found
    }
}
