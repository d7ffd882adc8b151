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
                let away = cluster.others(than: try await cluster.leader())[0]
                let others = cluster.others(than: away)
                let lastSeen = try await away.client.status().lastIndex
                await away.crash()
                // Some 6 MB: at the rate that was given, several seconds.
                try await Filling.write(cluster.client, prefix: "away", keys: 3_000, times: 3_000, bytes: 2_000)
                try await cluster.logsBegin(behind: lastSeen, on: others)
                try away.start()
                let resumed = try await killWhileReceiving(away)
                try await arrived(away, atLeast: resumed + 500_000)
                let sender = try await cluster.leader(among: others)
                let before = resumptions(away).count
                await sender.crash()
                try await eventually("the follower serves", within: .seconds(120)) { await away.isReady() }
                report("the receiver resumed at \(resumptions(away))")
                #expect(resumptions(away).count > before, "the next leader sent it: \(resumptions(away))")
                try sender.start()
                try await cluster.allReady()
                let (here, there) = (
                    try await Listing.all(sender.client, prefix: "away/"),
                    try await Listing.all(away.client, prefix: "away/")
                )
                #expect(here.count == 3_000 && here == there)
            }
        }

        /// Kills the receiver and starts it again until it is offered the file that it has a part of; returns the offset where it goes on.
        ///
        /// A leader that has taken another snapshot meanwhile offers that one, which begins at 0; the last one that it takes of what was
        /// written it goes on offering.
        private func killWhileReceiving(_ node: NodeProcess) async throws -> Int {
            for _ in 1...4 {
                let half = try await arrived(node, atLeast: 1_500_000)
                let begun = resumptions(node).count
                await node.crash()
                try node.start()
                try await eventually("the transfer goes on") { resumptions(node).count > begun }
                let resumed = try #require(resumptions(node).last)
                guard try await arrived(node, atLeast: resumed) == half else { continue }
                #expect(resumptions(node).first == 0)
                #expect(resumed >= 1_000_000, "the transfer began anew: \(resumptions(node))")
                return resumed
            }
            throw SetupError("each time another snapshot was offered: \(resumptions(node))")
        }

        /// Where the transfers to a node went on, each time one began.
        private func resumptions(_ node: NodeProcess) -> [Int] {
            node.log.split(separator: "\n").filter { $0.contains("receiving a snapshot") }.compactMap { line in
                line.firstRange(of: "resumed_at=").flatMap { Int(line[$0.upperBound...].prefix { $0.isNumber }) }
            }
        }

        /// Waits until a transfer has come so far; returns the name of its file, which tells the snapshot.
        @discardableResult private func arrived(_ node: NodeProcess, atLeast bytes: Int) async throws -> String {
            let directory = node.directory + "/snapshots"
            var found: String?
            try await eventually("\(bytes) bytes of a snapshot have come") {
                let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
                found = names.first { name in
                    let attributes = try? FileManager.default.attributesOfItem(atPath: directory + "/" + name)
                    return name.hasSuffix(".incoming") && (attributes?[.size] as? Int ?? 0) >= bytes
                }
                return found != nil
            }
            return try #require(found)
        }
    }
}
