import Testing

@testable import Simulation

/// The search through small worlds: it comes to an end where nothing is broken, and it finds what is.
@Suite struct SmallWorldTests {
    private static func options(_ change: (inout SmallWorld.Options) -> Void = { _ in }) -> SmallWorld.Options {
        var options = SmallWorld.Options()
        options.terms = 1
        options.duplications = nil
        change(&options)
        return options
    }

    @Test("Two servers, one term, one command, any loss and duplication: every schedule keeps every promise")
    func exhaustion() {
        let report = SmallWorld.explore(Self.options())
        #expect(report.violation == nil)
        #expect(report.fixedPoint)
        #expect(report.progress.states > 10_000)
    }

    @Test("The same bounds give the same worlds again")
    func reproducible() {
        let options = Self.options { $0.terms = 2 }
        func run() -> SmallWorld.Report {
            var bounded = options
            bounded.maxStates = 5_000
            return SmallWorld.explore(bounded)
        }
        let (first, second) = (run(), run())
        #expect(first.progress.states == second.progress.states)
        #expect(first.progress.transitions == second.progress.transitions)
        #expect(first.coreSteps == second.coreSteps)
        #expect(!first.fixedPoint)
    }
}
