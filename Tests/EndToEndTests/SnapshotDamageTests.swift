import Foundation
import KontikiClient
import Logging
import NIOCore
import NIOPosix
import Raft
import RaftStorage
import RaftTransport
import Synchronization
import Testing

@testable import KeyValue

extension EndToEndTests {
    /// What becomes of snapshots that are of no use: at who sends them, at who is sent them, and at who must start with them.
    @Suite("Damaged snapshots") struct SnapshotDamage {
        private static let bounds = [
            "--snapshot-log-bytes", "256k", "--trailing-log-bytes", "16k", "--memtable-bytes", "128k",
            "--election-timeout", "2s",
        ]

        private func snapshots(_ node: NodeProcess) -> String { node.directory + "/snapshots" }

        private func names(_ node: NodeProcess, _ suffix: String) throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: snapshots(node)).filter { $0.hasSuffix(suffix) }
                .sorted()
        }

        @Test(
            "A leader whose snapshots are damaged sends them to nobody more than a few times: the follower comes back by a new one",
            .timeLimit(.minutes(4))
        )
        func damagedAtLeader() async throws {
            try await Cluster.run(options: Self.bounds) { cluster in
                let away = cluster.others(than: try await cluster.leader())[0]
                let others = cluster.others(than: away)
                let lastSeen = try await away.client.status().lastIndex
                await away.crash()
                try await Filling.write(cluster.client, prefix: "rot", keys: 800, times: 1_600, bytes: 1_000)
                try await cluster.logsBegin(behind: lastSeen, on: others)
                for node in others {
                    for name in try names(node, ".snapshot") { try flip("\(snapshots(node))/\(name)") }
                }
                try away.start()
                try await eventually("the follower serves", within: .seconds(120)) { await away.isReady() }
                let refused = away.log.components(separatedBy: "refused a snapshot").count - 1
                report("the follower refused \(refused) snapshots")
                // One that an own snapshot replaced meanwhile is not damaged any more.
                #expect(refused <= 4)
                #expect(try others.contains { try !names($0, ".damaged").isEmpty } == (refused > 0))
                let here = try await Listing.all(away.client, prefix: "rot/")
                #expect(try await here == Listing.all(others[0].client, prefix: "rot/"))
                #expect(here.count == 800)
                #expect(others.filter { !$0.isRunning }.isEmpty)
            }
        }

        /// Changes a bit in the middle of a file, which may have been removed meanwhile.
        private func flip(_ path: String) throws {
            guard let handle = try? FileHandle(forUpdating: URL(fileURLWithPath: path)) else { return }
            let middle = try handle.seekToEnd() / 2
            try handle.seek(toOffset: middle)
            let byte = try #require(try handle.read(upToCount: 1)?.first)
            try handle.seek(toOffset: middle)
            try handle.write(contentsOf: Data([byte ^ 1]))
            try handle.close()
        }

        @Test(
            "What a node cannot install it refuses, by its form or its content, and goes on with its log; two streams do not harm it",
            .timeLimit(.minutes(4))
        )
        func refusedByFollower() async throws {
            try await Cluster.run(options: Self.bounds) { cluster in
                let leader = try await cluster.leader()
                let (node, other) = (cluster.others(than: leader)[0], cluster.others(than: leader)[1])
                try await Filling.write(cluster.client, prefix: "odd", keys: 300, times: 900, bytes: 1_000)
                try await eventually("there is a snapshot") { try !names(node, ".snapshot").isEmpty }
                let forge = try Forge(of: node, in: cluster.directory + "/forge")
                let senders = (try await Sender(to: node, as: other), try await Sender(to: node, as: leader))
                do {
                    try await offer(forge, senders.0, node)
                    try await offerTwo(forge, senders.0, senders.1, node)
                } catch {
                    await senders.0.shutdown()
                    await senders.1.shutdown()
                    throw error
                }
                await senders.0.shutdown()
                await senders.1.shutdown()
                // It takes part as before, and starts again.
                try await cluster.client.put("odd/after", [1])
                #expect(await node.stop() == .exited(0))
                let found = try await ChildProcess.run(try Binary.path(), ["check", node.directory])
                #expect(found.ending == .exited(0), "\(found.output)")
                try node.start()
                try await cluster.allReady()
                #expect(try await Listing.all(node.client, prefix: "odd/").count == 301)
            }
        }

        private func offer(_ forge: Forge, _ sender: Sender, _ node: NodeProcess) async throws {
            let before = try await node.client.status()
            let foreign = try forge.make(beyond: before.lastIndex, schema: "kontiki-kv-99")
            #expect(await sender.send(foreign, of: forge)?.snapshotRefusal?.kind == .unknownFormat)
            #expect(sender.read.withLock { $0 } < Int(foreign.fileSize), "it is refused at its beginning")
            let unsound = try forge.make(beyond: before.lastIndex) { $0[$0.count / 2] ^= 1 }
            #expect(await sender.send(unsound, of: forge)?.snapshotRefusal?.kind == .damaged)
            let after = try await node.client.status()
            #expect(
                after.firstIndex <= before.lastIndex && after.lastIndex <= before.lastIndex + 10,
                "the log is as it was"
            )
            #expect(try names(node, ".incoming") == [])
            #expect(node.isRunning)
        }

        private func offerTwo(_ forge: Forge, _ sender: Sender, _ leader: Sender, _ node: NodeProcess) async throws {
            let last = try await node.client.status().lastIndex
            let (slow, quick) = (
                try forge.make(beyond: last + 1) { $0[$0.count / 2] ^= 1 },
                try forge.make(beyond: last + 2) { $0[$0.count / 3] ^= 1 }
            )
            async let ended = sender.send(slow, of: forge, bytesPerSecond: 20_000)
            try await eventually("the first is under way") { try !names(node, ".incoming").isEmpty }
            let outcome = await leader.send(quick, of: forge)
            #expect(outcome?.snapshotRefusal?.kind == .damaged, "it came to its end: \(outcome as Any)")
            let first = await ended
            #expect(first?.snapshotRefusal?.kind == .unavailable, "another takes its place: \(first as Any)")
            #expect(node.isRunning)
        }

        @Test(
            "A node whose log begins at a snapshot that cannot be installed says so, and comes back with --rejoin",
            .timeLimit(.minutes(4))
        )
        func uninstallableAtStart() async throws {
            try await Cluster.run(options: Self.bounds) { cluster in
                let node = cluster.others(than: try await cluster.leader())[0]
                let others = cluster.others(than: node).map(\.peerAddress).joined(separator: ",")
                try await Filling.write(cluster.client, prefix: "brick", keys: 300, times: 900, bytes: 1_000)
                try await eventually("there is a snapshot") { try !names(node, ".snapshot").isEmpty }
                let before = try await node.client.status().serverID
                #expect(await node.stop() == .exited(0))
                let forge = try Forge(of: node, in: cluster.directory + "/forge")
                let last = try forge.replaceLog(of: node)
                let found = try await ChildProcess.run(try Binary.path(), ["check", node.directory])
                #expect(found.ending == .exited(1), "\(found.output)")
                #expect(found.output.contains("--rejoin") && found.output.contains("\(last)"), "\(found.output)")
                try node.start()
                #expect(await node.ending() == .exited(65))
                #expect(node.log.contains("--rejoin"))
                try node.start("--rejoin", others)
                try await cluster.allReady()
                #expect(try await node.client.status().serverID != before)
                #expect(try await Listing.all(node.client, prefix: "brick/").count == 300)
            }
        }
    }
}

