/// The follower's side of replication.
extension Core {
    mutating func handleHeartbeat(_ heartbeat: Heartbeat, from leader: ServerID, into effects: inout Effects) {
        guard follow(leader, session: heartbeat.session, heartbeat.leaderLog, into: &effects) else { return }
        // The leader says what this server holds (R23); a commit beyond the log would be a peer's mistake.
        commit(upTo: min(heartbeat.commit, log.lastIndex), into: &effects)
        // R2: it confirms the term, so the term must be durable; entries need not be, heartbeats never wait behind them.
        let response = HeartbeatResponse(session: heartbeat.session, round: heartbeat.round)
        let sequence = isPlanted(.answersHeartbeatsEarly) ? 0 : hardStateSequence
        send(message(to: leader, .heartbeatResponse(response)), after: sequence, into: &effects)
    }

    mutating func handleAppend(_ append: Append, from leader: ServerID, into effects: inout Effects) {
        guard isWellFormed(append) || isPlanted(.acceptsMalformedAppends),
            follow(leader, session: append.session, append.leaderLog, into: &effects)
        else { return }
        if isPlanted(.refusesAppendsDuringRestore), restoring != nil { return }
        if let contradicted = firstContradiction(of: append) {
            return halt("term \(term): \(leader) contradicts the committed entry \(contradicted) (R24)")
        }
        let result: AppendResponse.Result
        if append.previous.index < commitIndex {
            // Everything committed agrees with every leader's log; the leader goes on behind it.
            result = .accepted(match: commitIndex)
        } else if log.matches(append.previous) {
            guard let verified = store(append.entries, behind: append.previous.index, into: &effects) else { return }
            let known = isPlanted(.commitsUnverified) ? log.lastIndex : verified
            commit(upTo: min(append.commit, known), into: &effects)  // R22
            result = .accepted(match: verified)
        } else {
            let bound = append.previous.index.saturatingDecrement
            let hint = log.lastPosition(atOrBelow: bound, term: append.previous.term) ?? log.base
            result = .rejected(rejected: append.previous.index, hint: hint)
        }
        let response = AppendResponse(result: result, session: append.session, round: append.round)
        let message = message(to: leader, .appendResponse(response))
        switch result {
        case .accepted(let match) where match > stableIndex && !isPlanted(.acknowledgesEarly):
            sendWhenDurable(message, into: &effects)
        case .accepted, .rejected: send(message, after: hardStateSequence, into: &effects)
        }
    }

    /// R25: entries follow their previous position without a gap, and terms neither go back nor pass the leader's.
    private func isWellFormed(_ append: Append) -> Bool {
        var previous = append.previous
        for entry in append.entries {
            guard entry.index > previous.index, entry.index - previous.index == 1, entry.term >= previous.term,
                entry.term <= term
            else {
                return false
            }
            previous = entry.position
        }
        return true
    }

    /// The first committed entry that `append` does not agree with. There is none, unless a disk or a server is broken: every
    /// leader holds what is committed.
    private func firstContradiction(of append: Append) -> LogIndex? {
        guard append.previous.index <= commitIndex, !isPlanted(.overlooksContradictions) else { return nil }
        if let known = log.term(at: append.previous.index), known != append.previous.term {
            return append.previous.index
        }
        for entry in append.entries {
            guard entry.index <= commitIndex else { break }
            if let known = log.term(at: entry.index), known != entry.term { return entry.index }
        }
        return nil
    }

    /// Takes `leader` for the leader of this term. Answers false when this server leads it itself.
    private mutating func follow(
        _ leader: ServerID,
        session: UInt64,
        _ said: LeaderLog?,
        into effects: inout Effects
    ) -> Bool {
        guard !isLeader else { return false }
        if role != .follower || leaderID != leader { becomeFollower(term: term, leader: leader, into: &effects) }
        leaderSession = session
        if let said {
            // Messages overtake one another, a leader's log only grows.
            let last = max(said.last, heardLog?.last ?? 0)
            heardLog = LeaderLog(last: last, commit: max(said.commit, heardLog?.commit ?? 0))
        }
        resetElectionTimer()
        return true
    }

    /// Stores what is new of `entries`: those that match are kept (R4), the first that differs takes the log's end with it.
    /// Answers the last index that is known to agree with the leader; nil when the core halted.
    private mutating func store(
        _ entries: [Entry],
        behind previous: LogIndex,
        into effects: inout Effects
    ) -> LogIndex? {
        let firstNew = entries.firstIndex {
            log.term(at: $0.index) != $0.term || (isPlanted(.rewritesWhatMatches) && $0.index > commitIndex)
        }
        guard let firstNew else { return previous + UInt64(entries.count) }
        let index = entries[firstNew].index
        if index <= log.lastIndex {
            guard index > commitIndex else {
                halt("term \(term): the leader's entry \(entries[firstNew].position) contradicts a committed one (R24)")
                return nil
            }
            truncate(from: index)
            if isPlanted(.truncatesApart) { closeWrite(into: &effects) }
        }
        appendEntries(entries[firstNew...])
        return previous + UInt64(entries.count)
    }
}
