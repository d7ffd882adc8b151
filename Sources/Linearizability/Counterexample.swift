/// The shortest part found of a history that is not linearizable: no operation of it can be left out.
///
/// It refutes the whole history: had that a legal order, this part had one too.
package struct Counterexample<M: Model>: Sendable, CustomStringConvertible {
    /// In the order of their calls. An operation that had not returned when it was over counts as one of unknown
    /// outcome.
    package let operations: [Operation<M>]
    /// A legal order of all of these but ``stuck``.
    package let order: [Operation<M>]
    /// The operation that returned last: with it there is no legal order.
    package let stuck: Operation<M>
    /// The state behind ``order``, as a person reads it.
    package let stateInWords: String
    private let model: M

    /// For each of ``operations`` whether its condition was dropped.
    private let isRelaxed: [Bool]

    /// - Parameters:
    ///   - history: not linearizable, and its shortest prefix that is not.
    ///   - whole: what it is a part of.
    fileprivate init?(_ history: History<M>, of whole: History<M>, limit: Int) {
        guard let end = history.returns.last,
            let place = history.operations.lastIndex(where: { $0.returned == end })
        else { return nil }
        let operations = history.operations.sorted { $0.call < $1.call }
        self.operations = operations
        isRelaxed = operations.map { part in
            !whole.operations.contains {
                $0.call == part.call && $0.client == part.client && $0.action == part.action
            }
        }
        stuck = history.operations[place]
        var before = history
        before.operations.remove(at: place)
        var search = Search(before)
        guard search.run(limit: limit) == .found else { return nil }
        order = search.order.map { before.operations[$0] }
        model = search.preparedModel
        var state = model.initialState
        for operation in order { state = model.step(state, operation.action) ?? state }
        stateInWords = model.describe(state)
    }

    package var description: String { lines().joined(separator: "\n") }

    /// The operations, one a line, and what went wrong.
    ///
    /// - Parameter unit: what the times are, such as `line`.
    package func lines(unit: String = "time") -> [String] {
        let clients = Self.rightAligned(operations.map { "\($0.client)" })
        let calls = Self.rightAligned(operations.map { "\($0.call)" })
        let returns = Self.rightAligned(operations.map { $0.returned.map { "\($0)" } ?? "?" })
        var lines = operations.indices.map { index in
            "process \(clients[index])  \(unit)s \(calls[index]) to \(returns[index])  "
                + model.describe(operations[index].action)
                + (isRelaxed[index] ? "  (whatever was there before)" : "")
                + (operations[index].returned == nil ? "  (may take effect later, or never)" : "")
        }
        if order.isEmpty {
            lines.append("at the beginning the state is \(stateInWords),")
        } else {
            lines.append("longest legal order: \(order.map { model.describe($0.action) }.joined(separator: "; "))")
            lines.append("then the state is \(stateInWords),")
        }
        lines.append(
            "and “\(model.describe(stuck.action))” of process \(stuck.client) has no place in it, nor in any other order, "
                + "before \(unit) \(stuck.returned ?? stuck.call)"
        )
        return lines
    }

    private static func rightAligned(_ texts: [String]) -> [String] {
        let width = texts.map(\.count).max() ?? 0
        return texts.map { String(repeating: " ", count: width - $0.count) + $0 }
    }
}

extension History {
    /// Cuts a history that is not linearizable down to a part that still is not; nil if it is linearizable or
    /// undecided.
    ///
    /// First to its shortest prefix that is not linearizable, then piece by piece whatever is not needed. An operation
    /// is left out only if nothing that remains may depend on it (``Model/mayDepend(_:on:)``): a read whose write is
    /// missing would not refute the history.
    ///
    /// Conditions of writes are dropped where it goes without them: else each drags in what made it hold.
    ///
    /// - Parameter limit: as of ``check(limit:)``, for each of the many checks; what is undecided stays in.
    package func counterexample(limit: Int = 1_000_000) -> Counterexample<M>? {
        guard check(limit: max(limit, Self.defaultLimit)) == .notLinearizable else { return nil }
        var bad = shortestBadPrefix(limit)
        bad.relax(limit: limit)
        var count = Int.max
        while bad.operations.count < count {
            count = bad.operations.count
            var piece = max(1, count / 2)
            while true {
                bad.removePieces(of: piece, limit: limit)
                if piece == 1 { break }
                piece = max(1, piece / 4)
            }
            bad = bad.shortestBadPrefix(limit)
            if bad.operations.count < 200 { bad.relaxEach(limit: limit) }
        }
        return Counterexample(bad, of: self, limit: limit)
    }

