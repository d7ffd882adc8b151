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
    /// What is scrubbed, one after the other. A place is the number of the database here, and a key in it.
    private static let scrubbed = ["items", "history", "deletions"]

    fileprivate func scrub(behind place: [UInt8]?, milliseconds: Int) throws -> ScrubStep {
        let database = Int(place?.first ?? 0)
        guard database < Self.scrubbed.count else { return .end }
        let key = place.map { Array($0.dropFirst()) }
        var corrupt: StoreError?
        if place == nil {
            _ = try readStateRecord()
            _ = try environment.read { try readHistory(in: $0).state }
        }
        let behind = key.flatMap { $0.isEmpty ? nil : $0 }
        let slice = try environment.scrub(Self.scrubbed[database], behind: behind, milliseconds: milliseconds) {
            key,
            value in
            if corrupt == nil { corrupt = error(in: database, key, value) }
        }
        if !slice.damages.isEmpty { throw StoreError.damaged(path, slice.damages) }
        if let corrupt { throw corrupt }
        if !slice.isAtEnd { return .more(behind: [UInt8(database)] + (slice.lastKey ?? [])) }
        return database + 1 < Self.scrubbed.count ? .more(behind: [UInt8(database + 1)]) : .end
    }

    /// What is wrong with a record; nil when nothing is.
    private func error(
        in database: Int,
        _ key: UnsafeRawBufferPointer,
        _ value: UnsafeRawBufferPointer
    ) -> StoreError? {
        switch Self.scrubbed[database] {
        case "items": StoredRecord(value, key: key)?.isValueIntact ?? false ? nil : .corruptItem(key, path: path)
        case "history": HistoryRecord(value, key: key)?.isIntact(key: key) ?? false ? nil : corruptHistory(key)
        default: DeletionRecord.decode(value, key: key) == nil ? .corruptItem(key, path: path) : nil
        }
    }
}
