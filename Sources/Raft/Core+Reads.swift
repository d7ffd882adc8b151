internal import DequeModule

/// Linearizable reads by ReadIndex (Raft dissertation §6.4): record the commit index, confirm leadership with a full quorum round,
/// wait for the apply (R33).
extension Core {
    mutating func handleRead(_ tokens: [Token], into effects: inout Effects) {
        guard !tokens.isEmpty else { return }
        if isLeader {
            gather(tokens.map { .own($0) })
        } else if let leaderID {
            reads.trackForwarded(tokens, tick: tick)
            for message in reads.forward(to: leaderID, from: id, term: term, tick: tick, sentBefore: 0) {
                send(message, after: hardStateSequence, into: &effects)
            }
        } else {
            for token in tokens { effects.outcomes.append(.rejected(token, .noLeader, leader: nil)) }
        }
    }

    mutating func handleReadIndexRequest(_ requestID: UInt64, from peer: ServerID, into effects: inout Effects) {
        if isLeader {
            gather([.peer(peer, requestID: requestID)])
        } else {
            let body = Message.Body.readIndexResponse(requestID: requestID, index: nil)
            send(message(to: peer, body), after: hardStateSequence, into: &effects)
        }
    }

    private mutating func gather(_ readers: [ReadTracker.Reader]) {
        let mayRead = hasCommittedInTerm || isPlanted(.readsBeforeTermStart)  // R31
        if mayRead { reads.gathered += readers } else { reads.waitingForTermStart += readers }
    }

    /// The first entry of the own term is committed: reads that came before it begin now.
    mutating func gatherWaitingReads() {
        reads.gathered += reads.waitingForTermStart
        reads.waitingForTermStart = []
    }

    /// Begins one round for all reads of this step. It is a round of their own: no answer to an earlier round can confirm them (R32).
    mutating func startGatheredReads(into effects: inout Effects) {
        guard !reads.gathered.isEmpty else { return }
        reads.startRound(commit: commitIndex)
        broadcastHeartbeat(into: &effects)
        confirmReads(into: &effects)
    }

    mutating func confirm(round: UInt64, by position: Int, into effects: inout Effects) {
        let hasBegun = round <= reads.round || isPlanted(.believesRoundsToCome)
        guard round > peers[position].confirmedRound, hasBegun else { return }
        peers[position].confirmedRound = round
        confirmReads(into: &effects)
    }

    /// Releases every round that a quorum has confirmed, of both halves of a joint configuration (R34). Rounds are cumulative.
    mutating func confirmReads(into effects: inout Effects) {
        guard reads.hasRounds else { return }
        let asked = isPlanted(.readsByOneHalf) ? configuration.leavingJoint() : configuration
        let confirmed = Quorum.reached(asked) { voter in
            voter == id || isPlanted(.readsWithoutRound) ? reads.round : progress(voter)?.confirmedRound ?? 0
        }
        while let round = reads.takeRound(upTo: confirmed) {
            for reader in round.readers {
                switch reader {
                case .own(let token):
                    reads.wait(token, index: round.commit, applied: appliedIndex, into: &effects)
                case .peer(let peer, let requestID):
                    let body = Message.Body.readIndexResponse(requestID: requestID, index: round.commit)
                    send(message(to: peer, body), after: hardStateSequence, into: &effects)
                }
            }
        }
    }

    /// Leadership is lost: reads that it had not confirmed get their outcome (R36).
    mutating func failLeaderReads(into effects: inout Effects) {
        for reader in reads.takeAllReaders() {
            switch reader {
            case .own(let token): effects.outcomes.append(.rejected(token, .noLeader, leader: nil))
            case .peer(let peer, let requestID):
                let body = Message.Body.readIndexResponse(requestID: requestID, index: nil)
                send(message(to: peer, body), after: hardStateSequence, into: &effects)
            }
        }
    }
}

/// Reads on their way: through rounds of confirmation at a leader, to the leader at a follower, and waiting for the apply.
struct ReadTracker: Hashable, Sendable {
    enum Reader: Hashable, Sendable {
        case own(Token)
        case peer(ServerID, requestID: UInt64)
    }

    struct Round: Hashable, Sendable {
        var number: UInt64
        var commit: LogIndex
        var readers: [Reader]
    }

