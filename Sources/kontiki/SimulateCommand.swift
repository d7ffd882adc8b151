import ArgumentParser
import Foundation
import Simulation

extension FaultClass: ExpressibleByArgument {}
extension BrokenDisk: ExpressibleByArgument {}

struct SimulateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate",
        abstract: "Play clusters under faults, from seeds, and check every rule.",
        discussion: #"""
            Runs whole clusters in memory: the consensus core and the driver that the server runs, on a simulated network, disks, clocks \#
            and clients, with crashes, pauses, hung disks, partitions, storms, lost disks, changes of membership and leadership. After \#
            every event the invariants of Raft are checked, at the end everything must heal and finish, and the clients' histories must \#
            be linearizable. A seed always plays the same world.

              kontiki simulate --seeds 1000            some worlds, from a seed chosen by chance
              kontiki simulate --minutes 30            as many as fit
              kontiki simulate --seed 42 --trace       a readable transcript of one
              kontiki simulate --servers 5 --loss 100 --more crashes=3 --more wipes=0
              kontiki simulate --exhaust --servers 3 --terms 1 --commands 1 --crashes 1

            What happens how often is multiplied with --more CLASS=FACTOR; the classes are: \#
            \#(FaultClass.allCases.map(\.rawValue).joined(separator: " ")).

            With --exhaust nothing is left to chance: every schedule of a few servers of the core within small bounds is tried, breadth \#
            first, until there is none left or --max-states worlds are found.

            When a rule breaks, the run is made as small as it still fails, and printed with its last events and the command that \#
            replays it.

            Exit codes: 0 all held; 1 something broke.
            """#
    )

    @Option(help: "Play this one world.") var seed: UInt64?
    @Option(help: "Play so many worlds (1000 unless --minutes is given).") var seeds: Int?
    @Option(help: "Play worlds for so many minutes.") var minutes: Double?
    @Option(help: "Begin with this seed; chosen by chance otherwise.") var firstSeed: UInt64?
    @Flag(help: "With --seed: print the transcript.") var trace = false
    @Option(help: "1 to 7 servers; drawn from the seed otherwise.") var servers: Int?
    @Option(help: "Simulated seconds with faults.") var seconds = 20.0
    @Option(help: "Messages lost, in thousandths; drawn from the seed otherwise.") var loss: UInt64?
    @Option(help: "Messages delivered twice, in thousandths; drawn from the seed otherwise.") var duplication: UInt64?
    @Option(name: .customLong("more"), help: ArgumentHelp("Multiply a class of faults.", valueName: "class=factor"))
    var factors: [String] = []
    @Option(help: "Let only these of the planned faults happen, by number (as a shrunk run prints them).")
    var keepFaults: String?
    @Option(
        help:
            "A disk that breaks its word, to see it convicted: \(BrokenDisk.allCases.map(\.rawValue).joined(separator: ", "))."
    )
    var brokenDisk: BrokenDisk?
    @Flag(help: "Do not check disks by themselves: what they break must show elsewhere.") var withoutDiskAudit = false
    @Option(help: "Worlds played at the same time; as many as there are processors otherwise.") var jobs: Int?

    @OptionGroup(title: "Every schedule of a small world") var exhaustion: ExhaustionOptions

    func validate() throws {
        if let servers, !SimulationOptions.serverCounts.contains(servers) {
            throw ValidationError("--servers must be 1 to 7.")
        }
        guard seed == nil || seeds == nil && minutes == nil && firstSeed == nil else {
            throw ValidationError("--seed plays one world; --seeds, --minutes and --first-seed play many.")
        }
        guard !trace || seed != nil else { throw ValidationError("--trace prints one world: name it with --seed.") }
        for (name, value) in [("loss", loss), ("duplication", duplication)] where value ?? 0 > 1000 {
            throw ValidationError("--\(name) is in thousandths, 0 to 1000.")
        }
        guard seconds > 0, seconds <= 1_000_000 else { throw ValidationError("--seconds must be above 0.") }
        guard seeds ?? 1 > 0, minutes ?? 1 > 0, jobs ?? 1 > 0 else {
            throw ValidationError("--seeds, --minutes and --jobs must be above 0.")
        }
        _ = try options(seed: 0)
    }

    func run() async throws {
        if exhaustion.exhaust {
            try exhaustion.run(servers: servers ?? 2)
        } else if let seed {
            try playOne(seed)
        } else {
            try await playMany()
        }
    }

    private func options(seed: UInt64) throws -> SimulationOptions {
        var options = SimulationOptions(seed: seed)
        options.servers = servers
        options.seconds = seconds
        options.loss = loss
        options.duplication = duplication
        options.brokenDisk = brokenDisk
        options.auditsDisks = !withoutDiskAudit
        for factor in factors {
            let parts = factor.split(separator: "=", maxSplits: 1)
            guard parts.count == 2, let kind = FaultClass(rawValue: String(parts[0])), let value = Double(parts[1]),
                (0...1000).contains(value)
            else { throw ValidationError("--more wants CLASS=FACTOR, as crashes=2; '\(factor)' is none.") }
            options.intensity[kind] = value
        }
        if let keepFaults {
            options.keptFaults = try keepFaults.split(separator: ",").map { part in
                guard let number = Int(part) else { throw ValidationError("--keep-faults wants numbers, as 3,7,12.") }
                return number
            }
        }
        return options
    }

    // MARK: One world

    private func playOne(_ seed: UInt64) throws {
        var options = try options(seed: seed)
        options.traces = trace
        let start = ContinuousClock.now
        let report = simulate(options)
        for line in report.lines { try Output.emit(line: line) }
        let rate = report.simulatedSeconds / max((ContinuousClock.now - start).seconds, 1e-6)
        try Output.emit(
            line:
                "seed \(seed): \(report.servers) servers, \(Self.rounded(report.simulatedSeconds)) simulated seconds, "
                + "\(report.statistics.events) events, \(report.plannedFaults) faults planned"
                + (trace ? "" : ", \(Int(rate)) simulated seconds per second")
        )
        if report.failure != nil {
            try explain(report)
            try Output.emit(line: Self.hashLine(report))
            throw ExitCode(1)
        }
        try Output.emit(line: "every rule held")
        try Output.emit(line: Self.hashLine(report))
    }

    private static func hashLine(_ report: SimulationReport) -> String {
        let digits = String(report.traceHash, radix: 16)
        return "trace hash: \(String(repeating: "0", count: 16 - digits.count))\(digits)"
    }

    /// Prints what broke, the smallest run that still breaks it, and how to play that again.
    private func explain(_ report: SimulationReport) throws {
        guard let failure = report.failure else { return }
        try Output.emit(line: "seed \(report.options.seed) BROKEN: \(failure)")
        say("making the run smaller…")
        var small = shrink(report)
        var options = small.options
        options.traces = true
        small = simulate(options)
        let kept = options.keptFaults?.count ?? small.plannedFaults
        try Output.emit(
            line: "smallest run that still breaks: \(Self.rounded(small.simulatedSeconds)) simulated seconds, "
                + "\(kept) of \(report.plannedFaults) faults, \(small.statistics.events) of \(report.statistics.events) events: "
                + "\(small.failure.map(String.init(describing:)) ?? "?")"
        )
        try Output.emit(line: "its last events:")
        for line in small.lines.suffix(40) { try Output.emit(line: "  \(line)") }
        try Output.emit(line: "play it again with:")
        try Output.emit(line: "  \(Self.command(for: options))")
    }

    private static func rounded(_ value: Double) -> String { String(format: "%.1f", value) }

    /// The command line that plays exactly these options.
    static func command(for options: SimulationOptions) -> String {
        var parts = ["kontiki simulate --seed \(options.seed) --seconds \(options.seconds)"]
        if let servers = options.servers { parts.append("--servers \(servers)") }
        if let loss = options.loss { parts.append("--loss \(loss)") }
        if let duplication = options.duplication { parts.append("--duplication \(duplication)") }
        for kind in FaultClass.allCases {
            if let factor = options.intensity[kind] { parts.append("--more \(kind.rawValue)=\(factor)") }
        }
        if let kept = options.keptFaults {
            parts.append("--keep-faults '\(kept.map(String.init).joined(separator: ","))'")
        }
        if let disk = options.brokenDisk { parts.append("--broken-disk \(disk.rawValue)") }
        if !options.auditsDisks { parts.append("--without-disk-audit") }
        return (parts + ["--trace"]).joined(separator: " ")
    }

    // MARK: Many worlds

    private func playMany() async throws {
        let first = firstSeed ?? UInt64.random(in: 1...1_000_000_000)
        let count = seeds ?? (minutes == nil ? 1000 : Int.max)
        let start = ContinuousClock.now
        let end = minutes.map { start + .seconds($0 * 60) }
        let jobs = jobs ?? ProcessInfo.processInfo.activeProcessorCount
        let bound = seeds.map { " to \(first &+ UInt64($0) - 1)" } ?? (minutes == nil ? " to \(first + 999)" : " on")
        say("seeds \(first)\(bound), \(jobs) at a time")
        var progress = Progress(verb: "worlds", isQuiet: false)
        var total = SimulationStatistics()
        var simulated = 0.0
        var busy = Duration.zero
        var played = 0
        var broken: SimulationReport?
        try await withThrowingTaskGroup(of: (SimulationReport, Duration).self) { group in
            var next = 0
            func add() throws {
                guard next < count, broken == nil, end.map({ ContinuousClock.now < $0 }) ?? true else { return }
                let options = try options(seed: first &+ UInt64(next))
                next += 1
                group.addTask {
                    let start = ContinuousClock.now
                    return (simulate(options), ContinuousClock.now - start)
                }
            }
            for _ in 0..<jobs { try add() }
            while let (report, time) = try await group.next() {
                played += 1
                simulated += report.simulatedSeconds
                busy += time
                total.add(report.statistics)
                progress.show(count: played)
                if report.failure != nil, broken.map({ report.options.seed < $0.options.seed }) ?? true {
                    broken = report
                }
                try add()
            }
        }
        progress.finish(count: played)
        try Output.emit(
            line: "\(played) seeds from \(first) on, \(Int(simulated)) simulated seconds, "
                + "\(Int(simulated / max(busy.seconds, 1e-6))) per second and core"
        )
        try Output.emit(line: Self.text(total))
        if let broken {
            try explain(broken)
            throw ExitCode(1)
        }
        guard total.undecided == 0 else {
            throw Failure(.software, "\(total.undecided) histories could not be decided within the bound on steps")
        }
        try Output.emit(line: "every rule held")
    }

    private static func text(_ statistics: SimulationStatistics) -> String {
        let counts = SimulationStatistics.counts.map { "\($0.name) \(statistics[keyPath: $0.count])" }
        let faults = FaultClass.allCases.map { "\($0.rawValue) \(statistics.faults[$0] ?? 0)" }
        return "what happened: " + counts.joined(separator: ", ") + "\nfaults: " + faults.joined(separator: ", ")
    }
}

extension Duration {
    fileprivate var seconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}
