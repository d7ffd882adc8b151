internal import DequeModule

/// For programs that explore schedules: two cores that differ only in chance, absolute time or numbering become equal.
///
/// Raft is safe under any timing, so an explorer lets time stand still and chooses itself when a timer fires. The
/// clock of an explored core always shows the same tick: everything happened "just now", except what ``elapse(_:)``
/// moves into the past for one step.
extension Core {
    /// What time can bring about at a server.
    package enum Timer: Hashable, Sendable {
        /// No leader was heard of for an election timeout. Nothing at a leader.
        case election
        /// A leader's heartbeat is due, and so is a probe of windows that nobody acknowledges. Nothing elsewhere.
        case heartbeat
        /// No follower has answered for an election timeout. Nothing but at a leader.
        case contact
    }

    /// What the clock of a canonical core shows.
    private static let standstill: UInt64 = 1 << 20

    /// Moves the past of a canonical core so that the next event, which must be ``Event/tick``, fires `timer`.
    package mutating func elapse(_ timer: Timer) {
        precondition(tick == Self.standstill, "only a canonical core is explored")
        tick = Self.standstill - 1
        switch timer {
        case .election: timerTick = Self.standstill - electionTimeout
        case .heartbeat:
            heartbeatTick = Self.standstill - options.heartbeatTicks
            for position in peers.indices { peers[position].ackTick = Self.standstill - 2 * options.heartbeatTicks }
        case .contact:
            for position in peers.indices { peers[position].contactTick = Self.standstill - 2 * options.electionTicks }
        }
    }

    /// Takes chance, absolute time and what will not be read again out of the state. To be called after each step of
    /// an exploration and before the first.
    ///
    /// - Time: everything happened just now, but for probes, which were sent so long ago that any sign of life
    ///   repeats them.
    /// - Chance: drawn anew from identity, term and log length, so that the sessions of a leader's dealings stay
    ///   distinct within its term (R28), for each begins at another length of the log.
    /// - Writes are counted from the last durable one. Answers the number to subtract from what is kept outside.
    /// - What only leaders or candidates read is cleared elsewhere, and the session that only snapshots are answered
    ///   with. So is what a leader said of its log, by which nothing is decided; see ``Message/canonical``.
    ///
    /// Must not be used where snapshots are received.
    package mutating func canonicalize() -> WriteSequence {
        tick = Self.standstill
        timerTick = tick
        electionTimeout = options.electionTicks
        heartbeatTick = tick
        for position in peers.indices {
            peers[position].contactTick = tick
            peers[position].ackTick = tick
            peers[position].probeTick = 0
            peers[position].beginning = 0
            if peers[position].departsAtTick != nil { peers[position].departsAtTick = tick + 4 * options.electionTicks }
        }
        transfer?.startTick = tick
        watchedTransfer?.tick = tick
        random = SeededRandom(
            seed: id.rawValue &* 0x9e37_79b9_7f4a_7c15 ^ term &* 0xbf58_476d_1ce4_e5b9 ^ lastIndex
                &* 0x94d0_49bb_1331_11eb
        )

        let persisted = persistedSequence
        persistedSequence = 0
        lastSequence -= persisted
        hardStateSequence -= min(persisted, hardStateSequence)
        ownVoteSequence = role == .candidate ? ownVoteSequence - min(persisted, ownVoteSequence) : 0
        for position in writesInFlight.indices {
            writesInFlight[position].sequence -= persisted
            writesInFlight[position].tick = tick
        }

        leaderSession = 0
        heardLog = nil
        if !isLeader {
            uncommittedBytes = 0
            termStartIndex = 0
        }
        return persisted
    }
}

extension Message {
    /// Without what no core decides by.
    package var canonical: Message {
        var message = self
        switch body {
        case .append(var append):
            append.leaderLog = nil
            message.body = .append(append)
        case .heartbeat(var heartbeat):
            heartbeat.leaderLog = nil
            message.body = .heartbeat(heartbeat)
        default: break
        }
        return message
    }
}
