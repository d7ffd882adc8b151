import Foundation
import KontikiClient
import Testing

extension EndToEndTests {
    @Suite("Coordination from the shell") struct Coordination {
        private func kontiki(_ cluster: Cluster, _ arguments: [String]) async throws -> (ending: Ending, output: String)
        {
            try await ChildProcess.run(
                Binary.path(),
                arguments,
                environment: ["KONTIKI_ENDPOINTS": cluster.nodes.map(\.endpoint).joined(separator: ",")]
            )
        }

        private func started(_ cluster: Cluster, _ name: String, _ arguments: [String]) throws -> (ChildProcess, String)
        {
            let output = cluster.directory + "/" + name
            let process = try ChildProcess(
                Binary.path(),
                arguments,
                environment: ["KONTIKI_ENDPOINTS": cluster.nodes.map(\.endpoint).joined(separator: ",")],
                output: output
            )
            return (process, output)
        }

        private func text(_ path: String) -> String { (try? String(contentsOfFile: path, encoding: .utf8)) ?? "" }

        @Test(
            "A lock is held while a command runs, waited for in order, and lost with its holder; its fence lets only the holder write"
        )
        func lock() async throws {
            try await Cluster.run { cluster in
                let (first, firstLog) = try started(
                    cluster,
                    "first",
                    [
                        "lock", "the job/1", "--ttl", "10s", "--value", "first", "--", "sh", "-c",
                        "echo got $KONTIKI_FENCE; while kill -0 $PPID; do sleep 0.1; done",
                    ]
                )
                try await eventually("the first holds the lock") { text(firstLog).contains("got the%20job%2F1=") }
                let fence = try #require(text(firstLog).split(separator: " ").last).trimmingCharacters(
                    in: .whitespacesAndNewlines
                )
                #expect(try await kontiki(cluster, ["put", "guarded", "1", "--fence", fence]).ending == .exited(0))
                let refused = try await kontiki(cluster, ["lock", "the job/1", "--", "true"])
                #expect(refused.ending == .exited(1) && refused.output.contains("held by another"), "\(refused)")
                let shown = try await kontiki(cluster, ["lock", "the job/1", "--show"])
                #expect(shown.output.contains("held by first"), "\(shown)")

                // The status of its command is the command's, and it waits for its turn.
                let (second, secondLog) = try started(
                    cluster,
                    "second",
                    [
                        "lock", "the job/1", "--ttl", "10s", "--wait", "60s", "--", "sh", "-c",
                        "echo got $KONTIKI_FENCE; exit 7",
                    ]
                )
                // A holder that dies without a word loses the lock after its ttl.
                first.signal(SIGKILL)
                #expect(await second.ending() == .exited(7))
                let newer = try #require(text(secondLog).split(separator: " ").last).trimmingCharacters(
                    in: .whitespacesAndNewlines
                )
                #expect(newer != fence)
                let late = try await kontiki(cluster, ["put", "guarded", "2", "--fence", fence])
                #expect(late.ending == .exited(1), "the old holder writes no more: \(late)")
                #expect(try await cluster.client.get("guarded")?.value == Array("1".utf8))
                try await eventually("the second has given it back") {
                    try await kontiki(cluster, ["lock", "the job/1", "--show"]).ending == .exited(1)
                }
            }
        }

        @Test("Candidates are elected one after the other, and an observer sees each")
        func election() async throws {
            try await Cluster.run { cluster in
                let (observer, seen) = try started(cluster, "observer", ["elect", "leader", "--observe"])
                defer { observer.signal(SIGTERM) }
                for name in ["a", "b", "c"] {
                    let run = try await kontiki(
                        cluster,
                        ["elect", "leader", "--ttl", "3s", "--value", name, "--", "sh", "-c", "echo elected"]
                    )
                    #expect(run.ending == .exited(0) && run.output.contains("elected"), "\(run)")
                    let (holder, log) = try started(
                        cluster,
                        "holder-\(name)",
                        [
                            "elect", "leader", "--ttl", "10s", "--value", "held-\(name)", "--", "sh", "-c",
                            "echo elected; while kill -0 $PPID; do sleep 0.1; done",
                        ]
                    )
                    try await eventually("\(name) is elected") { text(log).contains("elected\n") }
                    try await eventually("the observer sees \(name)") { text(seen).contains("\theld-\(name)\n") }
                    holder.signal(SIGTERM)
                    _ = await holder.ending()
                }
            }
        }

        @Test(
            "Keys end with their lease and by their own time; a watch tells of it, and runs a command for each change"
        )
        func leases() async throws {
            try await Cluster.run { cluster in
                let granted = try await kontiki(cluster, ["lease", "grant", "10s"])
                let lease = granted.output.trimmingCharacters(in: .whitespacesAndNewlines)
                #expect(LeaseID(lease) != nil, "\(granted)")
                let (keeper, _) = try started(cluster, "keeper", ["lease", "keep-alive", lease])
                let (watcher, seen) = try started(
                    cluster,
                    "watcher",
                    [
                        "watch", "--prefix", "live/", "--since", "0", "--limit", "4", "--", "sh", "-c",
                        "echo $KONTIKI_EVENT $KONTIKI_KEY $(cat)",
                    ]
                )
                #expect(try await kontiki(cluster, ["put", "live/leased", "1", "--lease", lease]).ending == .exited(0))
                #expect(try await kontiki(cluster, ["put", "live/brief", "2", "--ttl", "1s"]).ending == .exited(0))
                try await eventually("the key with a time of its own is gone") {
                    try await cluster.client.get("live/brief") == nil
                }
                let shown = try await kontiki(cluster, ["lease", "show", lease])
                #expect(shown.ending == .exited(0) && shown.output.contains("live/leased"), "\(shown)")
                // Nobody keeps it alive any more.
                keeper.signal(SIGKILL)
                try await eventually("the key went with its lease") {
                    try await cluster.client.get("live/leased") == nil
                }
                #expect(await watcher.ending() == .exited(0))
                let lines = text(seen).split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
                #expect(
                    lines == ["put live/leased 1", "put live/brief 2", "expire live/brief", "expire live/leased"],
                    "\(lines)"
                )
                let gone = try await kontiki(cluster, ["lease", "keep-alive", lease, "--once"])
                #expect(gone.ending == .exited(1), "\(gone)")
            }
        }

        @Test("Transactions from a file, increments, the past, groups and completion scripts")
        func verbs() async throws {
            try await Cluster.run { cluster in
                for (key, value) in [("a/1", "x"), ("a/b/2", "y"), ("c", "z")] {
                    #expect(try await kontiki(cluster, ["put", key, value]).ending == .exited(0))
                }
                let file = cluster.directory + "/txn.json"
                let document = """
                    {"compare": [{"key": "c", "target": "value", "op": "=", "value": "z"}],
                     "success": [{"put": {"key": "c", "value": "new"}}, {"incr": {"key": "n", "by": 4}}],
                     "failure": [{"get": {"key": "c"}}]}
                    """
                try Data(document.utf8).write(to: URL(fileURLWithPath: file))
                let done = try await kontiki(cluster, ["txn", file])
                #expect(done.ending == .exited(0) && done.output.contains(#""succeeded":true"#), "\(done)")
                let again = try await kontiki(cluster, ["txn", file])
                #expect(again.ending == .exited(1) && again.output.contains(#""value":"new""#), "\(again)")
                #expect(try await kontiki(cluster, ["incr", "n"]).output == "5\n")
                #expect(try await kontiki(cluster, ["get", "c", "--rev", "3"]).output.contains("z"))
                #expect(try await kontiki(cluster, ["list", "--delimiter", "/"]).output == "a/\nc\nn\n")
                #expect(try await kontiki(cluster, ["list", "a/", "--reverse"]).output == "a/b/2\na/1\n")
                #expect(try await kontiki(cluster, ["list", "--count"]).output == "4\n")
                let json = try await kontiki(cluster, ["get", "c", "--json"])
                #expect(
                    json.output.contains(#""mod_revision":4"#) && json.output.contains(#""value":"new""#),
                    "\(json)"
                )
                let past = try await kontiki(cluster, ["get", "c", "--rev", "1000"])
                #expect(past.ending != .exited(0), "\(past)")
                #expect(try await kontiki(cluster, ["delete", "--prefix", "a/"]).output == "2 deleted\n")
                for shell in ["bash", "zsh", "fish"] {
                    let script = try await kontiki(cluster, ["completion", shell])
                    #expect(script.ending == .exited(0) && script.output.contains("lease"), "\(shell)")
                }
            }
        }
    }
}
