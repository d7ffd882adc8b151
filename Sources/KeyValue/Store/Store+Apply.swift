/// A committed entry of the log, as the state sees it.
public enum CommittedEntry: Hashable, Sendable {
    /// An encoded ``Command``.
    case command(index: UInt64, term: UInt64, payload: [UInt8])
    /// An entry that is no command; `membership` is a configuration's bytes, which are kept with the state.
    case other(index: UInt64, term: UInt64, membership: [UInt8]?)
}

extension Store {
    /// How many entries are applied under one hold of the lock, so that readers need not wait for a long batch.
    private static let entriesPerHold = 64

    /// Applies committed entries, contiguous and in order, and answers for each its outcome, nil for those that are no commands.
    ///
    /// The first must be the one behind ``mark``'s index. Touches the disk only to look up keys that the memtable does not know,
    /// and to count what a deleted prefix holds. Throws when a record that it needs cannot be read: the node must stop then, and
    /// the entries before the failing one stay applied.
    public func apply(_ entries: some Collection<CommittedEntry>) throws -> [Outcome?] {
        var outcomes: [Outcome?] = []
        outcomes.reserveCapacity(entries.count)
        var next = entries.startIndex
        var (before, after) = (UInt64?.none, UInt64(0))
        defer { if let before, before != after { didApply(through: after) } }
        while next != entries.endIndex {
            (before, after) = try state.withLock { state in
                let first = before ?? state.record.mark.revision
                var reader = BatchReader()
                var room = Self.entriesPerHold
                while next != entries.endIndex, room > 0 {
                    outcomes.append(try state.apply(entries[next], &reader))
                    entries.formIndex(after: &next)
                    room -= 1
                }
                return (first, state.record.mark.revision)
            }
        }
        return outcomes
    }

    /// Applies the command in one committed entry; see ``apply(_:)``.
    public func apply(index: UInt64, term: UInt64, payload: [UInt8]) throws -> Outcome {
        let (outcome, before, after) = try state.withLock { state in
            let before = state.record.mark.revision
            var reader = BatchReader()
            state.advance(index: index, term: term)
            return (try state.apply(payload, &reader), before, state.record.mark.revision)
        }
        if after != before { didApply(through: after) }
        return outcome
    }

    /// Takes note of a committed entry that is no command; `membership` is a configuration's bytes, kept with the state.
    public func applyOther(index: UInt64, term: UInt64, membership: [UInt8]?) {
        state.withLock { $0.applyOther(index: index, term: term, membership: membership) }
    }
}

extension LiveState {
    fileprivate mutating func apply(_ entry: CommittedEntry, _ reader: inout BatchReader) throws -> Outcome? {
        switch entry {
        case .command(let index, let term, let payload):
            advance(index: index, term: term)
            return try apply(payload, &reader)
        case .other(let index, let term, let membership):
            applyOther(index: index, term: term, membership: membership)
            return nil
        }
    }

    fileprivate mutating func applyOther(index: UInt64, term: UInt64, membership: [UInt8]?) {
        advance(index: index, term: term)
        if let membership { record.membership = membership }
    }
}
