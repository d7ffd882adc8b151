internal import Logging
internal import NIOCore
internal import Raft
internal import Synchronization

/// The receiving side of a snapshot stream. Lives on the transport's event loop; the sink works off it.
///
/// offer → resume(offset) or refuse; chunk → acknowledge(offset) once the sink has it; end → done or refuse.
final class IncomingSnapshot {
    /// Room for a chunk of a sender with other limits, and for an offer.
    static let maximumFrameBytes = 4 << 20
    /// What a sender may have under way: far more than the window of one that waits for acknowledgements.
    private static let maximumOutstandingBytes = 32 << 20

    enum Output {
        case frame(ByteBuffer)
        /// The connection is closed behind it.
        case last(ByteBuffer)
        case close
    }

    private enum State {
        case awaitingOffer
        case beginning
        case receiving(GuardedSink, next: UInt64, total: UInt64)
        /// The verdict is being found.
        case finishing
        case ended
    }

    private let core: TransportCore
    private let peer: ServerIdentity
    private let output: (Output) -> Void
    private var state = State.awaitingOffer
    private var outstandingBytes = 0
    private var lastHeard = NIODeadline.now()
    private var heartbeat: RepeatedTask?

    init(core: TransportCore, peer: ServerIdentity, output: @escaping (Output) -> Void) {
        self.core = core
        self.peer = peer
        self.output = output
    }

    /// Begins to send signs of life and to expect them.
    func start() {
        let quarter = TimeAmount.nanoseconds(core.limits.snapshotIdleTimeout.nanoseconds / 4)
        let bound = NIOLoopBound(self, eventLoop: core.eventLoop)
        heartbeat = core.eventLoop.scheduleRepeatedTask(initialDelay: quarter, delay: quarter) { _ in
            bound.value.beat()
        }
    }

    private func beat() {
        if NIODeadline.now() - lastHeard > core.limits.snapshotIdleTimeout {
            output(.close)
        } else {
            output(.frame(Frame.make(.snapshotAlive)))
        }
    }

    /// The connection is gone, or is being closed. May be called again.
    func connectionEnded() {
        heartbeat?.cancel()
        // While it begins or finishes, the work under way sees to the end.
        if case .receiving(let sink, _, _) = state { abandon(sink) }
        state = .ended
    }

    /// Tells a sink of the end, later where there is too much to do now.
    private func abandon(_ sink: GuardedSink) {
        guard !core.snapshotWork.submit({ sink.abandon() }), !core.isShutDown else { return }
        let bound = NIOLoopBound(self, eventLoop: core.eventLoop)
        core.eventLoop.scheduleTask(in: .milliseconds(100)) { bound.value.abandon(sink) }
    }

    private static let tooMuch = SnapshotRefusal(.unavailable, "this server has too much to do at the moment")

    func take(_ frame: ReceivedFrame) throws(WireError) {
        lastHeard = .now()
        switch (frame.kind, state) {
        case (.snapshotAlive, _), (_, .ended): return
        case (.snapshotOffer, .awaitingOffer):
            begin(
                try frame.body.parse { reader throws(WireError) in
                    let total: UInt64 = try reader.read()
                    let descriptor = try reader.readCountedBytes()
                    guard descriptor.count <= SnapshotOffer.maximumDescriptorBytes else {
                        throw WireError("a snapshot's descriptor is too large")
                    }
                    return SnapshotOffer(descriptor: descriptor, totalBytes: total)
                }
            )
        case (.snapshotChunk, .receiving(let sink, let next, let total)):
            let bytes = try frame.body.parse { reader throws(WireError) in
                guard try reader.read(UInt64.self) == next else { throw WireError("a snapshot chunk out of order") }
                return try reader.readBytes(reader.remaining)
            }
            guard !bytes.isEmpty, UInt64(bytes.count) <= total - next else {
                throw WireError("a snapshot chunk that is empty or beyond the end")
            }
            outstandingBytes += bytes.count
            guard outstandingBytes <= Self.maximumOutstandingBytes else {
                throw WireError("a snapshot sender that does not wait for acknowledgements")
            }
            state = .receiving(sink, next: next + UInt64(bytes.count), total: total)
            write(bytes, at: next, to: sink)
        case (.snapshotEnd, .receiving(let sink, let next, let total)):
            guard next == total else { throw WireError("a snapshot that ends too early") }
            state = .finishing
            finish(sink)
        default: throw WireError("a snapshot frame out of order")
        }
    }
}

// MARK: - Work off the event loop

