import Foundation
import Synchronization
import Testing

extension EndToEndTests {
    /// Every call of a node on its disk fails once, with an I/O error and for lack of room; see Tests/DiskFaultNode for the node and
    /// its work, Tests/DiskRecorder for what makes the calls fail.
    @Suite("Failing disk calls", .serialized) struct DiskFaults {
        @Test(
            "Whichever call of a first start and its work fails, nothing acknowledged is lost and nothing goes unsaid"
        )
        func firstStart() async throws {
            try await withFastDirectory { directory in
                try await sweep(FaultWorkbench(program: faultNode(), directory: directory), "first start")
            }
        }

        @Test(
            "Whichever call of a start after a crash and its work fails, nothing acknowledged is lost and nothing goes unsaid"
        )
        func startAfterCrash() async throws {
            try await withFastDirectory { directory in
                var bench = FaultWorkbench(program: try faultNode(), directory: directory)
                let whole = try await bench.run(.none, name: "whole")
                // Near the end, where the log holds more than the state.
                let late = whole.calls.indices.reversed().filter { whole.calls[$0].contains(" write /log/data.mdb") }
                for call in late.prefix(6) where bench.template == nil {
                    let name = "crashed-\(call)"
                    let crashed = try await bench.run(DiskFault(number: call + 1, error: .io), name: name)
                    guard crashed.ending == .exited(70) else { continue }
                    bench.template = bench.path(of: name)
                    bench.attempted = crashed.ledger
                }
                try #require(bench.template != nil)
                try await sweep(bench, "start after a crash")
            }
        }

        @Test("The sweep convicts a node that acknowledges before it is done")
        func liar() async throws {
            try await withFastDirectory { directory in
                var bench = FaultWorkbench(program: try faultNode(), directory: directory)
                bench.mode = "lie"
                let whole = try await bench.run(.none, name: "none")
                let writes = whole.calls.indices.filter { whole.calls[$0].contains(" write /log/data.mdb") }
                var offences: [String] = []
                for call in writes.suffix(30) where offences.isEmpty {
                    let run = try await bench.run(DiskFault(number: call + 1, error: .io), name: "\(call)")
                    offences += try await bench.offences(of: run, name: "\(call)")
                }
                #expect(offences.contains { $0.contains("was acknowledged, and is lost") }, "\(offences)")
            }
        }

        private func faultNode() throws -> String {
            let path = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
                .appendingPathComponent("disk-fault-node").path
            return try #require(FileManager.default.isExecutableFile(atPath: path) ? path : nil, "\(path) is not there")
        }

        /// Lets call after call fail until there are no more; `KONTIKI_FAULT_STRIDE` leaves some out.
        private func sweep(_ bench: FaultWorkbench, _ what: String) async throws {
            let stride = ProcessInfo.processInfo.environment["KONTIKI_FAULT_STRIDE"].flatMap { Int($0) } ?? 1
            let began = ContinuousClock.now
            let whole = try await bench.run(.none, name: "none")
            try await bench.judge(whole, .none, name: "none", FaultBook([]))
            #expect(whole.calls.count > 80, "there is a workload")
            // A run makes a few calls more or less than another.
            let numbers = Array(Swift.stride(from: 1, through: whole.calls.count + 8, by: stride))
            let faults = numbers.flatMap { number in
                DiskFault.Failure.allCases.map { DiskFault(number: number, error: $0) }
            }
            let book = FaultBook(faults)
            try await withThrowingTaskGroup { group in
                for _ in 0..<2 {
                    group.addTask {
                        while let fault = book.next() {
                            let name = "\(fault.number)-\(fault.error.rawValue)"
                            let run = try await bench.run(fault, name: name)
                            try await bench.judge(run, fault, name: name, book)
                        }
                    }
                }
                try await group.waitForAll()
            }
            let result = book.tally
            #expect(result.hits >= whole.calls.count / stride, "each call had its turn")
            report("failing calls, \(what): \(result) in \(ContinuousClock.now - began)")
        }
    }
}

/// A call that fails, counted from 1; 0 is none.
struct DiskFault: Sendable {
    enum Failure: String, CaseIterable { case io = "EIO", noRoom = "ENOSPC" }

    static let none = DiskFault(number: 0, error: .io)

    var number: Int
    var error: Failure

    /// What the system calls the error.
    var message: String { error == .io ? "Input/output error" : "No space left on device" }
}

struct FaultTally: CustomStringConvertible {
    var hits = 0
    var ended = 0
    var gotOver = 0
    var harmless = 0
    var refusals = 0
    var acknowledged = 0

    var description: String {
        "\(hits) calls failed; \(ended) runs ended with a message, \(gotOver) got over a lack of room (\(refusals) writes refused "
            + "meanwhile), \(harmless) were harmless; \(acknowledged) acknowledged writes found again"
    }
}

/// What is left of a sweep, and what came of the rest.
final class FaultBook: Sendable {
    private let faults: Mutex<ArraySlice<DiskFault>>
    private let results = Mutex(FaultTally())

    init(_ faults: [DiskFault]) { self.faults = Mutex(faults[...]) }

    var tally: FaultTally { results.withLock { $0 } }

    func next() -> DiskFault? { faults.withLock { $0.popFirst() } }

    func note(_ change: (inout FaultTally) -> Void) { results.withLock { change(&$0) } }
}

/// Runs the node of the sweep, in a directory for each run.
struct FaultWorkbench: Sendable {
    /// What became of each write, by key.
    typealias Ledger = [String: String]

