/// Elections: pre-vote, vote, terms, and who may lead.
extension Core {
    /// A server campaigns by its latest appended membership (R16), and only when it ``isFitToLead``.
    ///
    /// One whose removal is not known to be committed campaigns as well, without counting its own vote: it may be the only one
    /// whose log is long enough, and its vote may be needed where the removal has not arrived (Raft dissertation §4.2.2).
    var mayCampaign: Bool {
        isPossibleVoter && isFitToLead
    }

    /// Not while the disk hangs (R19), a snapshot is being installed, or the server is barred; a leader's wish changes nothing about it.
    private var isFitToLead: Bool {
        (!storageStalled || isPlanted(.campaignsWithStalledDisk))
            && (restoring == nil || isPlanted(.campaignsDuringRestore))
            && (mayLead || configuration.isOnlyVoter(id) || isPlanted(.campaignsWhenBarred))
    }

    private var isPossibleVoter: Bool {
        if isPlanted(.campaignsByCommittedMembership) { return log.configuration(at: commitIndex).isVoter(id) }
        return log.hasVoter(id, inForceSince: commitIndex) || isPlanted(.campaignsWithoutVote)
    }

    // MARK: Campaigns

    /// Asks whether an election could be won, without disturbing anybody (Raft dissertation §9.6).
    mutating func campaignForPreVotes(into effects: inout Effects) {
        role = .preCandidate
        leaderID = nil
        votes = [:]
        let request = VoteRequest(last: log.last)
        for voter in configuration.members.map(\.id) where configuration.isVoter(voter) && voter != id {
            // R2: nothing leaves before the term it speaks of is durable.
            send(message(to: voter, term: term + 1, .preVoteRequest(request)), after: hardStateSequence, into: &effects)
        }
        recordVote(from: id, granted: true, into: &effects)
    }

    mutating func campaign(isTransfer: Bool, into effects: inout Effects) {
        becomeFollower(term: term, leader: nil, into: &effects)
        role = .candidate
        votes = [:]
        setHardState(term: term + 1, vote: id)
        termChanged(into: &effects)
        resetElectionTimer()
        ownVoteSequence = lastSequence
        let request = VoteRequest(last: log.last, isTransfer: isTransfer)
        for voter in configuration.members.map(\.id) where configuration.isVoter(voter) && voter != id {
            let sequence = isPlanted(.asksForVotesEarly) ? 0 : lastSequence
            send(message(to: voter, .voteRequest(request)), after: sequence, into: &effects)
        }
        if isPlanted(.countsOwnVoteEarly) { recordVote(from: id, granted: true, into: &effects) }
    }

    mutating func recordVote(from peer: ServerID, granted: Bool, into effects: inout Effects) {
        if votes[peer] == nil { votes[peer] = granted }
        let asked = isPlanted(.electsByOneHalf) ? configuration.leavingJoint() : configuration
        let result = Quorum.result(asked) { votes[$0] }
        switch (result, role) {
        // What made it unfit may have come while it waited for the votes.
        case (.won, .preCandidate) where isFitToLead: campaign(isTransfer: false, into: &effects)
        case (.won, .candidate) where isFitToLead: becomeLeader(into: &effects)
        case (.won, .preCandidate), (.won, .candidate), (.lost, _):
            becomeFollower(term: term, leader: nil, into: &effects)
        case (.won, _), (.pending, _): break
        }
    }

    // MARK: Roles

    /// Follows `leader`, or nobody yet. Within a term the vote stays (R11).
    mutating func becomeFollower(term newTerm: Term, leader: ServerID?, into effects: inout Effects) {
        if isLeader { endLeadership(into: &effects) }
        role = .follower
        votes = [:]
        heardLog = nil
        if newTerm > term {
            setHardState(term: newTerm, vote: nil)
            leaderID = leader
            termChanged(into: &effects)
        } else {
            leaderID = leader
            if isPlanted(.forgetsVoteWithinTerm) { setHardState(term: term, vote: nil) }
        }
        guard let leader else { return }
        if let watched = watchedTransfer {
            effects.outcomes.append(.done(watched.token))
            watchedTransfer = nil
        }
        for message in reads.forward(to: leader, from: id, term: term, tick: tick) {
            send(message, after: hardStateSequence, into: &effects)
        }
    }

    /// Commands whose leader is gone before it answered may or may not stand in its log (R48).
    private mutating func termChanged(into effects: inout Effects) {
        proposals.abandonForwarded(leader: leaderID, into: &effects)
    }

