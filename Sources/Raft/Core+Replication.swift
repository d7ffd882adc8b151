internal import DequeModule

/// The leader's side of replication: appends, windows, heartbeats, commit.
extension Core {
    func position(of peer: ServerID) -> Int? { peers.firstIndex { $0.id == peer } }

    func progress(_ peer: ServerID) -> Progress? { peers.first { $0.id == peer } }

    // MARK: Sending

    /// Sends to every follower what it may have now: entries within its window, or else a commit index that is news to it.
    mutating func pump(into effects: inout Effects) {
        startGatheredReads(into: &effects)
        // Like all appends at the end of a step: what they follow is in the log when the driver carries the step out.
        if !isPlanted(.neverProbesFullWindows) { probeStalledWindows(into: &effects) }
        for position in peers.indices {
            while sendAppend(to: position, into: &effects) {}
            let commit = min(commitIndex, peers[position].match)
            if commit > peers[position].sentCommit { sendHeartbeat(to: position, into: &effects) }
        }
        orderTransferWhenReady(into: &effects)
    }

    /// Sends one append if there is something to send and the follower may have it. Answers whether there may be more.
    private mutating func sendAppend(to position: Int, into effects: inout Effects) -> Bool {
        let peer = peers[position]
        switch peer.state {
        case .snapshot, .probe(isWaiting: true): return false
        case .probe: break
        case .replicate:
            guard peer.next <= log.lastIndex, !peer.isFull(options) else { return false }
        }
        guard let previousTerm = log.term(at: peer.next - 1) else {
            startSnapshot(to: position, into: &effects)
            return false
        }
        var last = peer.next - 1
        var bytes = 0
        if peer.next <= log.lastIndex {
            (last, bytes) = log.lastIndex(
                from: peer.next,
                bytes: options.maxAppendBytes,
                count: options.maxAppendEntries
            )
        }
        emitAppend(
            to: position,
            previous: LogPosition(index: peer.next - 1, term: previousTerm),
            last: last,
            into: &effects
        )
        peers[position].sent(upTo: last, bytes: bytes, tick: tick)
        return peers[position].state == .replicate
    }

    private mutating func emitAppend(
        to position: Int,
        previous: LogPosition,
        last: LogIndex,
        into effects: inout Effects
    ) {
        let peer = peers[position]
        effects.messages.append(
            .append(
                AppendOrder(
                    to: peer.id,
                    term: term,
                    previous: previous,
                    last: last,
                    commit: commitIndex,
                    session: peer.session,
                    round: reads.round,
                    leaderLog: ownLog,
                    beginning: peer.beginning
                )
            )
        )
        // The follower commits up to what this append verifies (R22).
        peers[position].sentCommit = max(peer.sentCommit, min(commitIndex, last))
    }

    mutating func sendHeartbeat(to position: Int, into effects: inout Effects) {
        let peer = peers[position]
        let commit = isPlanted(.heartbeatCommitsBeyondMatch) ? commitIndex : min(commitIndex, peer.match)  // R23
        peers[position].sentCommit = max(peer.sentCommit, commit)
        let heartbeat = Heartbeat(commit: commit, session: peer.session, round: reads.round, leaderLog: ownLog)
        effects.messages.append(.message(message(to: peer.id, .heartbeat(heartbeat))))
    }

    mutating func broadcastHeartbeat(into effects: inout Effects) {
        heartbeatTick = tick
        for position in peers.indices { sendHeartbeat(to: position, into: &effects) }
    }

    /// A window that nobody acknowledges is probed with an empty append: if the appends in it were lost, the follower says so (R29).
    private mutating func probeStalledWindows(into effects: inout Effects) {
        for position in peers.indices {
            let peer = peers[position]
            guard peer.state == .replicate, !peer.inFlight.isEmpty,
                tick - peer.ackTick >= 2 * options.heartbeatTicks
            else { continue }
            guard let previousTerm = log.term(at: peer.next - 1) else {
                // The log was trimmed beyond what was sent: only a snapshot helps.
                if !isPlanted(.keepsTrimmedWindow) { peers[position].becomeProbe(next: peer.match + 1) }
                continue
            }
            peers[position].ackTick = tick
            let previous = LogPosition(index: peer.next - 1, term: previousTerm)
            emitAppend(to: position, previous: previous, last: previous.index, into: &effects)
        }
    }

    // MARK: Answers

    /// Whether an answer belongs to the present dealings with the follower (R28).
    private func isPresent(_ session: UInt64, at position: Int) -> Bool {
        peers[position].session == session || isPlanted(.ignoresSessions)
    }

