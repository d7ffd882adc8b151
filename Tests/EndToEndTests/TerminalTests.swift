import Foundation
import KontikiClient
import Testing

extension EndToEndTests {
    @Suite("What others stored, shown on a terminal") struct Terminals {
        /// A clear screen, a title, C1's CSI as UTF-8 and alone, an override, an isolate, DEL, a line that is none.
        private static let hostile =
            Array("x\u{1B}[2J\u{1B}]0;title\u{07}\u{9B}31m\u{202E}\u{2066}\u{200F}\u{7F}\r\nforged".utf8)
        private static let notText: [UInt8] = [0x9B, 0x31, 0x6D, 0xFF, 0x1B, 0x5B]

        /// Where `bytes` hold what a terminal, or somebody who reads it, would take for more than text.
        private func commandsFound(in bytes: [UInt8]) -> [String] {
            var found: [String] = []
            for scalar in String(decoding: bytes, as: UTF8.self).unicodeScalars {
                switch scalar.value {
                case 0x0A, 0x09: break
                case 0..<0x20, 0x7F...0x9F, 0x61C, 0x200E...0x200F, 0x2028...0x202E, 0x2066...0x2069:
                    found.append(String(scalar.value, radix: 16))
                default: break
                }
            }
            if String(validating: bytes, as: UTF8.self) == nil { found.append("no UTF-8") }
            let lines = bytes.split(separator: 0x0A).map { String(decoding: $0, as: UTF8.self) }
            return found + lines.filter { $0.hasPrefix("forged") }.map { _ in "forged" }
        }

        private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

        private func run(_ endpoint: String, _ arguments: [String]) async throws -> (ending: Ending, bytes: [UInt8]) {
            try await Terminal.run(Binary.path(), arguments, environment: ["KONTIKI_ENDPOINTS": endpoint])
        }

        @Test("Keys, values and holders of locks command nothing, and nothing of them is lost with --raw")
        func stored() async throws {
            try await Cluster.run(nodes: 1) { cluster in
                let node = cluster.nodes[0]
                let key = Key(bytes: Self.hostile)
                try await node.client.put(key, Self.hostile, contentType: "text/plain")
                try await node.client.put(Key(bytes: Array("bytes".utf8)), Self.notText)
                let lease = try await node.client.grantLease(.seconds(3600))
                try await node.client.put(key, Self.hostile, lifetime: .lease(lease.id))
                let holder = String(decoding: Self.hostile, as: UTF8.self)
                _ = try await node.client.acquireLock("job", time: .seconds(3600), value: holder)
                let name = String(decoding: Self.hostile, as: UTF8.self)
                let commands = [
                    ["list"], ["list", "--values"], ["list", "--json"], ["list", "--delimiter", "2"], ["get", "bytes"],
                    ["get", "--json", name], ["get", "--json", "bytes"], ["get", "--verbose", name],
                    ["watch", "--prefix", "--since", "0", "--limit", "3"],
                    ["watch", "--prefix", "--since", "0", "--limit", "3", "--json"], ["lock", "job", "--show"],
                    ["lease", "show", lease.id.description], ["export", "--quiet", "-"],
                    ["export", "--quiet", "--format", "ndjson", "-"], ["status", "--json"], ["status"],
                ]
                for arguments in commands {
                    let shown = try await run(node.endpoint, arguments)
                    #expect(shown.ending == .exited(0), "\(arguments)")
                    // A value by itself has the lines that it has.
                    let found = commandsFound(in: shown.bytes).filter { arguments[0] != "get" || $0 != "forged" }
                    #expect(found.isEmpty, "\(arguments): \(found) in \(text(shown.bytes).debugDescription)")
                }
                for arguments in [["get", name], ["list"], ["list", "--values"], ["lock", "job", "--show"]] {
                    let raw = try await run(node.endpoint, arguments + ["--raw"])
                    #expect(text(raw.bytes).contains(name), "\(arguments)")
                }
                // No terminal: the very bytes of a value, and a key on its line.
                let value = try await ChildProcess.run(Binary.path(), ["get", name, "--endpoint", node.endpoint])
                #expect(value.output == name)
                let list = try await ChildProcess.run(Binary.path(), ["list", "--endpoint", node.endpoint])
                #expect(list.output.split(separator: "\n").count == 2, "\(list.output.debugDescription)")
            }
        }

        @Test("Names of members and what a node says of an error command nothing")
        func told() async throws {
            let text = #"x\u001b[2J\u001b]0;t\u0007\u009b31m\u202e\u007f\nforged"#
            let status = """
                {"id":"\(text)","server_id":"1","cluster_id":"\(text)","version":"1","role":"leader","term":1,\
                "leader":{"id":"\(text)","addr":"\(text)","http":"\(text)"},"first_index":1,"last_index":1,"commit_index":1,\
                "applied_index":1,"snapshot_index":0,"revision":1,"uptime":"1s","peers":[],\
                "storage":{"log_bytes":1,"keys":1,"content_bytes":1,"used_bytes":1,"file_bytes":1,\
                "available_disk_bytes":1,"reader_slots":1,"full":false,"refuses_writes":false}}
                """
            let members = """
                {"members":[{"id":"\(text)","server_id":"1","addr":"\(text)","http":"\(text)","suffrage":"voter",\
                "leader":true,"match_index":1,"last_contact_ms":1,"healthy":true}]}
                """
            let node = try await StandInNode { request, _ in
                switch request.target {
                case "/status": .answer(200, status)
                case "/members": .answer(200, members)
                default: .answer(400, #"{"title":"x","detail":"\#(text)","outcome":"not_executed"}"#)
                }
            }
            for arguments in [["status"], ["member", "list"], ["status", "--json"], ["get", "a"], ["export", "-"]] {
                let shown = try await run(node.endpoint, arguments)
                let found = commandsFound(in: shown.bytes)
                #expect(found.isEmpty, "\(arguments): \(found) in \(self.text(shown.bytes).debugDescription)")
                #expect(self.text(shown.bytes).contains("forged"), "\(arguments)")
            }
            await node.stop()
        }

        @Test("A line of a malformed import, and a node's log, command nothing")
        func reported() async throws {
            try await withTemporaryDirectory { directory in
                let file = directory + "/bad.ndjson"
                try Data("{\"key\":\"a\",\"\u{9B}31m\u{202E}\u{7F}\":\"v\"}\n".utf8).write(
                    to: URL(fileURLWithPath: file)
                )
                let shown = try await run("127.0.0.1:1", ["import", file, "--quiet"])
                #expect(shown.ending == .exited(65))
                #expect(commandsFound(in: shown.bytes).isEmpty, "\(shown.bytes)")
                let port = try Ports.next()
                for format in ["text", "json"] {
                    let node = try ChildProcess(
                        Binary.path(),
                        [
                            "serve", "--id", "n\u{1B}[2J\u{9B}31m\u{202E}", "--addr", "127.0.0.1:\(try Ports.next())",
                            "--http", "127.0.0.1:\(port)", "--data", directory + "/" + format, "--bootstrap",
                            "--log-format", format,
                        ],
                        output: directory + "/log-" + format
                    )
                    try await eventually("the node has told its name") { node.output.contains("31m") }
                    node.signal(SIGKILL)
                    await node.ending()
                    #expect(commandsFound(in: Array(node.output.utf8)).isEmpty, "\(node.output.debugDescription)")
                }
            }
        }
    }
}
