import Foundation
import Testing

@testable import Simulation

/// The simulator itself: that it finds what is broken, always plays a seed the same way, and leaves nothing unplayed.
@Suite("The seeded world")
struct WorldTests {
    /// Other seeds on each run; a failure prints the seed, and `kontiki simulate --seed` plays it again.
    @Test("Worlds that chance picked hold every rule")
    func chosenByChance() {
        let first = UInt64.random(in: 1...1_000_000_000)
        print("seeds \(first) to \(first + 9)")
        var total = SimulationStatistics()
        for seed in first..<(first + 10) {
            let report = simulate(SimulationOptions(seed: seed))
            #expect(report.failure == nil, "seed \(seed): \(report.failure?.description ?? "")")
            total.add(report.statistics)
        }
        #expect(total.undecided == 0)
    }

    /// 594242202: a server that may not lead is the only voter for less than a tick, and then hands leadership over.
    @Test("Runs in which a rule was once held against a server that kept it", arguments: [594_242_202] as [UInt64])
    func onceAccused(seed: UInt64) {
        #expect(simulate(SimulationOptions(seed: seed)).failure == nil)
    }

    @Test("A seed is one run, whether it is watched or not", arguments: [3, 17, 2026] as [UInt64])
    func sameHash(seed: UInt64) {
        var options = SimulationOptions(seed: seed)
        options.seconds = 5
        let first = simulate(options)
        options.traces = true
        let second = simulate(options)
        #expect(first.traceHash == second.traceHash)
        #expect(first.statistics == second.statistics)
        #expect(!second.lines.isEmpty)
        options.seed += 1
        #expect(simulate(options).traceHash != first.traceHash)
    }

    /// A fault that never happens and a path that is never taken are holes in the proof.
    @Test("Everything that can happen does")
    func nothingIsUnplayed() {
        var total = SimulationStatistics()
        for seed in 1...50 as ClosedRange<UInt64> {
            var options = SimulationOptions(seed: seed)
            options.seconds = 10
            options.intensity[.crashes] = 3
            let report = simulate(options)
            #expect(report.failure == nil, "seed \(seed): \(report.failure?.description ?? "")")
            total.add(report.statistics)
        }
        for (name, count) in SimulationStatistics.counts where name != "undecided histories" {
            #expect(total[keyPath: count] > 0, "\(name)")
        }
        for kind in FaultClass.allCases { #expect(total.faults[kind] ?? 0 > 0, "\(kind)") }
    }

    @Test("A class of faults can be switched off", arguments: FaultClass.allCases)
    func intensity(kind: FaultClass) {
        var options = SimulationOptions(seed: 5)
        options.seconds = 5
        options.intensity[kind] = 0
        #expect(simulate(options).statistics.faults[kind] ?? 0 == 0)
    }

    // MARK: Broken worlds

    @Test("A disk that breaks its word is named as what it is", arguments: BrokenDisk.allCases)
    func brokenDisk(kind: BrokenDisk) throws {
        let report = try #require(firstFailure { $0.brokenDisk = kind })
        let failure = try #require(report.failure)
        #expect(failure.description.contains("the disk of"))
        #expect(failure.description.contains(kind == .lies ? "lies" : "lost a vote"))
    }

    @Test("What such a disk breaks shows also where nobody looks at disks", arguments: BrokenDisk.allCases)
    func brokenDiskUnaudited(kind: BrokenDisk) throws {
        let report = try #require(
            firstFailure {
                $0.brokenDisk = kind
                $0.auditsDisks = false
                $0.intensity[.crashes] = 6
            }
        )
        #expect(report.failure?.description.contains("the disk of") == false)
    }

    private func firstFailure(_ change: (inout SimulationOptions) -> Void) -> SimulationReport? {
        for seed in 1...200 as ClosedRange<UInt64> {
            var options = SimulationOptions(seed: seed)
            options.seconds = 10
            change(&options)
            let report = simulate(options)
            if report.failure != nil { return report }
        }
        return nil
    }

    // MARK: Shrinking

    @Test("A failing run is made smaller, and goes on failing alike")
    func shrinking() throws {
        let report = try #require(firstFailure { $0.brokenDisk = .lies })
        let small = shrink(report, limit: 60)
        let failure = try #require(small.failure)
        #expect(failure.description.contains("lies"))
        #expect((small.options.keptFaults?.count ?? .max) < report.plannedFaults)
        #expect(small.simulatedSeconds <= report.simulatedSeconds)
        // What it prints to play again is the very same run.
        let again = simulate(small.options)
        #expect(again.traceHash == small.traceHash)
        #expect(again.failure == failure)
    }
}