    private mutating func becomeLeader(into effects: inout Effects) {
        role = .leader
        leaderID = id
        votes = [:]
        heartbeatTick = tick
        peers = []
        transfer = nil
        giveWayTick = 0
        membershipToken = nil
        if let watched = watchedTransfer {
            // Leadership came back here; whether it went away first, nobody saw.
            if !isPlanted(.forgetsWatchedTransfer) { effects.outcomes.append(.unknown(watched.token, leader: id)) }
            watchedTransfer = nil
        }
        uncommittedBytes = log.lastIndex > commitIndex ? log.bytes(in: (commitIndex + 1)...log.lastIndex) : 0
        configurationChanged()
        // R30: the no-op is never refused for its size. Nothing is committed, read or reconfigured before it is committed.
        let hasRoom = uncommittedBytes <= options.maxUncommittedBytes || !isPlanted(.refusesOwnNoop)
        if hasRoom { appendEntries([Entry(index: log.lastIndex + 1, term: term, payload: .noop)]) }
        termStartIndex = log.lastIndex
        for token in reads.takeForwarded() { reads.waitingForTermStart.append(.own(token)) }
        for position in peers.indices { sendHeartbeat(to: position, into: &effects) }
    }

    /// Everything that hung on being leader gets its outcome (R36).
    private mutating func endLeadership(into effects: inout Effects) {
        peers = []
        leaderID = nil
        if isPlanted(.dropsTailAtStepDown), log.lastIndex > commitIndex { truncate(from: commitIndex + 1) }
        resetElectionTimer()
        if !isPlanted(.forgetsReadsAtStepDown) { failLeaderReads(into: &effects) }
        if let token = transfer?.token { watchedTransfer = WatchedTransfer(token: token, tick: tick) }
        transfer = nil
        if let token = membershipToken { effects.outcomes.append(.unknown(token, leader: nil)) }
        membershipToken = nil
    }

    /// Whether a quorum has answered within an election timeout (R17, R18, R34).
    var hasRecentQuorum: Bool { tick - quorumContactTick <= options.electionTicks }

    /// When a quorum had last answered.
    private var quorumContactTick: UInt64 {
        let asked = isPlanted(.asksOneHalfForContact) ? configuration.leavingJoint() : configuration
        let contact = Quorum.reached(asked) { voter in
            voter == id ? tick : progress(voter)?.contactTick ?? 0
        }
        return min(contact, tick)
    }

    /// Ticks since this server last heard of the leader that it follows, or since a quorum had last answered the leader that it is; nil while it
    /// knows none.
    public var ticksSinceLeader: UInt64? {
        guard leaderID != nil else { return nil }
        return tick - (isLeader ? quorumContactTick : timerTick)
    }

    /// Whether this server has heard from a leader lately, so that an election would only disturb.
    private var hearsLeader: Bool {
        isLeader || (leaderID != nil && tick - timerTick < options.electionTicks)
    }

    // MARK: Messages

    /// No cluster gets here in earnest; a message from beyond is garbage and must not wear out the terms.
    static let highestTerm: Term = 1 << 62

    mutating func handleMessage(_ message: Message, into effects: inout Effects) {
        let isForUs = message.to == id || isPlanted(.takesForeignMessages)
        let isOfThisWorld = message.term <= Self.highestTerm || isPlanted(.believesEveryTerm)
        guard isForUs, message.from != id, isOfThisWorld else { return }
        if message.term > term {
            guard adoptTerm(of: message, into: &effects) else { return }
        } else if message.term < term {
            if !isPlanted(.leavesStaleUnanswered) { answerStale(message, into: &effects) }
            return
        }
        switch message.body {
        case .preVoteRequest(let request): handlePreVoteRequest(request, message, into: &effects)
        case .voteRequest(let request): handleVoteRequest(request, from: message.from, into: &effects)
        case .preVoteResponse(let granted):
            // A grant speaks of the term that we would campaign in; one for another term is a late answer.
            if role == .preCandidate, !granted || message.term == term + 1 || isPlanted(.countsLatePreVotes) {
                recordVote(from: message.from, granted: granted, into: &effects)
            }
        case .voteResponse(let granted):
            if role == .candidate { recordVote(from: message.from, granted: granted, into: &effects) }
        case .append(let append): handleAppend(append, from: message.from, into: &effects)
        case .heartbeat(let heartbeat): handleHeartbeat(heartbeat, from: message.from, into: &effects)
        case .appendResponse(let response): handleAppendResponse(response, from: message.from, into: &effects)
        case .heartbeatResponse(let response): handleHeartbeatResponse(response, from: message.from, into: &effects)
        case .timeoutNow:
            guard configuration.isVoter(id), !isLeader, isFitToLead && !givesWay || isPlanted(.campaignsWhenAsked)
            else { break }
            if isPlanted(.transferAsksForPreVotes) {
                campaignForPreVotes(into: &effects)
            } else {
                campaign(isTransfer: true, into: &effects)
            }
        case .readIndexRequest(let requestID):
            handleReadIndexRequest(requestID, from: message.from, into: &effects)
        case .readIndexResponse(let requestID, let index):
            reads.answered(requestID, index: index, applied: appliedIndex, leader: leaderID, into: &effects)
        case .propose(let requestID, let commands):
            handleForwardedPropose(requestID, commands, from: message.from, into: &effects)
        case .proposeResponse(let requestID, let result):
            handleProposeResponse(requestID, result, into: &effects)
        }
    }

