import Foundation
import KontikiClient
import Testing

extension EndToEndTests {
    @Suite("Full disks", .serialized) struct FullDisks {
        private static let smallBounds = [
            "--memtable-bytes", "64k", "--snapshot-log-bytes", "256k", "--trailing-log-bytes", "16k",
            "--request-timeout", "2s",
        ]

        @Test(
            "Where the state cannot grow, writes are refused once memory is full, reads go on, and room is enough to go on"
        )
        func flush() async throws {
            try await onSwitchedNode { node, load in
                try node.disk?.set(.none)
                let refusal = try await self.fill(node, load) { "full/flush/\($0)" }
                #expect(refusal.description.contains(node.directory + "/state"), "\(refusal)")
                try await self.expectFull(node, load)
                // Nothing that was acknowledged is lost when it ends now, with the state in memory only.
                await node.crash()
                try node.disk?.set(.plenty)
                try node.start()
                try await eventually("the node is back") { await node.isReady() }
                try await load.verify(node.client, "after a crash on a full disk")
                try node.disk?.set(.none)
                _ = try await self.fill(node, load) { "full/again/\($0)" }
                try await self.makeRoom(node, load)
            }
        }

        @Test(
            "Where no snapshot can be made, the log's reserve is kept, writes are refused, and room is enough to go on"
        )
        func snapshot() async throws {
            try await onSwitchedNode { node, load in
                // A few keys, overwritten: the state has free pages, and needs no room.
                for round in 0..<24 { try await load.put("full/snapshot/\(round % 4)", round, node.client) }
                try await eventually("a snapshot is taken") {
                    let status = await node.status()
                    return status.map { $0.snapshotIndex > 0 } ?? false
                }
                let snapshot = await node.status()?.snapshotIndex ?? 0
                try node.disk?.set(.none)
                let refusal = try await self.fill(node, load) { "full/snapshot/\($0 % 4)" }
                #expect(refusal.description.contains(node.directory), "\(refusal)")
                try await self.expectFull(node, load)
                try await self.makeRoom(node, load)
                try await eventually("a snapshot is taken") {
                    let status = await node.status()
                    return status.map { $0.snapshotIndex > snapshot } ?? false
                }
            }
        }

        @Test("Where the log cannot be written at all, what waits is neither acknowledged nor lost, and reads go on")
        func log() async throws {
            // No flush is to be under way: where a meta page has no room, a node can only end.
            try await onSwitchedNode(["--memtable-bytes", "8m"]) { node, load in
                try node.disk?.set(.notAByte)
                let stuck = await load.failure("full/log/0", 0, node.client)
                #expect(stuck?.outcome == .unknown, "\(stuck.debugDescription)")
                try await eventually("writes are refused") {
                    await load.failure("full/log/1", 1, node.client)?.code == .storageFull
                }
                try await self.expectFull(node, load)
                try await self.makeRoom(node, load)
            }
        }

        @Test("A leader with a full disk gives leadership to a node that has room, and writes go on")
        func givesWay() async throws {
            try await Cluster.run(areDisksSwitched: true, options: Self.smallBounds) { cluster in
                let load = FullDiskLoad()
                let leader = try await cluster.leader()
                try leader.disk?.set(.none)
                var number = 0
                try await eventually("another node leads", within: .seconds(60), every: .milliseconds(1)) {
                    number += 1
                    try? await load.put("full/way/\(number)", number, cluster.client)
                    guard number % 20 == 0 else { return false }
                    return try await cluster.leader() !== leader
                }
                // The full one may win an election on a busy machine; then it gives leadership away again.
                for more in 1...20 { try await load.put("full/after/\(more)", more, cluster.client, passesFull: true) }
                try leader.disk?.set(.plenty)
                try await cluster.allReady()
                for node in cluster.nodes { try await load.verify(node.client, "at \(node.name)") }
            }
        }

        // MARK: The pieces

        private func onSwitchedNode(
            _ options: [String] = [],
            _ body: (NodeProcess, FullDiskLoad) async throws -> Void
        ) async throws {
            try await Cluster.run(nodes: 1, areDisksSwitched: true, options: Self.smallBounds + options) { cluster in
                let (node, load) = (cluster.nodes[0], FullDiskLoad())
                for number in 1...5 { try await load.put("full/before/\(number)", number, node.client) }
                try await body(node, load)
                await node.crash()
                try node.start()
                try await eventually("the node is back") { await node.isReady() }
                try await load.verify(node.client, "after a restart")
            }
        }

