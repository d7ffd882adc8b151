import NIOCore
import NIOPosix
import Synchronization

/// The lines between the nodes of a cluster, as TCP proxies that a test can cut.
///
/// Each node advertises the address of a proxy. A connection's opener says in its first bytes which address it is reached at
/// itself, so that a line is known by both its ends and can be cut alone.
final class Network: Sendable {
    private struct State {
        /// Names by the advertised addresses.
        var names: [String: String] = [:]
        var proxies: [any Channel] = []
        var lines: [ObjectIdentifier: Line] = [:]
        var isolated: Set<String> = []
        var byteLimits: [String: Int] = [:]
        var cuts = 0
    }

    private let state = Mutex(State())
    private let group = MultiThreadedEventLoopGroup.singleton

    /// Opens a proxy in front of a node; answers its address.
    func proxy(for name: String, to target: String) async throws -> String {
        let address = try Self.socketAddress(target)
        let channel = try await ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { [self] inbound in
                let line = Line(target: name, network: self)
                return inbound.eventLoop.makeCompletedFuture {
                    try inbound.pipeline.syncOperations.addHandler(OpenerHandler(line: line, address: address))
                }
            }
            .bind(host: "127.0.0.1", port: try Ports.next()).get()
        let advertised = "127.0.0.1:\(channel.localAddress?.port ?? 0)"
        state.withLock { state in
            state.proxies.append(channel)
            state.names[advertised] = name
        }
        return advertised
    }

    private static func socketAddress(_ text: String) throws -> SocketAddress {
        let parts = text.split(separator: ":")
        return try SocketAddress(ipAddress: String(parts[0]), port: Int(parts[1]) ?? 0)
    }

    /// From now on nothing passes between this node and the others; connections stay open in silence, as when packets are lost.
    func isolate(_ name: String) { state.withLock { _ = $0.isolated.insert(name) } }

    /// Lets everything pass again. What was silent is closed, so that the nodes connect anew.
    func heal() {
        let silent = state.withLock { state in
            defer { state.isolated = [] }
            return state.lines.values.filter { $0.touches(state.isolated) }
        }
        for line in silent { line.close() }
    }

    /// Every connection to this node is cut when this many bytes have passed to it; nil takes the bound away.
    func limitBytes(to name: String, _ limit: Int?) { state.withLock { $0.byteLimits[name] = limit } }

    /// How many connections a bound on bytes has cut.
    var cuts: Int { state.withLock { $0.cuts } }

    func shutdown() async {
        let (proxies, lines) = state.withLock { ($0.proxies, Array($0.lines.values)) }
        for line in lines { line.close() }
        for proxy in proxies { try? await proxy.close() }
    }

    // MARK: For the lines

    /// The name of the node that opened a connection, by the address that its first bytes mention.
    fileprivate func opener(in bytes: ByteBuffer) -> String? {
        let view = Array(bytes.readableBytesView)
        return state.withLock { state in
            state.names.first { address, _ in Self.contains(view, Array(address.utf8)) }?.value
        }
    }

    private static func contains(_ bytes: [UInt8], _ piece: [UInt8]) -> Bool {
        guard bytes.count >= piece.count else { return false }
        return (0...bytes.count - piece.count).contains { bytes[$0..<$0 + piece.count].elementsEqual(piece) }
    }

    fileprivate func add(_ line: Line) { state.withLock { $0.lines[ObjectIdentifier(line)] = line } }

    fileprivate func remove(_ line: Line) {
        state.withLock { _ = $0.lines.removeValue(forKey: ObjectIdentifier(line)) }
    }

    fileprivate func mayPass(_ line: Line) -> Bool { state.withLock { !line.touches($0.isolated) } }

    /// Whether a connection to `name` that has carried `bytes` must be cut.
    fileprivate func mustCut(_ name: String, after bytes: Int) -> Bool {
        state.withLock { state in
            guard let limit = state.byteLimits[name], bytes > limit else { return false }
            state.cuts += 1
            return true
        }
    }
}

/// One connection through a proxy.
private final class Line: Sendable {
    private struct State {
        var opener: String?
        var channels: [any Channel] = []
        var bytes = 0
    }

    let target: String
    let network: Network
    private let state = Mutex(State())

    init(target: String, network: Network) {
        self.target = target
        self.network = network
        network.add(self)
    }

    func touches(_ isolated: Set<String>) -> Bool {
        guard !isolated.isEmpty else { return false }
        let opener = state.withLock { $0.opener }
        return isolated.contains(target) || opener.map { isolated.contains($0) } ?? false
    }

    func add(_ channel: any Channel) { state.withLock { $0.channels.append(channel) } }

    func learnOpener(from bytes: ByteBuffer) {
        guard state.withLock({ $0.opener == nil }), let name = network.opener(in: bytes) else { return }
        state.withLock { $0.opener = name }
    }

    /// Counts bytes towards the target.
    func carried(_ count: Int) -> Int {
        state.withLock { state in
            state.bytes += count
            return state.bytes
        }
    }

    func close() {
        network.remove(self)
        for channel in state.withLock({ $0.channels }) { channel.close(promise: nil) }
    }
}

/// The side of a connection's opener: passes what comes on to the target, and connects to it first.
private final class OpenerHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let line: Line
    private let address: SocketAddress
    private var target: (any Channel)?
    private var waiting: [ByteBuffer] = []

    init(line: Line, address: SocketAddress) {
        self.line = line
        self.address = address
    }

    func channelActive(context: ChannelHandlerContext) {
        let inbound = context.channel
        line.add(inbound)
        ClientBootstrap(group: context.eventLoop)
            .channelInitializer { [line] channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(TargetHandler(line: line, opener: inbound))
                }
            }
            .connect(to: address)
            .assumeIsolated()
            .whenComplete { [self] result in
                switch result {
                case .failure: line.close()
                case .success(let channel):
                    line.add(channel)
                    target = channel
                    for buffer in waiting { channel.writeAndFlush(buffer, promise: nil) }
                    waiting = []
                }
            }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = unwrapInboundIn(data)
        line.learnOpener(from: buffer)
        guard line.network.mayPass(line) else { return }
        if line.network.mustCut(line.target, after: line.carried(buffer.readableBytes)) { return line.close() }
        if let target { target.writeAndFlush(buffer, promise: nil) } else { waiting.append(buffer) }
    }

    func channelInactive(context: ChannelHandlerContext) { line.close() }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { line.close() }
}

/// The side of the target: passes what comes back to the opener.
private final class TargetHandler: ChannelInboundHandler, Sendable {
    typealias InboundIn = ByteBuffer

    private let line: Line
    private let opener: any Channel

    init(line: Line, opener: any Channel) {
        self.line = line
        self.opener = opener
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard line.network.mayPass(line) else { return }
        opener.writeAndFlush(unwrapInboundIn(data), promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) { line.close() }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { line.close() }
}
