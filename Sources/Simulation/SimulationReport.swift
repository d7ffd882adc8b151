/// How much of what happened in a run, or in many.
package struct SimulationStatistics: Hashable, Sendable {
    package var events = 0
    package var steps = 0
    package var messages = 0
    package var arrived = 0
    package var lost = 0
    package var doubled = 0
    package var cutMessages = 0
    package var syncs = 0
    package var starts = 0
    package var crashes = 0
    package var crashesAtEffects = 0
    package var crashesAtMoments = 0
    package var recoveredRestores = 0
    package var leaders = 0
    package var applied = 0
    package var fetches = 0
    package var flushes = 0
    package var snapshots = 0
    package var snapshotsMoved = 0
    package var resumedPieces = 0
    package var brokenTransfers = 0
    package var restores = 0
    package var wipes = 0
    package var changes = 0
    package var handovers = 0
    package var administrationDone = 0
    package var operations = 0
    package var answered = 0
    package var timeouts = 0
    /// Histories that the checker gave up on; they are no passes.
    package var undecided = 0
    package var faults: [FaultClass: Int] = [:]  // looked up only

    package init() {}

    /// Adds what happened in another run.
    package mutating func add(_ other: SimulationStatistics) {
        for path in Self.counts { self[keyPath: path.count] += other[keyPath: path.count] }
        for kind in FaultClass.allCases { faults[kind, default: 0] += other.faults[kind] ?? 0 }
    }

    /// Every count with its name, for reports.
    package static var counts: [(name: String, count: any WritableKeyPath<SimulationStatistics, Int> & Sendable)] {
        [
            ("events", \.events), ("steps", \.steps), ("messages", \.messages), ("arrived", \.arrived),
            ("lost", \.lost),
            ("doubled", \.doubled), ("cut off", \.cutMessages), ("syncs", \.syncs), ("starts", \.starts),
            ("crashes", \.crashes), ("crashes at effects", \.crashesAtEffects),
            ("crashes at moments", \.crashesAtMoments), ("restores at start", \.recoveredRestores),
            ("leaders", \.leaders), ("applied", \.applied),
            ("fetches", \.fetches), ("flushes", \.flushes), ("snapshots", \.snapshots),
            ("snapshots moved", \.snapshotsMoved), ("pieces resumed", \.resumedPieces),
            ("transfers broken", \.brokenTransfers), ("restores", \.restores), ("wipes", \.wipes),
            ("membership changes", \.changes), ("handovers", \.handovers),
            ("administration done", \.administrationDone), ("operations", \.operations), ("answered", \.answered),
            ("timeouts", \.timeouts), ("undecided histories", \.undecided),
        ]
    }
}

/// What came of one seed.
package struct SimulationReport: Sendable {
    package var options: SimulationOptions
    /// What broke; nil when all held.
    package var failure: Broken?
    /// The same for the same options in every process.
    package var traceHash: UInt64
    /// The transcript, when it was asked for.
    package var lines: [String]
    package var servers: Int
    /// When the run ended, in simulated seconds.
    package var simulatedSeconds: Double
    package var plannedFaults: Int
    package var statistics: SimulationStatistics
}

/// Plays one seed to its end.
package func simulate(_ options: SimulationOptions) -> SimulationReport {
    let world = World(options)
    var failure: Broken?
    do throws(Broken) {
        try world.run()
    } catch {
        failure = error
        world.trace.note(world.now) { "BROKEN: \(error)" }
    }
    return SimulationReport(
        options: options,
        failure: failure,
        traceHash: world.trace.hash,
        lines: world.trace.lines,
        servers: world.climate.servers,
        simulatedSeconds: Double(world.now) / 1_000_000,
        plannedFaults: world.faults.count,
        statistics: world.statistics
    )
}
