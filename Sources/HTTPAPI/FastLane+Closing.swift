import KeyValueService
import NIOCore
import NIOHTTP1

extension FastLane {
    /// What is thrown away of a request that was refused, before the connection is cut, in bytes.
    private static let lingerBytes = 4 << 20
    private static let lingerTime = TimeAmount.seconds(2)

    /// The last answer is written: closes our side once it is sent, and waits for the client's.
    ///
    /// A plain close would drop what the client has not taken yet, and would reset the connection when unread bytes are waiting; the
    /// reset may overtake the answer (RFC 9112 §9.6).
    func beginLingering() {
        guard let context, let wire else { return }
        switch phase {
        case .closed, .lingering: return
        default: break
        }
        backlog.removeAll()
        phase = .lingering(discarded: 0)
        scheduleWatchdog(in: loop.server.options.idleTimeout)
        let sent = context.eventLoop.makePromise(of: Void.self)
        wire.writeAndFlush(NIOAny(ByteBuffer()), promise: sent)
        sent.futureResult.assumeIsolatedUnsafeUnchecked().whenComplete { _ in
            guard case .lingering = self.phase, let context = self.context else { return }
            self.scheduleWatchdog(in: Self.lingerTime)
            // Closes both sides when the client has closed its own.
            context.close(mode: .output, promise: nil)
        }
        if readIsHeld {
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
    func quiesce() {
        guard !isQuiescing else { return }
        isQuiescing = true
        if case .lingering = phase { return }
        if case .watching = phase { return endWatchBecauseOfStop() }
        scheduleWatchdog(in: loop.server.options.drainGrace)
    }

    // MARK: Time

    func scheduleWatchdog(in delay: TimeAmount) {
        cancelWatchdog()
        guard context != nil else { return }
        let lane = NIOLoopBound(self, eventLoop: loop.eventLoop)
        watchdog = loop.timers.schedule(at: .now() + delay) { lane.value.wake() }
    }

    func cancelWatchdog() {
        guard let watchdog else { return }
        loop.timers.cancel(watchdog)
        self.watchdog = nil
    }

    private func wake() {
        watchdog = nil
        watch()
    }

    private func watch() {
        guard let context else { return }
        let options = loop.server.options
        let idle = NIODeadline.now() - lastActivity
        switch phase {
        case .closed: break
        case .lingering: context.close(promise: nil)
        case .idle where headSince != nil && backlog.isEmpty:
            // The time that the request before it took does not count.
            guard isTooSlow(min(idle, headSince.map { .now() - $0 } ?? idle)) else { return }
            (keepsAlive, isHead) = (false, false)
            answer(isQuiescing ? .shuttingDown : .requestTimeout)
        case .idle:
            if isQuiescing || idle >= options.idleTimeout {
                beginLingering()
            } else {
                // A request that begins meanwhile must be found in time as well, without a timer of its own.
                scheduleWatchdog(in: min(options.idleTimeout - idle, options.requestTimeout))
            }
        case .collecting:
            guard isTooSlow(idle) else { return }
            answer(isQuiescing ? .shuttingDown : .requestTimeout)
        case .passing(let passing) where !passing.requestEnded:
            guard isTooSlow(idle) else { return }
            if passing.responseEnded {
                beginLingering()
            } else if passing.responseBegan {
                context.close(promise: nil)
            } else {
                // The router waits for the body before it does anything.
                answer(isQuiescing ? .shuttingDown : .requestTimeout)
            }
        case .watching(let stream) where stream.watch != nil: beat(stream)
        case .working, .watching, .passing:
            // The service bounds it.
            scheduleWatchdog(in: isQuiescing ? options.drainGrace : min(options.idleTimeout, options.requestTimeout))
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
