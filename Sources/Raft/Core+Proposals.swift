/// Commands: appended by the leader, forwarded by followers, and what becomes of them.
extension Core {
    mutating func handlePropose(_ batch: [Proposal], into effects: inout Effects) {
        guard isLeader else {
            forward(batch, into: &effects)
            return
        }
        var entries: [Entry] = []
        for proposal in batch {
            if let reason = refusal(of: proposal.command.count) {
                effects.outcomes.append(.rejected(proposal.token, reason, leader: leaderID))
                continue
            }
            let position = LogPosition(index: log.lastIndex + 1 + UInt64(entries.count), term: term)
            let entry = Entry(index: position.index, term: term, payload: .command(proposal.command))
            uncommittedBytes += entry.size
            entries.append(entry)
            proposals.track(proposal.token, at: position)
        }
        if !entries.isEmpty { appendEntries(entries) }
        if isPlanted(.singleServerSkipsSync), configuration.voters == [id] {
            stableIndex = log.lastIndex
            advanceCommit(into: &effects)
        }
    }

    /// Why a leader does not take a command now; nil when it does.
    private func refusal(of bytes: Int) -> RejectionReason? {
        if transfer != nil, !isPlanted(.appendsDuringTransfer) { return .transferring }  // R45
        if isPlanted(.hungPeerBlocksCommands), peers.contains(where: { $0.isFull(options) }) { return .overloaded }
        let mayRefuse = uncommittedBytes > 0 || isPlanted(.refusesLargeCommands)
        return mayRefuse && uncommittedBytes + bytes > options.maxUncommittedBytes ? .overloaded : nil
    }

    private mutating func forward(_ batch: [Proposal], into effects: inout Effects) {
        guard let leaderID else {
            for proposal in batch { effects.outcomes.append(.rejected(proposal.token, .noLeader, leader: nil)) }
            return
        }
        var rest = batch[...]
        while !rest.isEmpty {
            var bytes = 0
            // A bound on each message: one that is too large for the link would be dropped for all.
            let piece = rest.prefix { proposal in
                defer { bytes += Entry.Payload.overhead + proposal.command.count }
                return bytes < options.maxAppendBytes
            }
            rest = rest.dropFirst(piece.count)
            let requestID = reads.makeRequestID()
            proposals.trackForwarded(piece.map(\.token), requestID: requestID, tick: tick)
            let body = Message.Body.propose(requestID: requestID, commands: piece.map(\.command))
            send(message(to: leaderID, body), after: hardStateSequence, into: &effects)
        }
    }

    /// A follower's commands are appended all or none, so that one answer speaks for all.
    mutating func handleForwardedPropose(
        _ requestID: UInt64,
        _ commands: [[UInt8]],
        from peer: ServerID,
        into effects: inout Effects
    ) {
        let bytes = commands.reduce(0) { $0 + Entry.Payload.overhead + $1.count }
        let refusal = refusal(of: bytes)
        let result: ProposeResult
        if isLeader, !commands.isEmpty, refusal == nil {
            let first = LogPosition(index: log.lastIndex + 1, term: term)
            uncommittedBytes += bytes
            appendEntries(
                commands.enumerated().map { offset, command in
                    Entry(index: first.index + UInt64(offset), term: term, payload: .command(command))
                }
            )
            result = .accepted(first: first)
        } else {
            result = isLeader && refusal == .overloaded ? .overloaded : .rejected(leader: leaderID)
        }
        let body = Message.Body.proposeResponse(requestID: requestID, result)
        send(message(to: peer, body), after: hardStateSequence, into: &effects)
    }

    mutating func handleProposeResponse(_ requestID: UInt64, _ result: ProposeResult, into effects: inout Effects) {
        guard let tokens = proposals.takeForwarded(requestID) else { return }
        switch result {
        case .accepted(let first):
            for (offset, token) in tokens.enumerated() {
                proposals.track(token, at: LogPosition(index: first.index &+ UInt64(offset), term: first.term))
            }
            proposals.resolve(commit: commitIndex, leader: leaderID, log: log, into: &effects)
        case .rejected(let leader):
            for token in tokens {
                effects.outcomes.append(.rejected(token, leader == nil ? .noLeader : .transferring, leader: leader))
            }
        case .overloaded:
            for token in tokens { effects.outcomes.append(.rejected(token, .overloaded, leader: leaderID)) }
        }
    }