extension IncomingSnapshot {
    private func begin(_ offer: SnapshotOffer) {
        state = .beginning
        let bound = NIOLoopBound(self, eventLoop: core.eventLoop)
        let (receiver, peer) = (core.snapshotReceiver, peer)
        let isQueued = core.snapshotWork.submit {
            let admission = Result { try receiver.begin(offer, from: peer) }
            bound.eventLoop.execute { bound.value.began(admission, total: offer.totalBytes) }
        }
        if !isQueued { refuse(Self.tooMuch) }
    }

    private func began(_ admission: Result<SnapshotAdmission, any Error>, total: UInt64) {
        switch admission {
        case .success(.accepted(let sink, let offset)):
            guard case .beginning = state, offset <= total else {
                abandon(GuardedSink(sink))
                return refuse(SnapshotRefusal(.unavailable, "the receiver holds more than is offered"))
            }
            state = .receiving(GuardedSink(sink), next: offset, total: total)
            core.logger.info(
                "receiving a snapshot",
                metadata: ["peer": "\(peer.serverID)", "bytes": "\(total)", "resumed_at": "\(offset)"]
            )
            output(.frame(Frame.make(.snapshotResume) { $0.write(offset) }))
        case .success(.refused(let reason)): refuse(reason)
        case .failure(let error): refuse(error)
        }
    }

    private func write(_ bytes: [UInt8], at offset: UInt64, to sink: GuardedSink) {
        let bound = NIOLoopBound(self, eventLoop: core.eventLoop)
        let isQueued = core.snapshotWork.submit {
            let result = Result { try sink.write(bytes, at: offset) }
            bound.eventLoop.execute { bound.value.wrote(bytes.count, at: offset, result) }
        }
        guard !isQueued else { return }
        abandon(sink)
        refuse(Self.tooMuch)
    }

    private func wrote(_ count: Int, at offset: UInt64, _ result: Result<Void, any Error>) {
        outstandingBytes -= count
        switch (result, state) {
        case (.success, .receiving), (.success, .finishing):
            output(.frame(Frame.make(.snapshotAcknowledge) { $0.write(offset + UInt64(count)) }))
        case (.failure(let error), .receiving), (.failure(let error), .finishing): refuse(error)
        default: return
        }
    }

    private func finish(_ sink: GuardedSink) {
        let bound = NIOLoopBound(self, eventLoop: core.eventLoop)
        let isQueued = core.snapshotWork.submit {
            let verdict = Result { try sink.finish() }
            bound.eventLoop.execute { bound.value.finished(verdict) }
        }
        guard !isQueued else { return }
        abandon(sink)
        refuse(Self.tooMuch)
    }

    private func finished(_ verdict: Result<SnapshotVerdict, any Error>) {
        guard case .finishing = state else { return }
        switch verdict {
        case .success(.accepted):
            end()
            output(.last(Frame.make(.snapshotDone)))
        case .success(.refused(let reason)): refuse(reason)
        case .failure(let error): refuse(error)
        }
    }

    private func refuse(_ error: any Error) {
        refuse(error as? SnapshotRefusal ?? SnapshotRefusal(.unavailable, "\(error)"))
    }

    private func refuse(_ refusal: SnapshotRefusal) {
        guard !isEnded else { return }
        end()
        core.logger.warning("refused a snapshot", metadata: ["peer": "\(peer.serverID)", "reason": "\(refusal)"])
        output(.last(Frame.make(.snapshotRefuse) { $0.writeText(refusal.description) }))
    }

    private var isEnded: Bool {
        if case .ended = state { true } else { false }
    }

    private func end() {
        state = .ended
        heartbeat?.cancel()
    }
}

/// Holds a sink to its contract: nothing behind a failure, and one end. Its calls come one at a time, through
/// `SerialWork`.
private final class GuardedSink: Sendable {
    private let sink: any SnapshotSink
    private let isOver = Mutex(false)

    init(_ sink: any SnapshotSink) { self.sink = sink }

    func write(_ bytes: [UInt8], at offset: UInt64) throws {
        guard !isOver.withLock({ $0 }) else { throw WireError("the stream has ended") }
        do {
            try sink.write(bytes, at: offset)
        } catch {
            abandon()
            throw error
        }
    }

    func finish() throws -> SnapshotVerdict {
        guard takeEnd() else { return .refused(SnapshotRefusal(.unavailable, "the stream has ended")) }
        return try sink.finish()
    }

    func abandon() {
        if takeEnd() { sink.abandon() }
    }

    private func takeEnd() -> Bool {
        isOver.withLock { isOver in
            defer { isOver = true }
            return !isOver
        }
    }
}
