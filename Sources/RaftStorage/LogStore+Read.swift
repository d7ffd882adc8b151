internal import LMDB
package import Raft
internal import Synchronization

extension LogStore {
    /// The entries from `first` through `last`, as many as fit in `maxBytes` (counted as ``Raft/Entry/size``), and at
    /// least one when `first` is there. Empty when it is not: trimmed, or not written yet. Every entry is verified.
    /// From any thread.
    package func read(
        from first: LogIndex,
        through last: LogIndex,
        maxBytes: Int
    ) throws(StorageError) -> [Entry] {
        guard first > 0, first <= last else { return [] }
        return try storing {
            try environment.read { transaction in
                guard let metadata = try transaction.value(forKey: UInt64(0), in: database) else {
                    throw StorageError.entry(0, .damaged)
                }
                guard try first > MetadataRecord.baseIndex(verifying: metadata) else { return [] }
                return try transaction.withCursor(in: database) { cursor in
                    var entries: [Entry] = []
                    var size = 0
                    var item = try cursor.seek(first)
                    while let current = item, current.integerKey <= last {
                        let index = first + UInt64(entries.count)
                        guard current.integerKey == index else {
                            throw StorageError(
                                .corrupt,
                                "the log lacks entry \(index); \(StorageError.remedy)",
                                index: index
                            )
                        }
                        let entry = try EntryRecord(verifying: current.value, index: index).entry()
                        size += entry.size
                        guard entries.isEmpty || size <= maxBytes else { break }
                        entries.append(entry)
                        item = try cursor.next()
                    }
                    return entries
                }
            }
        }
    }

    /// Verifies up to `limit` records from entry `index` on (0 for the record of identity), for checking in the
    /// background. Returns where to go on, or nil at the end of the log.
    package func scrub(from index: LogIndex, limit: Int) throws(StorageError) -> LogIndex? {
        try storing {
            try environment.read { transaction in
                try transaction.withCursor(in: database) { cursor in
                    var item = try cursor.seek(atLeast: index)
                    for _ in 0..<limit {
                        guard let current = item else { return nil }
                        let key = current.integerKey
                        if key == 0 {
                            _ = try MetadataRecord(verifying: current.value)
                        } else {
                            _ = try EntryRecord(verifying: current.value, index: key)
                        }
                        item = try cursor.next()
                    }
                    return item?.integerKey
                }
            }
        }
    }
}
