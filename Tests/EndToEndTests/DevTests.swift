import Foundation
import KontikiClient
import Testing

extension EndToEndTests {
    @Suite("The development cluster and the command line") struct Dev {
        @Test(
            "dev makes a cluster, brings a killed node back, stops all on Ctrl-C, and finds its data again",
            .timeLimit(.minutes(3))
        )
        func developmentCluster() async throws {
            try await withTemporaryDirectory { directory in
                let (http, peer) = (try Ports.consecutive(3), try Ports.consecutive(3))
                let arguments = [
                    "dev", "--nodes", "3", "--data", directory + "/data", "--base-http", "\(http)", "--base-peer",
                    "\(peer)",
                ]
                let endpoints = (0..<3).map { "127.0.0.1:\(http + $0)" }
                // A connection to the node that is killed may be lost in the middle of a write.
                var options = KontikiClient.Options()
                options.retriesUnknownWrites = true
                options.totalTimeout = .seconds(60)
                let client = try KontikiClient(endpoints: endpoints, options: options)
                for round in 1...2 {
                    let output = directory + "/output\(round)"
                    let dev = try ChildProcess(Binary.path(), arguments, output: output)
                    do {
                        try await use(dev, round, client, directory)
                    } catch {
                        report(dev.output)
                        dev.signal(SIGTERM)
                        await dev.ending()
                        throw error
                    }
                }
                await client.shutdown()
            }
        }

        private func use(_ dev: ChildProcess, _ round: Int, _ client: KontikiClient, _ directory: String) async throws {
            try await eventually("dev says what to try", within: .seconds(60)) { dev.output.contains("curl -X PUT") }
            if round == 1 {
                try await client.put("dev", Array("kept".utf8))
                let pidFile = directory + "/data/node1.pid"
                let pid = try #require(pid_t(String(contentsOfFile: pidFile, encoding: .utf8).dropLast()))
                kill(pid, SIGKILL)
                try await client.put("dev", Array("kept on".utf8))
                try await eventually("dev says that a node ended") { dev.output.contains("node1 ended (signal 9)") }
                try await eventually("the node is back", within: .seconds(60)) {
                    let text = (try? String(contentsOfFile: pidFile, encoding: .utf8)) ?? ""
                    return !text.isEmpty && text != "\(pid)\n"
                }
            } else {
                #expect(dev.output.contains("found the cluster"))
            }
            #expect(try await client.get("dev")?.value == Array("kept on".utf8))
            dev.signal(SIGINT)
            #expect(await dev.ending() == .exited(0))
            #expect(dev.output.hasSuffix("stopped\n"), "\(dev.output.suffix(300))")
            let left = try await ChildProcess.run("/usr/bin/env", ["pgrep", "-f", directory + "/data/node"])
            #expect(left.ending == .exited(1), "no process is left: \(left.output)")
        }

        @Test(
            "The commands for keys and members do what they say, with the exit codes of their help",
            .timeLimit(.minutes(2))
        )
        func commands() async throws {
            // The leader is to be the one that it was transferred to, not whom a busy machine elects.
            try await Cluster.run(options: ["--election-timeout", "10s"]) { cluster in
                let endpoints = cluster.nodes.map(\.endpoint).joined(separator: ",")
                func kontiki(_ arguments: String...) async throws -> (ending: Ending, output: String) {
                    try await ChildProcess.run(Binary.path(), arguments, environment: ["KONTIKI_ENDPOINTS": endpoints])
                }
                #expect(try await kontiki("put", "a/b", "one") == (.exited(0), "revision 1 (created)\n"))
                #expect(try await kontiki("put", "a/b", "two", "--if-revision", "1") == (.exited(0), "revision 2\n"))
                #expect(try await kontiki("put", "a/b", "three", "--if-absent").ending == .exited(1))
                #expect(try await kontiki("get", "a/b") == (.exited(0), "two"))
                #expect(try await kontiki("get", "nothing").ending == .exited(1))
                #expect(try await kontiki("list", "a/", "--values") == (.exited(0), "a/b\ttwo\n"))
                #expect(try await kontiki("delete", "a/b") == (.exited(0), ""))
                #expect(try await kontiki("list") == (.exited(0), ""))
                #expect(
                    try await kontiki("get", "a/b", "--endpoint", "127.0.0.1:1", "--timeout", "1s").ending
                        == .exited(69)
                )

                let other = cluster.others(than: try await cluster.leader())[0]
                #expect(try await kontiki("transfer", other.name).ending == .exited(0))
                try await eventually("the other node leads") { await other.status()?.role == "leader" }
                // Whichever node answers must have learnt it.
                var status = try await kontiki("status")
                try await eventually("the leader is named") {
                    if !status.output.contains("leader  \(other.name)") { status = try await kontiki("status") }
                    return status.output.contains("leader  \(other.name)")
                }
                #expect(status.ending == .exited(0), "\(status.output)")
                for node in cluster.nodes { #expect(status.output.contains(node.peerAddress)) }
                #expect(try await kontiki("member", "remove", "nobody").ending == .exited(1))
                #expect(try await kontiki("member", "list").output.split(separator: "\n").count == 4)
            }
        }
    }
}
