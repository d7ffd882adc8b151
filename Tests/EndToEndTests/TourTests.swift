import Foundation
import KontikiClient
import Testing

extension EndToEndTests {
    @Suite("What a newcomer does") struct Tour {
        @Test(
            "Every package of this machine is imported, reads back from each node, strong and stale, and lists by prefix",
            .timeLimit(.minutes(5))
        )
        func realInput() async throws {
            try await Cluster.run { cluster in
                let binary = try Binary.path()
                let list = cluster.directory + "/packages.tsv"
                let query = try await ChildProcess.run(
                    "/usr/bin/dpkg-query",
                    ["-W", "-f=packages/${Package}\t${Version}\n"]
                )
                #expect(query.ending == .exited(0))
                try query.output.write(toFile: list, atomically: true, encoding: .utf8)
                var expected: [String: String] = [:]
                for line in query.output.split(separator: "\n") {
                    let parts = line.split(separator: "\t", maxSplits: 1, omittingEmptySubsequences: false)
                    expected[String(parts[0])] = String(parts[1])
                }
                #expect(expected.count > 50)

                let endpoints = ["KONTIKI_ENDPOINTS": cluster.nodes.map(\.endpoint).joined(separator: ",")]
                let imported = try await ChildProcess.run(binary, ["import", "-"], environment: endpoints, input: list)
                #expect(imported.ending == .exited(0), "\(imported.output)")
                let again = try await ChildProcess.run(binary, ["import", list], environment: endpoints)
                #expect(again.ending == .exited(0), "an import can be run again: \(again.output)")

                for node in cluster.nodes {
                    // A strong read first, so that the stale ones behind it find a state that is up to date.
                    for consistency in Consistency.allCases {
                        for (key, value) in expected {
                            let item = try await patiently {
                                try await node.client.get(
                                    Key(key),
                                    consistency: consistency,
                                    maximumStaleness: consistency == .bounded ? .seconds(10) : nil
                                )
                            }
                            #expect(item.map { String(decoding: $0.value, as: UTF8.self) } == value)
                        }
                    }
                    let listed = try await Listing.all(node.client, prefix: "packages/")
                    #expect(listed.mapValues { String(decoding: $0, as: UTF8.self) } == expected)
                    let output = try await ChildProcess.run(
                        binary,
                        ["list", "packages/", "--endpoint", node.endpoint],
                        environment: endpoints
                    )
                    #expect(
                        output.output.split(separator: "\n").map(String.init)
                            == expected.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
                    )
                }
                try await roundTrip(cluster, binary, endpoints)
            }
        }

        /// What is exported and imported under another prefix is the same again, bytes that are no text included.
        private func roundTrip(_ cluster: Cluster, _ binary: String, _ endpoints: [String: String]) async throws {
            let odd: [Key: [UInt8]] = [
                "odd/tab\tand\nline": Array("a\tb\nc\\d\r".utf8),
                Key(bytes: Array("odd/".utf8) + [0xFF, 0, 0x80]): [0, 255, 10],
                "odd//empty": [], "odd/../up": [1], "odd/ü %41?#&": Array("✓".utf8),
            ]
            for (key, value) in odd { try await cluster.client.put(key, value, contentType: "application/x-odd") }
            for name in ["odd.tsv", "odd.ndjson"] {
                let file = cluster.directory + "/" + name
                let exported = try await ChildProcess.run(
                    binary,
                    ["export", "--prefix", "odd/", file],
                    environment: endpoints
                )
                #expect(exported.ending == .exited(0), "\(exported.output)")
                let imported = try await ChildProcess.run(
                    binary,
                    ["import", "--prefix", "copy/", file],
                    environment: endpoints
                )
                #expect(imported.ending == .exited(0), "\(imported.output)")
                let copies = try await Listing.all(cluster.client, prefix: "copy/odd/")
                let expected = Dictionary(
                    uniqueKeysWithValues: odd.map { (Key(bytes: Array("copy/".utf8) + $0.bytes), $1) }
                )
                #expect(copies.count == expected.count)
                for (key, value) in expected { #expect(copies[key.description] == value, "\(key)") }
                for key in expected.keys { try await cluster.client.delete(key) }
            }
        }

        @Test(
            "The classic tour: write, read elsewhere, kill the leader, write and read on, and the killed one catches up",
            .timeLimit(.minutes(2))
        )
        func classicTour() async throws {
            try await Cluster.run { cluster in
                let leader = try await cluster.leader()
                let others = cluster.others(than: leader)
                try await curl(["-X", "PUT", "-d", "distributed", "http://\(leader.endpoint)/kv/hello"])
                #expect(try await curl(["http://\(others[0].endpoint)/kv/hello"]) == "distributed")
                await leader.crash()
                let clock = ContinuousClock()
                let start = clock.now
                // Mostly the first does; where a busy machine takes longer to elect, it is refused in the end.
                try await eventually("a write is acknowledged") {
                    let arguments = ["-X", "PUT", "-d", "still works", "http://\(others[0].endpoint)/kv/hello"]
                    return try await tryCurl(arguments).ending == .exited(0)
                }
                report("leader killed → first acknowledged write: \(clock.now - start)")
                try await eventually("the other one reads it") {
                    let arguments = ["http://\(others[1].endpoint)/kv/hello?consistency=strong"]
                    return try await tryCurl(arguments).output == "still works"
                }

                try leader.start()
                try await eventually("the killed node serves, and knows who leads") {
                    guard await leader.isReady() else { return false }
                    return await leader.status()?.leader != nil
                }
                for consistency in ["stale", "strong"] {
                    try await eventually("it reads what was written meanwhile") {
                        let arguments = ["http://\(leader.endpoint)/kv/hello?consistency=\(consistency)"]
                        return try await tryCurl(arguments).output == "still works"
                    }
                }
            }
        }

        @discardableResult
        private func curl(_ arguments: [String]) async throws -> String {
            let result = try await tryCurl(arguments)
            #expect(result.ending == .exited(0), "curl \(arguments.joined(separator: " ")): \(result.output)")
            return result.output
        }

        private func tryCurl(_ arguments: [String]) async throws -> (ending: Ending, output: String) {
            try await ChildProcess.run("/usr/bin/env", ["curl", "-sS", "--fail"] + arguments)
        }
    }
}

/// Complete listings.
enum Listing {
    /// All keys with a prefix, as text, with their values.
    static func all(_ client: KontikiClient, prefix: Key, revision: UInt64? = nil) async throws -> [String: [UInt8]] {
        var result: [String: [UInt8]] = [:]
        var cursor: String?
        repeat {
            // The cursor knows the revision.
            let page = try await patiently {
                try await client.list(
                    prefix: prefix,
                    limit: 500,
                    cursor: cursor,
                    revision: cursor == nil ? revision : nil
                )
            }
            for item in page.items { result[item.key.description] = item.value }
            cursor = page.cursor
        } while cursor != nil
        return result
    }
}
