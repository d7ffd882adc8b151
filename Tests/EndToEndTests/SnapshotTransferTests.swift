import Foundation
import KontikiClient
import Testing

extension EndToEndTests {
    @Suite("Transfers of snapshots") struct SnapshotTransfers {
        private static let bounds = [
            "--snapshot-log-bytes", "256k", "--trailing-log-bytes", "64k", "--memtable-bytes", "128k",
            // A test that is late by seconds must still find the transfer under way, and nobody else is to be elected meanwhile.
            "--snapshot-rate", "400k", "--election-timeout", "2s",
        ]

        @Test(
            "A receiver that is killed goes on where it was; when the sender is killed, the next leader sees to it",
            .timeLimit(.minutes(4))
        )
        func killedSides() async throws {
            try await Cluster.run(options: Self.bounds) { cluster in
                let leader = try await cluster.leader()
                let away = cluster.others(than: leader)[0]
                let lastSeen = try await away.client.status().lastIndex
                await away.crash()
                // Some 6 MB: at the rate that was given, several seconds.
                try await Filling.write(cluster.client, prefix: "away", keys: 3_000, times: 3_000, bytes: 2_000)
                try await eventually("the leader's log begins behind what the follower has") {
                    try await leader.client.status().firstIndex > lastSeen + 1
                }
                try away.start()
                try await arrived(away, atLeast: 1_500_000)
                let sent = await leader.status()
                await away.crash()
                try away.start()
                try await eventually("the transfer goes on") { resumptions(away).count >= 2 }
                let resumed = try #require(resumptions(away).last)
                #expect(resumptions(away).first == 0)
                // Another snapshot, or another leader's, has a past of its own and is another file: only the same one can be gone on with.
                let now = await leader.status()
                if now?.snapshotIndex == sent?.snapshotIndex, now?.term == sent?.term {
                    #expect(resumed >= 1_000_000, "the transfer began anew: \(resumptions(away))")
                }
                try await arrived(away, atLeast: resumed + 500_000)
                await leader.crash()
                try await eventually("the follower serves", within: .seconds(120)) { await away.isReady() }
                report("the receiver resumed at \(resumptions(away))")
                #expect(resumptions(away).count >= 3, "the next leader sent it: \(resumptions(away))")
                try leader.start()
                try await cluster.allReady()
                let (here, there) = (
                    try await Listing.all(leader.client, prefix: "away/"),
                    try await Listing.all(away.client, prefix: "away/")
                )
                #expect(here.count == 3_000 && here == there)
            }
        }

        /// Where the transfers to a node went on, each time one began.
        private func resumptions(_ node: NodeProcess) -> [Int] {
            node.log.split(separator: "\n").filter { $0.contains("receiving a snapshot") }.compactMap { line in
                line.firstRange(of: "resumed_at=").flatMap { Int(line[$0.upperBound...].prefix { $0.isNumber }) }
            }
        }

        private func arrived(_ node: NodeProcess, atLeast bytes: Int) async throws {
            let directory = node.directory + "/snapshots"
            try await eventually("\(bytes) bytes of a snapshot have come") {
                let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
                return names.contains { name in
                    let attributes = try? FileManager.default.attributesOfItem(atPath: directory + "/" + name)
                    return name.hasSuffix(".incoming") && (attributes?[.size] as? Int ?? 0) >= bytes
                }
            }
        }
    }
}
