import Linearizability
import Testing

@Suite struct ModelTests {
    /// Plays a good object, spoils half of the histories, and compares.
    private func compare<Object: SequentialObject, State>(
        _ model: Object.M,
        _ object: Object,
        seed: UInt64,
        from initial: State,
        count: Int = 4000,
        step: (State, Object.M.Action) -> State?
    ) -> (good: Int, bad: Int) {
        var random = SeededGenerator(seed: seed)
        var verdicts = (good: 0, bad: 0)
        for _ in 0..<count {
            let shape = Shape(
                operations: Int.random(in: 2...7, using: &random),
                clients: Int.random(in: 2...5, using: &random),
                unknown: random.chance(0.3) ? 0 : 0.4,
                returning: [0.15, 0.5, 0.8][Int.random(in: 0..<3, using: &random)]
            )
            var history = play(shape, model, object, &random)
            for _ in 0..<Int.random(in: 0...4, using: &random) { spoil(&history, &random) }
            let expected = BruteForce.isLinearizable(history, from: initial, step: step)
            expected ? (verdicts.good += 1) : (verdicts.bad += 1)
            let verdict = history.check()
            guard (verdict == .linearizable) != expected else { continue }
            Issue.record("seed \(seed): \(verdict), but brute force says \(expected): \(history.operations)")
            return verdicts
        }
        return verdicts
    }

    @Test("A register's history is linearizable just when some order of what changes it shows so", arguments: [2, 5])
    func knownOrder(values: Int64) {
        var random = SeededGenerator(seed: 12)
        var verdicts = (good: 0, bad: 0)
        for _ in 0..<4000 {
            let shape = Shape(operations: 6, clients: 4, unknown: random.chance(0.5) ? 0 : 0.4, returning: 0.3)
            var history = play(shape, RegisterModel(), Register(values: values), &random)
            for _ in 0..<Int.random(in: 0...2, using: &random) { spoil(&history, &random) }
            let changing = history.operations.indices.filter {
                history.model.mayChangeState(history.operations[$0].action)
            }
            guard changing.count <= 4 else { continue }
            func isShown(by order: [Int]) -> Bool {
                let left = changing.filter { !order.contains($0) }
                let isWhole = left.allSatisfy { history.operations[$0].returned == nil }
                return isWhole && history.isLinearizable(inOrder: order) || left.contains { isShown(by: order + [$0]) }
            }
            let isLinearizable = history.check() == .linearizable
            isLinearizable ? (verdicts.good += 1) : (verdicts.bad += 1)
            #expect(isShown(by: []) == isLinearizable, "\(history.operations)")
        }
        #expect(verdicts.good > 500 && verdicts.bad > 300)
    }

    /// Gives an operation the answer of another one, or swaps the times of two.
    private func spoil<M: Model>(_ history: inout History<M>, _ random: inout SeededGenerator) {
        let first = Int.random(in: history.operations.indices, using: &random)
        let second = Int.random(in: history.operations.indices, using: &random)
        if random.chance(0.7) {
            history.operations[first].action = history.operations[second].action
        } else {
            let times = (history.operations[first].call, history.operations[first].returned)
            history.operations[first].call = history.operations[second].call
            history.operations[first].returned = history.operations[second].returned
            (history.operations[second].call, history.operations[second].returned) = times
        }
    }

    @Test("The register model's verdicts are those of trying all orders", arguments: [2, 5, 100])
    func register(values: Int64) {
        let verdicts = compare(RegisterModel(), Register(values: values), seed: 11, from: Int64?.none) {
            state,
            action -> Int64?? in
            switch action {
            case .read(let value): return value == state ? .some(state) : nil
            case .write(let value): return .some(value)
            case .compareAndSet(let expected, let new, let succeeded):
                guard (expected == state) == succeeded else { return nil }
                return .some(succeeded ? new : state)
            }
        }
        #expect(verdicts.good > 500 && verdicts.bad > 400, "\(verdicts)")
    }

    @Test("The append model's verdicts are those of trying all orders", arguments: [true, false])
    func append(isUnique: Bool) {
        let verdicts = compare(AppendModel(), List(isUnique: isUnique), seed: 12, from: [Int64]?.none) {
            state,
            action -> [Int64]?? in
            switch action {
            case .read(let value): return value == state ? .some(state) : nil
            case .write(let value): return .some(value)
            case .append(let elements): return .some((state ?? []) + elements)
            }
        }
        #expect(verdicts.good > 500 && verdicts.bad > 400, "\(verdicts)")
    }

    @Test("The key-value model's verdicts are those of trying all orders", arguments: [true, false], [2, 6])
    func keyValue(tells: Bool, values: Int64) {
        let model = KeyValueModel()
        let verdicts = compare(model, StoredKey(tells: tells, values: values), seed: 13, from: model.initialState) {
            model.step($0, $1)
        }
        #expect(verdicts.good > 500 && verdicts.bad > 400, "\(verdicts)")
    }
}
