internal import Logging
internal import NIOCore
internal import Raft

/// One of the two outgoing connections to a peer, and what waits for it. Lives on the transport's event loop.
final class OutgoingLane {
    private enum State {
        case idle
        /// Until the next attempt.
        case waiting(Scheduled<Void>)
        case connecting
        /// With the version of the protocol that is spoken on it.
        case up(any Channel, version: UInt16)
        case closed
    }

    private let core: TransportCore
    let peer: ServerID
    private let address: PeerAddress
    private let purpose: Purpose
    private let maximumBytes: Int
    private let maximumMessages: Int

    private var state = State.idle
    /// Numbers the connections, so that a late event of an earlier one is told apart.
    private var attempt = 0
    /// The connection from its first moment on; closed with the lane.
    private var channel: (any Channel)?
    private var failures = 0
    private var upSince = NIODeadline.uptimeNanoseconds(0)
    private var lastReason: (text: String, logged: NIODeadline)?

    /// Encoded and not handed to the channel yet.
    private var outgoing = ByteBuffer()
    private var outgoingMessages = 0
    /// With the channel; at most one write at a time, so that what queues up behind a slow peer stays in one buffer.
    private var inFlight = ByteBuffer()
    private var inFlightMessages = 0
    private var isWriting = false
    /// Stands in the core's list of lanes to flush.
    var isDirty = false

    init(core: TransportCore, peer: ServerID, address: PeerAddress, purpose: Purpose) {
        self.core = core
        self.peer = peer
        self.address = address
        self.purpose = purpose
        let isBulk = purpose == .bulkMessages
        self.maximumBytes = isBulk ? core.limits.bulkQueueBytes : core.limits.urgentQueueBytes
        self.maximumMessages = isBulk ? core.limits.bulkQueueMessages : core.limits.urgentQueueMessages
    }

    var isUp: Bool {
        if case .up = state { true } else { false }
    }

    /// Appends the message to what leaves with the next flush; false when it was dropped.
    func enqueue(_ message: Message) -> Bool {
        guard case .up(_, let version) = state else { return false }
        let estimate = MessageCodec.estimatedBytes(message.body)
        let queued = outgoing.readableBytes + inFlight.readableBytes
        guard queued == 0 || queued + estimate <= maximumBytes,
            outgoingMessages + inFlightMessages < maximumMessages,
            estimate <= core.limits.maximumFrameBytes + 512
        else { return false }
        outgoing.reserveCapacity(minimumWritableBytes: estimate)
        let start = Frame.begin(.message, in: &outgoing)
        MessageCodec.encode(message, version: version, into: &outgoing)
        guard outgoing.writerIndex - start - Frame.headerBytes <= core.limits.maximumFrameBytes else {
            outgoing.moveWriterIndex(to: start)
            return false
        }
        Frame.end(at: start, in: &outgoing)
        outgoingMessages += 1
        return true
    }

    func flush() {
        guard case .up(let channel, _) = state, !isWriting, outgoingMessages > 0 else { return }
        isWriting = true
        swap(&outgoing, &inFlight)
        swap(&outgoingMessages, &inFlightMessages)
        let promise = core.eventLoop.makePromise(of: Void.self)
        promise.futureResult.assumeIsolated().whenComplete { [self, attempt] _ in wrote(attempt) }
        channel.writeAndFlush(inFlight, promise: promise)
    }

    private func wrote(_ attempt: Int) {
        guard attempt == self.attempt, case .up = state else { return }
        isWriting = false
        clear(&inFlight)
        inFlightMessages = 0
        flush()
    }

    /// Empties a buffer and keeps its memory for the next messages, unless it is much.
    private func clear(_ buffer: inout ByteBuffer) {
        if buffer.capacity > 1 << 18 { buffer = ByteBuffer() } else { buffer.clear() }
    }
}

// MARK: - Connecting

