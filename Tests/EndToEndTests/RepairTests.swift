import Foundation
import KontikiClient
import Testing

extension EndToEndTests {
    @Suite("Damaged files and what is done about them") struct Repair {
        private static let smallBounds = [
            "--snapshot-log-bytes", "256k", "--trailing-log-bytes", "64k", "--memtable-bytes", "64k",
        ]

        /// Overwrites a part of a file, to its end where no number of bytes is given: which of its pages hold something is not known.
        private func damage(_ path: String, from offset: UInt64, bytes: Int? = nil) throws {
            let handle = try FileHandle(forUpdating: URL(fileURLWithPath: path))
            let end = try handle.seekToEnd()
            try handle.seek(toOffset: offset)
            try handle.write(contentsOf: Data(repeating: 0, count: bytes ?? Int(end - offset)))
            try handle.close()
        }

        private func damageLog(_ node: NodeProcess) throws {
            try damage(node.directory + "/log/data.mdb", from: 3 * 4096)
        }

        private func stateFile(_ node: NodeProcess) throws -> String {
            let state = node.directory + "/state"
            let names = try FileManager.default.contentsOfDirectory(atPath: state)
            let generation = try #require(names.first { $0.hasPrefix("state.") })
            return "\(state)/\(generation)/data.mdb"
        }

        private func check(_ node: NodeProcess, _ more: String...) async throws -> (ending: Ending, output: String) {
            try await ChildProcess.run(try Binary.path(), ["check", node.directory] + more)
        }

        @Test(
            "A node whose log is damaged refuses to start, and with --rejoin comes back as a new server with everything",
            .timeLimit(.minutes(4))
        )
        func rejoin() async throws {
            try await Cluster.run(options: Self.smallBounds) { cluster in
                try await Filling.write(cluster.client, prefix: "rejoin", keys: 500, times: 1_500, bytes: 600)
                let node = cluster.nodes[2]
                let others = cluster.nodes.dropLast().map(\.peerAddress).joined(separator: ",")
                let before = try await node.client.status()
                #expect(await node.stop() == .exited(0))
                let sound = try await check(node)
                #expect(sound.ending == .exited(0), "\(sound.output)")
                try damageLog(node)
                let found = try await check(node)
                #expect(found.ending == .exited(1), "\(found.output)")
                #expect(found.output.contains("--rejoin"), "\(found.output)")

                try node.start()
                #expect(await node.ending() == .exited(65))
                #expect(node.log.contains("kontiki check"))

                try node.start("--rejoin", others)
                try await eventually("the node is a voter again", within: .seconds(90)) {
                    guard await node.isReady() else { return false }
                    let members = try await cluster.client.members()
                    return members.count == 3 && members.allSatisfy { $0.suffrage == "voter" }
                }
                let after = try await node.client.status()
                #expect(after.clusterID == before.clusterID)
                #expect(after.serverID != before.serverID, "a wiped disk is a new server")
                let (here, there) = (
                    try await Listing.all(node.client, prefix: "rejoin/"),
                    try await Listing.all(cluster.nodes[0].client, prefix: "rejoin/")
                )
                #expect(here.count == 500 && here == there)

                // With data that is sound the option does nothing, so that it may stay on the command line.
                #expect(await node.stop() == .exited(0))
                try node.start("--rejoin", others)
                try await cluster.allReady()
                #expect(try await node.client.status().serverID == after.serverID)
                let kept = try FileManager.default.contentsOfDirectory(atPath: node.directory)
                #expect(kept.filter { $0.hasPrefix("damaged-") }.count == 1)
            }
        }

        @Test("A damaged state heals by itself, also on a single node", .timeLimit(.minutes(3)), arguments: [1, 3])
        func stateHeals(nodes: Int) async throws {
            try await Cluster.run(nodes: nodes, options: Self.smallBounds) { cluster in
                try await Filling.write(cluster.client, prefix: "heal", keys: 400, times: 1_500, bytes: 600)
                let node = cluster.nodes[nodes - 1]
                let expected = try await Listing.all(node.client, prefix: "heal/")
                #expect(await node.stop() == .exited(0))
                try damage(try stateFile(node), from: 2 * 4096)
                let found = try await check(node)
                #expect(found.ending == .exited(1), "\(found.output)")
                #expect(found.output.contains("start the node as always"), "\(found.output)")
                try node.start()
                try await eventually("the node serves again") { await node.isReady() }
                #expect(node.log.contains("built anew"))
                #expect(try await Listing.all(node.client, prefix: "heal/") == expected)
                #expect(expected.count == 400)
                #expect(await node.stop() == .exited(0))
                let healed = try await check(node)
                #expect(healed.ending == .exited(0), "\(healed.output)")
                #expect(healed.output.contains("set aside before"))
                try node.start()
                try await eventually("the node serves once more") { await node.isReady() }
            }
        }

