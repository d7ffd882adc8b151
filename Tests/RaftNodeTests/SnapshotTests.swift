import Foundation
import NIOCore
import Raft
import RaftDriver
import RaftStorage
import RaftTransport
import Synchronization
import Testing

@testable import RaftNode

@Suite("Snapshots between nodes, and those that are of no use", .serialized)
struct SnapshotTests {
    private static let small: @Sendable (inout NodeOptions) -> Void = { options in
        options.driver.snapshotLogBytes = 2_000
        options.driver.snapshotGrowth = 0
        options.driver.trailingLogBytes = 500
        options.driver.flushBytes = 1_000
    }

    private func add(_ count: Int, on node: RaftNode<Counter>) async throws {
        for _ in 0..<count {
            // What is certainly not executed is tried again.
            try await eventually("an addition") {
                switch await node.propose(Counter.add(1)) {
                case .applied: true
                case .rejected: false
                case .unknown: throw NotReached()
                }
            }
        }
    }

    private func snapshots(_ cluster: CounterCluster, _ name: String) -> String { "\(cluster.root)/\(name)/snapshots" }

    private func files(_ directory: String, _ suffix: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: directory).filter { $0.hasSuffix(suffix) }.sorted()
    }

    /// Changes a byte in the middle of the newest snapshot, behind its header and before its trailer.
    private func damageNewest(_ directory: String) throws {
        let name = try #require(try files(directory, ".snapshot").last)
        let url = URL(fileURLWithPath: "\(directory)/\(name)")
        var bytes = try Data(contentsOf: url)
        // The trailer has 52 bytes, the payload 8.
        bytes[bytes.count - 56] ^= 1
        try bytes.write(to: url)
    }

    @Test("The sender of a damaged snapshot sets it aside, takes another one, and the follower catches up by that")
    func damagedAtSender() async throws {
        let cluster = try CounterCluster()
        let first = try await cluster.start("a", .bootstrap, Self.small)
        try await add(400, on: first)
        try await eventually("a trimmed log") { first.status.firstIndex > 100 && first.status.snapshotIndex > 100 }
        var others: [RaftNode<Counter>] = []
        // Another snapshot may just have been taken in the place of the damaged one; not again and again, since nothing is added.
        for name in ["b", "c", "d"] where try files(snapshots(cluster, "a"), ".damaged").isEmpty {
            try damageNewest(snapshots(cluster, "a"))
            let other = try await cluster.start(name, .join([first.peerAddress], replacing: nil), Self.small)
            try await eventually("the new one has everything") { other.machine.value == 400 }
            #expect(try files(snapshots(cluster, name), ".snapshot").count > 0)
            others.append(other)
        }
        #expect(try files(snapshots(cluster, "a"), ".damaged").count == 1)
        await cluster.stop(others + [first])
        try await cluster.remove()
        #expect(cluster.reportedFailures == [])
    }

    /// Puts snapshots, as sound as they may be, that are not what a counter can load in the place of the newest ones.
    private func spoil(newest count: Int, _ directory: String) throws {
        let store = try SnapshotStore(directory: directory)
        for descriptor in try store.list().prefix(count) {
            let header = try store.open(descriptor).header
            try store.setAside(descriptor)
            let writer = try store.begin(header)
            try writer.write([1, 2, 3])
            _ = try writer.finish()
        }
        for name in try files(directory, ".damaged") {
            try FileManager.default.removeItem(atPath: "\(directory)/\(name)")
        }
    }

    @Test(
        "At start a snapshot that cannot be loaded is set aside: an older one and the log do, or the node says what to do"
    )
    func unsoundAtStart() async throws {
        let cluster = try CounterCluster()
        let long: @Sendable (inout NodeOptions) -> Void = { options in
            Self.small(&options)
            // The log goes back beyond the older of the two snapshots.
            options.driver.trailingLogBytes = 6_000
        }
        var node = try await cluster.start("a", .bootstrap, long)
        try await add(600, on: node)
        let directory = snapshots(cluster, "a")
        try await eventually("a trimmed log and two snapshots") {
            try node.status.firstIndex > 100 && files(directory, ".snapshot").count == 2
        }
        await node.shutdown()
        try FileManager.default.removeItem(atPath: cluster.root + "/a/counter")
        try spoil(newest: 1, directory)
        node = try await cluster.start("a", .mustExist, long)
        try await eventually("all is there again") { node.machine.value == 600 }
        #expect(try files(directory, ".damaged").count == 1)
        await node.shutdown()

        try FileManager.default.removeItem(atPath: cluster.root + "/a/counter")
        try spoil(newest: 2, directory)
        let error = await #expect(throws: StartError.self) { _ = try await cluster.start("a", .mustExist, long) }
        #expect(error?.code == .damaged && error?.description.contains("--rejoin") == true, "\(error as Any)")
        #expect(try files(directory, ".snapshot") == [])
        #expect(cluster.reportedFailures == [])
        try await cluster.remove()
    }

    @Test("Queues that are always full hold nothing up: flushes, snapshots and transfers go on")
    func fullQueues() async throws {
        let cluster = try CounterCluster()
        let narrow: @Sendable (inout NodeOptions) -> Void = { options in
            Self.small(&options)
            options.driver.flushTicks = 1
            (options.queues.background, options.queues.reader, options.queues.streams) = (1, 1, 1)
            // Contends for the thread of flushes and snapshots without an end.
            options.scrubPeriodMilliseconds = 1
        }
        let first = try await cluster.start("a", .bootstrap, narrow)
        for _ in 0..<4 {
            let before = first.status.snapshotIndex
            try await add(150, on: first)
            try await eventually("another snapshot") { first.status.snapshotIndex > before + 100 }
        }
        let second = try await cluster.start("b", .join([first.peerAddress], replacing: nil), narrow)
        try await eventually("the new one has everything") { second.machine.value == 600 }
        await cluster.stop([second, first])
        try await cluster.remove()
        #expect(cluster.reportedFailures == [])
    }
}

