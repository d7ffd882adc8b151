import Foundation
import KontikiClient
import Testing

extension EndToEndTests {
    @Suite("Commands that do much at once", .serialized) struct BigCommands {
        /// Small keys, as many as `count`.
        private func load(_ count: Int, prefix: String, _ cluster: Cluster) async throws {
            let file = cluster.directory + "/keys.tsv"
            let lines = (0..<count).map { "\(prefix)\($0)\tx\n" }.joined()
            try Data(lines.utf8).write(to: URL(fileURLWithPath: file))
            let endpoint = "http://" + cluster.nodes[0].endpoint
            let ended = try await ChildProcess.run(Binary.path(), ["import", "--endpoint", endpoint, file])
            #expect(ended.ending == .exited(0), "\(ended.output)")
        }

        private func terms(_ cluster: Cluster) async throws -> [UInt64] {
            var terms: [UInt64] = []
            for node in cluster.nodes { terms.append(try await node.client.status().term) }
            return terms
        }

        @Test(
            "Six clients that ask for a million keys in each transaction are refused, the leader stays, and others write on"
        )
        func transactions() async throws {
            try await Cluster.run { cluster in
                try await load(10_000, prefix: "a", cluster)
                let before = try await terms(cluster)
                let range = #"{"get":{"prefix":"a","limit":10000}}"#
                let body = #"{"success":["# + Array(repeating: range, count: 128).joined(separator: ",") + "]}"
                let leader = try await cluster.leader()
                let attackers = (0..<6).map { _ in
                    Task {
                        for _ in 0..<5 {
                            let headers = ["Content-Type: application/json"]
                            let answer = try await RawConnection.ask(
                                leader.httpPort,
                                "POST",
                                "/txn",
                                headers,
                                body: body
                            )
                            #expect(answer.hasPrefix("HTTP/1.1 413"), "\(answer.prefix(300))")
                            #expect(answer.contains("10,000 keys"))
                        }
                    }
                }
                for number in 0..<40 { try await cluster.client.put(Key("other"), Array("\(number)".utf8)) }
                for attacker in attackers { try await attacker.value }
                #expect(try await terms(cluster) == before)
                #expect(try await cluster.client.get("other")?.value == Array("39".utf8))
            }
        }

        @Test(
            "The delete of a large prefix, with leases beside it, holds up no leader; every node deletes it at once, also one that stops meanwhile"
        )
        func prefix() async throws {
            try await Cluster.run { cluster in
                try await load(12_000, prefix: "p/", cluster)
                let lease = try await cluster.client.grantLease(.seconds(600))
                for number in 0..<20 {
                    try await cluster.client.put(Key("p/leased/\(number)"), [1], lifetime: .lease(lease.id))
                }
                try await cluster.client.put("q", [1])
                let before = try await terms(cluster)
                let deletion = Task { try await cluster.client.delete(prefix: "p/") }
                let stopped = try await cluster.others(than: cluster.leader())[0]
                #expect(await stopped.stop() == .exited(0))
                #expect(try await deletion.value == 12_020)
                try stopped.start()
                try await cluster.allReady()
                #expect(try await terms(cluster) == before)
                for node in cluster.nodes {
                    let page = try await node.client.list(prefix: "", limit: 10)
                    #expect(page.items.map(\.key) == ["q"])
                }
                #expect(try await cluster.client.lease(lease.id)?.keys == [])
            }
        }
    }
}
