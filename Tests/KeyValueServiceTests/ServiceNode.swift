import Foundation
import KeyValue
import Logging
import NIOCore
import NIOPosix
import Raft
import RaftNode
import Synchronization

@testable import KeyValueService

struct NotReached: Error {}

/// Waits until `condition` holds; a test waits for what it needs, never for a time.
func eventually(_ condition: () async throws -> Bool) async throws {
    for _ in 0..<4_000 {
        if try await condition() { return }
        try await Task.sleep(for: .milliseconds(5))
    }
    throw NotReached()
}

/// A clock that a test sets.
final class HandClock: Sendable {
    private let value: Atomic<UInt64>

    init(_ milliseconds: UInt64 = 1_000_000) { value = Atomic(milliseconds) }

    var milliseconds: UInt64 { value.load(ordering: .relaxed) }
    var nanoseconds: UInt64 { milliseconds * 1_000_000 }

    func advance(_ milliseconds: UInt64) { value.add(milliseconds, ordering: .relaxed) }
}

/// A real node with the service on it.
final class ServiceNode: Sendable {
    let node: RaftNode<KeyValueMachine>
    let service: KeyValueNode
    let store: Store
    let clock: HandClock
    let loop: any EventLoop
    private let isStopped = Atomic(false)

    init(
        _ cluster: ServiceCluster,
        _ name: String,
        _ beginning: NodeOptions.Beginning,
        historyEvents: Int? = nil,
        _ adjust: (inout KeyValueNode.Options) -> Void
    ) async throws {
        let directory = cluster.root + "/" + name
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let clock = HandClock(UInt64.random(in: 1_000...1_000_000_000))
        var storeOptions = StoreOptions()
        if let historyEvents { storeOptions.historyEvents = historyEvents }
        let store = try Store.open(directory: directory + "/state", options: storeOptions)
        var options = NodeOptions(
            directory: directory,
            name: name,
            listenAddress: "127.0.0.1:0",
            snapshotSchema: "test",
            onFailure: { _ in }
        )
        options.beginning = beginning
        options.tickMilliseconds = 10
        // No test waits for an election here: who leads changes by a transfer only, however slow the machine is.
        options.core.electionTicks = 6_000
        let machine = KeyValueMachine(store: store, milliseconds: { clock.milliseconds }, onFailure: { _ in })
        node = try await RaftNode.start(
            options: options,
            machine: machine,
            raftLoop: cluster.group.next(),
            group: cluster.group,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        )
        var serviceOptions = KeyValueNode.Options()
        serviceOptions.defaultTimeout = .seconds(30)
        adjust(&serviceOptions)
        loop = cluster.group.next()
        service = KeyValueNode(
            node: node,
            eventLoop: loop,
            options: serviceOptions,
            nanoseconds: { clock.nanoseconds }
        )
        self.store = store
        self.clock = clock
    }

    func stop() async throws {
        guard !isStopped.exchange(true, ordering: .relaxed) else { return }
        service.close()
        // The last of a cluster has nobody to hand over to.
        await node.shutdown(patience: .milliseconds(200))
        try? store.close()
    }

    /// Puts a key, and answers the revision.
    @discardableResult
    func put(_ key: String, _ value: String = "") async throws -> UInt64 {
        let written = try await service.put(key: Array(key.utf8), value: ByteBuffer(string: value))
        guard let revision = written.outcome.revision else { throw NotReached() }
        return revision
    }
}

/// Nodes of one cluster, in temporary directories and on ports that the system chooses.
final class ServiceCluster: Sendable {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 3)
    let root = NSTemporaryDirectory() + "kontiki-service-\(UInt64.random(in: .min ... .max))"
    private let running = Mutex<[ServiceNode]>([])

    /// Has `body` run with the first node of a cluster, which leads.
    static func with(
        historyEvents: Int? = nil,
        _ adjust: (inout KeyValueNode.Options) -> Void = { _ in },
        _ body: (ServiceCluster, ServiceNode) async throws -> Void
    ) async throws {
        let cluster = ServiceCluster()
        try FileManager.default.createDirectory(atPath: cluster.root, withIntermediateDirectories: true)
        do {
            let first = try await cluster.start("node1", .bootstrap, historyEvents: historyEvents, adjust)
            try await eventually { first.node.machine.clock.now != nil }
            try await body(cluster, first)
        } catch {
            try await cluster.end()
            throw error
        }
        try await cluster.end()
    }

    func start(
        _ name: String,
        _ beginning: NodeOptions.Beginning,
        historyEvents: Int? = nil,
        _ adjust: (inout KeyValueNode.Options) -> Void = { _ in }
    ) async throws -> ServiceNode {
        let node = try await ServiceNode(self, name, beginning, historyEvents: historyEvents, adjust)
        running.withLock { $0.append(node) }
        return node
    }

    /// Two more, which are voters when this returns.
    func addTwo(to first: ServiceNode) async throws -> [ServiceNode] {
        var all = [first]
        for name in ["node2", "node3"] {
            all.append(try await start(name, .join([first.node.peerAddress], replacing: nil)))
        }
        let expected = all.count
        try await eventually { first.node.status.peers.filter(\.isVoter).count == expected }
        return all
    }

    private func end() async throws {
        for node in running.withLock({ $0 }).reversed() { try await node.stop() }
        try await group.shutdownGracefully()
        try FileManager.default.removeItem(atPath: root)
    }
}
