internal import DequeModule

/// Snapshots: sent to followers that need what the log no longer holds, taken in from a leader, and the log trimmed below them.
extension Core {
    // MARK: Leader

    /// The follower needs entries before the log's base. One that does not answer is not sent a snapshot.
    mutating func startSnapshot(to position: Int, into effects: inout Effects) {
        guard tick - peers[position].contactTick <= options.electionTicks else {
            peers[position].becomeProbe(next: peers[position].next, isWaiting: true)
            return
        }
        peers[position].becomeSnapshot()
        effects.snapshotSends.append(SnapshotSend(to: peers[position].id, atLeast: log.base.index))
    }

    mutating func handleSnapshotSent(to peer: ServerID, sent: LogIndex?) {
        guard isLeader, let position = position(of: peer), peers[position].state == .snapshot else { return }
        if isPlanted(.forgetsFailedSnapshot), sent == nil { return }
        // Its next heartbeat answer resumes: it has had time to take the snapshot in, or a failed transfer is tried again.
        peers[position].becomeProbe(next: sent.map { $0 + 1 } ?? peers[position].next, isWaiting: true)
    }

    // MARK: Follower

    mutating func handleSnapshotReceived(_ snapshot: LogBase, from sender: ServerID, into effects: inout Effects) {
        guard !isLeader, restoring == nil else { return }
        if snapshot.position.index > commitIndex || isPlanted(.installsOldSnapshots) {
            if holds(snapshot.position) {
                // The log holds it all: what stands behind it is kept (R38), and the entries are applied as usual. A campaign ends: what
                // is committed now may have removed this server (R43).
                if role != .follower { becomeFollower(term: term, leader: nil, into: &effects) }
                commit(upTo: snapshot.position.index, into: &effects)
            } else {
                install(snapshot, into: &effects)
            }
        }
        // At or below the commit index it is old news (R37); the leader learns where this server stands all the same.
        let result = AppendResponse.Result.accepted(match: commitIndex)
        let response = AppendResponse(result: result, session: leaderSession, round: 0)
        sendWhenDurable(message(to: leaderID ?? sender, .appendResponse(response)), into: &effects)
    }

    private func holds(_ position: LogPosition) -> Bool {
        if isPlanted(.matchesSnapshotByIndex) { return position.index <= log.lastIndex }
        return log.matches(position) && !isPlanted(.dropsLogBehindSnapshot)
    }

    /// The snapshot takes the place of the whole log (R38) and of the membership, a stale uncommitted one too (R39).
    private mutating func install(_ snapshot: LogBase, into effects: inout Effects) {
        let index = snapshot.position.index
        // R3: the snapshot may come before any message of its leader. A campaign with the log that goes now ends.
        let isNewTerm = snapshot.position.term > term && !isPlanted(.ignoresTermOfSnapshot)
        if isNewTerm || role != .follower {
            becomeFollower(term: isNewTerm ? snapshot.position.term : term, leader: nil, into: &effects)
        }
        let membership = isPlanted(.keepsMembershipAtInstall) ? configuration : snapshot.configuration
        log = Log(base: LogBase(position: snapshot.position, configuration: membership), entries: [])
        for position in writesInFlight.indices where !isPlanted(.lateWriteRevivesReplaced) {
            writesInFlight[position].last = 0
        }
        stableIndex = 0
        withWrite { write in
            write.append = []
            write.truncateFrom = nil
            write.trimTo = nil
            write.replaceLog = snapshot
        }
        restoring = index
        applyingIndex = index
        effects.applyUpTo = nil
        effects.restore = snapshot
        commit(upTo: index, into: &effects)
    }

    mutating func handleRestored(_ index: LogIndex, into effects: inout Effects) {
        guard restoring == index else { return halt("restored \(index), which was not asked for") }
        restoring = nil
        appliedIndex = index
        reads.release(applied: index, into: &effects)
    }

    // MARK: Compaction

    /// Trims the log, never beyond what is applied and durable here (R8).
    mutating func handleCompact(upTo index: LogIndex) {
        let bound = isPlanted(.trimsUnapplied) ? commitIndex : min(appliedIndex, stableIndex)
        guard restoring == nil, index > log.base.index, index <= bound else { return }
        log.trim(upTo: index)
        let base = log.logBase
        withWrite { $0.trimTo = base }
    }
}
