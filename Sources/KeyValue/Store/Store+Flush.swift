internal import Glibc
internal import LMDB

extension Store {
    /// Returns when a flush has set the memtable aside, so that more can be applied, or when `isGivenUp`.
    public func waitForFlush(isGivenUp: () -> Bool) {
        while state.withLock({ $0.isFull }), !isGivenUp() { usleep(1_000) }
    }

    /// Makes everything durable that was applied before the call, and answers the position up to which it is.
    ///
    /// On the flush thread. Applying and reading go on meanwhile, and readers see the same state before, during and after. When it
    /// throws, nothing is lost from memory and a later call tries again; but after any error other than ``StoreError/Code/noRoom``
    /// the process should end, because a later success would say nothing about what the disk holds.
    @discardableResult
    public func flush() throws -> (index: UInt64, term: UInt64) {
        try maintenance.withLock { _ in try flushWhileHolding() }
    }

    /// The caller holds `maintenance`.
    func flushWhileHolding() throws -> (index: UInt64, term: UInt64) {
        // One that a failed flush left behind goes first.
        if let left = state.withLock({ $0.frozen }) { try write(left) }
        if let frozen = state.withLock({ $0.freeze() }) { try write(frozen) }
        return durablePosition
    }

    private func write(_ frozen: FrozenMemtable) throws {
        let backend = state.withLock { $0.backend }
        do {
            do {
                try backend.commit(frozen)
            } catch let error as LMDBError where error.isLackOfRoom {
                // The past is worth less than what is to be made durable.
                guard let rest = state.withLock({ $0.giveUpHistory() }) else { throw error }
                try backend.commit(rest)
            }
        } catch let error as LMDBError where error.isLackOfRoom {
            throw StoreError(
                code: .noRoom,
                path: directory.path,
                message: "no room to make the state durable (\(error)); "
                    + "about \((2 * frozen.bytes) >> 20 + 2) MiB should be free"
            )
        }
        state.withLock { state in
            state.durable = frozen.record
            state.frozen = nil
        }
        // The entries are freed here, behind the lock, with the last reference.
    }
}

extension LiveState {
    /// Sets the active memtable aside to be flushed; nil when nothing was applied since the last time.
    fileprivate mutating func freeze() -> FrozenMemtable? {
        precondition(frozen == nil, "one flush at a time")
        guard record != durable else { return nil }
        let new = FrozenMemtable(table: active, log: log, record: record, history: history)
        frozen = new
        active = Memtable()
        freezes += 1
        itemPages = 0
        log = EventLog(base: record.mark.revision)
        oldestUnflushed = nil
        return new
    }
}
