internal import LMDB

/// How far a step of scrubbing has come.
public enum ScrubStep: Hashable, Sendable {
    /// There is more behind this key.
    case more(behind: [UInt8])
    case end
}

extension Store {
    /// Looks at the pages and the records of the state's file behind `key` for some milliseconds, for checking in the background.
    ///
    /// From any thread; reads, writes and flushes go on. Throws ``StoreError/Code/corrupt`` for a damaged page or record: the node must not go
    /// on with this state.
    public func scrub(behind key: [UInt8]?, milliseconds: Int) throws -> ScrubStep {
        let backend = state.withLock { $0.backend }
        return try backend.scrub(behind: key, milliseconds: milliseconds)
    }
}

extension Backend {
    fileprivate func scrub(behind key: [UInt8]?, milliseconds: Int) throws -> ScrubStep {
        var corrupt: StoreError?
        if key == nil { _ = try readStateRecord() }
        let slice = try environment.scrub(Self.databaseNames[0], behind: key, milliseconds: milliseconds) {
            key,
            value in
            guard corrupt == nil else { return }
            guard let record = StoredRecord(value, key: key), record.isValueIntact else {
                corrupt = .corruptItem(key, path: path)
                return
            }
        }
        if !slice.damages.isEmpty { throw StoreError.damaged(path, slice.damages) }
        if let corrupt { throw corrupt }
        guard !slice.isAtEnd else { return .end }
        return .more(behind: slice.lastKey ?? [])
    }
}
