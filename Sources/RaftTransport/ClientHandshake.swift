internal import NIOCore
internal import Raft

/// Fired down the pipeline of an outgoing connection when the other side has taken it.
struct HandshakeAccepted: Sendable {
    var peer: ServerIdentity
    /// The newest version of the protocol that both speak.
    var version: UInt16
}

/// The opening side of the handshake: says hello, checks the answer, and from then on passes everything through.
///
/// A failure goes down the pipeline as a `TransportError`, and the connection is closed.
final class ClientHandshakeHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let hello: Handshake.Hello
    private let timeout: TimeAmount
    private var pending = ByteBuffer()
    private var isOver = false
    private var timer: Scheduled<Void>?

    init(_ hello: Handshake.Hello, timeout: TimeAmount) {
        self.hello = hello
        self.timeout = timeout
    }

    func channelActive(context: ChannelHandlerContext) {
        timer = context.eventLoop.assumeIsolated().scheduleTask(in: timeout) { [self] in
            fail(TransportError(.timedOut, "no answer to the handshake in time"), context: context)
        }
        context.writeAndFlush(wrapOutboundOut(hello.encode()), promise: nil)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isOver else {
            context.fireChannelRead(data)
            return
        }
        pending.writeImmutableBuffer(unwrapInboundIn(data))
        do throws(WireError) {
            guard let reply = try Handshake.Reply.decode(&pending) else { return }
            if let error = judge(reply) { return fail(error, context: context) }
            isOver = true
            timer?.cancel()
            context.fireUserInboundEventTriggered(
                HandshakeAccepted(peer: reply.sender, version: min(reply.version, Handshake.version))
            )
            if pending.readableBytes > 0 { context.fireChannelRead(wrapInboundOut(pending)) }
            pending = ByteBuffer()
        } catch {
            fail(TransportError(.protocolViolation, "no answer of a peer: \(error)"), context: context)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        fail(TransportError(.disconnected, "the connection was closed during the handshake"), context: context)
        context.fireChannelInactive()
    }

    private func fail(_ error: TransportError, context: ChannelHandlerContext) {
        guard !isOver else { return }
        isOver = true
        timer?.cancel()
        context.fireErrorCaught(error)
        context.close(promise: nil)
    }

    private func judge(_ reply: Handshake.Reply) -> TransportError? {
        if let refusal = reply.refusal {
            return TransportError(.handshakeRefused, refusal: refusal.code, "refused: \(refusal)")
        }
        guard reply.version >= Handshake.minimumVersion, reply.minimumVersion <= Handshake.version else {
            return TransportError(.handshakeRefused, refusal: .version, "it speaks another version of the protocol")
        }
        if let expected = hello.expected, expected != reply.sender.serverID {
            return TransportError(
                .handshakeRefused,
                refusal: .wrongServer,
                "server \(reply.sender.serverID) answers there, not \(expected)"
            )
        }
        guard hello.purpose == .control || reply.sender.clusterID == hello.sender.clusterID else {
            return TransportError(
                .handshakeRefused,
                refusal: .wrongCluster,
                "it belongs to cluster \(reply.sender.clusterID), not \(hello.sender.clusterID)"
            )
        }
        return nil
    }
}
