internal import Logging
internal import NIOCore
internal import Raft

/// The accepting side of a connection: the handshake, then what the connection is for.
final class AcceptedConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum Phase {
        case handshake(ByteBuffer)
        case messages(FrameParser)
        case control(FrameParser)
        case snapshot(FrameParser, IncomingSnapshot)
        case closed
    }

    private let core: TransportCore
    private var phase = Phase.handshake(ByteBuffer())
    private var peer: ServerIdentity?
    private var batch: [Message] = []
    private var timer: Scheduled<Void>?
    private var context: ChannelHandlerContext?
    private(set) var remote = ""
    /// Whom and what the connection stands for after the handshake; nil for control.
    private(set) var key: TransportCore.IncomingKey?

    init(_ core: TransportCore) { self.core = core }

    var closeFuture: EventLoopFuture<Void>? { context?.channel.closeFuture }

    func channelActive(context: ChannelHandlerContext) {
        self.context = context
        remote = context.remoteAddress.map { "\($0)" } ?? "unknown"
        guard core.register(self) else {
            phase = .closed
            context.close(promise: nil)
            return
        }
        setTimer(core.limits.handshakeTimeout, .handshakeTimeout, "closed a connection without a handshake")
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = unwrapInboundIn(data)
        do throws(WireError) {
            try take(bytes)
        } catch {
            violated(error)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        guard !batch.isEmpty, let peer else { return }
        // The delegate may send, close or shut down in its answer.
        let messages = batch
        batch = []
        core.deliver(messages, from: peer.serverID)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { close() }

    func channelInactive(context: ChannelHandlerContext) {
        close()
        self.context = nil
    }

    /// Ends the connection; may be called again.
    func close() {
        if case .snapshot(_, let session) = phase { session.connectionEnded() }
        phase = .closed
        batch = []
        timer?.cancel()
        core.unregister(self)
        context?.close(promise: nil)
    }

    private func setTimer(_ timeout: TimeAmount, _ kind: RateLimitedLog.Kind, _ message: Logger.Message) {
        timer?.cancel()
        timer = core.eventLoop.assumeIsolated().scheduleTask(in: timeout) { [self] in
            core.strangers.warning(kind, message, to: core.logger, metadata: ["address": "\(remote)"])
            close()
        }
    }

    private func violated(_ error: WireError) {
        if let peer {
            core.strangers.warning(
                .violation,
                "closed a connection of a peer that broke the protocol",
                to: core.logger,
                metadata: ["address": "\(remote)", "peer": "\(peer.serverID)", "reason": "\(error)"]
            )
        } else {
            core.strangers.warning(
                .garbage,
                "closed a connection that is not of a peer",
                to: core.logger,
                metadata: ["address": "\(remote)", "reason": "\(error)"]
            )
        }
        close()
    }

    private func write(_ buffer: ByteBuffer) {
        context?.writeAndFlush(wrapOutboundOut(buffer), promise: nil)
    }

    /// Sends the last bytes of the connection and closes it behind them.
    private func writeLast(_ buffer: ByteBuffer) {
        guard let context else { return }
        phase = .closed
        timer?.cancel()
        let promise = context.eventLoop.makePromise(of: Void.self)
        promise.futureResult.assumeIsolated().whenComplete { [self] _ in close() }
        context.writeAndFlush(wrapOutboundOut(buffer), promise: promise)
    }
}

// MARK: - Bytes

extension AcceptedConnection {
    private func take(_ bytes: ByteBuffer) throws(WireError) {
        switch phase {
        case .closed: return
        case .handshake(var pending):
            pending.writeImmutableBuffer(bytes)
            guard let hello = try Handshake.Hello.decode(&pending) else {
                phase = .handshake(pending)
                return
            }
            welcome(hello)
            if pending.readableBytes > 0 { try take(pending) }
        case .messages(var parser):
            // The phase must not hold a second reference to what the parser appends to.
            phase = .closed
            parser.feed(bytes)
            try takeMessages(&parser)
            phase = .messages(parser)
        case .control(var parser):
            phase = .closed
            parser.feed(bytes)
            guard let frame = try parser.next() else {
                phase = .control(parser)
                return
            }
            guard frame.kind == .controlRequest else { throw WireError("not a control request") }
            answer(try ControlCodec.decodeRequest(frame.body))
        case .snapshot(var parser, let session):
            phase = .closed
            parser.feed(bytes)
            phase = .snapshot(parser, session)
            try takeSnapshotFrames(parser, session)
        }
    }

    private func takeMessages(_ parser: inout FrameParser) throws(WireError) {
        guard let peer = peer?.serverID else { return }
        while let frame = try parser.next() {
            guard frame.kind == .message, frame.group == 0 else { throw WireError("not a message") }
            let message = try MessageCodec.decode(frame.body)
            guard message.from == peer, message.to == core.identity.serverID else {
                throw WireError("a message from or to another server")
            }
            batch.append(message)
        }
    }

    private func takeSnapshotFrames(_ fed: FrameParser, _ session: IncomingSnapshot) throws(WireError) {
        var parser = fed
        while let frame = try parser.next() {
            try session.take(frame)
            guard case .snapshot = phase else { return }
        }
        phase = .snapshot(parser, session)
    }

    private func welcome(_ hello: Handshake.Hello) {
        if let refusal = core.judge(hello) {
            core.strangers.warning(
                .refused,
                "refused a connection",
                to: core.logger,
                metadata: [
                    "address": "\(remote)", "peer": "\(hello.sender.serverID)", "name": "\(hello.sender.name)",
                    "reason": "\(refusal)",
                ]
            )
            return writeLast(Handshake.Reply(refusal: refusal, sender: core.identity).encode())
        }
        peer = hello.sender
        timer?.cancel()
        switch hello.purpose {
        case .urgentMessages, .bulkMessages:
            key = TransportCore.IncomingKey(peer: hello.sender.serverID, purpose: hello.purpose)
            phase = .messages(FrameParser(maximumBytes: core.limits.maximumFrameBytes))
        case .control:
            phase = .control(FrameParser(maximumBytes: ControlCodec.maximumFrameBytes))
            setTimer(core.limits.controlTimeout, .handshakeTimeout, "closed a control connection that took too long")
        case .snapshot:
            key = TransportCore.IncomingKey(peer: hello.sender.serverID, purpose: hello.purpose)
            let session = IncomingSnapshot(core: core, peer: hello.sender) { [weak self] output in
                switch output {
                case .frame(let frame): self?.write(frame)
                case .last(let frame): self?.writeLast(frame)
                case .close: self?.close()
                }
            }
            phase = .snapshot(FrameParser(maximumBytes: IncomingSnapshot.maximumFrameBytes), session)
        }
        core.welcomed(self, hello)
        write(Handshake.Reply(sender: core.identity).encode())
        if case .snapshot(_, let session) = phase { session.start() }
    }

    private func answer(_ request: ControlRequest) {
        guard let peer else { return }
        // One request a connection: what comes behind it is not read any more.
        phase = .closed
        guard request != .identify else { return respond(.identity(core.identity)) }
        guard let delegate = core.delegate else { return respond(.refused("this server is stopping")) }
        let bound = NIOLoopBound(self, eventLoop: core.eventLoop)
        delegate.control(request, from: peer) { response in
            bound.eventLoop.execute { bound.value.respond(response) }
        }
    }

    private func respond(_ response: ControlResponse) {
        writeLast(
            Frame.make(.controlResponse) { buffer in
                let start = buffer.writerIndex
                ControlCodec.encode(response, into: &buffer)
                guard buffer.writerIndex - start > ControlCodec.maximumFrameBytes else { return }
                buffer.moveWriterIndex(to: start)
                ControlCodec.encode(.refused("the answer is too large to be sent"), into: &buffer)
            }
        )
    }
}
