/// A key of the store, with values and revisions: get, put, delete, compare-and-set on either, and a counter's
/// increment.
///
/// Revisions are numbers that grow with each write of the key, and name the version that a write made. Where an answer
/// tells one, it is checked; where none is told (of an unknown outcome) the next answer that tells it pins it down. Of
/// versions between two known revisions it is not asked whether there are numbers enough for them.
package struct KeyValueModel: Model {
    /// What a key holds.
    package enum Value: Hashable, Sendable {
        case missing
        case number(Int64)
        /// Text, as a place in ``KeyValueModel/texts``.
        case text(Int32)
    }

    /// What must hold for a write to take place.
    package enum Condition: Hashable, Sendable {
        /// The value is this one; ``Value/missing`` demands that there is none.
        case value(Value)
        /// The key is there, and this revision wrote it; 0 demands that there is none.
        case revision(UInt64)
    }

    /// What can be asked of a key, with the answer.
    package enum Action: Hashable, Sendable {
        /// A read that answered this value, and the revision that wrote it, where told.
        case get(Value, revision: UInt64? = nil)
        /// Writes a value, and made this revision, where told. ``Value/missing`` deletes.
        case put(Value, revision: UInt64? = nil)
        /// Writes `new` if the condition holds, and made this revision, where told. `succeeded` is the answer: false
        /// says that the condition did not hold. With an unknown outcome it is true: that is what it does if it takes
        /// effect.
        case compareAndSet(Condition, new: Value, succeeded: Bool, revision: UInt64? = nil)
        /// Adds to a number (a missing one is 0) and answered the sum, where known, and made this revision, where told.
        case increment(by: Int64, result: Int64?, revision: UInt64? = nil)

        /// Deletes, whether the key is there or not.
        package static var delete: Action { .put(.missing) }
    }

    /// A value, and what is known of its revision.
    package struct State: Hashable, Sendable {
        var value: Value
        /// The revision that wrote the value, if `isExact`; else it is somewhere above.
        var revision: UInt64 = 0
        var isExact = false

        /// Whether the value may have been written by this revision.
        fileprivate func mayHave(_ other: UInt64) -> Bool {
            value != .missing && (isExact ? revision == other : revision < other)
        }

        /// The state behind a write, or nil if its revision is not behind this one.
        fileprivate func writing(_ new: Value, _ made: UInt64?) -> State? {
            if let made, made <= revision { return nil }
            if new == .missing { return State(value: .missing, revision: made ?? revision) }
            return State(value: new, revision: made ?? revision, isExact: made != nil)
        }
    }

    /// What the places of ``Value/text(_:)`` stand for, for reports; need not be there.
    package var texts: [String]
    package var initialState: State
    /// For each revision that an answer said it made, the one before it that another answer said it made: revisions
    /// grow, so the one cannot take effect before the other. Without this the search would find that out late.
    var revisionBefore: [UInt64: UInt64] = [:]

    package init(initial: Value = .missing, texts: [String] = []) {
        initialState = State(value: initial)
        self.texts = texts
    }

    package func step(_ state: State, _ action: Action) -> State? {
        switch action {
        case .get(let value, let revision):
            guard value == state.value else { return nil }
            guard let revision, value != .missing else { return state }
            return state.mayHave(revision) ? State(value: value, revision: revision, isExact: true) : nil
        case .put(.missing, nil):
            return state.value == .missing ? state : state.writing(.missing, nil)
        case .put(let value, let revision):
            return writing(state, value, revision)
        case .compareAndSet(let condition, let new, let succeeded, let revision):
            guard succeeded else { return canFail(condition, state) ? state : nil }
            guard var before = assuming(condition, state) else { return nil }
            if case .revision(let known) = condition { before.revision = max(before.revision, known) }
            return writing(before, new, revision)
        case .increment(let by, let result, let revision):
            let before: Int64
            switch state.value {
            case .missing: before = 0
            case .number(let number): before = number
            case .text: return nil
            }
            let (sum, overflows) = before.addingReportingOverflow(by)
            guard !overflows, result == nil || result == sum else { return nil }
            return writing(state, .number(sum), revision)
        }
    }

    private func writing(_ state: State, _ new: Value, _ made: UInt64?) -> State? {
        if let made, let before = revisionBefore[made], state.revision < before { return nil }
        return state.writing(new, made)
    }

    /// The state if the condition holds in it.
    private func assuming(_ condition: Condition, _ state: State) -> State? {
        switch condition {
        case .value(let value): value == state.value ? state : nil
        case .revision(0): state.value == .missing ? state : nil
        case .revision(let revision): state.mayHave(revision) ? state : nil
        }
    }

    private func canFail(_ condition: Condition, _ state: State) -> Bool {
        switch condition {
        case .value(let value): value != state.value
        case .revision(0): state.value != .missing
        // Of a revision that is not known exactly it may be another.
        case .revision(let revision): !(state.isExact && state.revision == revision && state.value != .missing)
        }
    }

    package func mayChangeState(_ action: Action) -> Bool {
        switch action {
        case .get, .compareAndSet(_, _, succeeded: false, _): false
        case .put, .compareAndSet, .increment: true
        }
    }

    /// A lower bound of the revision may be less strict without the action before it: then more can follow.
    package func overwrites(_ action: Action) -> Bool {
        if case .put = action { return true }
        return false
    }

    package func relaxed(_ action: Action) -> Action? {
        switch action {
        case .compareAndSet(_, let new, succeeded: true, let revision): .put(new, revision: revision)
        case .increment(_, let result?, let revision): .put(.number(result), revision: revision)
        case .compareAndSet, .increment, .get, .put: nil
        }
    }

    package func mayDepend(_ action: Action, on earlier: Action) -> Bool {
        let made: Value
        let madeRevision: UInt64?
        switch earlier {
        case .get, .compareAndSet(_, _, succeeded: false, _): return false
        case .put(let value, let revision): (made, madeRevision) = (value, revision)
        case .compareAndSet(_, let new, succeeded: true, let revision): (made, madeRevision) = (new, revision)
        // Of an unknown result any number may come.
        case .increment(_, nil, _): return action != .delete
        case .increment(_, let result?, let revision): (made, madeRevision) = (.number(result), revision)
        }
        switch action {
        case .get(let value, _): return value == made
        case .put: return false
        case .compareAndSet(.value(let value), _, succeeded: true, _): return value == made
        case .compareAndSet(.revision(0), _, succeeded: true, _): return made == .missing
        case .compareAndSet(.revision(let revision), _, succeeded: true, _):
            return made != .missing && (madeRevision == nil || madeRevision == revision)
        case .compareAndSet, .increment: return true
        }
    }

    package func mustStem(_ action: Action, from source: Action) -> Bool {
        guard let seen = Self.revisionSeen(action), let made = Self.revisionMade(source) else { return false }
        return seen == made
    }

    /// The revision that the value must have for the action to fit.
    private static func revisionSeen(_ action: Action) -> UInt64? {
        switch action {
        case .get(_, let revision): revision
        case .compareAndSet(.revision(let revision), _, succeeded: true, _): revision == 0 ? nil : revision
        case .compareAndSet, .put, .increment: nil
        }
    }

    /// The revision that the action made, where it was told.
    static func revisionMade(_ action: Action) -> UInt64? {
        switch action {
        case .put(_, let revision), .compareAndSet(_, _, succeeded: true, let revision), .increment(_, _, let revision):
            revision
        case .get, .compareAndSet: nil
        }
    }
}