    mutating func handleHeartbeatResponse(
        _ response: HeartbeatResponse,
        from peer: ServerID,
        into effects: inout Effects
    ) {
        guard isLeader, let position = position(of: peer), isPresent(response.session, at: position) else { return }
        peers[position].contactTick = tick
        peers[position].resumeProbe(tick: tick, pause: options.heartbeatTicks)
        confirm(round: response.round, by: position, into: &effects)
    }

    mutating func handleAppendResponse(_ response: AppendResponse, from peer: ServerID, into effects: inout Effects) {
        guard isLeader, let position = position(of: peer), isPresent(response.session, at: position) else { return }
        switch response.result {
        case .accepted(let match):
            guard match <= log.lastIndex else { return }
            peers[position].contactTick = tick
            // The reads first: what is accepted may complete this leader's own removal, and then it has no followers any more.
            if !isPlanted(.commitsBeforeItConfirms) { confirm(round: response.round, by: position, into: &effects) }
            accept(match, by: position, into: &effects)
        case .rejected(let rejected, let hint):
            if isPlanted(.rejectionIsContact) { peers[position].contactTick = tick }
            handleRejection(rejected, hint, by: position)
        }
    }

    private mutating func accept(_ match: LogIndex, by position: Int, into effects: inout Effects) {
        let isNews = peers[position].acknowledge(match, tick: tick)
        switch peers[position].state {
        case .probe: if match + 1 >= peers[position].next { peers[position].becomeReplicate() }
        case .snapshot: if match >= log.base.index { peers[position].becomeReplicate() }
        case .replicate: break
        }
        if isNews { advanceCommit(into: &effects) }
    }

    /// Finds the next place to try from the follower's hint and the own log, so that a diverged log is found in a few rounds.
    private mutating func handleRejection(_ rejected: LogIndex, _ hint: LogPosition, by position: Int) {
        let peer = peers[position]
        switch peer.state {
        case .replicate:
            let isStale = rejected <= peer.match || rejected >= peer.next  // R26
            guard !isStale || isPlanted(.believesStaleRejections) else { return }
        case .probe: guard rejected == peer.next - 1, rejected > peer.match else { return }
        case .snapshot: return
        }
        let bound = min(hint.index, rejected - 1)
        let agreement = log.lastPosition(atOrBelow: bound, term: hint.term)?.index
        // Where the own log does not reach back, `next` before the base asks for a snapshot.
        peers[position].becomeProbe(next: (agreement ?? min(bound, log.base.index.saturatingDecrement)) + 1)
    }

    mutating func handleUnreachable(_ peer: ServerID) {
        guard isLeader, let position = position(of: peer), peers[position].state == .replicate else { return }
        // What was under way may be lost; begin again where the follower is known to stand.
        peers[position].becomeProbe(next: peers[position].match + 1, isWaiting: true)
    }

    // MARK: Commit

    /// Commits what a quorum holds durably, this server's own disk included, if it is of the own term (R21).
    mutating func advanceCommit(into effects: inout Effects) {
        let ownMatch = isPlanted(.countsOwnLogEarly) ? log.lastIndex : stableIndex
        let asked = isPlanted(.commitsByOneHalf) ? configuration.leavingJoint() : configuration
        let reached = Quorum.reached(asked) { voter in
            voter == id ? ownMatch : progress(voter)?.match ?? 0
        }
        guard reached > commitIndex, log.term(at: reached) == term || isPlanted(.commitsOlderTerms) else { return }
        uncommittedBytes = max(0, uncommittedBytes - log.bytes(in: (commitIndex + 1)...reached))
        let hadCommittedInTerm = hasCommittedInTerm
        commit(upTo: reached, into: &effects)
        if !hadCommittedInTerm, hasCommittedInTerm { gatherWaitingReads() }
        advanceMembership(into: &effects)
    }

    mutating func commit(upTo index: LogIndex, into effects: inout Effects) {
        guard index > commitIndex else { return }
        guard index <= log.lastIndex else { return halt("commit \(index) beyond the log's end \(log.lastIndex)") }
        let isConfigurationNews = log.configurationIndex > commitIndex && log.configurationIndex <= index
        commitIndex = index
        proposals.resolve(commit: index, leader: leaderID, log: log, into: &effects)
        if isConfigurationNews, !configuration.contains(id), !isPlanted(.removedServerKeepsCommands) {
            // Nobody will tell a removed server what becomes of the rest.
            proposals.abandonTracked(leader: leaderID == id ? nil : leaderID, into: &effects)
        }
    }
}

extension UInt64 {
    var saturatingDecrement: UInt64 { self == 0 ? 0 : self - 1 }
}