    /// Requests that a leader does not answer end by age.
    mutating func expireForwarded(into effects: inout Effects) {
        let age = 2 * options.electionTicks
        if tick > age { proposals.abandonForwarded(olderThan: tick - age, leader: leaderID, into: &effects) }
        for token in reads.expireForwarded(olderThan: tick > age ? tick - age : 0) {
            effects.outcomes.append(.rejected(token, .noLeader, leader: leaderID))
        }
        if tick % (2 * options.heartbeatTicks) == 0, let leaderID, !isLeader {
            let again = reads.forward(
                to: leaderID,
                from: id,
                term: term,
                tick: tick,
                sentBefore: tick - min(tick, 2 * options.heartbeatTicks)
            )
            for message in again { send(message, after: hardStateSequence, into: &effects) }
        }
        if let watched = watchedTransfer, tick - watched.tick > 3 * options.electionTicks {
            effects.outcomes.append(.unknown(watched.token, leader: leaderID))
            watchedTransfer = nil
        }
    }
}

/// Follows commands from their place in a log to their outcome.
struct ProposalTracker: Hashable, Sendable {
    private struct Tracked: Hashable, Sendable {
        var token: Token
        var position: LogPosition
    }

    private struct Forwarded: Hashable, Sendable {
        var requestID: UInt64
        var tokens: [Token]
        var tick: UInt64
    }

    /// In the order of their indices, but for what was tracked under an earlier leadership.
    private var tracked: [Tracked] = []
    /// Handed to a leader that has not answered yet, oldest first.
    private var forwarded: [Forwarded] = []

    var hasForwarded: Bool { !forwarded.isEmpty }

    mutating func track(_ token: Token, at position: LogPosition) {
        tracked.append(Tracked(token: token, position: position))
    }

    mutating func trackForwarded(_ tokens: [Token], requestID: UInt64, tick: UInt64) {
        forwarded.append(Forwarded(requestID: requestID, tokens: tokens, tick: tick))
    }

    mutating func takeForwarded(_ requestID: UInt64) -> [Token]? {
        guard let position = forwarded.firstIndex(where: { $0.requestID == requestID }) else { return nil }
        return forwarded.remove(at: position).tokens
    }

    /// Whoever could have answered is gone: the commands may or may not be in its log (R48).
    mutating func abandonForwarded(olderThan bound: UInt64 = .max, leader: ServerID?, into effects: inout Effects) {
        guard forwarded.contains(where: { $0.tick < bound }) else { return }
        for request in forwarded where request.tick < bound {
            for token in request.tokens {
                let outcome = Outcome.unknown(token, leader: leader)
                effects.outcomes.append(
                    isPlanted(.silenceIsRejection) ? .rejected(token, .noLeader, leader: leader) : outcome
                )
            }
        }
        forwarded.removeAll { $0.tick < bound }
    }

    mutating func abandonTracked(leader: ServerID?, into effects: inout Effects) {
        for item in tracked { effects.outcomes.append(.unknown(item.token, leader: leader)) }
        tracked = []
    }

    /// What stands at or below `commit` has its outcome: committed where the term agrees, superseded where it does not. A truncated
    /// entry alone proves nothing, another server may still commit it; but behind a committed entry of a later term nothing of an
    /// earlier term can ever come, for terms do not go back in a log.
    mutating func resolve(commit: LogIndex, leader: ServerID?, log: Log, into effects: inout Effects) {
        let term = log.term(at: commit) ?? 0
        let isTouched = tracked.contains { $0.position.index <= commit || $0.position.term < term }
        guard isTouched || isPlanted(.truncatedIsRejected) else { return }
        tracked.removeAll { item in
            guard item.position.index <= commit else {
                let isSuperseded = item.position.term < term && !isPlanted(.supersededStaysOpen)
                let isTruncated = isPlanted(.truncatedIsRejected) && !log.matches(item.position)
                guard isSuperseded || isTruncated else { return false }
                effects.outcomes.append(.rejected(item.token, .superseded, leader: leader))
                return true
            }
            switch log.term(at: item.position.index) {
            case item.position.term: effects.outcomes.append(.committed(item.token, at: item.position))
            case nil where !isPlanted(.swallowedIsRejected):
                effects.outcomes.append(.unknown(item.token, leader: leader))
            case nil, .some: effects.outcomes.append(.rejected(item.token, .superseded, leader: leader))
            }
            return true
        }
    }
}
