import NIOCore
import NIOHTTP1

extension FastLane {
    /// What is thrown away of a request that was refused, before the connection is cut, in bytes.
    private static let lingerBytes = 4 << 20
    private static let lingerTime = TimeAmount.seconds(2)

    /// The last answer is written: closes our side and waits for the client's.
    ///
    /// A plain close would reset the connection when unread bytes are waiting, and the reset may overtake the answer
    /// (RFC 9112 §9.6).
    func beginLingering() {
        guard let context else { return }
        switch phase {
        case .closed, .lingering: return
        default: break
        }
        let waiting = backlog
        backlog.removeAll()
        phase = .lingering(discarded: 0)
        context.flush()
        context.close(mode: .output, promise: nil)
        scheduleWatchdog(in: Self.lingerTime)
        if waiting.contains(where: { if case .inputClosed = $0 { true } else { false } }) {
            context.close(promise: nil)
        } else if readIsHeld {
            readIsHeld = false
            context.read()
        }
    }

    func linger(discarded: Int) {
        phase = .lingering(discarded: discarded)
        if discarded > Self.lingerBytes { context?.close(promise: nil) }
    }

    // MARK: Stopping

    /// The server is stopping: what is under way is finished, what comes from now on is refused, and an idle connection is closed
    /// after a moment, in which a request that is on its way already still gets its answer.
    func quiesce(_ context: ChannelHandlerContext) {
        guard !isQuiescing else { return }
        isQuiescing = true
        if case .passing = phase {
            // The router's own handler closes behind the answer.
            context.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
        }
        scheduleWatchdog(in: loop.server.options.drainGrace)
    }

    // MARK: Time

    func scheduleWatchdog(in delay: TimeAmount) {
        guard let context else { return }
        watchdog?.cancel()
        watchdog = context.eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: delay) { self.watch() }
    }

    private func watch() {
        guard let context else { return }
        let options = loop.server.options
        let idle = NIODeadline.now() - lastActivity
        switch phase {
        case .closed: break
        case .lingering: context.close(promise: nil)
        case .idle:
            if isQuiescing || idle >= options.idleTimeout {
                context.close(promise: nil)
            } else {
                scheduleWatchdog(in: options.idleTimeout - idle)
            }
        case .collecting:
            guard isTooSlow(idle) else { return }
            answer(isQuiescing ? .shuttingDown : .requestTimeout)
        case .passing(let passing) where !passing.requestEnded:
            guard isTooSlow(idle) else { return }
            context.close(promise: nil)
        case .working, .passing:
            // The service bounds it.
            scheduleWatchdog(in: isQuiescing ? options.drainGrace : options.idleTimeout)
        }
    }

    /// Whether a request has been arriving for too long; if not, looks again when it will have been. Counted from its begin: drop by
    /// drop is too slow as well. While the server stops, the patience is short.
    private func isTooSlow(_ age: TimeAmount) -> Bool {
        let options = loop.server.options
        let patience = isQuiescing ? min(options.requestTimeout, Self.lingerTime) : options.requestTimeout
        if age >= patience { return true }
        scheduleWatchdog(in: patience - age)
        return false
    }
}
