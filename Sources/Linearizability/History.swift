/// One operation of a client: what it asked and was answered, and the time in between, within which it took effect.
package struct Operation<M: Model>: Hashable, Sendable {
    /// Who asked. Only for reports: two operations of one client are ordered by their times, like all others.
    package var client: Int
    /// When the request was made. Any clock that all operations of a history share; a counter of events does.
    package var call: UInt64
    /// When the answer was there; nil if the outcome is unknown: then it took effect at some time after `call`, or
    /// never.
    package var returned: UInt64?
    /// What was asked and answered; with an unknown outcome, the action as it is if it takes effect.
    package var action: M.Action

    /// - Parameter returned: not before `call`.
    package init(client: Int, call: UInt64, returned: UInt64?, action: M.Action) {
        precondition(returned.map { $0 >= call } ?? true, "an operation returned before it was called")
        self.client = client
        self.call = call
        self.returned = returned
        self.action = action
    }
}

/// What the checker found out.
package enum Verdict: Hashable, Sendable {
    /// There is an order of the operations that the model allows and that agrees with the times.
    case linearizable
    /// There is none; ``History/counterexample(limit:)`` shows why.
    case notLinearizable
    /// The bound on steps was reached first. This is no pass: check again with a higher limit.
    case undecided
}

/// The operations on one object, in any order.
///
/// A simulator or a test builds one history per key and checks it:
///
/// ```swift
/// var history = History(RegisterModel())
/// history.append(Operation(client: 1, call: 10, returned: 14, action: .write(7)))
/// history.append(Operation(client: 2, call: 12, returned: 13, action: .read(7)))
/// history.append(Operation(client: 3, call: 15, returned: nil, action: .write(8)))  // outcome unknown
/// switch history.check() {
/// case .linearizable: break
/// case .notLinearizable: print(history.counterexample()?.description ?? "")
/// case .undecided: // not a pass
/// }
/// ```
///
/// One operation is before another if it returned before the other was called; with equal times they are concurrent.
/// So number the calls and returns by one counter where a clock is too coarse: a tie hides an order. Leave out what
/// certainly was not executed, and reads whose outcome is unknown (they say nothing; keeping them does no harm).
///
/// Objects are independent of each other: a history of many keys is linearizable exactly if the history of each key is
/// (Herlihy and Wing, “Linearizability: a correctness condition for concurrent objects”, 1990, theorem 1).
package struct History<M: Model>: Sendable {
    /// What the operations are held against.
    package var model: M
    /// In any order.
    package var operations: [Operation<M>]

    /// A history of the operations given, or one to append to.
    package init(_ model: M, operations: [Operation<M>] = []) {
        self.model = model
        self.operations = operations
    }

    /// Adds an operation.
    package mutating func append(_ operation: Operation<M>) { operations.append(operation) }

    /// Looks for an order of the operations.
    ///
    /// - Parameter limit: how often at most an action is tried on a state; then the verdict is ``Verdict/undecided``.
    ///   A good history needs about two tries an operation, a bad one of many concurrent operations exponentially
    ///   many.
    package func check(limit: Int = History.defaultLimit) -> Verdict { search(limit: limit) }

    /// Some seconds' worth, and some hundred megabytes at worst.
    package static var defaultLimit: Int { 5_000_000 }

    @inline(__always)
    private func search(limit: Int) -> Verdict {
        var search = Search(self)
        switch search.run(limit: limit) {
        case .found: return .linearizable
        case .none: return .notLinearizable
        case .outOfSteps: return .undecided
        }
    }
}

// The compiler specializes what it sees whole, and callers in other modules see only the generic code: these overloads
// make the difference between tens and hundreds of nanoseconds a step.

extension History where M == RegisterModel {
    package func check(limit: Int = History.defaultLimit) -> Verdict { search(limit: limit) }
}

extension History where M == KeyValueModel {
    package func check(limit: Int = History.defaultLimit) -> Verdict { search(limit: limit) }
}

extension History where M == AppendModel<Int64> {
    package func check(limit: Int = History.defaultLimit) -> Verdict { search(limit: limit) }
}

extension History where M == AppendModel<UInt8> {
    package func check(limit: Int = History.defaultLimit) -> Verdict { search(limit: limit) }
}
