import Logging
import NIOCore
import NIOPosix
import Raft
import Synchronization
import Testing

@testable import RaftTransport

let cluster = ClusterID(0xc1)

func identity(_ id: UInt64, cluster: ClusterID = cluster) -> ServerIdentity {
    ServerIdentity(
        serverID: ServerID(id),
        clusterID: cluster,
        name: "node\(id)",
        peerAddress: "127.0.0.1:0",
        clientAddress: "127.0.0.1:1"
    )
}

func message(_ from: UInt64, _ to: UInt64, _ body: Message.Body, term: Term = 7) -> Message {
    Message(from: ServerID(from), to: ServerID(to), term: term, body: body)
}

func heartbeat(_ from: UInt64, _ to: UInt64, round: UInt64) -> Message {
    message(from, to, .heartbeat(Heartbeat(commit: 5, session: 9, round: round)))
}

func append(_ from: UInt64, _ to: UInt64, after index: LogIndex, bytes: Int) -> Message {
    let entry = Entry(index: index + 1, term: 7, payload: .command([UInt8](repeating: 0x61, count: bytes)))
    let previous = LogPosition(index: index, term: 7)
    return message(
        from,
        to,
        .append(Append(previous: previous, entries: [entry], commit: 1, session: 2, round: 3))
    )
}

struct TimedOut: Error {}

/// Waits until `condition` holds; a test that hangs fails after half a minute.
func eventually(_ condition: () async throws -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(30)
    while try await !condition() {
        guard ContinuousClock.now < deadline else { throw TimedOut() }
        try await Task.sleep(for: .milliseconds(2))
    }
}

/// Hears what a transport tells.
final class Recorder: PeerTransportDelegate {
    struct State {
        var messages: [Message] = []
        var batches = 0
        var links: [String] = []
        var callers: [ServerIdentity] = []
        var adopts = false
        var adopted: [ClusterID] = []
        var controls: [ControlRequest] = []
        var response: ControlResponse? = .accepted(cluster)
    }

    let state = Mutex(State())

    func receive(_ messages: [Message]) {
        state.withLock {
            $0.messages += messages
            $0.batches += 1
        }
    }

    func connected(_ peer: ServerID) { state.withLock { $0.links.append("+\(peer.rawValue)") } }

    func disconnected(_ peer: ServerID) { state.withLock { $0.links.append("-\(peer.rawValue)") } }

    func called(by peer: ServerIdentity) { state.withLock { $0.callers.append(peer) } }

    func adopt(_ cluster: ClusterID, calledBy peer: ServerIdentity) -> Bool {
        state.withLock {
            if $0.adopts { $0.adopted.append(cluster) }
            return $0.adopts
        }
    }

    func control(
        _ request: ControlRequest,
        from sender: ServerIdentity,
        reply: @escaping @Sendable (ControlResponse) -> Void
    ) {
        let response = state.withLock {
            $0.controls.append(request)
            return $0.response
        }
        if let response { reply(response) }
    }

    var messages: [Message] { state.withLock { $0.messages } }
    var links: [String] { state.withLock { $0.links } }
}

/// Keeps log lines, each with its metadata.
final class LogLines: Sendable {
    private let lines = Mutex<[String]>([])

    var all: [String] { lines.withLock { $0 } }

    func count(of text: String) -> Int { all.count { $0.contains(text) } }

    var logger: Logger { Logger(label: "test") { _ in Handler(lines: self) } }

    private struct Handler: LogHandler {
        let lines: LogLines
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.debug

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            lines.lines.withLock { $0.append("\(event.message) \(event.metadata ?? [:])") }
        }
    }
}

/// A transport with everything that belongs to it.
final class Node: Sendable {
    let id: UInt64
    let recorder = Recorder()
    let log = LogLines()
    let loop: any EventLoop
    let transport: PeerTransport
    let store: SnapshotStore
    let address: PeerAddress

    init(
        _ id: UInt64,
        port: Int = 0,
        cluster: ClusterID = cluster,
        limits: TransportLimits = TransportLimits(),
        store: SnapshotStore = SnapshotStore(),
        executor: @escaping BlockingExecutor = Node.threadPool
    ) async throws {
        self.id = id
        self.store = store
        let group = MultiThreadedEventLoopGroup.singleton
        loop = group.next()
        transport = PeerTransport(
            eventLoop: loop,
            group: group,
            identity: identity(id, cluster: cluster),
            logger: log.logger,
            limits: limits,
            snapshotReceiver: store,
            blockingExecutor: executor
        )
        address = try await transport.start(
            listeningOn: PeerAddress(host: "127.0.0.1", port: port),
            delegate: recorder
        )
    }

    static let threadPool: BlockingExecutor = { work in
        NIOThreadPool.singleton.submit { _ in work() }
        return true
    }

    func onLoop<Value: Sendable>(_ body: @escaping @Sendable (PeerTransport) -> Value) async throws -> Value {
        let transport = transport
        return try await loop.submit { body(transport) }.get()
    }

    func send(_ message: Message) async throws -> Bool { try await onLoop { $0.send(message) } }

    func link(to others: Node...) async throws {
        let peers = Dictionary(uniqueKeysWithValues: others.map { (ServerID($0.id), $0.address.description) })
        try await onLoop { $0.updatePeers(peers) }
    }

    func isConnected(_ other: Node) async throws -> Bool { try await onLoop { $0.isConnected(ServerID(other.id)) } }
}

/// Waits until each first is linked to its second.
func linked(_ pairs: (Node, Node)...) async throws {
    for (from, to) in pairs { try await eventually { try await from.isConnected(to) } }
}

/// Runs `body` with nodes that are shut down afterwards, whatever happens.
func with(_ nodes: Node..., do body: () async throws -> Void) async throws {
    let result: Result<Void, any Error>
    do { result = .success(try await body()) } catch { result = .failure(error) }
    for node in nodes { await node.transport.shutdown() }
    try result.get()
}

/// A bare TCP client that records what it is sent.
final class RawClient: Sendable {
    let received = Mutex(ByteBuffer())
    let isClosed = Atomic(false)
    private let channel = Mutex<(any Channel)?>(nil)

    init(_ address: PeerAddress) async throws {
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Handler(self))
                }
            }
            .connect(host: address.host, port: address.port).get()
        self.channel.withLock { $0 = channel }
    }

    func send(_ bytes: ByteBuffer) { channel.withLock { $0 }?.writeAndFlush(bytes, promise: nil) }

    func close() { channel.withLock { $0 }?.close(promise: nil) }

    var closed: Bool { isClosed.load(ordering: .acquiring) }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        let client: RawClient

        init(_ client: RawClient) { self.client = client }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = unwrapInboundIn(data)
            client.received.withLock { _ = $0.writeImmutableBuffer(bytes) }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

        func channelInactive(context: ChannelHandlerContext) { client.isClosed.store(true, ordering: .releasing) }
    }
}

/// A small generator with a seed, so that a failure can be replayed.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