    /// A higher term is obeyed, except where following it would let a disturber in. Answers whether to go on with the message.
    private mutating func adoptTerm(of message: Message, into effects: inout Effects) -> Bool {
        switch message.body {
        case .preVoteRequest: return true  // asks about a term that nobody is in yet; changes nothing (R13)
        case .preVoteResponse(granted: true): return message.term == term + 1
        case .voteRequest(let request) where !request.isTransfer && hearsLeader: return false
        case .heartbeatResponse where isPlanted(.ignoresTermOfReplies): return false
        case .append, .heartbeat: becomeFollower(term: message.term, leader: message.from, into: &effects)
        default: becomeFollower(term: message.term, leader: nil, into: &effects)
        }
        return true
    }

    /// Tells a sender that lives in the past which term it is, so that it stands down or catches up (R13, R18).
    private mutating func answerStale(_ message: Message, into effects: inout Effects) {
        switch message.body {
        case .append(let append):
            let response = HeartbeatResponse(session: append.session, round: 0)
            send(self.message(to: message.from, .heartbeatResponse(response)), after: hardStateSequence, into: &effects)
        case .heartbeat(let heartbeat):
            let response = HeartbeatResponse(session: heartbeat.session, round: 0)
            send(self.message(to: message.from, .heartbeatResponse(response)), after: hardStateSequence, into: &effects)
        case .preVoteRequest:
            let response = self.message(to: message.from, .preVoteResponse(granted: false))
            send(response, after: hardStateSequence, into: &effects)
        case .voteRequest:
            let response = self.message(to: message.from, .voteResponse(granted: false))
            send(response, after: hardStateSequence, into: &effects)
        case .readIndexRequest(let requestID):
            let response = self.message(to: message.from, .readIndexResponse(requestID: requestID, index: nil))
            send(response, after: hardStateSequence, into: &effects)
        case .propose(let requestID, _):
            let response = ProposeResult.rejected(leader: leaderID)
            send(
                self.message(to: message.from, .proposeResponse(requestID: requestID, response)),
                after: hardStateSequence,
                into: &effects
            )
        default: break
        }
    }

    /// The vote rule of Raft §5.4.1; a learner answers by it too, it may have been promoted without knowing (R15).
    private func couldVote(for candidate: ServerID, _ request: VoteRequest, inTerm asked: Term, isPre: Bool) -> Bool {
        let isFree =
            hardState.vote == candidate || (hardState.vote == nil && leaderID == nil) || (isPre && asked > term)
        if isPlanted(.comparesLogLengths) { return isFree && request.last.index >= log.last.index }
        if isPlanted(.comparesLastTerms) { return isFree && request.last.term >= log.last.term }
        return isFree && request.last >= log.last  // (term, index), lexicographically (R12)
    }

    private mutating func handlePreVoteRequest(
        _ request: VoteRequest,
        _ message: Message,
        into effects: inout Effects
    ) {
        if isPlanted(.preVoteChangesTerm), message.term > term {
            becomeFollower(term: message.term, leader: nil, into: &effects)
        }
        let isQuiet = !hearsLeader || isPlanted(.preVoteAgainstLeader)
        let granted = isQuiet && couldVote(for: message.from, request, inTerm: message.term, isPre: true)
        // A grant speaks of the term asked for, a refusal of our own.
        let response = self.message(
            to: message.from,
            term: granted ? message.term : term,
            .preVoteResponse(granted: granted)
        )
        send(response, after: hardStateSequence, into: &effects)
    }

    private mutating func handleVoteRequest(
        _ request: VoteRequest,
        from candidate: ServerID,
        into effects: inout Effects
    ) {
        let mayVote = configuration.isVoter(id) || !isPlanted(.learnerRefusesVotes)
        let granted = mayVote && couldVote(for: candidate, request, inTerm: term, isPre: false)
        if granted {
            setHardState(term: term, vote: candidate)
            resetElectionTimer()
            // An own pre-campaign ends here: late answers to it must not disturb the winner.
            role = .follower
            votes = [:]
        }
        let sequence = isPlanted(.grantsVotesEarly) ? 0 : lastSequence
        send(message(to: candidate, .voteResponse(granted: granted)), after: sequence, into: &effects)
    }
}
