import Foundation
import KontikiClient
import Testing

extension EndToEndTests {
    @Suite("Bad input") struct BadInput {
        /// A request that must be refused, with the status of the answer and something its detail must say.
        private struct Refusal: Sendable {
            var method = "GET"
            var target: String
            var headers: [String] = []
            var body = ""
            var status: Int
            var says: String
        }

        private static let longKey = String(repeating: "k", count: 481)

        private static let refusals = [
            Refusal(target: "/kv/a?consistency=strnog", status: 400, says: "strong"),
            Refusal(target: "/kv?prefix=a&limit=none", status: 400, says: "limit"),
            Refusal(target: "/kv/a?colour=red", status: 400, says: "colour"),
            Refusal(target: "/kv/" + longKey, status: 400, says: "480"),
            Refusal(method: "PUT", target: "/kv/" + longKey, body: "x", status: 400, says: "480"),
            Refusal(target: "/kv/", status: 400, says: "key"),
            Refusal(target: "/kv/a%zz", status: 400, says: "%"),
            Refusal(method: "PUT", target: "/kv/a%2", body: "x", status: 400, says: "%"),
            Refusal(method: "PATCH", target: "/kv/a", body: "x", status: 405, says: "PATCH"),
            Refusal(method: "PUT", target: "/status", body: "x", status: 405, says: "PUT"),
            Refusal(target: "/nowhere", status: 404, says: "/"),
            Refusal(
                method: "PUT",
                target: "/kv/a",
                headers: ["If-Match: seventeen"],
                body: "x",
                status: 400,
                says: "If-Match"
            ),
            Refusal(method: "POST", target: "/members", body: "{not json", status: 400, says: "JSON"),
            Refusal(method: "DELETE", target: "/members/nobody", status: 404, says: "nobody"),
        ]

        @Test("Malformed requests get a clear answer and change nothing", .timeLimit(.minutes(2)))
        func malformedRequests() async throws {
            try await Cluster.run(nodes: 1) { cluster in
                let node = cluster.nodes[0]
                try await node.client.put("before", Array("there".utf8))
                let revision = try await node.client.status().revision
                for refusal in Self.refusals {
                    let answer = try await RawConnection.ask(
                        node.httpPort,
                        refusal.method,
                        refusal.target,
                        refusal.headers,
                        body: refusal.body
                    )
                    let what = "\(refusal.method) \(refusal.target.prefix(40)): \(answer.suffix(300))"
                    #expect(answer.hasPrefix("HTTP/1.1 \(refusal.status) "), "\(what)")
                    #expect(answer.contains("application/problem+json") && answer.contains(refusal.says), "\(what)")
                    #expect(answer.contains(#""outcome":"not_executed""#), "\(what)")
                }
                try await tooLarge(node)
                let garbage = try await RawConnection.exchange(
                    node.httpPort,
                    Array("\u{1}\u{2} no http at all\r\n\r\n".utf8)
                )
                #expect(garbage.isEmpty || garbage.hasPrefix("HTTP/1.1 400"), "\(garbage)")
                // Two for the value of just the largest size and its deletion.
                #expect(try await node.client.status().revision == revision + 2)
                #expect(try await node.client.get("before")?.value == Array("there".utf8))
            }
        }

        /// 413 comes when the length is announced, before the value is sent.
        private func tooLarge(_ node: NodeProcess) async throws {
            let head = "PUT /kv/large HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n"
            let answer = try await RawConnection.exchange(
                node.httpPort,
                Array(head.utf8) + Array(repeating: 0x61, count: 1000)
            )
            #expect(answer.hasPrefix("HTTP/1.1 413 ") && answer.contains("1048576"), "\(answer)")
            let error = await #expect(throws: ClientError.self) {
                try await node.client.put("large", Array(repeating: 0x61, count: (1 << 20) + 1))
            }
            #expect(error?.code == .tooLarge || error?.code == .connectionLost, "\(String(describing: error))")
            try await node.client.put("largest", Array(repeating: 0x61, count: 1 << 20))
            #expect(try await node.client.get("largest")?.value.count == 1 << 20)
            try await node.client.delete("largest")
            #expect(try await node.client.get("large") == nil)
        }

        @Test(
            "Malformed lines of an import are told by their numbers, and nothing else is lost",
            .timeLimit(.minutes(2))
        )
        func malformedLines() async throws {
            try await Cluster.run(nodes: 1) { cluster in
                let (node, binary) = (cluster.nodes[0], try Binary.path())
                let file = cluster.directory + "/lines.tsv"
                try "a\t1\nno tab here\nc\t3\n\\q\t4\ne\t5\n".write(toFile: file, atomically: true, encoding: .utf8)
                let strict = try await ChildProcess.run(binary, ["import", "--endpoint", node.endpoint, file])
                #expect(strict.ending == .exited(65) && strict.output.contains("line 2"), "\(strict.output)")
                #expect(try await Listing.all(node.client, prefix: "").keys.sorted() == ["a"])
                let lenient = try await ChildProcess.run(
                    binary,
                    ["import", "--skip-bad", "--endpoint", node.endpoint, file]
                )
                #expect(lenient.ending == .exited(65), "\(lenient.output)")
                #expect(lenient.output.contains("line 2") && lenient.output.contains("line 4"), "\(lenient.output)")
                #expect(try await Listing.all(node.client, prefix: "").keys.sorted() == ["a", "c", "e"])
                let missing = try await ChildProcess.run(
                    binary,
                    ["import", "--endpoint", node.endpoint, file + ".none"]
                )
                #expect(missing.ending == .exited(66), "\(missing.output)")
            }
        }

