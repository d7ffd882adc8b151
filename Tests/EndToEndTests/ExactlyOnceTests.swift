import Foundation
import KontikiClient
import Testing

extension EndToEndTests {
    @Suite("Exactly once") struct ExactlyOnce {
        @Test("curl --retry with an idempotency key, leaders killed in between: every increment counts once")
        func increments() async throws {
            let count = 1_000
            try await Cluster.run(options: ["--request-timeout", "2s"]) { cluster in
                // Asked is one node after the other, and every node is killed while it leads.
                var kills = 0
                for number in 1...count {
                    if number % (count / 4) == count / 8 {
                        let leader = try await cluster.leader()
                        await leader.crash()
                        kills += 1
                        try await increment(number, at: cluster.others(than: leader)[0])
                        try leader.start()
                    } else {
                        try await increment(number, at: cluster.nodes[number % 3])
                    }
                }
                #expect(kills == 4)
                let item = try await cluster.client.get("counter")
                #expect(item.map { String(decoding: $0.value, as: UTF8.self) } == "\(count)")
                #expect(item?.version == UInt64(count))
            }
        }

        /// What a careful shell script does: it goes on trying until there is an answer, whatever became of the attempts before.
        private func increment(_ number: Int, at node: NodeProcess) async throws {
            let curl = try await ChildProcess.run(
                "/usr/bin/curl",
                [
                    "-sS", "--fail-with-body", "--retry", "100", "--retry-all-errors", "--retry-delay", "0",
                    "--retry-max-time", "120", "-X", "POST", "-H", "Idempotency-Key: run-\(number)",
                    node.endpoint + "/kv/counter?op=incr&by=1",
                ]
            )
            #expect(curl.ending == .exited(0), "increment \(number): \(curl.output)")
        }

        @Test(
            "The same key gives the first answer again, at any node, after a change of leader and a restart of all; for another request it is refused"
        )
        func replay() async throws {
            try await Cluster.run { cluster in
                let first = try await post(cluster.nodes[0], "a", by: 5)
                #expect(first.status == 200 && first.body.contains(#""value":5"#), "\(first)")
                try await cluster.makeLead(cluster.others(than: cluster.leader())[0])
                for node in cluster.nodes {
                    let again = try await post(node, "a", by: 5)
                    #expect(again.body == first.body, "\(node.name): \(again)")
                    #expect(again.headers.lowercased().contains("kontiki-replayed: true"), "\(again.headers)")
                }
                for node in cluster.nodes { await node.crash() }
                for node in cluster.nodes { try node.start() }
                try await cluster.allReady()
                #expect(try await post(cluster.nodes[2], "a", by: 5).body == first.body)
                let other = try await post(cluster.nodes[1], "a", by: 6)
                #expect(other.status == 422 && other.body.contains(#""outcome":"not_executed""#), "\(other)")
                #expect(
                    try await cluster.client.get("counter").map { String(decoding: $0.value, as: UTF8.self) } == "5"
                )
            }
        }

        @Test("What one attempt leaves in doubt stays in doubt, when the next ones come to nothing")
        func doubt() async throws {
            // A node that goes while it is asked; and then nobody listens any more.
            let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = inet_addr("127.0.0.1")
            address.sin_port = in_port_t(try Ports.next()).bigEndian
            let bound = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(listener, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            try #require(bound == 0 && listen(listener, 1) == 0)
            Thread.detachNewThread {
                let connection = accept(listener, nil, nil)
                close(listener)
                var bytes = [UInt8](repeating: 0, count: 4096)
                _ = read(connection, &bytes, bytes.count)
                close(connection)
            }
            var options = KontikiClient.Options()
            options.totalTimeout = .seconds(2)
            let port = Int(in_port_t(bigEndian: address.sin_port))
            let client = try KontikiClient(endpoints: ["127.0.0.1:\(port)"], options: options)
            do throws(ClientError) {
                try await client.put("a", [1])
                Issue.record("nobody can have answered")
            } catch {
                #expect(error.outcome == .unknown, "\(error)")
            }
            await client.shutdown()
        }

        /// Asks again while nobody leads and while the outcome is unknown, as it is when the leader changes: that is what the key is for.
        private func post(_ node: NodeProcess, _ key: String, by amount: Int) async throws -> CurlAnswer {
            var answer: CurlAnswer?
            try await eventually("\(node.name) answers") {
                let said = try await CurlAnswer.get([
                    "-X", "POST", "-H", "Idempotency-Key: \(key)", node.endpoint + "/kv/counter?op=incr&by=\(amount)",
                ])
                answer = said
                return ![503, 504].contains(said.status)
            }
            return try #require(answer)
        }
    }
}

/// An answer as curl prints it.
struct CurlAnswer: CustomStringConvertible {
    var status: Int
    var headers: String
    var body: String

    var description: String { "\(status) \(headers)\n\(body)" }

    static func get(_ arguments: [String]) async throws -> CurlAnswer {
        let curl = try await ChildProcess.run("/usr/bin/curl", ["-sS", "-i", "--max-time", "60"] + arguments)
        guard curl.ending == .exited(0) else { throw SetupError("curl: \(curl.ending) \(curl.output)") }
        let parts = curl.output.components(separatedBy: "\r\n\r\n")
        let status = parts[0].split(separator: " ").dropFirst().first.flatMap { Int($0) }
        return CurlAnswer(status: status ?? 0, headers: parts[0], body: parts.dropFirst().joined(separator: "\r\n\r\n"))
    }
}
