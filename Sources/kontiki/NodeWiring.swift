import CoreMetrics
import Foundation
import HTTPAPI
import KeyValue
import KeyValueService
import LMDB
import Logging
import NIOCore
import NIOPosix
import Observability
import Raft
import RaftDriver
import RaftNode
import ServiceLifecycle

/// A running node: state machine, replicated log, service and HTTP server, put together.
struct NodeWiring: Sendable {
    private let node: RaftNode<KeyValueMachine>
    private let service: KeyValueNode
    private let server: ServiceGroup
    private let serving: Task<Void, any Error>
    private let logger: Logger

    /// Opens the data directory, begins or joins a cluster where it is empty, and serves.
    ///
    /// - Throws: a `Failure` with what to do next.
    static func start(_ identity: IdentityOptions, _ bounds: BoundOptions, logger: Logger) async throws -> NodeWiring {
        do {
            return try await assemble(identity, bounds, logger)
        } catch let error as StartError {
            let more = error.code == .damaged ? "\n\(advice(identity.data))" : ""
            throw Failure(ExitStatus(error.code), error.description + more)
        } catch let error as HTTPServerError {
            throw Failure(error.code == .addressInUse ? .unavailable : .configuration, error.description)
        } catch let error as StoreError {
            let isData = error.code != .system
            throw Failure(isData ? .data : .io, error.description)
        } catch let error as LMDBError {
            guard error.isInUse else { throw Failure(.io, error.description) }
            throw Failure(.temporary, "the data directory \(identity.data) is in use: \(error.message)")
        } catch let error as SocketAddressError.UnknownHost {
            throw Failure(.configuration, "\(error); check the names in --addr, --listen, --http and --http-listen")
        } catch let error as Failure {
            throw error
        } catch {
            throw Failure(.software, "the node does not start: \(error)")
        }
    }

    private static func assemble(
        _ identity: IdentityOptions,
        _ bounds: BoundOptions,
        _ logger: Logger
    ) async throws -> NodeWiring {
        let onFailure: @Sendable (String) -> Void = { reason in
            // Nothing may go on after a failed write, least of all an orderly stop: a retry after a failed sync would lie.
            logger.critical("the node cannot go on", metadata: ["reason": "\(reason)"])
            _exit(ExitStatus.software.rawValue)
        }
        let metrics = MetricsRegistry()
        MetricsSystem.bootstrap(RegistryMetricsFactory(metrics))
        if identity.rejoin != nil { try Rejoining.prepare(identity.data, logger) }
        let store = try openStore(identity.data, bounds, logger)
        let machine = KeyValueMachine(store: store) { onFailure("\($0)") }
        // The core's ticks and messages have a thread of their own; clients share the others.
        let raftLoop = MultiThreadedEventLoopGroup(numberOfThreads: 1).next()
        let group = MultiThreadedEventLoopGroup.singleton
        let node = try await RaftNode.start(
            options: nodeOptions(identity, bounds, NodeMetrics(metrics), onFailure),
            machine: machine,
            raftLoop: raftLoop,
            group: group,
            logger: logger
        )
        var serviceOptions = KeyValueNode.Options()
        serviceOptions.defaultTimeout = .milliseconds(Int64(bounds.requestTimeout.milliseconds))
        let service = KeyValueNode(node: node, eventLoop: group.next(), options: serviceOptions)
        let listen = try HostAndPort(identity.httpListen ?? identity.http, of: "--http-listen")
        var httpOptions = HTTPServer.Options()
        httpOptions.maximumValueBytes = bounds.maxValueBytes.bytes
        httpOptions.version = ProgramVersion.text
        httpOptions.logger = logger
        httpOptions.metrics = metrics
        httpOptions.maximumConnections = OpenFileLimit.raise(
            connections: httpOptions.maximumConnections,
            logger: logger
        )
        // The name may stand for ::1 and 127.0.0.1; clients try both, and the latter exists on every machine.
        let host = listen.host == "localhost" ? "127.0.0.1" : listen.host
        let server = HTTPServer(
            service: service,
            name: identity.id,
            host: host,
            port: listen.port,
            group: group,
            options: httpOptions
        )
        let services = ServiceGroup(
            configuration: .init(services: [server], gracefulShutdownSignals: [], logger: logger)
        )
        let serving = Task { try await services.run() }
        guard await server.boundPort() != nil else {
            await node.shutdown()
            try await serving.value
            throw Failure(.software, "the HTTP server ended before it listened")
        }
        return NodeWiring(node: node, service: service, server: services, serving: serving, logger: logger)
    }

    /// Foundation would not say why it cannot.
    private static func makeDirectories(_ directory: String) throws {
        var path = directory.hasPrefix("/") ? "/" : ""
        let parts = directory.split(separator: "/")
        for (index, part) in parts.enumerated() {
            path += part
            // What clients store is nobody's business but this user's, sizes and times of files included.
            guard mkdir(path, index == parts.count - 1 ? 0o700 : 0o777) == 0 || errno == EEXIST else {
                throw Failure(.io, "the directory \(path) cannot be made: \(String(cString: strerror(errno)))")
            }
            path += "/"
        }
    }

