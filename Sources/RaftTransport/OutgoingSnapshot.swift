internal import Logging
internal import NIOCore
internal import Raft

/// What a snapshot stream is to carry, and how.
struct SnapshotJob: Sendable {
    var offer: SnapshotOffer
    var peer: ServerID
    var bytesPerSecond: Int?
    var read: @Sendable (_ offset: UInt64, _ maxBytes: Int) throws -> [UInt8]
    var executor: BlockingExecutor
    var completion: @Sendable (Result<Void, TransportError>) -> Void
    var limits: TransportLimits
    var logger: Logger
}

/// The sending side of a snapshot stream, on the event loop of its connection.
final class OutgoingSnapshot: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum State {
        case connecting
        case offered
        case streaming
        /// All is sent and the end announced.
        case ended
        case over
    }

    private let job: SnapshotJob
    private let eventLoop: any EventLoop
    private let finished: EventLoopPromise<Void>
    private var state = State.connecting
    private var parser = FrameParser(maximumBytes: 64 << 10)
    private var context: ChannelHandlerContext?
    private var throttle: Throttle
    /// Up to where chunks have been sent, and acknowledged.
    private var sent: UInt64 = 0
    private var acknowledged: UInt64 = 0
    /// A read, or the pause before it, is under way.
    private var isBusy = false
    private var lastHeard = NIODeadline.now()
    private var heartbeat: RepeatedTask?

    /// `finished` is fulfilled, whatever the outcome, after the job's completion was called.
    init(_ job: SnapshotJob, on eventLoop: any EventLoop, finished: EventLoopPromise<Void>) {
        self.job = job
        self.eventLoop = eventLoop
        self.finished = finished
        self.throttle = Throttle(bytesPerSecond: job.bytesPerSecond)
    }

    func start(at text: String, as identity: ServerIdentity) {
        guard case .connecting = state else { return }
        guard job.offer.descriptor.count <= SnapshotOffer.maximumDescriptorBytes else {
            return end(.failure(TransportError(.readFailed, "the snapshot's descriptor is too large to be sent")))
        }
        let address: PeerAddress
        do {
            address = try PeerAddress(parsing: text)
        } catch {
            return end(.failure(error))
        }
        let hello = Handshake.Hello(purpose: .snapshot, sender: identity, expected: job.peer)
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        let timeout = job.limits.handshakeTimeout
        let connected = Sockets.connect(to: address, on: eventLoop, limits: job.limits) {
            [ClientHandshakeHandler(hello, timeout: timeout), bound.value]
        }
        connected.assumeIsolated().whenFailure { [self] error in
            end(.failure(TransportError(.unreachable, "\(address) cannot be reached: \(shortDescription(error))")))
        }
    }

    func cancel() { end(.failure(TransportError(.cancelled, "the transfer was cancelled"))) }

    private func end(_ result: Result<Void, TransportError>) {
        if case .over = state { return }
        state = .over
        heartbeat?.cancel()
        context?.close(promise: nil)
        job.completion(result)
        finished.succeed()
    }

    private func write(_ frame: ByteBuffer) { context?.writeAndFlush(wrapOutboundOut(frame), promise: nil) }
}

// MARK: - Connection

extension OutgoingSnapshot {
    func channelActive(context: ChannelHandlerContext) {
        if case .over = state { return context.close(promise: nil) }
        self.context = context
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard event is HandshakeAccepted, case .connecting = state else { return }
        state = .offered
        write(
            Frame.make(.snapshotOffer) { buffer in
                buffer.write(job.offer.totalBytes)
                buffer.writeCounted(job.offer.descriptor)
            }
        )
        lastHeard = .now()
        let quarter = TimeAmount.nanoseconds(job.limits.snapshotIdleTimeout.nanoseconds / 4)
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        heartbeat = eventLoop.scheduleRepeatedTask(initialDelay: quarter, delay: quarter) { _ in bound.value.beat() }
    }

