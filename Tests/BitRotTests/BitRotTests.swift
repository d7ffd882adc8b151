import Foundation
import Testing

/// Damaged copies of a data directory are given to real servers in processes of their own; see `Tests/BitRot`.
@Suite("Bit rot", .serialized)
struct BitRotTests {
    /// Runs the harness that lies beside the tests; answers its exit status and its last lines.
    private func run(_ arguments: [String]) async throws -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
            .appendingPathComponent("bit-rot")
        process.arguments = arguments
        let path = NSTemporaryDirectory() + "/kontiki-bit-rot-\(UUID().uuidString)"
        try Data().write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        process.standardOutput = file
        process.standardError = file
        let status: Int32 = try await withCheckedThrowingContinuation { continuation in
            process.terminationHandler = { continuation.resume(returning: $0.terminationStatus) }
            do { try process.run() } catch { continuation.resume(throwing: error) }
        }
        return (status, try String(contentsOfFile: path, encoding: .utf8))
    }

    @Test(
        "Each damage that matters is noticed before it answers: no wrong value, no missing key, no lost last write, no crash",
        .timeLimit(.minutes(10))
    )
    func everyDamageIsNoticed() async throws {
        let environment = ProcessInfo.processInfo.environment
        let flips = environment["KONTIKI_BIT_ROT_FLIPS"] ?? "2000"
        let seed = environment["KONTIKI_BIT_ROT_SEED"] ?? "\(UInt64.random(in: 1...1 << 40))"
        let (status, output) = try await run(["--flips", flips, "--seed", seed])
        FileHandle.standardError.write(Data(output.utf8))
        #expect(status == 0, "seed \(seed) (KONTIKI_BIT_ROT_SEED): \(output)")
    }

    @Test("Without the examination at start, the same damages give wrong answers: the harness sees them")
    func guiltyIsConvicted() async throws {
        // The first two hide the last commit of the log and of the state.
        let (status, output) = try await run(["--flips", "40", "--seed", "7", "--without-examination"])
        #expect(status == 1, "\(output)")
        #expect(output.contains("log/data.mdb") && output.contains("WRONG"), "\(output)")
    }
}
