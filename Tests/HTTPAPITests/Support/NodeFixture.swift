import Foundation
import KeyValue
import KeyValueService
import Logging
import NIOCore
import NIOPosix
import Raft
import RaftNode
import ServiceLifecycle
import Synchronization

@testable import HTTPAPI

struct NotReached: Error {}

/// Waits until `condition` holds; a test waits for what it needs, never for a time.
func eventually(_ condition: () async throws -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(60)
    while try await !condition() {
        guard ContinuousClock.now < deadline else { throw NotReached() }
        try await Task.sleep(for: .milliseconds(5))
    }
}

/// A real node of a cluster of one, and servers of its API.
final class NodeFixture: Sendable {
    let directory: String
    let group: MultiThreadedEventLoopGroup
    let node: RaftNode<KeyValueMachine>
    let service: KeyValueNode
    let store: Store
    let failures = Mutex<[String]>([])

    static let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    init(
        name: String = "node1",
        _ beginning: NodeOptions.Beginning = .bootstrap,
        tickMilliseconds: Int = 5,
        historyEvents: Int? = nil,
        _ adjust: (inout KeyValueNode.Options) -> Void = { _ in }
    ) async throws {
        let directory = NSTemporaryDirectory() + "kontiki-http-\(UInt64.random(in: .min ... .max))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        self.directory = directory
        group = MultiThreadedEventLoopGroup(numberOfThreads: 3)
        var storeOptions = StoreOptions()
        if let historyEvents { storeOptions.historyEvents = historyEvents }
        store = try Store.open(directory: directory + "/state", options: storeOptions)
        var options = NodeOptions(
            directory: directory,
            name: name,
            listenAddress: "127.0.0.1:0",
            clientAddress: "127.0.0.1:1",
            snapshotSchema: "test",
            onFailure: { _ in }
        )
        options.beginning = beginning
        options.tickMilliseconds = tickMilliseconds
        let machine = KeyValueMachine(store: store, onFailure: { _ in })
        node = try await RaftNode.start(
            options: options,
            machine: machine,
            raftLoop: group.next(),
            group: group,
            logger: Self.quiet
        )
        var serviceOptions = KeyValueNode.Options()
        // What a slow disk takes is not what is tested.
        serviceOptions.defaultTimeout = .seconds(60)
        adjust(&serviceOptions)
        service = KeyValueNode(node: node, eventLoop: group.next(), options: serviceOptions)
        guard case .bootstrap = beginning else { return }
        // The first answers already name the leader, and where it is.
        let node = node
        try await eventually { node.vitals.leader.map { !$0.peerAddress.hasSuffix(":0") } ?? false }
    }

    func stop(nodeIsDown: Bool = false) async throws {
        service.close()
        if !nodeIsDown { await node.shutdown() }
        try? store.close()
        try await group.shutdownGracefully()
        try FileManager.default.removeItem(atPath: directory)
    }

    /// Runs a server for the time of `body`.
    func serving<Result: Sendable>(
        _ adjust: (inout HTTPServer.Options) -> Void = { _ in },
        fastLane: Bool = true,
        _ body: (Int) async throws -> Result,
        whileStopping: (Int, Result) async throws -> Void = { _, _ in }
    ) async throws -> Result {
        var options = HTTPServer.Options()
        options.logger = Self.quiet
        options.usesFastLane = fastLane
        adjust(&options)
        let server = HTTPServer(
            service: service,
            name: node.status.name,
            host: "127.0.0.1",
            port: 0,
            group: group,
            options: options
        )
        let services = ServiceGroup(configuration: .init(services: [server], logger: Self.quiet))
        async let running: Void = services.run()
        guard let port = await server.boundPort() else {
            try await running
            throw NotReached()
        }
        do {
            let result = try await body(port)
            await services.triggerGracefulShutdown()
            try await whileStopping(port, result)
            try await running
            return result
        } catch {
            await services.triggerGracefulShutdown()
            try await running
            throw error
        }
    }
}

/// A node and a server of it for the time of `body`.
func withServer(
    _ adjust: (inout HTTPServer.Options) -> Void = { _ in },
    fastLane: Bool = true,
    historyEvents: Int? = nil,
    service: (inout KeyValueNode.Options) -> Void = { _ in },
    _ body: (NodeFixture, Int) async throws -> Void
) async throws {
    let fixture = try await NodeFixture(name: "node1", .bootstrap, historyEvents: historyEvents, service)
    do {
        try await fixture.serving(adjust, fastLane: fastLane) { try await body(fixture, $0) }
    } catch {
        try await fixture.stop()
        throw error
    }
    try await fixture.stop()
}
