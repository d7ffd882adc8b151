extension History where M == RegisterModel {
    /// Whether the history is linearizable with its operations `order` taking effect in just this order, and the other answered ones between
    /// them wherever they fit.
    ///
    /// Who knows in which order a system executed its commands has a proof at hand that no search could find in time. True is that proof;
    /// false says no more than that this order is none. It takes steps in proportion to the operations times those in `order`.
    ///
    /// - Parameter order: positions in ``operations``, none twice. What is in it with an unknown outcome and could not have its effect is
    ///   taken for one without any; operations of unknown outcome that are not in it never took effect.
    package func isLinearizable(inOrder order: [Int]) -> Bool {
        guard let line = Line(self, order) else { return false }
        let inOrder = Set(order)
        let others = operations.indices.filter { !inOrder.contains($0) && operations[$0].returned != nil }
            .sorted { operations[$0].call < operations[$1].call }
        // Each goes as far to the front as it can; who was called after another one's return comes behind it.
        var placed: [(returned: UInt64, gap: Int)] = []
        for number in others {
            let operation = operations[number]
            let returned = operation.returned ?? .max
            let lowest = placed.reduce(0) { $1.returned < operation.call ? max($0, $1.gap) : $0 }
            let gap = (lowest..<line.states.count).first { gap in
                line.latestCall[gap] <= returned && operation.call <= line.earliestReturn[gap]
                    && model.step(line.states[gap], operation.action) == .some(line.states[gap])
            }
            guard let gap else { return false }
            placed.append((returned, gap))
        }
        return true
    }
}

/// Operations in an order that their answers and times allow, with what the gaps before, between and behind them mean for others.
private struct Line {
    /// The state in each gap.
    var states: [Int64?]
    /// The latest call of those before a gap; what stands in it must not have returned before.
    var latestCall: [UInt64] = [0]
    /// The earliest return of those behind a gap; what stands in it must not have been called after it.
    var earliestReturn: [UInt64] = [.max]

    init?(_ history: History<RegisterModel>, _ order: [Int]) {
        states = [history.model.initialState]
        var returns: [UInt64] = []
        for number in order {
            let operation = history.operations[number]
            guard let state = history.model.step(states[states.count - 1], operation.action) else {
                if operation.returned == nil { continue }
                return nil
            }
            states.append(state)
            latestCall.append(max(latestCall[latestCall.count - 1], operation.call))
            returns.append(operation.returned ?? .max)
            if latestCall[latestCall.count - 1] > returns[returns.count - 1] { return nil }
        }
        for returned in returns.reversed() {
            earliestReturn.append(min(earliestReturn[earliestReturn.count - 1], returned))
        }
        earliestReturn.reverse()
    }
}
