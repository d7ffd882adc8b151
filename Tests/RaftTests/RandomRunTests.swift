import Foundation
import Testing

@testable import Raft

/// Thousands of random events per seed. `KONTIKI_SEEDS` says how many seeds, `KONTIKI_FIRST_SEED` where they begin.
@Suite struct RandomRunTests {
    static let environment = ProcessInfo.processInfo.environment
    static let count = environment["KONTIKI_SEEDS"].flatMap { UInt64($0) } ?? 300
    static let first = environment["KONTIKI_FIRST_SEED"].flatMap { UInt64($0) } ?? 1
    static let steps = environment["KONTIKI_STEPS"].flatMap { Int($0) } ?? 1500

    @Test("Under faults every invariant holds, and a healed world makes progress")
    func randomRuns() {
        for seed in Self.first..<(Self.first + Self.count) {
            do {
                var run = try RandomRun(seed: seed)
                _ = try run.run(steps: Self.steps)
            } catch {
                Issue.record("KONTIKI_FIRST_SEED=\(seed) KONTIKI_SEEDS=1 KONTIKI_STEPS=\(Self.steps): \(error)")
            }
        }
    }

    @Test("The same seed twice gives the same trace", arguments: [UInt64(11), 12, 13])
    func deterministic(seed: UInt64) throws {
        var first = try RandomRun(seed: seed)
        var second = try RandomRun(seed: seed)
        #expect(try first.run(steps: 800) == second.run(steps: 800))
    }
}