        @Test("Garbage on the Raft port, and a peer of another cluster, change nothing", .timeLimit(.minutes(2)))
        func strangers() async throws {
            // Elections must come from strangers only, not from a busy machine.
            try await Cluster.run(options: ["--election-timeout", "10s"]) { cluster in
                let leader = try await cluster.leader()
                let term = try await leader.client.status().term
                let port = try #require(leader.listenAddress.split(separator: ":").last.flatMap { Int($0) })
                var random = SeededGenerator(seed: 7)
                for _ in 0..<20 {
                    let noise = (0..<Int.random(in: 1...4_000, using: &random)).map { _ in
                        UInt8.random(in: 0...255, using: &random)
                    }
                    _ = try await RawConnection.exchange(port, noise)
                }
                _ = try await RawConnection.exchange(port, Array("GET /kv/a HTTP/1.1\r\nHost: a\r\n\r\n".utf8))
                try await cluster.client.put("strangers", Array("still here".utf8))
                #expect(try await leader.client.status().term == term)

                // Another cluster's node answers at a member's address.
                let absent = cluster.others(than: leader)[0]
                #expect(await absent.stop() == .exited(0))
                let stranger = try NodeProcess(
                    name: "stranger",
                    peerAddress: absent.peerAddress,
                    listenAddress: absent.listenAddress,
                    directory: cluster.directory,
                    options: []
                )
                try stranger.start("--bootstrap")
                try await eventually("the stranger serves its own cluster") { await stranger.isReady() }
                try await stranger.client.put("own", Array("cluster".utf8))
                try await cluster.client.put("strangers", Array("and goes on".utf8))
                try await eventually("the leader says that a stranger answers there") { leader.log.contains("cluster") }
                let (here, there) = (try await leader.client.status(), try await stranger.client.status())
                #expect(here.clusterID != there.clusterID && here.term == term)
                #expect(try await stranger.client.get("strangers") == nil)
                #expect(try await cluster.client.get("own") == nil)
                await stranger.crash()
                await stranger.client.shutdown()
                try absent.start()
                try await cluster.allReady()
                #expect(try await absent.client.get("strangers")?.value == Array("and goes on".utf8))
            }
        }

        @Test("What keeps a node from starting is said, with an exit code of its own", .timeLimit(.minutes(2)))
        func startRefused() async throws {
            try await Cluster.run(nodes: 1) { cluster in
                let (node, binary) = (cluster.nodes[0], try Binary.path())
                let empty = cluster.directory + "/empty"
                func serve(
                    _ changes: [String: String],
                    _ more: String...
                ) async throws -> (ending: Ending, output: String) {
                    var options = [
                        "--id": "other", "--addr": "127.0.0.1:\(try Ports.next())",
                        "--http": "127.0.0.1:\(try Ports.next())",
                        "--data": empty,
                    ]
                    options.merge(changes) { $1 }
                    return try await ChildProcess.run(binary, ["serve"] + options.flatMap { [$0, $1] } + more)
                }
                func expect(_ result: (ending: Ending, output: String), _ code: Int32, _ words: String...) {
                    #expect(result.ending == .exited(code), "\(result.output)")
                    for word in words { #expect(result.output.contains(word), "“\(word)” in: \(result.output)") }
                }
                expect(try await serve(["--data": node.directory]), 75, "process", node.directory)
                expect(try await serve(["--http": node.endpoint], "--bootstrap"), 69, "in use")
                expect(
                    try await serve(["--addr": node.listenAddress, "--data": empty + "2"], "--bootstrap"),
                    69,
                    "in use"
                )
                expect(try await serve(["--data": empty + "3"]), 78, "--bootstrap", "--join")
                #expect(!FileManager.default.fileExists(atPath: empty + "3"), "nothing is made where nothing was begun")
                expect(try await serve([:], "--colour", "red"), 64, "--colour")
                expect(try await serve([:], "--bootstrap", "--join", "127.0.0.1:9"), 64, "exclude")
                expect(try await serve(["--addr": "nonsense"]), 64, "host:port")
                expect(try await serve(["--election-timeout": "soon"]), 64, "soon")
                let unknown = try await ChildProcess.run(binary, ["sevre"])
                expect(unknown, 64, "sevre")

                #expect(await node.stop() == .exited(0))
                try NewerFormat.mark(node.directory)
                expect(try await serve(["--data": node.directory]), 65, "newer")
                try NewerFormat.mark(node.directory, version: 2)
                try node.start()
                try await eventually("the node serves again") { await node.isReady() }
            }
        }
    }
}
