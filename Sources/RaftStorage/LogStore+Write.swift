internal import LMDB
package import Raft
internal import Synchronization

extension LogStore {
    /// How many entries below the base one housekeeping transaction removes.
    static let trimChunk = 10_000
    /// How many of them a transaction removes that somebody waits for.
    private static let trimBeside = 1000

    /// Carries out all writes of a group in one transaction, each in the order that ``Raft/StorageWrite`` tells.
    /// Durable on return; when it throws, none of it is.
    ///
    /// A write that breaks the order of the log (a gap, a term that goes back, a second vote in a term) throws
    /// ``StorageError/Code/outOfOrder``. After a failure of the disk every later write throws (R6); only a full disk
    /// or map, which LMDB undoes cleanly, leaves the store usable.
    package func write(_ group: [StorageWrite]) throws(StorageError) {
        guard !group.isEmpty else { return }
        var next = try stateForWriting()
        try commit(&next) { transaction, next in
            for write in group { try carryOut(write, on: &next, transaction) }
            guard next.last.term <= next.metadata.hardState.term else {
                throw StorageError(
                    .outOfOrder,
                    "entry \(next.last) would be stored before its term is (R3)",
                    index: next.last.index
                )
            }
            try removeStale(&next, transaction, limit: Self.trimBeside)
            try record(&next, transaction)
        }
    }

    private func carryOut(
        _ write: StorageWrite,
        on next: inout State,
        _ transaction: borrowing WriteTransaction
    ) throws {
        if let base = write.replaceLog {
            try transaction.deleteAll(in: database)
            // The record under key 0 went with the entries.
            next.recorded = nil
            next.metadata.base = base
            next.last = base.position
            next.staleFrom = nil
            (next.isTouched, next.isTailFresh) = (true, false)
        }
        if let index = write.truncateFrom { try truncate(from: index, &next, transaction) }
        for entry in write.append { try append(entry, &next, transaction) }
        if let base = write.trimTo { try trim(to: base, &next, transaction) }
        if let hardState = write.hardState {
            let present = next.metadata.hardState
            let keepsVote = hardState.term > present.term || present.vote == nil || present.vote == hardState.vote
            guard hardState.term >= present.term, keepsVote else {
                throw StorageError(.outOfOrder, "\(hardState) cannot follow \(present) (R1, R11)")
            }
            next.metadata.hardState = hardState
        }
    }

    private func truncate(
        from index: LogIndex,
        _ next: inout State,
        _ transaction: borrowing WriteTransaction
    ) throws {
        let base = next.metadata.base.position
        guard index > base.index else {
            throw StorageError(
                .outOfOrder,
                "a log that begins behind \(base) cannot be cut at \(index)",
                index: index
            )
        }
        guard index <= next.last.index else { return }
        try transaction.delete(index...next.last.index, in: database)
        (next.isTouched, next.isTailFresh) = (true, false)
        next.last =
            index - 1 == base.index ? base : LogPosition(index: index - 1, term: try term(at: index - 1, transaction))
    }

    private func append(_ entry: Entry, _ next: inout State, _ transaction: borrowing WriteTransaction) throws {
        guard entry.index == next.last.index + 1, entry.term >= next.last.term else {
            throw StorageError(
                .outOfOrder,
                "entry \(entry.position) cannot follow \(next.last) (R25)",
                index: entry.index
            )
        }
        let (kind, payload) = entry.payload.encoded
        let size = EntryRecord.size(payload: payload.count)
        try transaction.put(count: size, forKey: entry.index, in: database, mode: .append) {
            EntryRecord.write(
                into: $0,
                index: entry.index,
                term: entry.term,
                transactionID: UInt64(transaction.transactionID),
                kind: kind,
                payload: payload
            )
        }
        next.last = entry.position
        next.isTailFresh = true
    }

    private func trim(to base: LogBase, _ next: inout State, _ transaction: borrowing WriteTransaction) throws {
        let (position, present) = (base.position, next.metadata.base.position)
        // A trim that was decided before a snapshot replaced the log.
        guard position.index > present.index else { return }
        guard position.index <= next.last.index, try term(at: position.index, transaction) == position.term else {
            throw StorageError(
                .outOfOrder,
                "the log, which ends at \(next.last), has no entry \(position) to be trimmed to",
                index: position.index
            )
        }
        next.metadata.base = base
        next.staleFrom = next.staleFrom ?? present.index + 1
    }

    private func term(at index: LogIndex, _ transaction: borrowing WriteTransaction) throws -> Term {
        guard let record = try transaction.value(forKey: index, in: database) else {
            throw StorageError(.corrupt, "the log lacks entry \(index); \(StorageError.remedy)", index: index)
        }
        return try EntryRecord(verifying: record, index: index).term
    }

    /// Writes the record under key 0 if it has changed, or if nothing else tells which transaction this is: the last entry does
    /// when it is new, and costs no page more.
    func record(_ next: inout State, _ transaction: borrowing WriteTransaction) throws {
        defer { (next.isTouched, next.isTailFresh) = (false, false) }
        guard next.recorded != next.metadata || (next.isTouched && !next.isTailFresh) else { return }
        let record = next.metadata.encode(transactionID: UInt64(transaction.transactionID))
        try transaction.put(record, forKey: UInt64(0), in: database)
        next.recorded = next.metadata
    }

    /// Removes some of the entries at or below the base, from the first on.
    func removeStale(_ next: inout State, _ transaction: borrowing WriteTransaction, limit: Int) throws {
        guard let first = next.staleFrom else { return }
        let count = try transaction.delete(first...next.metadata.base.position.index, in: database, limit: limit)
        if count > 0 { next.isTouched = true }
        next.staleFrom = count < limit ? nil : first + UInt64(count)
    }

    func stateForWriting() throws(StorageError) -> State {
        let state = state.withLock { $0 }
        if let failure = state.failure {
            throw StorageError(.stopped, "nothing is written after a failure (R6): \(failure)")
        }
        return state
    }

    /// Runs a transaction that leads to the state `next`, which is published once it is durable.
    func commit(
        _ next: inout State,
        _ body: (borrowing WriteTransaction, inout State) throws -> Void
    ) throws(StorageError) {
        do {
            var changed = next
            try storing { try environment.write { try body($0, &changed) } }
            next = changed
        } catch {
            throw stop(error)
        }
        let published = next
        state.withLock { $0 = published }
    }

    /// Remembers a failure after which nothing may be written any more, and hands it back.
    func stop(_ error: StorageError) -> StorageError {
        // These three are clean: the transaction was undone before any of it could have reached the disk as a commit.
        if ![.diskFull, .mapFull, .outOfOrder].contains(error.code) {
            state.withLock { $0.failure = $0.failure ?? error }
        }
        return error
    }
}