    private func isRefuted(_ limit: Int) -> Bool { check(limit: limit) == .notLinearizable }

    /// All times of returns, in order.
    fileprivate var returns: [UInt64] { operations.compactMap(\.returned).sorted() }

    /// A longer prefix of a bad one is bad as well: the shortest is found by halving.
    private func shortestBadPrefix(_ limit: Int) -> History {
        let returns = returns
        var (good, bad) = (-1, returns.count - 1)
        var result = self
        while bad - good > 1 {
            let middle = (good + bad) / 2
            let prefix = cut(at: returns[middle])
            if prefix.isRefuted(limit) {
                bad = middle
                result = prefix
            } else {
                good = middle
            }
        }
        return result
    }

    /// What was known at a time. An operation that had not returned may take effect later, or never.
    private func cut(at end: UInt64) -> History {
        var result = self
        result.operations = operations.filter { $0.call <= end }
            .map { operation in
                var operation = operation
                if let returned = operation.returned, returned > end { operation.returned = nil }
                return operation
            }
        // An open operation that changes nothing says nothing.
        result.operations.removeAll { $0.returned == nil && !model.mayChangeState($0.action) }
        return result
    }

    /// Drops all conditions, if it goes without any.
    private mutating func relax(limit: Int) {
        var relaxed = self
        for index in operations.indices {
            relaxed.operations[index].action = model.relaxed(operations[index].action) ?? operations[index].action
        }
        if relaxed.isRefuted(limit) { self = relaxed }
    }

    /// Drops each condition that it goes without.
    private mutating func relaxEach(limit: Int) {
        for index in operations.indices {
            guard let action = model.relaxed(operations[index].action) else { continue }
            var relaxed = self
            relaxed.operations[index].action = action
            if relaxed.isRefuted(limit) { self = relaxed }
        }
    }

    /// Goes through the operations, the last first, and takes away each piece without which the rest is still refuted.
    private mutating func removePieces(of size: Int, limit: Int) {
        // Observers go first: they hold what they observe.
        for isObserver in [true, false] {
            var end = operations.count
            while end > 0 {
                let start = max(0, end - size)
                let without = removing(start..<end) { model.mayChangeState($0.action) != isObserver }
                if without.operations.count < operations.count, without.isRefuted(limit) {
                    self = without
                }
                end = start
            }
        }
    }

    /// Without the operations of a range for which the condition holds and on which nothing that remains may depend:
    /// if this history is linearizable, so is what is left.
    func removing(_ range: Range<Int>, where condition: (Operation<M>) -> Bool) -> History {
        var isKept = operations.indices.map { !range.contains($0) || !condition(operations[$0]) }
        var isSettled = false
        while !isSettled {
            isSettled = true
            for index in range where !isKept[index] {
                let isNeeded = operations.indices.contains {
                    isKept[$0] && $0 != index && needs($0, index, isKept)
                }
                if isNeeded {
                    isKept[index] = true
                    isSettled = false
                }
            }
        }
        var result = self
        result.operations = operations.indices.filter { isKept[$0] }.map { operations[$0] }
        return result
    }

    /// Whether an operation may owe it to another that it fits, and to none that is kept instead: the one whose very
    /// version it names, or one that made the same between the two.
    private func needs(_ place: Int, _ source: Int, _ isKept: [Bool]) -> Bool {
        let (operation, earlier) = (operations[place], operations[source])
        guard model.mayDepend(operation.action, on: earlier.action) else { return false }
        return !operations.indices.contains { index in
            guard isKept[index], index != source, index != place, let returned = operations[index].returned else {
                return false
            }
            let other = operations[index]
            if model.mustStem(operation.action, from: other.action) { return true }
            guard let end = earlier.returned, end < other.call, returned < operation.call else { return false }
            // An append leaves what was there before it.
            let isWhole = model.contentMade(by: other.action) != nil || model.overwrites(other.action)
            return isWhole && model.mayDepend(operation.action, on: other.action)
        }
    }
}
