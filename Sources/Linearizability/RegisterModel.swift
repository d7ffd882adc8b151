/// A register that holds a number, or nothing: read, write and compare-and-set.
package struct RegisterModel: Model {
    /// What can be asked of a register, with the answer.
    package enum Action: Hashable, Sendable {
        /// A read that answered this value; nil is “there is none”.
        case read(Int64?)
        /// Writes a value; nil deletes it.
        case write(Int64?)
        /// Writes `new` if the value is `expected`. `succeeded` is the answer: false says that the value was another
        /// one. With an unknown outcome it is true: that is what it does if it takes effect.
        case compareAndSet(expected: Int64?, new: Int64?, succeeded: Bool)
    }

    package var initialState: Int64?

    /// - Parameter initial: the value before the history; nil is “there is none”.
    package init(initial: Int64? = nil) { initialState = initial }

    @inline(__always)
    package func step(_ state: Int64?, _ action: Action) -> Int64?? {
        switch action {
        case .read(let value): value == state ? .some(state) : nil
        case .write(let value): .some(value)
        case .compareAndSet(let expected, let new, succeeded: true): expected == state ? .some(new) : nil
        case .compareAndSet(let expected, _, succeeded: false): expected != state ? .some(state) : nil
        }
    }

    /// Values that no action looks for become one value: no action tells them apart. If besides no compare-and-set
    /// failed, they are like no value at all to every action that fits them (which are the writes, and those fit
    /// everywhere and forget the value), so optional actions that make such a value are left out.
    package mutating func prepare(_ actions: [Action], isOptional: [Bool]) -> [Action?] {
        var observed: Set<Int64?> = []
        var hasFailed = false
        for (action, isOptional) in zip(actions, isOptional) {
            switch action {
            case .read(let value): if !isOptional { observed.insert(value) }
            case .write: break
            case .compareAndSet(let expected, _, let succeeded):
                if succeeded || !isOptional { observed.insert(expected) }
                if !succeeded && !isOptional { hasFailed = true }
            }
        }
        var unobserved: Int64??
        func replace(_ value: Int64?) -> Int64? {
            if observed.contains(value) { return value }
            if unobserved == nil { unobserved = .some(value) }
            return unobserved ?? value
        }
        return zip(actions, isOptional).map { action, isOptional in
            switch action {
            case .read, .compareAndSet(_, _, succeeded: false): return isOptional ? nil : action
            case .write(let value):
                return isOptional && !hasFailed && !observed.contains(value) ? nil : .write(replace(value))
            case .compareAndSet(let expected, let new, succeeded: true):
                if isOptional && !hasFailed && !observed.contains(new) { return nil }
                return .compareAndSet(expected: expected, new: replace(new), succeeded: true)
            }
        }
    }

    package func mayChangeState(_ action: Action) -> Bool {
        switch action {
        case .read, .compareAndSet(_, _, succeeded: false): false
        case .write, .compareAndSet(_, _, succeeded: true): true
        }
    }

    package func overwrites(_ action: Action) -> Bool {
        if case .write = action { return true }
        return false
    }

    package func mustStem(_ action: Action, from source: Action) -> Bool { false }

    package func relaxed(_ action: Action) -> Action? {
        guard case .compareAndSet(_, let new, succeeded: true) = action else { return nil }
        return .write(new)
    }

    package func mayDepend(_ action: Action, on earlier: Action) -> Bool {
        let made: Int64?
        switch earlier {
        case .read, .compareAndSet(_, _, succeeded: false): return false
        case .write(let value): made = value
        case .compareAndSet(_, let new, succeeded: true): made = new
        }
        switch action {
        case .read(let value): return value == made
        case .write: return false
        case .compareAndSet(let expected, _, succeeded: true): return expected == made
        // Any other value will do, and the one before may be the expected one.
        case .compareAndSet(_, _, succeeded: false): return true
        }
    }

    package func content(of state: Int64?) -> Int64?? { .some(state) }

    package func contentNeeded(by action: Action) -> Int64?? {
        switch action {
        case .read(let value): .some(value)
        case .compareAndSet(let expected, _, succeeded: true): .some(expected)
        case .write, .compareAndSet(_, _, succeeded: false): nil
        }
    }

    package func contentMade(by action: Action) -> Int64?? {
        switch action {
        case .write(let value): .some(value)
        case .compareAndSet(_, let new, succeeded: true): .some(new)
        case .read, .compareAndSet(_, _, succeeded: false): nil
        }
    }

    package func describe(_ action: Action) -> String {
        switch action {
        case .read(let value): "read -> \(describe(value))"
        case .write(let value): value.map { "write \($0)" } ?? "delete"
        case .compareAndSet(let expected, let new, let succeeded):
            "compare-and-set \(describe(expected)) to \(describe(new))\(succeeded ? "" : " -> refused")"
        }
    }

    package func describe(_ state: Int64?) -> String { state.map(String.init) ?? "nothing" }
}
