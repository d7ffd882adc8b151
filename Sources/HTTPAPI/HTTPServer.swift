import Glibc
import Hummingbird
import HummingbirdCore
public import KeyValueService
public import Logging
public import NIOCore
public import Observability
public import ServiceLifecycle
import Synchronization

/// Serves the HTTP API of one node. Run it as a service; a graceful shutdown stops accepting, finishes what is under way and
/// refuses what still comes.
public final class HTTPServer: Service {
    public struct Options: Sendable {
        /// A value may have this many bytes.
        public var maximumValueBytes = 1 << 20 { didSet { limits.valueBytes = maximumValueBytes } }
        /// Connections beyond this are answered 503 and closed.
        public var maximumConnections = 20_000
        /// The most bytes of large bodies (above 64 KiB) that may be arriving on all connections together; more is answered 503.
        public var maximumArrivingBytes = 256 << 20
        /// A connection without a request is closed after this time.
        public var idleTimeout = TimeAmount.seconds(75)
        /// A request must have arrived within this time from its first line on.
        public var requestTimeout = TimeAmount.seconds(30)
        /// How long idle connections stay open when the server stops, so that requests on their way still get an answer.
        public var drainGrace = TimeAmount.milliseconds(200)
        /// What `/status` gives as the program's version.
        public var version = "0.1.0"
        public var logger = Logger(label: "kontiki.http")
        /// What `/metrics` shows, and where answers are counted. One registry serves one node.
        public var metrics = MetricsRegistry()
        var limits = KeyRequest.Limits()
        /// Without it every request takes the router; for tests that hold the lanes against each other.
        package var usesFastLane = true

        public init() {}
    }

    private struct State {
        var port: Int?
        var hasEnded = false
        var waiters: [CheckedContinuation<Int?, Never>] = []
    }

    private let host: String
    private let port: Int
    private let group: any EventLoopGroup
    private let core: ServerCore
    private let state = Mutex(State())

    /// - Parameters:
    ///   - service: what is served.
    ///   - name: this node's name, as `Kontiki-Served-By` says it.
    ///   - host: a name or address to listen on.
    ///   - port: 0 lets the system choose; see ``boundPort()``.
    ///   - group: the event loops that clients are served on.
    public init(
        service: KeyValueNode,
        name: String,
        host: String,
        port: Int,
        group: any EventLoopGroup,
        options: Options = Options()
    ) {
        self.host = host
        self.port = port
        self.group = group
        core = ServerCore(service: service, name: name, options: options)
    }

    /// Serves until a graceful shutdown, or until the task is cancelled.
    ///
    /// Throws ``HTTPServerError`` when the address cannot be listened on.
    public func run() async throws {
        let loops = LoopContexts(server: core, group: group)
        let api = API(server: core, loops: loops)
        let channel = KontikiChannel(
            base: HTTP1Channel { request, writer, channel in
                try await api.respond(to: request, writer: writer, channel: channel)
            },
            loops: core.options.usesFastLane ? loops : nil
        )
        let server = Server(
            childChannelSetup: channel,
            configuration: ServerConfiguration(
                address: .hostname(host, port: port),
                backlog: 1024,
                // Some room above the bound for connections that are told so; beyond that they wait in the backlog.
                availableConnectionsDelegate: MaximumAvailableConnections(core.options.maximumConnections + 256)
            ),
            onServerRunning: { channel in self.opened(port: channel.localAddress?.port) },
            eventLoopGroup: group,
            logger: core.options.logger
        )
        defer { ended() }
        do {
            try await withGracefulShutdownHandler {
                try await server.run()
            } onGracefulShutdown: { [core] in
                core.stop()
            }
        } catch let error as IOError {
            throw HTTPServerError(error, host: host, port: port)
        } catch let error as SocketAddressError {
            throw HTTPServerError(
                code: .unknownHost,
                description: "\(host): no address is known for this name (\(error)); check --http."
            )
        }
    }

    /// Waits until the server listens and answers its port; nil when it has ended without.
    public func boundPort() async -> Int? {
        await withCheckedContinuation { continuation in
            let known: Int?? = state.withLock { state in
                if let port = state.port { return .some(port) }
                if state.hasEnded { return .some(nil) }
                state.waiters.append(continuation)
                return .none
            }
            if let known { continuation.resume(returning: known) }
        }
    }

    private func opened(port: Int?) {
        let waiters = state.withLock { state in
            state.port = port
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume(returning: port) }
    }

    private func ended() {
        let waiters = state.withLock { state in
            state.hasEnded = true
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume(returning: nil) }
    }
}

/// Why the API cannot be served.
public struct HTTPServerError: Error, Sendable, CustomStringConvertible {
    public enum Code: Hashable, Sendable {
        case addressInUse
        case addressNotAvailable
        case permissionDenied
        case unknownHost
        case system
    }

    public var code: Code
    public var description: String

    init(code: Code, description: String) {
        self.code = code
        self.description = description
    }

    init(_ error: IOError, host: String, port: Int) {
        switch error.errnoCode {
        case EADDRINUSE:
            self.init(
                code: .addressInUse,
                description:
                    "\(host):\(port) is in use by another process; stop it, or choose another port with --http."
            )
        case EADDRNOTAVAIL:
            self.init(
                code: .addressNotAvailable,
                description: "\(host) is no address of this machine; choose another with --http."
            )
        case EACCES, EPERM:
            self.init(
                code: .permissionDenied,
                description: "this process may not listen on \(host):\(port); choose a port above 1023 with --http."
            )
        default:
            self.init(code: .system, description: "\(host):\(port) cannot be listened on: \(error).")
        }
    }
}
