/// A command of a committed entry that costs too much to be executed where others wait for it.
///
/// It is executed on a copy of the state, on any one thread, while everything else goes on: the state stands before its entry, can be read, flushed
/// and written as a snapshot. Then it is applied again, and what became of the copy takes the state's place at once. So its outcome, and all that it changes,
/// are those of the same code without a pause: replicas may differ in where they pause. What is given up leaves nothing behind.
public final class LongCommand: Sendable {
    /// Ends the attempt at a command that costs too much, or is given up.
    struct Pause: Error {}

    fileprivate struct Done: Sendable {
        var state: LiveState
        var outcome: Outcome
    }

    /// Where it stands when its entry is applied again.
    enum Step {
        case none
        case pending(LongCommand)
        /// The state as it was is to be freed without the lock.
        case done(Outcome, before: LiveState)
    }

    let index: UInt64
    private let payload: [UInt8]
    private let term: UInt64
    /// Before the entry.
    fileprivate let state: LiveState
    private let result = Guarded<Result<Done, any Error>?>(nil)

    init(_ state: LiveState, index: UInt64, term: UInt64, payload: [UInt8]) {
        self.state = state
        (self.index, self.term, self.payload) = (index, term, payload)
    }

    /// Executes the command, once and on one thread; then the entry is to be applied again. `isGivenUp` is asked every few milliseconds: after a
    /// true answer nothing comes of it.
    public func execute(isGivenUp: () -> Bool) {
        let done = Result { try run(isGivenUp) }
        if case .failure(is Pause) = done { return }
        result.withLock { $0 = done }
    }

    private func run(_ isGivenUp: () -> Bool) throws -> Done {
        var copy = state
        copy.beginRecording()
        let outcome = try withoutActuallyEscaping(isGivenUp) { isGivenUp in
            var reader = BatchReader(allowance: copy.commandAllowance, isGivenUp: isGivenUp)
            return try copy.apply(index: index, term: term, payload, &reader)
        }
        return Done(state: copy, outcome: outcome)
    }

    /// What came of it; nil while it has not been executed. Throws what its execution threw.
    fileprivate func take() throws -> Done? { try result.withLock { $0 }?.get() }
}

extension LiveState {
    /// What is executed from now on is executed on a copy, whose changes are noted for the state itself.
    fileprivate mutating func beginRecording() {
        audit = Audit(number: 0)
        leaseClock = LeaseClock(recording: true)
    }

    /// Puts off the command of `entry`, which is the next to be applied.
    mutating func beginLongCommand(_ entry: CommittedEntry) -> LongCommand {
        guard case .command(let index, let term, let payload) = entry else {
            preconditionFailure("what is no command does not take long")
        }
        longCommand = nil
        let command = LongCommand(self, index: index, term: term, payload: payload)
        longCommand = command
        return command
    }

    /// Does for good what came of the long command, when that is the one of `entry`, the next to be applied.
    mutating func finishLongCommand(_ entry: CommittedEntry) throws -> LongCommand.Step {
        guard let command = longCommand, command.index == entry.index else { return .none }
        guard let done = try command.take() else { return .pending(command) }
        // The copy holds what has been flushed since: it is executed once more. Nothing is applied meanwhile, so that there is no second flush.
        guard done.state.freezes == freezes else { return .pending(beginLongCommand(entry)) }
        let old = self
        adopt(done.state, from: command.state.record)
        return .done(done.outcome, before: old)
    }

    /// Makes a copy, on which a command was executed, the state.
    private mutating func adopt(_ copy: LiveState, from before: StateRecord) {
        var new = copy
        // What goes on beside: flushes that end, a hash that is recomputed.
        (new.frozen, new.durable) = (frozen, durable)
        new.history.raise(to: history.floor)
        new.record.hash = record.hash &+ (new.record.hash &- before.hash)
        let changes = new.audit?.changes
        new.audit = changes == nil ? nil : audit
        for (key, change) in changes ?? [] { key.withUnsafeBytes { new.audit?.note($0, change: change) } }
        var clock = leaseClock
        clock.follow(new.leaseClock)
        new.leaseClock = clock
        self = new
    }
}
