import Foundation
import KontikiClient
import Testing

extension EndToEndTests {
    @Suite("Compaction, snapshots and members") struct Compaction {
        private static let smallBounds = [
            "--snapshot-log-bytes", "256k", "--trailing-log-bytes", "64k", "--memtable-bytes", "128k",
            "--history-bytes", "256k",
        ]

        @Test("With a small bound the log stays bounded under load", .timeLimit(.minutes(3)))
        func boundedLog() async throws {
            try await Cluster.run(options: Self.smallBounds) { cluster in
                // Few keys, so that the state stays small and only the log could grow: some 20 MB pass through it.
                try await Filling.write(cluster.client, prefix: "bounded", keys: 16, times: 10_000, bytes: 2_000)
                for node in cluster.nodes {
                    try await eventually("the log of \(node.name) is trimmed") {
                        guard let status = await node.status() else { return false }
                        return status.snapshotIndex > 0 && status.lastIndex < status.firstIndex + 1_500
                    }
                    try await eventually("old snapshots of \(node.name) are removed") {
                        try FileManager.default.subpathsOfDirectory(atPath: node.directory + "/snapshots").count <= 4
                    }
                }
                let values = try await Listing.all(cluster.client, prefix: "bounded/")
                #expect(values.count == 16)
            }
        }

        @Test(
            "A follower that was away for longer than the log reaches back catches up from a snapshot, also over a line that breaks again and again",
            .timeLimit(.minutes(5))
        )
        func catchUpFromSnapshot() async throws {
            try await Cluster.run(proxied: true, options: Self.smallBounds) { cluster in
                let network = try #require(cluster.network)
                let leader = try await cluster.leader()
                let away = cluster.others(than: leader)[0]
                let lastSeen = try await away.client.status().lastIndex
                await away.crash()
                // Some 10 MB of state; the log keeps much less.
                try await Filling.write(cluster.client, prefix: "away", keys: 5_000, times: 5_000, bytes: 2_000)
                try await cluster.logsBegin(behind: lastSeen, on: [leader])
                // No connection carries more than a part of the snapshot, which may have been taken when half of the state was written: only a
                // transfer that is resumed ever ends.
                network.limitBytes(to: away.name, 3 << 19)
                try away.start()
                try await eventually("the follower serves", within: .seconds(120)) { await away.isReady() }
                #expect(network.cuts >= 2, "the transfer was interrupted")
                network.limitBytes(to: away.name, nil)
                let (here, there) = (
                    try await Listing.all(leader.client, prefix: "away/"),
                    try await Listing.all(away.client, prefix: "away/")
                )
                #expect(here.count == 5_000 && here == there)
                #expect(try await away.client.status().snapshotIndex > lastSeen)
            }
        }

        @Test(
            "A fourth node joins, a dead one is replaced in one operation, and a removed one leaves quietly",
            .timeLimit(.minutes(4))
        )
        func members() async throws {
            try await Cluster.run(options: Self.smallBounds + ["--election-timeout", "2s"]) { cluster in
                try await Filling.write(cluster.client, prefix: "members", keys: 1_000, times: 1_500, bytes: 500)
                let (fourth, fifth) = (try await cluster.addNode("node4"), try await cluster.addNode("node5"))
                do {
                    try await joinAndReplace(cluster, fourth, fifth)
                } catch {
                    report(fourth.log)
                    report(fifth.log)
                    for node in [fourth, fifth] { await node.crash() }
                    throw error
                }
                for node in [fourth, fifth] {
                    await node.crash()
                    await node.client.shutdown()
                }
            }
        }

