import Foundation
import KontikiClient
import Testing

extension EndToEndTests {
    @Suite("The README's tour") struct Readme {
        /// One command of the tour, and what must stand in its output.
        struct Step: CustomStringConvertible {
            var command: String
            var expected: String?
            var description: String { command }
        }

        @Test(
            "Every command of the tour can be followed word for word, and answers what stands behind its arrow",
            .timeLimit(.minutes(3))
        )
        func tour() async throws {
            let steps = try Self.steps()
            #expect(steps.count > 20)
            #expect(steps.filter { $0.expected != nil }.count > 15)
            // The leader is to stay but where the tour kills it: curl asks once.
            try await Cluster.run(options: ["--election-timeout", "2s", "--request-timeout", "30s"]) { cluster in
                let binaries = URL(fileURLWithPath: try Binary.path()).deletingLastPathComponent().path
                let environment = [
                    "PATH": binaries + ":" + (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"),
                    "KONTIKI_ENDPOINTS": cluster.nodes.map(\.endpoint).joined(separator: ","),
                ]
                for step in steps {
                    // What needs Deploy/run.sh: its process ids, and that it starts what was killed.
                    if step.command.hasPrefix("kill ") {
                        await cluster.nodes[0].crash()
                    } else if step.command.hasPrefix("sleep ") {
                        try cluster.nodes[0].start()
                        try await cluster.allReady()
                        // A stale read shows what the node has; it has caught up when it answers a strong one.
                        _ = try await patiently {
                            try await cluster.nodes[0].client.get("hello")
                        }
                    } else {
                        try await run(step, cluster, environment)
                    }
                }
            }
        }

        private func run(_ step: Step, _ cluster: Cluster, _ environment: [String: String]) async throws {
            var command = step.command
            for (index, node) in cluster.nodes.enumerated() {
                command = command.replacingOccurrences(
                    of: "http://localhost:800\(index + 1)",
                    with: "http://" + node.endpoint
                )
            }
            command = command.replacingOccurrences(of: "data/world.ndjson", with: cluster.directory + "/world.ndjson")
            // Without an end: enough is enough.
            let isEndless = command.contains("&watch") || command.contains("?watch")
            if isEndless { command = command.replacingOccurrences(of: "curl ", with: "curl --max-time 8 ") }
            let result = try await ChildProcess.run(
                "/bin/bash",
                ["-c", "cd '\(Self.root.path)'; set -o pipefail; \(command)"],
                environment: environment
            )
            #expect(result.ending == .exited(isEndless ? 28 : 0), "\(step): \(result.output)")
            if let expected = step.expected {
                #expect(result.output.contains(expected), "\(step): “\(expected)” is not in \(result.output)")
            }
        }

        private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent()
            .deletingLastPathComponent()

        private static func steps() throws -> [Step] {
            let text = try String(contentsOf: root.appendingPathComponent("README.md"), encoding: .utf8)
            let tour = try #require(text.components(separatedBy: "## A tour\n").dropFirst().first)
            let section = try #require(tour.components(separatedBy: "\n## ").first)
            var steps: [Step] = []
            var pending = ""
            for line in section.split(separator: "\n", omittingEmptySubsequences: false) where line.hasPrefix("    ") {
                pending += (pending.isEmpty ? "" : "\n") + line.trimmingCharacters(in: .whitespaces)
                // A quote that is still open goes on in the next line.
                guard pending.filter({ $0 == "'" }).count.isMultiple(of: 2) else { continue }
                let parts = pending.components(separatedBy: "# → ")
                let command = parts[0].trimmingCharacters(in: .whitespaces)
                if !command.hasPrefix("export PATH") {
                    let expected = parts.count > 1 ? parts[1].trimmingCharacters(in: .whitespaces) : nil
                    steps.append(Step(command: command, expected: expected))
                }
                pending = ""
            }
            return steps
        }
    }
}