@Suite("One snapshot comes in at a time")
struct SnapshotInboxTests {
    private final class World: Sendable {
        let root = NSTemporaryDirectory() + "kontiki-inbox-\(UInt64.random(in: .min ... .max))"
        let leader = Mutex<ServerID?>(nil)
        let arrived = Mutex<[ServerID]>([])
        let failures = Mutex<[StorageError]>([])
        let source: SnapshotStore
        let target: SnapshotStore
        let store: LogStore
        let cluster = ClusterID(7)

        init() throws {
            for name in ["", "/source", "/target"] {
                try FileManager.default.createDirectory(atPath: root + name, withIntermediateDirectories: true)
            }
            source = try SnapshotStore(directory: root + "/source")
            let contents = SnapshotContents(of: Counter.self, schema: "counter-1")
            target = try SnapshotStore(directory: root + "/target", contents: contents)
            var identity = Identity.new(name: "a", peerAddress: "a:1", clientAddress: "")
            identity.clusterID = cluster
            try LogStore.create(
                directory: root + "/log",
                identity: identity,
                base: LogBase(),
                options: LogStore.Options()
            )
            store = try LogStore.open(directory: root + "/log").0
        }

        func inbox() -> SnapshotInbox {
            SnapshotInbox(
                snapshots: target,
                store: store,
                leader: { self.leader.withLock { $0 } },
                arrived: { _, peer in self.arrived.withLock { $0.append(peer) } },
                failed: { error in self.failures.withLock { $0.append(error) } }
            )
        }

        func snapshot(_ index: LogIndex, _ payload: [UInt8], schema: String = "counter-1") throws -> SnapshotDescriptor
        {
            let header = SnapshotHeader(
                clusterID: cluster,
                position: LogPosition(index: index, term: 1),
                configuration: .empty,
                schema: schema
            )
            let writer = try source.begin(header)
            try writer.write(payload)
            return try writer.finish()
        }

        func offer(
            _ descriptor: SnapshotDescriptor,
            by peer: UInt64,
            to inbox: SnapshotInbox
        ) throws -> SnapshotAdmission {
            let offer = SnapshotOffer(descriptor: descriptor.encode(), totalBytes: descriptor.fileSize)
            let sender = ServerIdentity(
                serverID: ServerID(peer),
                clusterID: cluster,
                name: "\(peer)",
                peerAddress: "",
                clientAddress: ""
            )
            return try inbox.begin(offer, from: sender)
        }

        /// Takes a stream that is admitted.
        func begin(
            _ descriptor: SnapshotDescriptor,
            by peer: UInt64,
            to inbox: SnapshotInbox
        ) throws -> any SnapshotSink {
            guard case .accepted(let sink, _) = try offer(descriptor, by: peer, to: inbox) else { throw NotReached() }
            return sink
        }

        func bytes(_ descriptor: SnapshotDescriptor) throws -> [UInt8] {
            try source.open(descriptor).rawChunk(offset: 0, maxBytes: Int(descriptor.fileSize))
        }

        func remove() throws {
            try store.close()
            try FileManager.default.removeItem(atPath: root)
        }
    }