/// Makes snapshots like those of a node, but for what a test changes in them.
private struct Forge {
    let store: SnapshotStore
    private let header: SnapshotHeader
    private let payload: [UInt8]

    init(of node: NodeProcess, in directory: String) throws {
        // Copied: the node's own may be replaced at any time.
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let source = node.directory + "/snapshots"
        for name in try FileManager.default.contentsOfDirectory(atPath: source) where name.hasSuffix(".snapshot") {
            try? FileManager.default.copyItem(atPath: "\(source)/\(name)", toPath: "\(directory)/\(name)")
        }
        store = try SnapshotStore(directory: directory)
        let newest = try #require(try store.latest())
        let reader = try store.open(newest)
        header = reader.header
        var payload: [UInt8] = []
        while let piece = try reader.read() { payload += piece }
        self.payload = payload
    }

    /// A sound file with a changed payload, at a position that the log does not reach.
    func make(
        beyond index: UInt64,
        schema: String = Store.snapshotSchema,
        _ change: (inout [UInt8]) -> Void = { _ in }
    ) throws -> SnapshotDescriptor {
        var header = header
        header.position.index = index + 1_000_000
        header.schema = schema
        var payload = payload
        change(&payload)
        let writer = try store.begin(header)
        try writer.write(payload)
        return try writer.finish()
    }