    struct Run: Sendable {
        var ending: Ending
        var output: String
        /// A line for each call: number, kind, path, and how it failed.
        var calls: [String]
        /// The last word on each key.
        var ledger: Ledger
    }

    let program: String
    let directory: String
    var mode = "run"
    /// What each run begins with; nil for nothing.
    var template: String?
    /// What was written to the template.
    var attempted: Ledger = [:]

    init(program: String, directory: String) {
        self.program = program
        self.directory = directory
    }

    func path(of name: String) -> String { "\(directory)/\(name)" }

    func run(_ fault: DiskFault, name: String) async throws -> Run {
        let path = path(of: name)
        if let template { try FileManager.default.copyItem(atPath: template, toPath: path) }
        let environment = [
            "LD_PRELOAD": DiskSwitches.libraryPath, "KONTIKI_DISK_DIR": path, "KONTIKI_DISK_COUNT": path + ".calls",
            "KONTIKI_DISK_FAULT": "calls=all nth=\(fault.number) errno=\(fault.error.rawValue)",
        ]
        let (ending, output) = try await execute(mode, path, environment, output: path + ".run")
        let calls = try String(contentsOfFile: path + ".calls", encoding: .utf8).split(separator: "\n").map(String.init)
        return Run(ending: ending, output: output, calls: calls, ledger: ledger(of: output))
    }

    /// Ends what hangs.
    private func execute(
        _ mode: String,
        _ path: String,
        _ environment: [String: String] = [:],
        output: String
    ) async throws -> (Ending, String) {
        let ending = try await SpawnedProcess.run(
            program,
            [mode, path],
            environment: environment,
            output: output,
            seconds: 120
        )
        return (ending, try String(contentsOfFile: output, encoding: .utf8))
    }

    private func ledger(of output: String) -> Ledger {
        var ledger = attempted
        var before: String?
        for line in output.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count >= 2, ["begun", "put", "deleted", "unknown", "refused"].contains(words[0]) else {
                continue
            }
            let key = String(words[1])
            switch words[0] {
            case "begun": (before, ledger[key]) = (ledger[key], "unknown")
            // It changed nothing.
            case "refused": ledger[key] = before ?? "refused"
            default: ledger[key] = String(words[0])
            }
        }
        return ledger
    }

    /// Holds a run against the rules.
    func judge(_ run: Run, _ fault: DiskFault, name: String, _ book: FaultBook) async throws {
        let failed = run.calls.first { $0.contains(" failed: ") }
        let context = "call \(failed ?? "\(fault.number), none failed"), \(fault.error.rawValue)\n\(run.output)"
        var (ended, gotOver, harmless) = (0, 0, 0)
        switch run.ending {
        case .exited(0):
            #expect(run.output.hasSuffix("stopped\n"), "\(context)")
            #expect(!run.output.contains("misread") && !run.output.contains("unread"), "\(context)")
            if let failed {
                harmless = Self.isHarmless(failed) ? 1 : 0
                gotOver = 1 - harmless
                #expect(harmless == 1 || fault.error == .noRoom, "an I/O error went unsaid: \(context)")
            }
            #expect(!run.ledger.values.contains { $0 == "refused" || $0 == "unknown" }, "\(context)")
        case .exited(70), .exited(74):
            ended = 1
            // Those who read may meet what a failed write left before it is told.
            let says = run.output.contains(fault.message) || run.output.contains("Update of meta page failed")
            #expect(failed != nil && says, "it does not say what failed: \(context)")
            #expect(run.output.contains(path(of: name)), "it does not say where: \(context)")
        default: Issue.record("ended with \(run.ending): \(context)")
        }
        let offences = try await offences(of: run, name: name)
        #expect(offences.isEmpty, "\(offences)\nafter \(context)")
        book.note { tally in
            tally.hits += failed == nil ? 0 : 1
            tally.ended += ended
            tally.gotOver += gotOver
            tally.harmless += harmless
            tally.refusals += run.output.split(separator: "\n").count { $0.hasPrefix("refused") }
            tally.acknowledged += run.ledger.values.count { $0 == "put" || $0 == "deleted" }
        }
    }

    /// What only helps people, or removes what the next start removes anyway.
    static func isHarmless(_ call: String) -> Bool {
        let words = call.split(separator: " ")
        return words[1] == "unlink" || words[2].hasSuffix("/LOCK") && words[1] != "open"
    }

    /// Starts the node again without faults, and holds what it has against what was acknowledged.
    func offences(of run: Run, name: String) async throws -> [String] {
        let path = path(of: name)
        let (ending, output) = try await execute("check", path, output: path + ".check")
        var offences: [String] = []
        if ending != .exited(0) { offences.append("the next start: \(ending) \(output)") }
        if output.contains("foreign") { offences.append("what was never written is there: \(output)") }
        let found = Set(
            output.split(separator: "\n").filter { $0.hasPrefix("has ") }.map { String($0.dropFirst(4)) }
        )
        for (key, word) in run.ledger {
            switch (word, found.contains(key)) {
            case ("put", false): offences.append("\(key) was acknowledged, and is lost")
            case ("deleted", true), ("refused", true): offences.append("\(key) was \(word), and is there")
            default: break
            }
        }
        if template != path {
            for suffix in ["", ".calls", ".run", ".check"] {
                try? FileManager.default.removeItem(atPath: path + suffix)
            }
        }
        return offences
    }
}
