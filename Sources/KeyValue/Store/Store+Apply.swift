/// A committed entry of the log, as the state sees it.
public enum CommittedEntry: Hashable, Sendable {
    /// An encoded ``Command``.
    case command(index: UInt64, term: UInt64, payload: [UInt8])
    /// An entry that is no command; `membership` is a configuration's bytes, which are kept with the state.
    case other(index: UInt64, term: UInt64, membership: [UInt8]?)

    var index: UInt64 {
        switch self {
        case .command(let index, _, _), .other(let index, _, _): index
        }
    }
}

/// What was applied of some entries.
public struct AppliedCommands: Sendable {
    /// For each that was applied, from the first on, its outcome; nil for those that are no commands.
    public var outcomes: [Outcome?] = []
    /// To be executed before the next entry can be applied.
    public var longCommand: LongCommand?
    /// The memtable is full: nothing more can be applied before a flush, see ``Store/waitForFlush(isGivenUp:)``.
    public var isFull = false

    fileprivate var mustWait: Bool { longCommand != nil || isFull }
}

extension Store {
    /// How many entries are applied under one hold of the lock, and what they may cost before it is given free, so that readers need not wait
    /// for a long batch.
    private static let entriesPerHold = 64
    private static let costPerHold = 1_024

    /// Applies committed entries, contiguous and in order, and answers for each its outcome, nil for those that are no commands.
    ///
    /// The first must be the one behind ``mark``'s index. Touches the disk only to look up keys that the memtable does not know,
    /// and to count what a deleted prefix holds. Throws when a record that it needs cannot be read: the node must stop then, and
    /// the entries before the failing one stay applied.
    public func apply(_ entries: some Collection<CommittedEntry>) throws -> [Outcome?] {
        try apply(entries, isTimeUp: { false }, isGivenUp: { false }).outcomes
    }

    /// Applies the first of the entries, as ``apply(_:)`` does, until `isTimeUp`, which is asked every millisecond or so; at least one, unless the
    /// first is a command that takes long. That is answered: execute it, and apply what is left again. What is flushed or
    /// installed meanwhile may undo that work; it is answered once more then. Nor is any entry applied while the memtable is full.
    public func apply(
        _ entries: some Collection<CommittedEntry>,
        isTimeUp: () -> Bool
    ) throws -> AppliedCommands {
        try apply(entries, isTimeUp: isTimeUp, isGivenUp: nil)
    }

    private func apply(
        _ entries: some Collection<CommittedEntry>,
        isTimeUp: () -> Bool,
        isGivenUp: (() -> Bool)?
    ) throws -> AppliedCommands {
        var applied = AppliedCommands()
        applied.outcomes.reserveCapacity(entries.count)
        var rest = entries[...]
        var (before, after) = (UInt64?.none, UInt64(0))
        defer { if let before, before != after { didApply(through: after) } }
        repeat {
            // Freed behind the lock.
            var old: LiveState?
            (before, after) = try state.withLock { state in
                let first = before ?? state.record.mark.revision
                if isGivenUp == nil, let entry = rest.first {
                    switch try state.finishLongCommand(entry) {
                    case .none: break
                    case .pending(let command): applied.longCommand = command
                    case .done(let outcome, let before):
                        old = before
                        applied.outcomes.append(outcome)
                        rest.removeFirst()
                    }
                }
                var reader = BatchReader(allowance: state.commandAllowance, isGivenUp: isGivenUp)
                var (room, cost) = (Self.entriesPerHold, 0)
                while !applied.mustWait, let entry = rest.first, room > 0, cost < Self.costPerHold {
                    if state.isFull, isGivenUp == nil {
                        applied.isFull = true
                        break
                    }
                    do {
                        applied.outcomes.append(try state.apply(entry, &reader))
                        rest.removeFirst()
                    } catch is LongCommand.Pause {
                        applied.longCommand = state.beginLongCommand(entry)
                    }
                    room -= 1
                    cost += reader.beginCommand()
                }
                return (first, state.record.mark.revision)
            }
            withExtendedLifetime(old) {}
        } while !rest.isEmpty && !applied.mustWait && !isTimeUp()
        return applied
    }

    /// Applies the command in one committed entry; see ``apply(_:)``.
    public func apply(index: UInt64, term: UInt64, payload: [UInt8]) throws -> Outcome {
        let outcomes = try apply(CollectionOfOne(.command(index: index, term: term, payload: payload)))
        guard let outcome = outcomes[0] else { preconditionFailure("a command has an outcome") }
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
            return try apply(index: index, term: term, payload, &reader)
        case .other(let index, let term, let membership):
            applyOther(index: index, term: term, membership: membership)
            return nil
        }
    }

    fileprivate mutating func applyOther(index: UInt64, term: UInt64, membership: [UInt8]?) {
        advance(index: index, term: term)
        if let membership { record.membership = membership }
    }

    /// Applies a committed command. The reader must have been begun under the present hold of the lock. When it throws
    /// ``LongCommand/Pause``, all is as it was before.
    mutating func apply(
        index: UInt64,
        term: UInt64,
        _ payload: [UInt8],
        _ reader: inout BatchReader
    ) throws -> Outcome {
        let layout: CommandLayout
        do throws(InvalidCommand) {
            layout = try payload.withUnsafeBufferPointer { (bytes) throws(InvalidCommand) in
                try CommandLayout(decoding: UnsafeRawBufferPointer(bytes))
            }
        } catch {
            advance(index: index, term: term)
            return .invalid(error)
        }
        guard layout.mayTakeLong else {
            advance(index: index, term: term)
            reader.isBounded = false
            defer { reader.isBounded = true }
            return try execute(layout, payload, &reader)
        }
        undo = Undo(self)
        defer { undo = nil }
        do {
            advance(index: index, term: term)
            return try execute(layout, payload, &reader)
        } catch let pause as LongCommand.Pause {
            guard let undo else { preconditionFailure("a command that has changed something is not put off") }
            undo.restore(&self)
            throw pause
        }
    }
}