        /// Writes until that is refused for lack of room.
        private func fill(
            _ node: NodeProcess,
            _ load: FullDiskLoad,
            _ key: (Int) -> String
        ) async throws -> ClientError {
            for number in 0..<3_000 {
                guard let failure = await load.failure(key(number), number, node.client) else { continue }
                // What took too long on a busy machine says nothing of the disk, nor does that a flush is behind.
                if FullDiskLoad.passing.contains(failure.code) {
                    try await Task.sleep(for: .milliseconds(20))
                    continue
                }
                #expect(failure.code == .storageFull && failure.outcome == .notExecuted, "\(failure)")
                return failure
            }
            throw SetupError("3,000 writes fit on a full disk")
        }

        private func expectFull(_ node: NodeProcess, _ load: FullDiskLoad) async throws {
            try await load.verify(node.client, "on a full disk")
            try await eventually("the status says so") {
                guard let status = await node.status() else { return false }
                return status.role == "leader" && status.storage.isFull && status.storage.refusesWrites
                    && status.storage.detail?.contains(node.directory) == true
            }
            try await eventually("it is not ready, and alive") {
                let ready = try await Self.get(node, "/readyz")
                let live = try await Self.get(node, "/livez")
                return ready.status == 503 && ready.body.contains("room") && live.status == 200
            }
            // Some tries later still one line tells of it.
            try await Task.sleep(for: .milliseconds(600))
            try await eventually("writes are refused still") {
                await load.failure("full/refused", 0, node.client)?.code == .storageFull
            }
        }

        private func makeRoom(_ node: NodeProcess, _ load: FullDiskLoad) async throws {
            let before = node.log.components(separatedBy: "there is no room").count
            try node.disk?.set(.plenty)
            try await eventually("writes are taken again") { await load.failure("full/then", 0, node.client) == nil }
            try await eventually("there is room") { await node.status()?.storage.isFull == false }
            #expect(node.log.components(separatedBy: "there is no room").count == before)
            for number in 0..<50 { try await load.put("full/with-room/\(number)", number, node.client) }
            try await load.verify(node.client, "with room again")
        }

        private static func get(_ node: NodeProcess, _ path: String) async throws -> (status: Int, body: String) {
            let url = try #require(URL(string: "http://\(node.endpoint)\(path)"))
            let (ending, output) = try await ChildProcess.run(
                "/usr/bin/env",
                ["curl", "-s", "-w", "\n%{http_code}", url.absoluteString]
            )
            #expect(ending == .exited(0), "\(output)")
            let lines = output.split(separator: "\n")
            return (lines.last.flatMap { Int($0) } ?? 0, lines.dropLast().joined(separator: "\n"))
        }
    }
}

/// One writer after another, who notes what each key must and may hold.
actor FullDiskLoad {
    /// What says nothing of the disk.
    static let passing: [ClientError.Code] = [.timedOut, .unavailable]

    private var acknowledged: [String: [UInt8]] = [:]
    /// Of unknown outcome since the last acknowledgement.
    private var possible: [String: [[UInt8]]] = [:]

    private static func value(_ key: String, _ number: Int) -> [UInt8] {
        Array("\(key) \(number) ".utf8) + [UInt8](repeating: 0x79, count: 20_000)
    }

    /// Writes; once more where it took too long, as it may on a busy machine or while a leader is elected.
    ///
    /// - Parameter passesFull: also where the node that was asked had no room, and did nothing.
    func put(_ key: String, _ number: Int, _ client: KontikiClient, passesFull: Bool = false) async throws {
        let deadline = ContinuousClock.now + .seconds(30)
        while let error = await failure(key, number, client) {
            let isFull = error.code == .storageFull && error.outcome == .notExecuted
            guard Self.passing.contains(error.code) || passesFull && isFull, ContinuousClock.now < deadline else {
                throw error
            }
        }
    }

    /// Why the write was not acknowledged; nil when it was.
    func failure(_ key: String, _ number: Int, _ client: KontikiClient) async -> ClientError? {
        let value = Self.value(key, number)
        do throws(ClientError) {
            try await client.put(Key(key), value)
            (acknowledged[key], possible[key]) = (value, nil)
            return nil
        } catch {
            if error.outcome != .notExecuted { possible[key, default: []].append(value) }
            return error
        }
    }

    func verify(_ client: KontikiClient, _ context: String) async throws {
        let found = try await Listing.all(client, prefix: "full/")
        for key in Set(acknowledged.keys).union(possible.keys).union(found.keys) {
            let allowed = possible[key, default: []].map(Optional.some) + [acknowledged[key]]
            #expect(allowed.contains(found[key]), "\(context): \(key) is lost or wrong")
        }
        let key = acknowledged.keys.sorted()[0]
        #expect(try await client.get(Key(key))?.value == acknowledged[key], "\(context): a strong read")
        #expect(
            try await client.get(Key(key), consistency: .stale)?.value == acknowledged[key],
            "\(context): a stale read"
        )
    }
}
