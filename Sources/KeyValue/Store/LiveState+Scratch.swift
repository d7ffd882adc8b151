/// What a command does before it is known that all of it is done.
struct Scratch: Sendable {
    /// As they were before.
    var active: Memtable
    let record: StateRecord
    /// What is to be set: the last of each raw key.
    var changed = Memtable()
    /// Prefixes that are to be deleted as a whole, before that.
    var hidden: [(rawPrefix: [UInt8], doomed: LiveState.Doomed)] = []
}

/// Ends a command: nothing of it is done, and this is its outcome.
struct Refusal: Error {
    var outcome: Outcome

    init(_ outcome: Outcome) { self.outcome = outcome }
}

/// What the state was before an entry.
struct Undo: Sendable {
    private let active: Memtable
    private let record: StateRecord
    private let outcomeAges: OutcomeAges
    private let audit: Audit?
    private let oldestUnflushed: UInt64?
    private let itemPages: Int

    init(_ state: LiveState) {
        (active, record, outcomeAges) = (state.active, state.record, state.outcomeAges)
        (audit, oldestUnflushed, itemPages) = (state.audit, state.oldestUnflushed, state.itemPages)
    }

    func restore(_ state: inout LiveState) {
        precondition(state.scratch == nil, "what was drafted is rolled back first")
        (state.active, state.record, state.outcomeAges) = (active, record, outcomeAges)
        (state.audit, state.oldestUnflushed, state.itemPages) = (audit, oldestUnflushed, itemPages)
    }
}

extension LiveState {
    /// Applies a command that is more than a put or delete of keys without leases.
    mutating func applyDecoded(
        _ layout: CommandLayout,
        _ payload: [UInt8],
        _ reader: inout BatchReader
    ) throws -> Outcome {
        let command: Command
        let options: CommandOptions
        do throws(InvalidCommand) {
            let tail = try payload.withUnsafeBufferPointer { (bytes) throws(InvalidCommand) in
                try layout.decodeTail(UnsafeRawBufferPointer(bytes))
            }
            command = try Command.decode(payload, layout, tail.lease)
            options = tail.options
        } catch {
            return .invalid(error)
        }
        if !layout.isPlain { try beginCommand(at: layout.timestampMilliseconds, &reader) }
        if let key = options.idempotency, let outcome = try outcome(of: key, &reader) { return outcome }
        if let fence = options.fence, let refusal = try check(fence, &reader) { return refusal }
        return try execute(command, options.idempotency, &reader)
    }

    /// Executes a command as a whole or not at all, and keeps its outcome for a retry.
    private mutating func execute(
        _ command: Command,
        _ idempotency: IdempotencyKey?,
        _ reader: inout BatchReader
    ) throws -> Outcome {
        begin()
        // After any error but a refusal the state is as it was before the command.
        defer { if scratch != nil { rollBack() } }
        var outcome: Outcome
        do {
            outcome = try execute(command, &reader)
        } catch let refusal as Refusal {
            outcome = refusal.outcome
            rollBack()
            begin()
        }
        if let idempotency, !(try remember(outcome, of: idempotency, &reader)) {
            outcome = .tooLarge(.outcomeBytes)
            rollBack()
            begin()
        }
        try finish(&reader)
        return outcome
    }

    private mutating func begin() { scratch = Scratch(active: active, record: record) }

    private mutating func rollBack() {
        guard let begun = scratch.take() else { return }
        active = begun.active
        record = begun.record
    }

    /// Does for good what was drafted.
    private mutating func finish(_ reader: inout BatchReader) throws {
        // Each is found again, and set.
        try reader.spend(6 * (scratch?.changed.count ?? 0))
        if scratch?.hidden.isEmpty == false { try reader.spend((scratch?.active.count ?? 0) / 8) }
        undo = nil
        guard var draft = scratch.take() else { return }
        active = draft.active
        // Not shared any more, so that it is changed in place.
        draft.active = Memtable()
        let done = record
        record = draft.record
        record.mark = done.mark
        record.lastLease = done.lastLease
        // What it costs is spent: nothing can put it off any more.
        var certain = BatchReader(allowance: .max, isGivenUp: nil)
        for (rawPrefix, doomed) in draft.hidden { hide(rawPrefix, doomed) }
        var position = draft.changed.first
        while let place = position {
            let entry = draft.changed[place]
            let current = try entry.withKey { try find($0, withItem: false, &certain) }
            if current.metadata != nil || !entry.isTombstone { set(entry, over: current) }
            position = draft.changed.position(after: place)
        }
        // They do: a draft's sums telescope over the changes of one key, which leaves what it was before and its last entry; what was
        // made and removed in the draft cancels out. And a prefix is hidden before anything else that its command does.
        precondition(record == done, "the draft of a command and its changes agree")
    }

    /// The state's revision before the present command.
    var priorRevision: UInt64 { scratch?.record.mark.revision ?? record.mark.revision }

    /// The revision of the present command, which is taken with its first change of a key or lock.
    mutating func takeRevision() -> UInt64 {
        if record.mark.revision == priorRevision { record.mark.revision += 1 }
        return record.mark.revision
    }

    /// The cluster's time.
    var now: UInt64 { record.mark.timestampMilliseconds }

    private mutating func execute(_ command: Command, _ reader: inout BatchReader) throws -> Outcome {
        switch command {
        case .put(let put): return try execute(put, &reader)
        case .delete(let key, let condition, let returnsPrevious):
            let rawKey = Space.keys.raw(key)
            let current = try find(rawKey, withItem: returnsPrevious, &reader)
            guard condition.holds(modRevision: current.metadata?.modRevision) else {
                return .conditionFailed(revision: priorRevision, current: current.metadata)
            }
            let isDeleted = try delete(rawKey, current, &reader)
            return .deleted(
                revision: record.mark.revision,
                count: isDeleted ? 1 : 0,
                previous: isDeleted ? current.item : nil
            )
        case .deletePrefix(let prefix):
            let count = try deletePrefix(Space.keys.raw(prefix), &reader)
            return .deleted(revision: record.mark.revision, count: count, previous: nil)
        case .increment(let key, let by, let condition): return try increment(key, by, condition, &reader)
        case .transaction(let transaction): return .transaction(try execute(transaction, &reader))
        case .grantLease(let id, let ttl): return try grant(id, ttl, &reader)
        case .keepLeasesAlive(let leases): return .leasesKept(try leases.map { try keepAlive($0, &reader) })
        case .revokeLease(let id): return try revoke(id, &reader)
        case .expireLeases(let leases): return try expire(leases, &reader)
        case .acquireLock(let request): return try acquire(request, &reader)
        case .releaseLock(let name, let token, let onlyWhileWaiting):
            return try release(name, token, onlyWhileWaiting: onlyWhileWaiting, &reader)
        }
    }
}
