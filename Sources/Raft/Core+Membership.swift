/// Changes of membership by joint consensus (Raft paper §6), and handing leadership over.
extension Core {
    mutating func handleChange(_ token: Token, to target: Configuration, into effects: inout Effects) {
        guard isLeader else {
            effects.outcomes.append(.rejected(token, .noLeader, leader: leaderID))
            return
        }
        guard !target.isJoint, !target.voters.isEmpty, target.isDistinct else {
            effects.outcomes.append(.rejected(token, .invalid, leader: id))
            return
        }
        // R42: one change at a time, and only once an entry of this term is committed.
        let isSettled = log.configurationIndex <= commitIndex || isPlanted(.changesTwiceAtOnce)
        let mayChange = (hasCommittedInTerm || isPlanted(.changesBeforeTermStart)) && isSettled
        guard mayChange, !configuration.isJoint, transfer == nil else {
            effects.outcomes.append(.rejected(token, .busy, leader: id))
            return
        }
        membershipToken = token
        appendConfiguration(configuration.joint(to: target))
    }

    private mutating func appendConfiguration(_ configuration: Configuration) {
        appendEntries([Entry(index: log.lastIndex + 1, term: term, payload: .configuration(configuration))])
    }

    /// Leaves a joint configuration once it is committed, whoever began it (R44), and ends a change once that is committed too.
    mutating func advanceMembership(into effects: inout Effects) {
        guard isLeader, log.configurationIndex <= commitIndex else { return }
        if configuration.isJoint {
            if hasCommittedInTerm, membershipToken != nil || !isPlanted(.leavesOnlyOwnJoint) {
                appendConfiguration(configuration.leavingJoint())
                // Fewer servers are asked now; no further answer may come.
                if !isPlanted(.forgetsReadsAtJointEnd) { confirmReads(into: &effects) }
            }
            return
        }
        if let token = membershipToken {
            membershipToken = nil
            effects.outcomes.append(.done(token))
        }
        if !configuration.isVoter(id), !isPlanted(.leadsAfterRemoval) { leaveLeadership(into: &effects) }
    }

    /// A leader that was removed stands down when its removal is committed, and the others learn that commit first (R43).
    private mutating func leaveLeadership(into effects: inout Effects) {
        if !isPlanted(.leavesWithoutAWord) {
            for position in peers.indices { sendHeartbeat(to: position, into: &effects) }
        }
        if let successor = bestSuccessor, progress(successor)?.match == log.lastIndex {
            effects.messages.append(.message(message(to: successor, .timeoutNow)))
        }
        becomeFollower(term: term, leader: nil, into: &effects)
    }

    /// Brings the list of followers in line with the newest appended configuration.
    mutating func configurationChanged() {
        guard isLeader else { return }
        for position in peers.indices where !configuration.contains(peers[position].id) {
            guard peers[position].departsAtTick == nil else { continue }
            // It is told of its removal before it is forgotten.
            peers[position].departsAtTick = tick + 4 * options.electionTicks
        }
        for member in configuration.members where member.id != id {
            let position = position(of: member.id)
            if let position, peers[position].departsAtTick == nil { continue }
            if let position { peers.remove(at: position) }  // added again: new dealings, a new session (R28)
            peers.append(Progress(id: member.id, session: random.next(), next: log.lastIndex + 1, tick: tick))
        }
        peers.sort { $0.id < $1.id }
    }

    mutating func dropDeparted() {
        let removal = log.configurationIndex
        peers.removeAll { peer in
            guard let departsAtTick = peer.departsAtTick else { return false }
            return isPlanted(.dropsRemovedAtOnce) || tick >= departsAtTick
                || (removal <= commitIndex && min(peer.match, peer.sentCommit) >= removal)
        }
    }

    // MARK: Transfer

    mutating func handleTransfer(_ token: Token, to target: ServerID?, into effects: inout Effects) {
        guard isLeader else {
            effects.outcomes.append(.rejected(token, .noLeader, leader: leaderID))
            return
        }
        guard let successor = target ?? bestSuccessor, successor != id, configuration.voters.contains(successor) else {
            effects.outcomes.append(.rejected(token, .invalid, leader: id))
            return
        }
        // One that may not lead is about to stand down by itself; one wish after the other must not keep it in office (R19).
        guard transfer == nil, mayLead || isPlanted(.transfersWhenBarred) else {
            effects.outcomes.append(.rejected(token, .busy, leader: id))
            return
        }
        transfer = Transfer(token: token, target: successor, startTick: tick)
    }

    /// A leader that should not lead hands leadership over, and tries again after a while where that does not come about.
    mutating func giveWay() {
        guard transfer == nil, tick >= giveWayTick, let best = bestSuccessor, !isPlanted(.neverGivesWay) else {
            return
        }
        // Who declined does not say so: of those that hold the whole log, each is asked in turn.
        let whole = peers.map(\.id).filter { progress($0)?.match == log.lastIndex && isSuccessor($0) }
        let successor = whole.first { $0 > giveWayAsked } ?? whole.first ?? best
        giveWayAsked = successor
        giveWayTick = tick + 4 * options.electionTicks
        transfer = Transfer(token: nil, target: successor, startTick: tick)
    }

    /// The voter that was heard from lately and holds the most of the log.
    private var bestSuccessor: ServerID? {
        peers.filter { isSuccessor($0.id) }.max { $0.match < $1.match }?.id
    }

    private func isSuccessor(_ peer: ServerID) -> Bool {
        guard configuration.voters.contains(peer), let contact = progress(peer)?.contactTick else { return false }
        return tick - contact <= options.electionTicks
    }

    /// The target is told to campaign only when it holds the whole log (R45).
    mutating func orderTransferWhenReady(into effects: inout Effects) {
        guard let pending = transfer, !pending.isOrdered else { return }
        let isReady = progress(pending.target)?.match == log.lastIndex || isPlanted(.transfersToLagging)
        guard isReady else { return }
        transfer?.isOrdered = true
        effects.messages.append(.message(message(to: pending.target, .timeoutNow)))
    }

    /// A transfer that does not come about within an election timeout ends; commands are taken again (R45).
    mutating func expireTransfer(into effects: inout Effects) {
        guard let pending = transfer, tick - pending.startTick >= options.electionTicks,
            !isPlanted(.neverGivesUpTransfer)
        else { return }
        transfer = nil
        guard let token = pending.token else { return }
        effects.outcomes.append(
            pending.isOrdered ? .unknown(token, leader: id) : .rejected(token, .busy, leader: id)
        )
    }
}