    private struct Forwarded: Hashable, Sendable {
        var requestID: UInt64
        var tokens: [Token]
        var startTick: UInt64
        var sentTick: UInt64?
    }

    private struct Waiting: Hashable, Sendable {
        var token: Token
        var index: LogIndex
    }

    /// Leader: the newest round; it never goes back, over all leaderships of this process.
    private(set) var round: UInt64 = 0
    /// Leader: reads that came before an entry of its term was committed.
    var waitingForTermStart: [Reader] = []
    /// Leader: the reads of this step, which get one round together at its end.
    var gathered: [Reader] = []
    private var rounds: Deque<Round> = []
    private var forwarded: Deque<Forwarded> = []
    private var waiting: [Waiting] = []
    private var nextID: UInt64

    /// `firstID` is random, so that an answer to a request from before a restart is never taken for one of now.
    init(firstID: UInt64) { nextID = firstID }

    mutating func makeRequestID() -> UInt64 {
        nextID &+= 1
        return nextID
    }

    // MARK: Rounds

    var hasRounds: Bool { !rounds.isEmpty }

    /// Puts what was gathered into a new round.
    mutating func startRound(commit: LogIndex) {
        if rounds.isEmpty || !isPlanted(.reusesReadRounds) { round += 1 }
        rounds.append(Round(number: round, commit: commit, readers: gathered))
        gathered = []
    }

    mutating func takeRound(upTo confirmed: UInt64) -> Round? {
        guard let first = rounds.first, first.number <= confirmed else { return nil }
        return rounds.removeFirst()
    }

    mutating func takeAllReaders() -> [Reader] {
        defer {
            waitingForTermStart = []
            gathered = []
            rounds = []
        }
        return rounds.flatMap(\.readers) + gathered + waitingForTermStart
    }

    // MARK: Forwarding

    mutating func trackForwarded(_ tokens: [Token], tick: UInt64) {
        forwarded.append(Forwarded(requestID: makeRequestID(), tokens: tokens, startTick: tick, sentTick: nil))
    }

    /// Requests to send to `leader`: all of them, or those last sent at or before the tick `sentBefore` and those never sent.
    /// Sending a read request twice is harmless.
    mutating func forward(
        to leader: ServerID,
        from id: ServerID,
        term: Term,
        tick: UInt64,
        sentBefore: UInt64 = .max
    ) -> [Message] {
        var messages: [Message] = []
        for position in forwarded.indices
        where forwarded[position].sentTick.map({ $0 <= sentBefore && sentBefore > 0 }) ?? true {
            forwarded[position].sentTick = tick
            let body = Message.Body.readIndexRequest(requestID: forwarded[position].requestID)
            messages.append(Message(from: id, to: leader, term: term, body: body))
        }
        return messages
    }

    mutating func answered(
        _ requestID: UInt64,
        index: LogIndex?,
        applied: LogIndex,
        leader: ServerID?,
        into effects: inout Effects
    ) {
        guard let position = forwarded.firstIndex(where: { $0.requestID == requestID }) else { return }
        for token in forwarded.remove(at: position).tokens {
            if let index {
                wait(token, index: index, applied: applied, into: &effects)
            } else {
                effects.outcomes.append(.rejected(token, .noLeader, leader: leader))
            }
        }
    }

    mutating func takeForwarded() -> [Token] {
        defer { forwarded = [] }
        return forwarded.flatMap(\.tokens)
    }

    mutating func expireForwarded(olderThan bound: UInt64) -> [Token] {
        var tokens: [Token] = []
        while let first = forwarded.first, first.startTick < bound { tokens += forwarded.removeFirst().tokens }
        return tokens
    }

    // MARK: Waiting for the apply

    mutating func wait(_ token: Token, index: LogIndex, applied: LogIndex, into effects: inout Effects) {
        if applied >= index || isPlanted(.readsBeforeApply) {
            effects.outcomes.append(.readReady(token, index: index))
        } else {
            waiting.append(Waiting(token: token, index: index))
        }
    }

    mutating func release(applied: LogIndex, into effects: inout Effects) {
        guard waiting.contains(where: { $0.index <= applied }) else { return }
        for reader in waiting where reader.index <= applied {
            effects.outcomes.append(.readReady(reader.token, index: applied))
        }
        waiting.removeAll { $0.index <= applied }
    }
}
