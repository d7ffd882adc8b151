import Foundation
import PowerCut

/// Records every workload and has its images checked by processes of their own.
struct Campaign {
    private let images: Int
    private let seed: UInt64
    private let workloads: [Workload]
    private let guilty: String?
    private let directory: String
    private let processes = 2

    init(_ arguments: Arguments) throws {
        images = Int(truncatingIfNeeded: arguments.number("images", 20_000))
        seed = arguments.number("seed", 1)
        guilty = arguments["guilty"]
        workloads =
            try arguments["workloads"].map { names in
                try names.split(separator: ",").map { name in
                    guard let workload = Workload(rawValue: String(name)) else {
                        throw Violation("no workload \(String(name))")
                    }
                    return workload
                }
            } ?? Workload.allCases
        let memory = FileManager.default.fileExists(atPath: "/dev/shm") ? "/dev/shm" : NSTemporaryDirectory()
        directory = arguments["directory"] ?? (memory + "/power-cut-\(ProcessInfo.processInfo.processIdentifier)")
    }

    /// - Returns: whether every image passed.
    func run() throws -> Bool {
        let start = ContinuousClock.now
        removeTree(directory)
        var totals = CheckSummary()
        for (number, workload) in workloads.enumerated() {
            let begun = ContinuousClock.now
            let share = max(1, (images - totals.distinct) / (workloads.count - number))
            let summary = try workload == .recovery ? secondCuts(share) : firstCuts(workload, share)
            guard let summary else { return false }
            totals.add(summary)
            totals.distinct += summary.distinct
            say("\(workload.rawValue): \(summary.text) in \(begun.secondsSince) s")
        }
        removeTree(directory)
        say("all: \(totals.text) in \(start.secondsSince) s; seed \(seed); none lost, none damaged")
        return true
    }

    private func firstCuts(_ workload: Workload, _ images: Int) throws -> CheckSummary? {
        let run = RecordedRun(directory: directory + "/" + workload.rawValue)
        try make(run.disk)
        try record(workload, run)
        return try check(run, images)
    }

    // MARK: Cuts in the middle of a recovery

    private func secondCuts(_ images: Int) throws -> CheckSummary? {
        var totals = CheckSummary()
        let count = min(8, max(1, images / 50))
        var random = SeededNumbers(seed: seed)
        let sources = Workload.allCases.filter {
            $0 != .recovery && FileManager.default.fileExists(atPath: directory + "/\($0.rawValue)/trace")
        }
        for number in 0..<count where !sources.isEmpty {
            let source = RecordedRun(directory: directory + "/" + sources[number % sources.count].rawValue)
            let run = RecordedRun(directory: directory + "/recovery-\(number)")
            try make(run.directory)
            try FileManager.default.copyItem(atPath: source.bookPath, toPath: run.bookPath)
            try prepare(run, from: source, cut: random.next())
            try record(.recovery, run)
            guard let summary = try check(run, max(1, (images - totals.distinct) / (count - number))) else {
                return nil
            }
            totals.add(summary)
            totals.distinct += summary.distinct
        }
        return totals
    }

    /// Puts one image of the run there, and what a recovery makes of its log.
    private func prepare(_ run: RecordedRun, from source: RecordedRun, cut: UInt64) throws {
        let trace = try Trace(contentsOf: source.tracePath)
        let place = trace.records.count / 4 + Int(cut % UInt64(trace.records.count * 3 / 4))
        let disk = try DiskState()
        var expectation = Expectation(found: nil)
        for record in trace.records[...place] {
            disk.advance(record)
            if case .note(let note) = record.event { expectation.advance(note) }
        }
        let image = disk.image(number: 3 + Int(cut % 1000) * 2, seed: seed)
        var book = try EntryBook(contentsOf: source.bookPath)
        try image.write(to: run.directory + "/probe")
        var probe = ImageCheck(directory: run.directory + "/probe")
        try run.write(found: try probe.run(expectation, &book))
        removeTree(run.directory + "/probe")
        try image.write(to: run.disk)
        try image.write(to: run.base)
    }