        private func joinAndReplace(_ cluster: Cluster, _ fourth: NodeProcess, _ fifth: NodeProcess) async throws {
            let peers = cluster.nodes.map(\.peerAddress).joined(separator: ",")
            try fourth.start("--join", peers)
            try await eventually("the fourth node is a voter", within: .seconds(60)) {
                try await cluster.client.members().contains { $0.id == "node4" && $0.suffrage == "voter" }
            }
            try await eventually("the fourth node serves") { await fourth.isReady() }
            #expect(try await Listing.all(fourth.client, prefix: "members/").count == 1_000)

            // A dead follower, and one new node in its place: the old one leaves and the new one becomes a voter in one change.
            let leader = try await cluster.leader(among: cluster.nodes + [fourth])
            let dead = cluster.others(than: leader)[0]
            await dead.crash()
            try fifth.start("--join", peers, "--replace", dead.name)
            try await eventually("the fifth node has the place of \(dead.name)", within: .seconds(60)) {
                let members = try await cluster.client.members()
                return members.count == 4 && !members.contains { $0.id == dead.name }
                    && members.contains { $0.id == "node5" && $0.suffrage == "voter" }
            }
            try await eventually("the fifth node serves") { await fifth.isReady() }
            #expect(try await Listing.all(fifth.client, prefix: "members/").count == 1_000)
            try await removeQuietly(fourth, cluster, members: cluster.nodes + [fourth, fifth])
        }

        /// The removed node's process goes on for a while, and must not disturb the others.
        private func removeQuietly(_ node: NodeProcess, _ cluster: Cluster, members: [NodeProcess]) async throws {
            // Where the leader changes meanwhile, the first try may say that its outcome is unknown.
            var (isDone, said) = (false, "")
            for _ in 0..<3 where !isDone {
                let result = try await ChildProcess.run(
                    Binary.path(),
                    ["member", "remove", node.name, "--endpoint", try await cluster.leader(among: members).endpoint]
                )
                said += result.output
                isDone = result.ending == .exited(0)
                if !isDone { isDone = (try? await !cluster.client.members().map(\.id).contains(node.name)) ?? false }
            }
            #expect(isDone, "\(said)")
            // The client asks any node, which answers with what it knows.
            try await eventually("the others know that \(node.name) is gone") {
                try await cluster.client.members().map(\.id).contains(node.name) == false
            }
            // On a busy machine the others may elect by themselves, but not again and again.
            var isQuiet = false
            for _ in 0..<4 where !isQuiet { isQuiet = await keepsTerm(try await cluster.leader(among: members)) }
            #expect(isQuiet, "the removed node makes the others elect")
            #expect(await node.status()?.role != "leader")
            #expect(
                try await cluster.client.members().map(\.id).contains(node.name) == false,
                "it took itself in again"
            )
        }

        /// Whether no other term begins for longer than several election timeouts, while writes succeed.
        private func keepsTerm(_ leader: NodeProcess) async -> Bool {
            guard let term = await leader.status()?.term else { return false }
            let end = ContinuousClock.now + .seconds(7)
            while ContinuousClock.now < end {
                guard (try? await leader.client.put("members/after", Array("\(term)".utf8))) != nil,
                    await leader.status()?.term == term
                else { return false }
            }
            return true
        }
    }
}

/// Fills a cluster with data.
enum Filling {
    /// Writes `times` values of some bytes to `keys` keys in turn, many at a time. A write of unknown outcome, as one may be when the
    /// leader changes on a busy machine, is written once more.
    static func write(_ client: KontikiClient, prefix: String, keys: Int, times: Int, bytes: Int) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<times {
                if number >= 64 { try await group.next() }
                group.addTask {
                    let value = "\(number) " + String(repeating: "v", count: bytes)
                    let key = Key("\(prefix)/\(number % keys)")
                    for _ in 0..<5 {
                        do throws(ClientError) {
                            try await client.put(key, Array(value.utf8))
                            return
                        } catch {
                            guard error.outcome == .unknown else { throw error }
                        }
                    }
                    throw SetupError("five writes of \(key) in a row had an unknown outcome")
                }
            }
            try await group.waitForAll()
        }
    }
}
