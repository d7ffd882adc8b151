import Foundation
import Synchronization
import Testing

extension EndToEndTests {
    @Suite("What the development cluster shows of its nodes") struct DevOutput {
        /// Standard error of a program, as a pipe that holds little and is read only when the test wants it.
        private final class Narrow: Sendable {
            private let pipe = Pipe()
            private let process: Process
            private let ended = Mutex(false)

            init(_ executable: String, _ arguments: [String]) throws {
                process = Process()
                process.executableURL = URL(fileURLWithPath: executable)
                process.arguments = arguments
                process.standardInput = FileHandle.nullDevice
                process.standardError = pipe
                // F_SETPIPE_SZ: one page.
                guard fcntl(pipe.fileHandleForWriting.fileDescriptor, 1031, 4096) >= 0 else {
                    throw SetupError("the pipe cannot be made small: \(String(cString: strerror(errno)))")
                }
                process.terminationHandler = { [self] _ in ended.withLock { $0 = true } }
                try process.runAlone()
            }

            var hasEnded: Bool { ended.withLock { $0 } }

            /// How much lies in the pipe.
            var waiting: Int {
                var count: Int32 = 0
                return ioctl(pipe.fileHandleForReading.fileDescriptor, UInt(FIONREAD), &count) == 0 ? Int(count) : 0
            }

            /// All that it writes until its end.
            func rest() async -> String {
                await withCheckedContinuation { continuation in
                    Thread.detachNewThread { [self] in
                        let bytes = pipe.fileHandleForReading.readDataToEndOfFile()
                        continuation.resume(returning: String(decoding: bytes, as: UTF8.self))
                    }
                }
            }
        }

        @Test("A node that does not start has said why, to its last line, before dev says so", .timeLimit(.minutes(2)))
        func lastLines() async throws {
            try await withTemporaryDirectory { directory in
                // What a node says of this value is more than dev can show at once, and less than the node can write at once.
                let lines = (0..<500).map { "line \($0) " + String(repeating: "x", count: 40) }
                let dev = try Narrow(
                    Binary.path(),
                    [
                        "dev", "--nodes", "1", "--data", directory + "/data", "--base-http", "\(try Ports.next())",
                        "--base-peer", "\(try Ports.next())", "--", "--request-timeout",
                        lines.joined(separator: "\n"),
                    ]
                )
                try await eventually("dev shows what its node writes") { dev.waiting > 2048 }
                // Nobody reads, so that what the node said waits in dev while the node ends.
                try await eventually("the node has ended") {
                    try await ChildProcess.run("/usr/bin/env", ["pgrep", "-f", directory + "/data/node"]).ending
                        == .exited(1)
                }
                let output = await dev.rest()
                try await eventually("dev has ended") { dev.hasEnded }
                var rest = output[...]
                for line in lines {
                    let place = try #require(rest.firstRange(of: line), "\(line) is missing or out of order")
                    rest = rest[place.upperBound...]
                }
                #expect(rest.hasSuffix("node1 did not start; its log above says why\n"), "\(rest)")
            }
        }
    }
}
