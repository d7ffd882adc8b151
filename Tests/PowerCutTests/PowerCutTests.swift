import Foundation
import PowerCut
import Testing

/// The tool that lies beside the tests, with the arguments of `power-cut run`.
@Suite("Power cuts")
struct PowerCutTests {
    @Test("No disk state that a power cut could leave loses or invents anything")
    func everyImageIsSound() throws {
        let images = ProcessInfo.processInfo.environment["KONTIKI_POWER_CUT_IMAGES"] ?? "20000"
        let seed =
            ProcessInfo.processInfo.environment["KONTIKI_POWER_CUT_SEED"] ?? "\(UInt64.random(in: 1...1_000_000))"
        let (status, output) = try Self.run(["--images", images, "--seed", seed])
        report(output)
        #expect(status == 0, "\(output)")
        let distinct = try #require(output.firstMatch(of: /all: ([0-9]+) images/)?.1)
        #expect(try #require(Int(distinct)) >= #require(Int(images)))
    }

    @Test(
        "A node that leaves out syncs is convicted",
        arguments: [
            // The log's environment is opened in NOSYNC; no directory is synced; snapshots are not, so that the log is trimmed before
            // the snapshot is durable.
            ("nosync", "groups", "is|fails"),
            ("directories", "single", "another|fails"),
            ("snapshots", "compaction", "snapshot"),
        ]
    )
    func theGuiltyAreConvicted(guilty: String, workload: String, reason: String) throws {
        let (status, output) = try Self.run(["--images", "500", "--workloads", workload, "--guilty", guilty])
        #expect(status == 1, "\(output)")
        #expect(try output.firstMatch(of: Regex("failure .*(\(reason))")) != nil, "\(output)")
        #expect(output.contains("power-cut check --run "))
    }

    /// Runs the tool in a directory of its own.
    private static func run(_ arguments: [String]) throws -> (status: Int32, output: String) {
        let beside = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        let tool = beside.appendingPathComponent("power-cut").path
        try #require(
            FileManager.default.isExecutableFile(atPath: tool),
            "\(tool) is not there: swift build --build-tests"
        )
        let temporary = FileManager.default.temporaryDirectory.appendingPathComponent("power-cut-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: temporary, withIntermediateDirectories: true)
        let output = temporary.appendingPathComponent("output")
        try Data().write(to: output)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: tool)
        let memory = FileManager.default.fileExists(atPath: "/dev/shm") ? "/dev/shm" : temporary.path
        let directory = "\(memory)/\(temporary.lastPathComponent)"
        process.arguments = ["run", "--directory", directory] + arguments
        process.standardOutput = try FileHandle(forWritingTo: output)
        process.standardError = process.standardOutput
        let ended = DispatchSemaphore(value: 0)
        process.terminationHandler = { _ in ended.signal() }
        try process.run()
        ended.wait()
        let isExpected = process.terminationStatus == 0 || arguments.contains("--guilty")
        if isExpected { try? FileManager.default.removeItem(atPath: directory) }
        let text = try String(contentsOf: output, encoding: .utf8)
        try FileManager.default.removeItem(at: temporary)
        return (process.terminationStatus, text)
    }

    private func report(_ text: String) { FileHandle.standardOutput.write(Data(text.utf8)) }
}