extension OutgoingLane {
    func connect() {
        switch state {
        case .idle: break
        case .waiting(let timer): timer.cancel()
        case .connecting, .up, .closed: return
        }
        attempt += 1
        state = .connecting
        guard !core.blocked.contains(peer) else {
            return lost(attempt, TransportError(.unreachable, "blocked by a test"))
        }
        let hello = Handshake.Hello(purpose: purpose, sender: core.identity, expected: peer)
        let bound = NIOLoopBound(self, eventLoop: core.eventLoop)
        let timeout = core.limits.handshakeTimeout
        let connected = Sockets.connect(to: address, on: core.eventLoop, limits: core.limits) { [attempt] in
            [ClientHandshakeHandler(hello, timeout: timeout), OutgoingLaneHandler(bound.value, attempt: attempt)]
        }
        connected.assumeIsolated().whenFailure { [self, attempt] error in
            lost(attempt, TransportError(.unreachable, shortDescription(error)))
        }
    }

    /// An incoming connection of the peer says that it is alive: there is no reason to wait any longer.
    func peerAppeared() {
        failures = 0
        if case .waiting = state { connect() }
    }

    func close() {
        if case .waiting(let timer) = state { timer.cancel() }
        state = .closed
        dropQueue()
        channel?.close(promise: nil)
    }

    var closeFuture: EventLoopFuture<Void>? { channel?.closeFuture }

    fileprivate func opened(_ channel: any Channel, _ attempt: Int) {
        guard attempt == self.attempt, case .connecting = state else {
            channel.close(promise: nil)
            return
        }
        self.channel = channel
    }

    fileprivate func established(_ channel: any Channel, _ attempt: Int, version: UInt16) {
        guard attempt == self.attempt, case .connecting = state else {
            channel.close(promise: nil)
            return
        }
        state = .up(channel, version: version)
        upSince = .now()
        lastReason = nil
        core.laneChanged(peer, reason: nil)
    }

    fileprivate func lost(_ attempt: Int, _ error: TransportError) {
        guard attempt == self.attempt else { return }
        var wasUp = false
        switch state {
        case .up: wasUp = true
        case .connecting: break
        case .idle, .waiting, .closed: return
        }
        dropQueue()
        channel = nil
        // A link that breaks right after each handshake must not be opened again and again without a pause.
        if wasUp, .now() - upSince > core.limits.reconnectMaximum { failures = 0 }
        let timer = core.eventLoop.assumeIsolated().scheduleTask(in: pause(after: error)) { [self] in connect() }
        state = .waiting(timer)
        failures += 1
        if wasUp { core.laneChanged(peer, reason: error.description) } else { log(error) }
    }

    private func pause(after error: TransportError) -> TimeAmount {
        let limits = core.limits
        let longest: TimeAmount
        if let refusal = error.refusal, refusal != .notReady, refusal != .busy {
            longest = limits.reconnectRefused
        } else {
            let doubled = limits.reconnectMinimum.nanoseconds << min(failures, 20)
            longest = min(.nanoseconds(doubled), limits.reconnectMaximum)
        }
        return .nanoseconds(Int64.random(in: longest.nanoseconds / 2...longest.nanoseconds))
    }

    /// One line for each new reason, and a reminder each minute; the urgent lane speaks for both.
    private func log(_ error: TransportError) {
        let now = NIODeadline.now()
        if let lastReason, lastReason.text == error.description, now - lastReason.logged < .seconds(60) { return }
        lastReason = (error.description, now)
        guard purpose == .urgentMessages else { return }
        core.logger.warning(
            "no link to a peer",
            metadata: ["peer": "\(peer)", "address": "\(address)", "reason": "\(error)"]
        )
    }

    private func dropQueue() {
        isWriting = false
        outgoing = ByteBuffer()
        inFlight = ByteBuffer()
        outgoingMessages = 0
        inFlightMessages = 0
    }
}

/// Tells a lane what becomes of its connection.
private final class OutgoingLaneHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let lane: OutgoingLane
    private let attempt: Int
    private var error: TransportError?

    init(_ lane: OutgoingLane, attempt: Int) {
        self.lane = lane
        self.attempt = attempt
    }

    func channelActive(context: ChannelHandlerContext) { lane.opened(context.channel, attempt) }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard let accepted = event as? HandshakeAccepted else { return }
        lane.established(context.channel, attempt, version: accepted.version)
    }

    /// Nothing may come on an outgoing connection: the peer uses its own.
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        error = error ?? TransportError(.protocolViolation, "the peer answered on a one-way link")
        context.close(promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.error =
            self.error ?? (error as? TransportError) ?? TransportError(.disconnected, shortDescription(error))
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        lane.lost(attempt, error ?? TransportError(.disconnected, "the connection was closed"))
    }
}
