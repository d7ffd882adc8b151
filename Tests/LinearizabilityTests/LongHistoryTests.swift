import Linearizability
import Testing

/// Histories of the length that simulators and clusters record.
@Suite struct LongHistoryTests {
    private static let shapes = [
        Shape(operations: 400, clients: 5),
        Shape(operations: 400, clients: 10, unknown: 0.05, returning: 0.3),
        Shape(operations: 300, clients: 6, unknown: 0.2),
        Shape(operations: 300, clients: 16, returning: 0.4),
    ]

    @Test("What a good register answers is accepted, in any interleaving and with operations of unknown outcome")
    func goodRegister() {
        var random = SeededGenerator(seed: 21)
        for round in 0..<32 {
            let history = play(Self.shapes[round % 4], RegisterModel(), Register(values: 6), &random)
            #expect(history.check() == .linearizable, "round \(round)")
        }
    }

    @Test("And so is what a good list answers") func goodList() {
        var random = SeededGenerator(seed: 22)
        for round in 0..<15 {
            let history = play(Self.shapes[round % 3], AppendModel<Int64>(), List(), &random)
            #expect(history.check() == .linearizable, "round \(round)")
        }
    }

    @Test("And so is what a good key answers, with and without revisions", arguments: [true, false])
    func goodKey(tells: Bool) {
        var random = SeededGenerator(seed: 23)
        for round in 0..<24 {
            let history = play(Self.shapes[round % 4], KeyValueModel(), StoredKey(tells: tells, values: 8), &random)
            #expect(history.check() == .linearizable, "round \(round)")
        }
    }

    @Test("Hundreds of writes of unknown outcome, each with another value, do not explode the search")
    func manyUnknown() {
        var history = History(RegisterModel())
        var time: UInt64 = 0
        var random = SeededGenerator(seed: 24)
        for number in 0..<400 {
            time += 1
            history.append(Operation(client: 1000 + number, call: time, returned: nil, action: .write(Int64(number))))
        }
        // Each second one turns up, in some order; the first that turns up again after another one was read is one too
        // many.
        let shown = (0..<200).map { Int64($0 * 2) }.shuffled(using: &random)
        for value in shown {
            history.append(Operation(client: 0, call: time + 1, returned: time + 2, action: .read(value)))
            time += 2
        }
        #expect(history.check() == .linearizable)
        history.append(Operation(client: 0, call: time + 1, returned: time + 2, action: .read(shown[17])))
        #expect(history.check() == .notLinearizable)
        // A refusal tells more than a read does: any of the writes may explain it, or none.
        history.operations.removeLast()
        history.append(
            Operation(
                client: 0,
                call: time + 1,
                returned: time + 2,
                action: .compareAndSet(expected: shown[199], new: 1, succeeded: false)
            )
        )
        #expect(history.check() == .linearizable)
    }

    @Test("A hundred operations may be under way at once") func manyAtOnce() {
        var history = History(RegisterModel())
        for number in 0..<100 {
            history.append(
                Operation(client: number, call: 0, returned: 1000 + UInt64(number), action: .write(Int64(number)))
            )
        }
        var random = SeededGenerator(seed: 27)
        for (index, value) in (0..<100).map({ Int64($0) }).shuffled(using: &random).enumerated() {
            let time = UInt64(index * 3 + 1)
            history.append(Operation(client: 100, call: time, returned: time + 1, action: .read(value)))
        }
        #expect(history.check() == .linearizable)
    }

    @Test("A search that meets its bound is undecided, never a pass") func undecided() {
        var random = SeededGenerator(seed: 25)
        let history = play(Self.shapes[0], RegisterModel(), Register(), &random)
        #expect(history.check(limit: 10) == .undecided)
        #expect(history.check(limit: 0) == .undecided)
    }

    // MARK: Broken objects