        @Test(
            "A single node with a damaged log refuses, and what its state holds can be saved and imported",
            .timeLimit(.minutes(3))
        )
        func salvage() async throws {
            try await Cluster.run(nodes: 1, options: Self.smallBounds) { cluster in
                try await Filling.write(cluster.client, prefix: "salvage", keys: 300, times: 300, bytes: 600)
                let node = cluster.nodes[0]
                let expected = try await Listing.all(node.client, prefix: "salvage/")
                // In good order, so that the whole state is durable.
                #expect(await node.stop() == .exited(0))
                try damageLog(node)
                try node.start()
                #expect(await node.ending() == .exited(65))
                let file = cluster.directory + "/saved.ndjson"
                let found = try await check(node, "--salvage", file)
                #expect(found.ending == .exited(1), "\(found.output)")
                #expect(found.output.contains("--salvage"))
                let other = try await cluster.addNode("other")
                do {
                    try other.start("--bootstrap")
                    try await eventually("the new cluster serves") { await other.isReady() }
                    let imported = try await ChildProcess.run(
                        try Binary.path(),
                        ["import", "--endpoint", other.endpoint, file]
                    )
                    #expect(imported.ending == .exited(0), "\(imported.output)")
                    #expect(try await Listing.all(other.client, prefix: "salvage/") == expected)
                } catch {
                    await other.crash()
                    throw error
                }
                await other.crash()
                await other.client.shutdown()
            }
        }

        @Test("Reading all files again finds a damaged snapshot, and another one is taken", .timeLimit(.minutes(3)))
        func scrub() async throws {
            try await Cluster.run(nodes: 1, options: Self.smallBounds + ["--scrub-period", "1s"]) { cluster in
                let node = cluster.nodes[0]
                try await Filling.write(cluster.client, prefix: "scrub", keys: 400, times: 1_500, bytes: 600)
                try await eventually("there is a snapshot") { await node.status()?.snapshotIndex ?? 0 > 0 }
                let directory = node.directory + "/snapshots"
                let names = try FileManager.default.contentsOfDirectory(atPath: directory)
                var newest = try #require(names.filter { $0.hasSuffix(".snapshot") }.max())
                try? damage("\(directory)/\(newest)", from: 60_000, bytes: 100)
                try await eventually("the damaged one is set aside, and another is there", within: .seconds(120)) {
                    let now = try FileManager.default.contentsOfDirectory(atPath: directory)
                    // A newer one may have taken its place before it was read again.
                    if !now.contains(newest), !now.contains(newest + ".damaged"),
                        let newer = now.filter({ $0.hasSuffix(".snapshot") }).max()
                    {
                        newest = newer
                        try? damage("\(directory)/\(newest)", from: 60_000, bytes: 100)
                    }
                    // An older one does not reach the log.
                    let isReplaced = now.contains { $0.hasSuffix(".snapshot") && $0.prefix(16) >= newest.prefix(16) }
                    return now.contains(newest + ".damaged") && isReplaced
                }
                let passes = node.log.components(separatedBy: "nothing is damaged").count
                try await eventually("a whole pass finds nothing more", within: .seconds(60)) {
                    node.log.components(separatedBy: "nothing is damaged").count > passes + 1
                }
                // The state while it is in use: the node ends with a message, and the next start mends it.
                let expected = try await Listing.all(node.client, prefix: "scrub/")
                try damage(try stateFile(node), from: 2 * 4096, bytes: 512 << 10)
                #expect(await node.ending() != .exited(0))
                #expect(node.log.contains("the state") && node.log.contains("damaged"), "\(node.log.suffix(2000))")
                try node.start()
                try await eventually("the node serves again") { await node.isReady() }
                #expect(try await Listing.all(node.client, prefix: "scrub/") == expected)
            }
        }

        @Test("A crash says what may be the cause and what to do")
        func crashMessage() async throws {
            try await Cluster.run(nodes: 1) { cluster in
                let node = cluster.nodes[0]
                let ending = await node.end(by: SIGSEGV)
                #expect(ending == .signalled(SIGSEGV))
                #expect(node.log.contains("kontiki check \(node.directory)"))
            }
        }
    }
}