    // MARK: Processes

    private func make(_ path: String) throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    private func record(_ workload: Workload, _ run: RecordedRun) throws {
        var environment = [
            "LD_PRELOAD": RecorderLibrary.path, "KONTIKI_DISK_DIR": run.disk, "KONTIKI_DISK_RECORD": run.tracePath,
        ]
        switch guilty {
        case "directories": environment["KONTIKI_DISK_OMIT"] = "directories"
        case "snapshots": environment["KONTIKI_DISK_OMIT"] = "files:snapshots/"
        default: break
        }
        var arguments = ["record", "--workload", workload.rawValue, "--run", run.directory, "--seed", "\(seed)"]
        if let guilty { arguments += ["--guilty", guilty] }
        let (status, output) = try Child(arguments, environment).ending()
        guard status == 0 else { throw Violation("recording '\(workload)' ended with \(status): \(output)") }
        removeTree(run.disk)
    }

    private func check(_ run: RecordedRun, _ images: Int) throws -> CheckSummary? {
        let common = ["check", "--run", run.directory, "--seed", "\(seed)"]
        let children = try (0..<processes).map { share in
            try Child(
                common + ["--images", String(images), "--share", String(share), "--shares", String(processes)],
                [:]
            )
        }
        var totals = CheckSummary()
        var isSound = true
        for (share, child) in children.enumerated() {
            let (status, output) = child.ending()
            if status == 0, let summary = CheckSummary(output: output) {
                totals.add(summary)
                totals.distinct = max(totals.distinct, summary.distinct)
                continue
            }
            isSound = false
            let named = try? String(contentsOfFile: run.directory + "/status-\(share)", encoding: .utf8)
            let image = named?.split(separator: " ").first.map(String.init) ?? "?"
            say("FAILED in \(run.directory), seed \(seed), image \(image) (status \(status)):")
            say(output.split(separator: "\n").filter { !$0.hasPrefix("progress") }.joined(separator: "\n"))
            say("the image: \(run.directory)/work-\(share)/image")
            say("again: \(CommandLine.arguments[0]) \((common + ["--image", image]).joined(separator: " "))")
        }
        return isSound ? totals : nil
    }
}

extension CheckSummary {
    fileprivate init?(output: String) {
        guard let line = output.split(separator: "\n").last(where: { $0.hasPrefix("summary ") }) else { return nil }
        let numbers = line.split(separator: " ").compactMap { Int($0) }
        guard numbers.count == 4 else { return nil }
        self.init()
        (checked, distinct, wholeNodes, acknowledgements) = (numbers[0], numbers[1], numbers[2], numbers[3])
    }

    /// All but the different images, which are counted over all processes.
    fileprivate mutating func add(_ other: CheckSummary) {
        checked += other.checked
        wholeNodes += other.wholeNodes
        acknowledgements += other.acknowledgements
    }

    fileprivate var text: String {
        "\(distinct) images, \(checked) checks, \(acknowledgements) acknowledgements verified, \(wholeNodes) whole nodes"
    }
}

extension ContinuousClock.Instant {
    fileprivate var secondsSince: Int64 { (ContinuousClock.now - self).components.seconds }
}

/// This program once more, with other arguments.
private final class Child: Sendable {
    private let ended = DispatchSemaphore(value: 0)
    private let process = Process()
    private let output: String

    init(_ arguments: [String], _ environment: [String: String]) throws {
        output = NSTemporaryDirectory() + "/power-cut-\(UUID().uuidString)"
        _ = FileManager.default.createFile(atPath: output, contents: nil)
        process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0])
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: output))
        process.standardOutput = handle
        process.standardError = handle
        let ended = ended
        process.terminationHandler = { _ in ended.signal() }
        try process.run()
        try handle.close()
    }

    /// Waits; a signal's number counts negative.
    func ending() -> (status: Int32, output: String) {
        ended.wait()
        let status = process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
        let text = (try? String(contentsOfFile: output, encoding: .utf8)) ?? ""
        try? FileManager.default.removeItem(atPath: output)
        return (status, text)
    }
}
