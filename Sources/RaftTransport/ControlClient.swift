internal import NIOCore
internal import Raft

/// Asks one control request on a connection of its own.
final class ControlClientHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let request: ByteBuffer
    private let promise: EventLoopPromise<ControlResponse>
    private var parser = FrameParser(maximumBytes: ControlCodec.maximumFrameBytes)

    init(_ request: ByteBuffer, _ promise: EventLoopPromise<ControlResponse>) {
        self.request = request
        self.promise = promise
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard event is HandshakeAccepted else { return }
        context.writeAndFlush(wrapOutboundOut(request), promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        parser.feed(unwrapInboundIn(data))
        do throws(WireError) {
            guard let frame = try parser.next() else { return }
            guard frame.kind == .controlResponse else { throw WireError("not a control response") }
            promise.succeed(try ControlCodec.decodeResponse(frame.body))
        } catch {
            promise.fail(TransportError(.protocolViolation, "the answer is malformed: \(error)"))
        }
        context.close(promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        promise.fail((error as? TransportError) ?? TransportError(.disconnected, shortDescription(error)))
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        promise.fail(TransportError(.disconnected, "the connection was closed before the answer came"))
    }

    /// Opens the connection on `eventLoop`; the future fails with a `TransportError`.
    static func ask(
        _ request: ControlRequest,
        at address: PeerAddress,
        as identity: ServerIdentity,
        on eventLoop: any EventLoop,
        timeout: TimeAmount
    ) -> EventLoopFuture<ControlResponse> {
        let frame = Frame.make(.controlRequest) { ControlCodec.encode(request, into: &$0) }
        guard frame.readableBytes <= Frame.headerBytes + ControlCodec.maximumFrameBytes else {
            return eventLoop.makeFailedFuture(TransportError(.invalidRequest, "the request is too large to be sent"))
        }
        let promise = eventLoop.makePromise(of: ControlResponse.self)
        var limits = TransportLimits()
        limits.connectTimeout = min(limits.connectTimeout, timeout)
        let hello = Handshake.Hello(purpose: .control, sender: identity, expected: nil)
        let connected = Sockets.connect(to: address, on: eventLoop, limits: limits) {
            [ClientHandshakeHandler(hello, timeout: timeout), ControlClientHandler(frame, promise)]
        }
        connected.whenFailure { error in
            promise.fail(
                TransportError(.unreachable, "\(address) cannot be reached: \(shortDescription(error))")
            )
        }
        let timer = eventLoop.scheduleTask(in: timeout) {
            promise.fail(TransportError(.timedOut, "\(address) gave no answer in time"))
        }
        promise.futureResult.whenComplete { _ in
            timer.cancel()
            connected.whenSuccess { $0.close(promise: nil) }
        }
        return promise.futureResult
    }
}
