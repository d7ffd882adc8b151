import Testing

@testable import Simulation

/// The search through small worlds: it comes to an end where nothing is broken, and it finds what is.
@Suite struct SmallWorldTests {
    private static func explore(_ change: (inout SmallWorld.Options) -> Void) -> SmallWorld.Report {
        var options = SmallWorld.Options()
        options.terms = 1
        change(&options)
        return SmallWorld.explore(options)
    }

    private static func expectFixedPoint(
        _ report: SmallWorld.Report,
        atLeast states: Int,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let told = report.violation.map { "\($0): \($0.path.joined(separator: "\n"))" } ?? "no violation"
        #expect(report.violation == nil, "\(told)", sourceLocation: sourceLocation)
        #expect(report.fixedPoint, sourceLocation: sourceLocation)
        #expect(report.progress.states >= states, sourceLocation: sourceLocation)
    }

    @Test("Two servers, one command and a crash that loses writes: every schedule keeps every promise")
    func crash() {
        Self.expectFixedPoint(Self.explore { $0.crashes = 1 }, atLeast: 4_000)
    }

    @Test("Two servers and two terms: every schedule keeps every promise")
    func terms() {
        Self.expectFixedPoint(Self.explore { ($0.terms, $0.proposals, $0.writesUnderWay) = (2, 0, 0) }, atLeast: 500)
    }

    @Test("Two servers, a read and a transfer of leadership: every schedule keeps every promise")
    func readAndTransfer() {
        let report = Self.explore { ($0.proposals, $0.reads, $0.transfers, $0.writesUnderWay) = (0, 1, 1, 0) }
        Self.expectFixedPoint(report, atLeast: 500)
    }

    @Test("One server takes in a second: every schedule keeps every promise")
    func growth() {
        let report = Self.explore { options in
            options.initialVoters = 1
            options.membershipChanges = [[1, 2]]
            options.proposals = 0
        }
        Self.expectFixedPoint(report, atLeast: 500)
    }

    @Test("Messages that are used up, and one that arrives twice: a world of fewer schedules, and no less true")
    func budgetedDuplicates() {
        Self.expectFixedPoint(
            Self.explore { ($0.proposals, $0.duplications, $0.writesUnderWay) = (0, 1, 0) },
            atLeast: 4_000
        )
    }

    @Test("Saying at once what can be said leaves fewer worlds, and every state of every server")
    func reduction() {
        let (reduced, whole) = (Self.explore { $0.isReduced = true }, Self.explore { $0.isReduced = false })
        Self.expectFixedPoint(reduced, atLeast: 500)
        Self.expectFixedPoint(whole, atLeast: 4_000)
        #expect(reduced.progress.states < whole.progress.states / 4)
        #expect(reduced.localStates == whole.localStates)
        #expect(reduced.coreSteps == whole.coreSteps)
        #expect(reduced.histories == whole.histories)
    }

    @Test("The same bounds give the same worlds again")
    func reproducible() {
        let report = Self.explore { ($0.terms, $0.maxStates) = (2, 5_000) }
        #expect(!report.fixedPoint)
        #expect(report.violation == nil)
        let again = Self.explore { ($0.terms, $0.maxStates) = (2, 5_000) }
        #expect(report.progress.transitions == again.progress.transitions)
        #expect(report.coreSteps == again.coreSteps)
        #expect(report.messageSets == again.messageSets)
    }

    @Test("The caller may end a search")
    func stopped() {
        var options = SmallWorld.Options()
        options.terms = 2
        let report = SmallWorld.explore(options) { $0.states < 16_000 }
        #expect(!report.fixedPoint)
        #expect(report.progress.frontier > 0)
    }

    private static let convictions: [(SmallWorld.Fault, String)] = [
        (.lyingDisk, "votes for"),
        (.forgottenVote, "votes for"),
        (.lostEntry, "not durable on a quorum"),
        (.forgedVote, "two leaders in term"),
        (.impatientDriver, "before it is durable"),
    ]

    @Test("A broken world is reported as what it is, with the way there", arguments: convictions)
    func conviction(fault: SmallWorld.Fault, charge: String) throws {
        let report = Self.explore { options in
            options.terms = 2
            options.crashes = 1
            options.fault = fault
        }
        #expect(!report.fixedPoint)
        let violation = try #require(report.violation)
        #expect(violation.description.contains(charge), "\(violation)")
        #expect(violation.path.first?.contains("election timeout") == true)
        #expect(violation.path.count < 20)
    }

    @Test("A lying disk loses what was committed, if no vote is lost first")
    func lyingDiskAlone() throws {
        let report = Self.explore { options in
            options.servers = 1
            options.crashes = 1
            options.fault = .lyingDisk
        }
        let violation = try #require(report.violation)
        #expect(violation.description.contains("not durable on a quorum"), "\(violation)")
    }
}
