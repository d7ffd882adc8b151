import ArgumentParser
import Foundation
import Simulation

extension SmallWorld.Fault: ExpressibleByArgument {}

/// `kontiki simulate --exhaust`: the bounds of the worlds that are searched through.
struct ExhaustionOptions: ParsableArguments {
    @Flag(help: "Search through every schedule of 2 to 4 servers (--servers, 2 otherwise) within the bounds below.")
    var exhaust = false
    @Option(help: "Terms that may be campaigned for.") var terms = 1
    @Option(help: "Commands that clients send.") var commands = 1
    @Option(help: "Reads that clients ask for.") var reads = 0
    @Option(help: "Orders to hand leadership over.") var transfers = 0
    @Option(help: "Crashes over all servers.") var crashes = 0
    @Option(help: "Voters at the beginning; the other servers wait to be taken in. All otherwise.") var voters: Int?
    @Option(
        name: .customLong("change"),
        help: ArgumentHelp("A change of membership, in the order given, to these voters, as 1,3.", valueName: "voters")
    )
    var changes: [String] = []
    @Option(help: "Writes that a server may have under way; 0 makes each durable at once.") var writes = 1
    @Option(help: "Let this many messages arrive twice; otherwise each may arrive any number of times, at any time.")
    var duplicates: Int?
    @Option(help: "Stop when this many worlds are found.") var maxStates = 20_000_000
    @Option(
        help: ArgumentHelp(
            "Break the world, to see it convicted: \(SmallWorld.Fault.allCases.map(\.rawValue).joined(separator: ", ")).",
            valueName: "fault"
        )
    )
    var brokenWorld = SmallWorld.Fault.none

    func validate() throws {
        let bounds = [
            ("terms", terms, 1...8), ("commands", commands, 0...8), ("reads", reads, 0...4),
            ("transfers", transfers, 0...4),
            ("crashes", crashes, 0...8), ("writes", writes, 0...4), ("voters", voters ?? 1, 1...4),
            ("duplicates", duplicates ?? 0, 0...100), ("max-states", maxStates, 1...1_000_000_000),
        ]
        for (name, value, range) in bounds where !range.contains(value) {
            throw ValidationError("--\(name) must be \(range.lowerBound) to \(range.upperBound).")
        }
        _ = try options(servers: 4)
    }

    private func options(servers: Int) throws -> SmallWorld.Options {
        guard (2...4).contains(servers), voters ?? 1 <= servers else {
            throw ValidationError("--exhaust takes 2 to 4 servers, and --voters at most as many.")
        }
        var options = SmallWorld.Options()
        options.servers = servers
        options.initialVoters = voters
        options.terms = terms
        options.proposals = commands
        options.reads = reads
        options.transfers = transfers
        options.crashes = crashes
        options.duplications = duplicates
        options.writesUnderWay = writes
        options.maxStates = maxStates
        options.fault = brokenWorld
        options.membershipChanges = try changes.map { change in
            try change.split(separator: ",").map { part in
                guard let number = Int(part), (1...servers).contains(number) else {
                    throw ValidationError("--change wants numbers of servers, as 1,3; '\(change)' is none.")
                }
                return number
            }
        }
        return options
    }

    func run(servers: Int) throws {
        let options = try options(servers: servers)
        let report = SmallWorld.explore(options) { progress in
            Self.show(progress)
            return true
        }
        if isatty(STDERR_FILENO) == 1 { Output.write(Array("\r\u{1B}[K".utf8), to: STDERR_FILENO) }
        let progress = report.progress
        try Output.emit(
            line: "\(progress.states) distinct worlds, \(progress.transitions) events tried, depth \(progress.depth), "
                + "\(report.localStates) states of single servers, in "
                + String(format: "%.1f s", progress.elapsed / .seconds(1))
        )
        if let violation = report.violation {
            try Output.emit(line: "BROKEN: \(violation)\nthe shortest way there:")
            for line in violation.path { try Output.emit(line: "  \(line)") }
            throw ExitCode(1)
        }
        try Output.emit(
            line: report.fixedPoint
                ? "every rule held in every schedule within the bounds"
                : "every rule held so far; there are more worlds than --max-states \(maxStates)"
        )
    }

    private static func show(_ progress: SmallWorld.Progress) {
        guard isatty(STDERR_FILENO) == 1 else { return }
        let text =
            "\(progress.states) worlds, \(progress.frontier) to expand, depth \(progress.depth), "
            + "\(Int(progress.statesPerSecond))/s"
        Output.write(Array("\r\u{1B}[K\(text)".utf8), to: STDERR_FILENO)
    }
}