    /// Sequential use with distinct values: all answers are determined, so each forgery is one.
    private static func honest(_ count: Int) -> History<RegisterModel> {
        var history = History(RegisterModel())
        for number in 0..<UInt64(count) {
            let time = 10 * number
            let value = Int64(number / 3)
            history.append(
                Operation(
                    client: Int(number % 3),
                    call: time,
                    returned: time + 13,
                    action: number % 3 == 0 ? .write(value) : .read(value)
                )
            )
        }
        // Each overlaps its neighbours; a read must show the write that ended before.
        for index in history.operations.indices where index % 3 == 2 { history.operations[index].returned? -= 4 }
        return history
    }

    @Test("A stale read is refused, and the report has the read, the write that it missed, and little else")
    func staleRead() throws {
        for place in stride(from: 5, to: 297, by: 12) {
            var history = Self.honest(300)
            history.operations[place].action = .read(Int64(place / 3) - 1)
            #expect(history.check() == .notLinearizable)
            let counterexample = try #require(history.counterexample())
            #expect(counterexample.operations.count <= 4, "\(counterexample)")
            #expect(counterexample.stuck == history.operations[place])
            #expect(counterexample.operations.contains(history.operations[place]))
        }
    }

    @Test("A lost write and a double apply are refused") func lostAndDouble() {
        var history = History(AppendModel<Int64>())
        for number in 0..<40 {
            let time = UInt64(number) * 10
            history.append(Operation(client: 0, call: time, returned: time + 5, action: .append([Int64(number)])))
        }
        let all = (0..<40).map { Int64($0) }
        func check(_ shown: [Int64]) -> Verdict {
            var copy = history
            copy.append(Operation(client: 1, call: 500, returned: 510, action: .read(shown)))
            return copy.check()
        }
        #expect(check(all) == .linearizable)
        #expect(check(all.filter { $0 != 17 }) == .notLinearizable, "a lost append")
        #expect(check(all + [17]) == .notLinearizable, "an append that took effect twice")
        #expect(check([0, 2, 1] + all.dropFirst(3)) == .notLinearizable, "appends out of order")
        // Of unknown outcome it may be there once, or not at all, but not twice.
        history.operations[17].returned = nil
        #expect(check(all) == .linearizable)
        #expect(check(all.filter { $0 != 17 }) == .linearizable)
        #expect(check(all.filter { $0 != 17 } + [17]) == .linearizable)
        #expect(check(all + [17]) == .notLinearizable)
    }

    @Test(
        "A counterexample is a part of the history that is not linearizable itself, and nothing of it can be left out"
    )
    func counterexamples() throws {
        var random = SeededGenerator(seed: 26)
        var found = 0
        for round in 0..<100 {
            let shape = Shape(operations: 80, clients: 5, unknown: round % 2 == 0 ? 0 : 0.1)
            var history = play(shape, RegisterModel(), Register(values: 30), &random)
            let reads = history.operations.indices.filter {
                if case .read = history.operations[$0].action { history.operations[$0].returned != nil } else { false }
            }
            for _ in 0..<2 {
                guard let first = reads.randomElement(using: &random), let second = reads.randomElement(using: &random)
                else { continue }
                history.operations[first].action = history.operations[second].action
            }
            guard history.check() == .notLinearizable else {
                #expect(history.counterexample() == nil)
                continue
            }
            found += 1
            let small = try #require(history.counterexample())
            #expect(small.operations.count < 20, "\(small)")
            if small.operations.count <= 8 {
                let part = History(RegisterModel(), operations: small.operations)
                let isGood = BruteForce.isLinearizable(part, from: Int64?.none) { part.model.step($0, $1) }
                #expect(!isGood, "\(small)")
            }
            // Whatever was read is written in it, too.
            for operation in small.operations {
                guard case .read(let value?) = operation.action else { continue }
                let isWritten = { (operations: [Operation<RegisterModel>]) in
                    operations.filter { $0.call <= small.stuck.returned ?? .max }.contains { part in
                        switch part.action {
                        case .write(value), .compareAndSet(_, value, succeeded: true): true
                        default: false
                        }
                    }
                }
                #expect(isWritten(small.operations) == isWritten(history.operations))
            }
        }
        #expect(found > 20)
    }
}
