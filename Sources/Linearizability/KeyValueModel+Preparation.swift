extension KeyValueModel {
    /// What the actions of a history look at.
    private struct Observations {
        var values: Set<Value> = []
        /// Revisions that an answer reported, and revisions that a compare-and-set asked for.
        var reported: Set<UInt64> = []
        var asked: Set<UInt64> = []
        /// A compare-and-set that failed, which any other value explains.
        var hasFailure = false
        /// An increment looks at every number.
        var hasIncrement = false

        init(_ actions: [Action], _ isOptional: [Bool]) {
            for (action, isOptional) in zip(actions, isOptional) { add(action, isOptional) }
        }

        private mutating func add(_ action: Action, _ isOptional: Bool) {
            switch action {
            case .get(let value, let revision):
                guard !isOptional else { return }
                values.insert(value)
                report(revision)
            case .put(_, let revision):
                if !isOptional { report(revision) }
            case .compareAndSet(let condition, _, let succeeded, let revision):
                if isOptional && !succeeded { return }
                switch condition {
                case .value(let value): values.insert(value)
                case .revision(0): values.insert(.missing)
                case .revision(let revision): asked.insert(revision)
                }
                if !succeeded { hasFailure = true }
                if !isOptional { report(revision) }
            case .increment(_, _, let revision):
                hasIncrement = true
                values.insert(.missing)
                if !isOptional { report(revision) }
            }
        }

        private mutating func report(_ revision: UInt64?) {
            if let revision { reported.insert(revision) }
        }

        func observes(_ value: Value) -> Bool {
            if values.contains(value) { return true }
            if case .number = value { return hasIncrement }
            return value == .missing
        }
    }

    /// Values that no action looks for become one value. Optional actions that make such a value are left out if
    /// nothing else can have seen them: no compare-and-set failed, which would fit where any other value is; and each
    /// revision that one asked for was reported by the answer of another action, whose version then had that revision.
    package mutating func prepare(_ actions: [Action], isOptional: [Bool]) -> [Action?] {
        let observations = Observations(actions, isOptional)
        revisionBefore = Self.predecessors(zip(actions, isOptional).lazy.filter { !$0.1 }.map(\.0))
        let mayLeaveOut = !observations.hasFailure && observations.asked.isSubset(of: observations.reported)
        var unobserved: Value?
        func replace(_ value: Value) -> Value {
            guard !observations.observes(value) else { return value }
            let chosen = unobserved ?? value
            unobserved = chosen
            return chosen
        }
        func leavesOut(_ value: Value) -> Bool { mayLeaveOut && !observations.observes(value) }
        return zip(actions, isOptional).map { action, isOptional in
            switch action {
            case .get, .compareAndSet(_, _, succeeded: false, _):
                return isOptional ? nil : action
            case .put(let value, let revision):
                return isOptional && leavesOut(value) ? nil : .put(replace(value), revision: revision)
            case .compareAndSet(let condition, let new, succeeded: true, let revision):
                if isOptional && leavesOut(new) { return nil }
                return .compareAndSet(condition, new: replace(new), succeeded: true, revision: revision)
            case .increment:
                return action
            }
        }
    }

    private static func predecessors(_ actions: some Sequence<Action>) -> [UInt64: UInt64] {
        let made = Set(actions.compactMap(revisionMade))
        let sorted = made.sorted()
        return Dictionary(uniqueKeysWithValues: zip(sorted.dropFirst(), sorted))
    }

    package func content(of state: State) -> Value? { state.value }

    package func contentNeeded(by action: Action) -> Value? {
        switch action {
        case .get(let value, _): value
        case .compareAndSet(.value(let value), _, succeeded: true, _): value
        case .compareAndSet(.revision(0), _, succeeded: true, _): .missing
        case .compareAndSet, .put, .increment: nil
        }
    }

    package func contentMade(by action: Action) -> Value? {
        switch action {
        case .put(let value, _): value
        case .compareAndSet(_, let new, succeeded: true, _): new
        case .increment(_, let result?, _): .number(result)
        case .increment, .get, .compareAndSet: nil
        }
    }

    package func describe(_ action: Action) -> String {
        switch action {
        case .get(let value, let revision): "get -> \(describe(value))\(at(revision))"
        case .put(.missing, let revision): "delete\(made(revision))"
        case .put(let value, let revision): "put \(describe(value))\(made(revision))"
        case .compareAndSet(let condition, let new, let succeeded, let revision):
            "\(new == .missing ? "delete" : "put \(describe(new))") if \(describe(condition))"
                + (succeeded ? made(revision) : " -> refused")
        case .increment(let by, let result, let revision):
            "increment by \(by)\(result.map { " -> \($0)" } ?? "")\(at(revision))"
        }
    }

    package func describe(_ state: State) -> String {
        guard state.value != .missing else { return "nothing" }
        if state.isExact { return "\(describe(state.value)) of revision \(state.revision)" }
        return describe(state.value) + (state.revision > 0 ? " of a revision above \(state.revision)" : "")
    }

    private func describe(_ value: Value) -> String {
        switch value {
        case .missing: "nothing"
        case .number(let number): "\(number)"
        case .text(let place): texts.indices.contains(Int(place)) ? Quoted.text(texts[Int(place)].utf8) : "#\(place)"
        }
    }

    private func describe(_ condition: Condition) -> String {
        switch condition {
        case .value(.missing), .revision(0): "there is nothing"
        case .value(let value): "it is \(describe(value))"
        case .revision(let revision): "its revision is \(revision)"
        }
    }

    private func at(_ revision: UInt64?) -> String { revision.map { " (revision \($0))" } ?? "" }

    private func made(_ revision: UInt64?) -> String { revision.map { " -> revision \($0)" } ?? "" }
}