    /// Leaves a node as one is that had its log replaced by a snapshot before it looked at what that holds; answers its index.
    func replaceLog(of node: NodeProcess) throws -> UInt64 {
        let (log, recovered) = try LogStore.open(directory: node.directory + "/log")
        let last = recovered.entries.last?.index ?? recovered.base.position.index
        let descriptor = try make(beyond: last) { $0[$0.count / 2] ^= 1 }
        try log.write([StorageWrite(sequence: 1, replaceLog: descriptor.base)])
        try log.close()
        let target = try SnapshotStore(directory: node.directory + "/snapshots")
        let incoming = try target.receive(descriptor, clusterID: .none)
        let reader = try store.open(descriptor)
        while !incoming.isComplete {
            try incoming.append(reader.rawChunk(offset: incoming.offset, maxBytes: 1 << 20), at: incoming.offset)
        }
        _ = try incoming.finish()
        return descriptor.position.index
    }
}

/// Speaks to a node's peer port in the name of another one.
private final class Sender: Sendable {
    private struct NoReceiver: SnapshotReceiver {
        func begin(_ offer: SnapshotOffer, from peer: ServerIdentity) throws -> SnapshotAdmission {
            .refused(SnapshotRefusal(.unavailable, "not here"))
        }
    }

    /// Up to where the snapshot that is sent has been read.
    let read = Mutex(0)
    private let transport: PeerTransport
    private let node: NodeProcess
    private let peer: ServerID

    init(to node: NodeProcess, as other: NodeProcess) async throws {
        self.node = node
        let group = MultiThreadedEventLoopGroup.singleton
        func identity(_ id: UInt64, _ cluster: ClusterID) -> ServerIdentity {
            ServerIdentity(
                serverID: ServerID(id),
                clusterID: cluster,
                name: "x",
                peerAddress: "127.0.0.1:1",
                clientAddress: ""
            )
        }
        let id = try #require(UInt64(try await other.client.status().serverID, radix: 16))
        let asked = try await PeerTransport.control(
            .identify,
            at: node.peerAddress,
            as: identity(id, .none),
            on: group,
            timeout: .seconds(10)
        )
        guard case .identity(let found) = asked else { throw SetupError("the node does not say who it is") }
        peer = found.serverID
        transport = PeerTransport(
            eventLoop: group.next(),
            group: group,
            identity: identity(id, found.clusterID),
            logger: Logger(label: "sender") { _ in SwiftLogNoOpLogHandler() },
            snapshotReceiver: NoReceiver(),
            blockingExecutor: { work in
                NIOThreadPool.singleton.submit { _ in work() }
                return true
            }
        )
    }

    /// Sends a snapshot to its end; nil when it was taken.
    func send(_ descriptor: SnapshotDescriptor, of forge: Forge, bytesPerSecond: Int? = nil) async -> TransportError? {
        let reader = Result { try forge.store.open(descriptor) }
        return await withCheckedContinuation { continuation in
            transport.sendSnapshot(
                SnapshotOffer(descriptor: descriptor.encode(), totalBytes: descriptor.fileSize),
                to: peer,
                at: node.peerAddress,
                bytesPerSecond: bytesPerSecond,
                read: { offset, count in
                    self.read.withLock { $0 = Int(offset) + count }
                    return try reader.get().rawChunk(offset: offset, maxBytes: min(count, 50_000))
                },
                completion: { result in
                    var failure: TransportError?
                    if case .failure(let error) = result { failure = error }
                    continuation.resume(returning: failure)
                }
            )
        }
    }

    func shutdown() async { await transport.shutdown() }
}