    private let value = [UInt8](repeating: 3, count: 8)

    @Test("A newer stream takes the place of the older, which hears of it; both may be of the same snapshot")
    func newerWins() throws {
        let world = try World()
        let (old, new) = (try world.snapshot(5, value), try world.snapshot(9, value))
        for second in [new, old] {
            let inbox = world.inbox()
            let first = try world.begin(old, by: 1, to: inbox)
            try first.write(Array(world.bytes(old).prefix(40)), at: 0)
            let other = try world.begin(second, by: 2, to: inbox)
            #expect(throws: SnapshotRefusal.self) { try first.write([1], at: 40) }
            first.abandon()
            try other.write(world.bytes(second), at: 0)
            #expect(try other.finish() == .accepted)
            #expect(throws: SnapshotRefusal.self) { try first.finish() }
        }
        #expect(try world.target.list() == [new, old])
        #expect(world.arrived.withLock { $0 } == [ServerID(2), ServerID(2)])
        #expect(world.failures.withLock { $0 } == [])
        try world.remove()
    }

    @Test("The stream of who leads is not given up for another's; one that has ended is in nobody's way")
    func leaderStays() throws {
        let world = try World()
        let (old, new) = (try world.snapshot(5, value), try world.snapshot(9, value))
        let inbox = world.inbox()
        world.leader.withLock { $0 = ServerID(1) }
        let first = try world.begin(old, by: 1, to: inbox)
        guard case .refused(let refusal) = try world.offer(new, by: 2, to: inbox) else { throw NotReached() }
        #expect(refusal.kind == .unavailable)
        try first.write(world.bytes(old), at: 0)
        // Its own next one does take its place, and another leader's.
        let again = try world.begin(old, by: 1, to: inbox)
        #expect(throws: SnapshotRefusal.self) { _ = try first.finish() }
        again.abandon()
        let other = try world.begin(new, by: 2, to: inbox)
        world.leader.withLock { $0 = ServerID(3) }
        _ = try world.begin(new, by: 3, to: inbox)
        #expect(throws: SnapshotRefusal.self) { try other.write(world.bytes(new), at: 0) }
        #expect(world.failures.withLock { $0 } == [])
        try world.remove()
    }

    @Test("What cannot be loaded is refused before anybody hears of it: by its form at once, by its content at the end")
    func refusals() throws {
        let world = try World()
        let inbox = world.inbox()
        let foreign = try world.snapshot(5, value, schema: "counter-2")
        let sink = try world.begin(foreign, by: 1, to: inbox)
        let early = #expect(throws: SnapshotRefusal.self) {
            try sink.write(Array(world.bytes(foreign).dropLast(30)), at: 0)
        }
        #expect(early?.kind == .unknownFormat)
        #expect(early?.reason.contains("counter-2") == true)
        let unsound = try world.snapshot(6, [1, 2, 3])
        let other = try world.begin(unsound, by: 1, to: inbox)
        try other.write(world.bytes(unsound), at: 0)
        #expect(#expect(throws: SnapshotRefusal.self) { try other.finish() }?.kind == .damaged)
        #expect(try FileManager.default.contentsOfDirectory(atPath: world.root + "/target") == [])
        #expect(world.arrived.withLock { $0 } == [])
        #expect(world.failures.withLock { $0 } == [])
        try world.remove()
    }

    @Test("One that had come whole before is looked at again before it counts; damaged since, it comes anew")
    func cameBefore() throws {
        let world = try World()
        let inbox = world.inbox()
        let descriptor = try world.snapshot(5, value)
        let first = try world.begin(descriptor, by: 1, to: inbox)
        try first.write(world.bytes(descriptor), at: 0)
        _ = try first.finish()
        guard case .accepted(let known, let offset) = try world.offer(descriptor, by: 1, to: inbox) else {
            throw NotReached()
        }
        #expect(offset == descriptor.fileSize)
        #expect(try known.finish() == .accepted)
        let name = try #require(try FileManager.default.contentsOfDirectory(atPath: world.root + "/target").first)
        let url = URL(fileURLWithPath: "\(world.root)/target/\(name)")
        var bytes = try Data(contentsOf: url)
        bytes[bytes.count - 56] ^= 1
        try bytes.write(to: url)
        guard case .accepted(let anew, let start) = try world.offer(descriptor, by: 1, to: inbox) else {
            throw NotReached()
        }
        #expect(start == 0)
        try anew.write(world.bytes(descriptor), at: 0)
        #expect(try anew.finish() == .accepted)
        #expect(world.arrived.withLock { $0.count } == 3)
        try world.remove()
    }
}
