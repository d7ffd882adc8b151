internal import Raft
internal import RaftDriver
internal import RaftTransport

/// What tells whether others may count on this server: see ``Pursuit``.
extension Engine {
    /// What was seen of the leader, and of a read that it confirmed.
    struct Confirmation {
        /// A read index was confirmed since the start, and applied.
        var isThere = false
        var isAsked = false
        /// When it may be asked for again.
        var nextTick: UInt64 = 0
        /// The tick at which the leader was last heard of, and the time that it was noticed.
        var heard: (tick: UInt64, at: ContinuousClock.Instant)?
    }

    /// Asks for a read index, as a client would, until one was confirmed since the start.
    func confirmOnce() {
        guard !confirmation.isThere, !confirmation.isAsked, driver.core.leaderID != nil,
            driver.ticks >= confirmation.nextTick
        else { return }
        confirmation.isAsked = true
        let token = register(
            .read { outcome in
                self.confirmation.isAsked = false
                // What is refused was so at once, or after a time: not with every tick again.
                self.confirmation.nextTick = self.driver.ticks + self.driver.core.options.heartbeatTicks
                if case .ready = outcome { self.confirmation.isThere = true }
            }
        )
        step([.read([token])])
    }

    /// Ticks stand still with the process, and this clock does not: so a leader of before a pause is not one that was just heard.
    func noteLeaderHeard() {
        guard let silence = driver.core.ticksSinceLeader else {
            confirmation.heard = nil
            return
        }
        let tick = driver.ticks - min(driver.ticks, silence)
        if confirmation.heard?.tick != tick { confirmation.heard = (tick, .now) }
    }

    var pursuit: Pursuit {
        let core = driver.core
        var pursuit = Pursuit()
        pursuit.leaderLog = core.leaderLog
        pursuit.lag = driver.lag
        pursuit.keepsUp = driver.keepsUp
        pursuit.readyLag = driver.options.readyLag
        pursuit.keptLag = driver.options.keptLag
        pursuit.hasConfirmedRead = confirmation.isThere
        if driver.isLoadingSnapshot {
            pursuit.snapshot = .installing
        } else if let leader = core.leaderID, transport.isReceivingSnapshot(from: leader) {
            pursuit.snapshot = .receiving
        }
        pursuit.leaderHeard = confirmation.heard?.at
        pursuit.patience = .milliseconds(2 * Int(core.options.electionTicks) * options.tickMilliseconds)
        return pursuit
    }
}
