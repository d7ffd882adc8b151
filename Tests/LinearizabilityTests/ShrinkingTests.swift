import Testing

@testable import Linearizability

/// What makes a counterexample one: a part of a good history is good, if only that is left out which may be.
@Suite struct ShrinkingTests {
    private func check<Object: SequentialObject>(_ model: Object.M, _ object: Object, seed: UInt64) -> Int {
        var random = SeededGenerator(seed: seed)
        var removed = 0
        for round in 0..<1500 {
            let shape = Shape(
                operations: Int.random(in: 4...14, using: &random),
                clients: Int.random(in: 2...4, using: &random),
                unknown: round % 2 == 0 ? 0 : 0.25,
                returning: [0.3, 0.8][round % 2]
            )
            var history = play(shape, model, object, &random)
            for _ in 0..<6 where !history.operations.isEmpty {
                let start = Int.random(in: history.operations.indices, using: &random)
                let end = min(history.operations.count, start + Int.random(in: 1...3, using: &random))
                var less = history.removing(start..<end) { _ in true }
                if let index = less.operations.indices.randomElement(using: &random),
                    let relaxed = model.relaxed(less.operations[index].action)
                {
                    less.operations[index].action = relaxed
                }
                removed += history.operations.count - less.operations.count
                guard less.check() == .linearizable else {
                    Issue.record("seed \(seed), round \(round): \(history.operations) became \(less.operations)")
                    return removed
                }
                history = less
            }
        }
        return removed
    }

    @Test("Nothing is left out of a history of a register that was needed", arguments: [2, 5, 50])
    func register(values: Int64) {
        #expect(check(RegisterModel(), Register(values: values), seed: 41) > 2000)
    }

    @Test("Nor out of one of a list", arguments: [true, false]) func list(isUnique: Bool) {
        #expect(check(AppendModel(), List(isUnique: isUnique), seed: 42) > 2000)
    }

    @Test("Nor out of one of a key", arguments: [true, false], [2, 20]) func key(tells: Bool, values: Int64) {
        #expect(check(KeyValueModel(), StoredKey(tells: tells, values: values), seed: 43) > 2000)
    }
}