    private func beat() {
        if NIODeadline.now() - lastHeard > job.limits.snapshotIdleTimeout {
            end(.failure(TransportError(.timedOut, "the receiver of the snapshot has gone silent")))
        } else {
            write(Frame.make(.snapshotAlive))
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        parser.feed(unwrapInboundIn(data))
        do throws(WireError) {
            while let frame = try parser.next() { try take(frame) }
        } catch {
            end(.failure(TransportError(.protocolViolation, "the receiver of the snapshot: \(error)")))
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        end(.failure((error as? TransportError) ?? TransportError(.disconnected, shortDescription(error))))
    }

    func channelInactive(context: ChannelHandlerContext) {
        end(.failure(TransportError(.disconnected, "the connection of the snapshot was closed")))
        self.context = nil
    }

    private func take(_ frame: ReceivedFrame) throws(WireError) {
        lastHeard = .now()
        switch (frame.kind, state) {
        case (_, .over), (.snapshotAlive, _): return
        case (.snapshotResume, .offered):
            let offset = try frame.body.parse { reader throws(WireError) in try reader.read(UInt64.self) }
            guard offset <= job.offer.totalBytes else { throw WireError("resumes behind the snapshot's end") }
            state = .streaming
            sent = offset
            acknowledged = offset
            job.logger.info(
                "sending a snapshot",
                metadata: [
                    "peer": "\(job.peer)", "bytes": "\(job.offer.totalBytes)", "resumed_at": "\(offset)",
                ]
            )
            pump()
        case (.snapshotAcknowledge, .streaming), (.snapshotAcknowledge, .ended):
            let offset = try frame.body.parse { reader throws(WireError) in try reader.read(UInt64.self) }
            guard offset >= acknowledged, offset <= sent else { throw WireError("acknowledges what was not sent") }
            acknowledged = offset
            pump()
        case (.snapshotRefuse, _):
            let reason = try frame.body.parse { reader throws(WireError) in try reader.readString() }
            end(.failure(TransportError(SnapshotRefusal(parsing: reason))))
        case (.snapshotDone, .ended): end(.success(()))
        default: throw WireError("a frame out of order")
        }
    }
}

// MARK: - Chunks

extension OutgoingSnapshot {
    /// Reads and sends the next chunk when the window and the throttle allow it.
    private func pump() {
        guard case .streaming = state, !isBusy else { return }
        guard sent < job.offer.totalBytes else {
            state = .ended
            write(Frame.make(.snapshotEnd))
            return
        }
        let chunk = throttle.chunkBytes(atMost: job.limits.snapshotChunkBytes)
        guard sent - acknowledged < UInt64(chunk * job.limits.snapshotWindowChunks) else { return }
        isBusy = true
        let pause = throttle.pause(at: .now())
        guard pause > .zero else { return read(chunk) }
        _ = eventLoop.assumeIsolated().scheduleTask(in: pause) { [self] in read(chunk) }
    }

    private func read(_ chunk: Int) {
        guard case .streaming = state else { return }
        let count = Int(min(UInt64(chunk), job.offer.totalBytes - sent))
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        let (offset, read) = (sent, job.read)
        let isQueued = job.executor {
            let result = Result { try read(offset, count) }
            bound.eventLoop.execute { bound.value.didRead(result, atMost: count) }
        }
        if !isQueued { end(.failure(TransportError(.busy, "this server has too much to read at the moment"))) }
    }

    private func didRead(_ result: Result<[UInt8], any Error>, atMost count: Int) {
        guard case .streaming = state else { return }
        isBusy = false
        switch result {
        case .success(let bytes) where !bytes.isEmpty && bytes.count <= count:
            write(
                Frame.make(.snapshotChunk) { buffer in
                    buffer.reserveCapacity(minimumWritableBytes: bytes.count + 8)
                    buffer.write(sent)
                    buffer.writeBytes(bytes)
                }
            )
            sent += UInt64(bytes.count)
            throttle.sent(bytes.count, at: .now())
            pump()
        case .success:
            end(.failure(TransportError(.readFailed, "the snapshot is shorter than it was offered")))
        case .failure(let error):
            end(.failure(TransportError(.readFailed, "the snapshot cannot be read: \(error)")))
        }
    }
}