    private static func openStore(_ directory: String, _ bounds: BoundOptions, _ logger: Logger) throws -> Store {
        var options = StoreOptions()
        options.memtableBytes = bounds.memtableBytes.bytes
        options.historyMilliseconds = UInt64(bounds.historyAge.milliseconds)
        options.historyEvents = bounds.historyEvents
        options.historyBytes = bounds.historyBytes.bytes
        try makeDirectories(directory)
        options.verification = bounds.verifyState == .start ? .start : .background
        let start = ContinuousClock.now
        let (store, rebuild) = try StateOpening.open(directory: directory, options: options)
        let took = ContinuousClock.now - start
        if took > .seconds(1) {
            logger.info(
                "examined the state's file",
                metadata: ["milliseconds": "\(took / .milliseconds(1))", "option": "--verify-state"]
            )
        }
        if let rebuild {
            let source =
                if case .snapshot(let position) = rebuild.source { "the snapshot at \(position) and the log" } else {
                    "the log"
                }
            logger.error(
                "the state was damaged and is built anew; nothing is lost",
                metadata: ["damage": "\(rebuild.reason)", "from": "\(source)", "kept": "\(rebuild.setAside)"]
            )
        }
        return store
    }

    /// What to do about a directory that does not start; see `kontiki check`.
    static func advice(_ directory: String) -> String {
        "What can be done says:  kontiki check \(directory)"
    }

    private static func nodeOptions(
        _ identity: IdentityOptions,
        _ bounds: BoundOptions,
        _ metrics: NodeMetrics,
        _ onFailure: @escaping @Sendable (String) -> Void
    ) -> NodeOptions {
        var options = NodeOptions(
            directory: identity.data,
            name: identity.id,
            listenAddress: identity.listen ?? identity.addr,
            peerAddress: identity.addr,
            clientAddress: identity.http,
            snapshotSchema: Store.snapshotSchema,
            onFailure: onFailure
        )
        if identity.bootstrap { options.beginning = .bootstrap }
        if identity.join != nil {
            options.beginning = .join(identity.joinAddresses, replacing: identity.replace)
        }
        if identity.rejoin != nil { options.beginning = .join(identity.rejoinAddresses, replacing: identity.id) }
        let tick = BoundOptions.tickMilliseconds
        options.tickMilliseconds = tick
        options.core.electionTicks = UInt64(bounds.electionTimeout.milliseconds / tick)
        options.core.heartbeatTicks = UInt64(bounds.heartbeat.milliseconds / tick)
        options.driver.snapshotLogBytes = bounds.snapshotLogBytes.bytes
        options.driver.trailingLogBytes = min(bounds.trailingLogBytes.bytes, bounds.snapshotLogBytes.bytes)
        options.driver.flushBytes = bounds.memtableBytes.bytes
        options.metrics = metrics
        options.snapshotWriteBytesPerSecond =
            bounds.snapshotWriteRate.bytes == 0 ? nil : bounds.snapshotWriteRate.bytes
        options.scrubPeriodMilliseconds = bounds.scrubPeriod.milliseconds
        options.snapshotBytesPerSecond = bounds.snapshotRate.bytes == 0 ? nil : bounds.snapshotRate.bytes
        return options
    }

    /// What keeps the node from being ready, in words; nil when nothing does. It is what `/readyz` says.
    var lacking: String? {
        service.readinessChecks.first { !$0.isOK }.map { "\($0.name): \($0.detail)" }
    }

    /// Whether it will be ready by itself, however long that takes.
    var isCatchingUp: Bool { service.isCatchingUp }

    /// Hands leadership over while clients are still served, then lets requests finish, then makes the state durable.
    func stop() async {
        if node.status.role == .leader, node.status.configuration.voters.count > 1 {
            do {
                try await node.transferLeadership(to: nil, timeout: .seconds(5))
            } catch {
                logger.warning(
                    "leadership was not handed over; the others will elect",
                    metadata: ["reason": "\(error)"]
                )
            }
        }
        await server.triggerGracefulShutdown()
        do {
            try await serving.value
        } catch {
            logger.warning("the HTTP server did not end in good order", metadata: ["error": "\(error)"])
        }
        service.close()
        await node.shutdown()
    }
}

extension ExitStatus {
    /// The exit code for a node that did not start.
    init(_ code: StartError.Code) {
        self =
            switch code {
            case .nothingToStart, .invalidAddress: .configuration
            case .directoryInUse: .temporary
            case .newerFormat, .damaged: .data
            case .addressInUse, .joinRefused: .unavailable
            default: .software
            }
    }
}
