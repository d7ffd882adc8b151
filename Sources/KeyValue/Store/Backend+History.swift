internal import LMDB

extension Backend {
    /// Under it lies the ``HistoryState`` in the database "meta".
    static let historyKey = Array("history".utf8)

    /// What the environment keeps of the history; that of an empty one when nothing was written.
    func readHistory<T: LMDB.Transaction & ~Copyable>(
        in transaction: borrowing T
    ) throws -> (state: HistoryState, extent: HistoryExtent) {
        guard let bytes = try transaction.value(forKey: Self.historyKey, in: meta) else {
            // What was before it, nobody knows.
            return (HistoryState(empty: try readStateRecord(in: transaction).mark.revision), HistoryExtent())
        }
        guard let history = HistoryState.decode(bytes) else {
            throw StoreError.corrupt(path, "the record of the history is corrupt")
        }
        return history
    }

    /// The revision in which a key was deleted that is not there, as far as the history goes back; nil when there is none.
    func deletion<T: LMDB.Transaction & ~Copyable>(
        of key: UnsafeRawBufferPointer,
        in transaction: borrowing T
    ) throws -> UInt64? {
        guard let bytes = try transaction.value(forKey: key, in: deletions) else { return nil }
        return try decodeDeletion(bytes, key: key)
    }

    func decodeDeletion(_ bytes: UnsafeRawBufferPointer, key: UnsafeRawBufferPointer) throws(StoreError) -> UInt64 {
        guard let revision = DeletionRecord.decode(bytes, key: key) else { throw .corruptItem(key, path: path) }
        return revision
    }

    /// - Parameter place: revision and key, see ``HistoryRecord/key(_:_:)``.
    func decodeHistory(
        _ bytes: UnsafeRawBufferPointer,
        place: UnsafeRawBufferPointer
    ) throws(StoreError) -> HistoryRecord {
        guard let record = HistoryRecord(bytes, key: place) else { throw corruptHistory(place) }
        return record
    }

    func corruptHistory(_ place: UnsafeRawBufferPointer) -> StoreError {
        guard let (revision, key) = HistoryRecord.split(place) else {
            return .corrupt(path, "a record of the history is corrupt")
        }
        return .corrupt(
            path,
            "the history's record of \(Space.describe(rawKey: key)) in revision \(revision) is corrupt"
        )
    }

    /// The change of `key` in `revision`, which must be in the history.
    func change<T: LMDB.Transaction & ~Copyable>(
        of key: UnsafeRawBufferPointer,
        in revision: UInt64,
        _ transaction: borrowing T
    ) throws -> HistoryRecord {
        try HistoryRecord.key(revision, key).withUnsafeBytes { place in
            guard let bytes = try transaction.value(forKey: place, in: history) else { throw corruptHistory(place) }
            return try decodeHistory(bytes, place: place)
        }
    }

    /// A key as it stood at `revision`, which must not lie below the floor of the history; nil when it was not there.
    func record(
        of key: UnsafeRawBufferPointer,
        at revision: UInt64,
        in transaction: borrowing ReadTransaction
    ) throws -> StoredRecord? {
        var newest: UInt64
        if let record = try record(of: key, in: transaction) {
            if record.metadata.modRevision <= revision { return record }
            newest = record.metadata.modRevision
        } else {
            guard let deletion = try deletion(of: key, in: transaction), deletion > revision else { return nil }
            newest = deletion
        }
        // Back to the first change after the revision: each knows two that came before it.
        while true {
            let change = try change(of: key, in: newest, transaction)
            if change.jump > revision {
                newest = change.jump
            } else if change.previous > revision {
                newest = change.previous
            } else {
                return try change.before.map { try decode($0, key: key) }
            }
        }
    }

    func withCursor<Result>(
        in database: Database,
        _ transaction: borrowing ReadTransaction,
        _ body: (inout Cursor) throws -> Result
    ) throws -> Result {
        try transaction.withCursor(in: database, body)
    }
}

// MARK: Flushing

/// For each change of a log, the places of two earlier changes of its key in the log: the previous one, and one that is so far
/// back that any is reached in a number of steps that grows with the logarithm (Myers, 1983).
private struct Jumps {
    private var previous: [Int32] = []
    private var jump: [Int32] = []
    private var depth: [Int32] = []

    init(reserving count: Int) {
        previous.reserveCapacity(count)
        jump.reserveCapacity(count)
        depth.reserveCapacity(count)
    }

    /// Adds the next change; answers where it jumps to, nil when it is the first of its key.
    mutating func append(previous: Int?) -> Int? {
        let place = Int32(depth.count)
        guard let previous else {
            self.previous.append(-1)
            jump.append(place)
            depth.append(0)
            return nil
        }
        let middle = Int(jump[previous])
        let far = Int(jump[middle])
        let target = depth[previous] - depth[middle] == depth[middle] - depth[far] ? far : previous
        self.previous.append(Int32(previous))
        jump.append(Int32(target))
        depth.append(depth[previous] + 1)
        return target
    }
}

extension Backend {
    /// The most records that one flush removes, beside twice as many as it adds.
    private static let trimmedAtLeast = 4096
    /// And the most of deletes: each changes a page anywhere among the deleted keys, or two.
    private static let trimmedDeletes = 10_000

    /// Adds the changes of a memtable to the history, before its items are written: what they replace is taken from there.
    func writeHistory(_ frozen: FrozenMemtable, in transaction: borrowing WriteTransaction) throws {
        var (_, extent) = try readHistory(in: transaction)
        let floor = frozen.history.floor.revision
        let log = frozen.log
        var jumps = Jumps(reserving: log.count)
        var buffer: [UInt8] = []
        for index in 0..<log.count {
            let change = log[index]
            let earlier = change.entry.withKey { log.find($0, in: change.previous) }
            let jump = jumps.append(previous: earlier)
            guard change.revision > floor else {
                if earlier == nil { try forgetDeletion(of: change, &extent, transaction) }
                continue
            }
            let found = try before(change, earlier.map { log[$0] }, frozen.table, transaction, &extent, &buffer)
            try change.entry.withKey { key in
                let place = HistoryRecord.key(change.revision, key)
                let length = HistoryRecord.headerLength + (found.isThere ? buffer.count : 0)
                var checksum: UInt32 = 0
                try transaction.put(count: length, forKey: place, in: history, mode: .append) { bytes in
                    place.withUnsafeBytes { place in
                        buffer.withUnsafeBytes { before in
                            checksum = HistoryRecord.encode(
                                key: place,
                                kind: change.kind,
                                previous: found.revision,
                                jump: jump.map { log[$0].revision } ?? found.revision,
                                before: found.isThere ? before : nil,
                                into: bytes
                            )
                        }
                    }
                }
                extent.add(record: checksum)
            }
        }
        try writeDeletions(frozen, &extent, transaction)
        try trim(upTo: floor, atMost: 2 * log.count + Self.trimmedAtLeast, &extent, transaction)
        try transaction.put(frozen.history.encode(extent), forKey: Self.historyKey, in: meta)
    }

    /// What a key was before a change: the revision of the change before, and in `buffer` its record, if it was there.
    private func before(
        _ change: EventLog.Entry,
        _ earlier: EventLog.Entry?,
        _ table: Memtable,
        _ transaction: borrowing WriteTransaction,
        _ extent: inout HistoryExtent,
        _ buffer: inout [UInt8]
    ) throws -> (isThere: Bool, revision: UInt64) {
        if let earlier {
            guard !earlier.entry.isTombstone else { return (false, earlier.revision) }
            earlier.entry.withParts { parts in
                let length = StoredRecord.length(of: parts)
                buffer.removeAll(keepingCapacity: true)
                buffer.append(contentsOf: repeatElement(0, count: length))
                buffer.withUnsafeMutableBytes { StoredRecord.encode(parts, hash: earlier.entry.hash, into: $0) }
            }
            return (true, earlier.revision)
        }
        return try change.entry.withKey { key in
            if let deletion = try deletion(of: key, in: transaction) {
                try transaction.delete(key, in: deletions)
                extent.remove(deletion: deletion, key)
                return (false, table.deletedPrefix(of: key) == nil ? deletion : 0)
            }
            guard table.deletedPrefix(of: key) == nil, let bytes = try transaction.value(forKey: key, in: items) else {
                return (false, 0)
            }
            // Copied, because the bytes are valid until the next write only.
            buffer.removeAll(keepingCapacity: true)
            buffer.append(contentsOf: bytes)
            return (true, try decode(bytes, key: key).metadata.modRevision)
        }
    }

    private func forgetDeletion(
        of change: EventLog.Entry,
        _ extent: inout HistoryExtent,
        _ transaction: borrowing WriteTransaction
    ) throws {
        try change.entry.withKey { key in
            guard let deletion = try deletion(of: key, in: transaction) else { return }
            try transaction.delete(key, in: deletions)
            extent.remove(deletion: deletion, key)
        }
    }

    private func writeDeletions(
        _ frozen: FrozenMemtable,
        _ extent: inout HistoryExtent,
        _ transaction: borrowing WriteTransaction
    ) throws {
        let floor = frozen.history.floor.revision
        var position = frozen.table.first
        while let current = position {
            let entry = frozen.table[current]
            position = frozen.table.position(after: current)
            guard entry.isTombstone, entry.metadata.modRevision > floor,
                Space(rawValue: entry.space)?.hasHistory ?? false
            else { continue }
            try entry.withKey { key in
                if let old = try deletion(of: key, in: transaction) { extent.remove(deletion: old, key) }
                let record = DeletionRecord.encode(entry.metadata.modRevision, key: key)
                try transaction.put(record, forKey: key, in: deletions)
                extent.add(deletion: entry.metadata.modRevision, key)
            }
        }
    }

    /// Removes records that lie at or below the floor, the oldest first.
    private func trim(
        upTo floor: UInt64,
        atMost limit: Int,
        _ extent: inout HistoryExtent,
        _ transaction: borrowing WriteTransaction
    ) throws {
        var deleted: [(revision: UInt64, key: [UInt8])] = []
        try transaction.withCursor(in: history) { cursor in
            var room = limit
            var item = try cursor.first()
            while let current = item, room > 0, deleted.count < Self.trimmedDeletes {
                guard let (revision, key) = HistoryRecord.split(current.key), revision <= floor else { break }
                let record = try decodeHistory(current.value, place: current.key)
                if record.kind != .put { deleted.append((revision, Array(key))) }
                extent.remove(record: record.checksum)
                try cursor.deleteCurrent()
                room -= 1
                item = try cursor.next()
            }
        }
        for (revision, key) in deleted {
            try key.withUnsafeBytes { key in
                guard try deletion(of: key, in: transaction) == revision else { return }
                try transaction.delete(key, in: deletions)
                extent.remove(deletion: revision, key)
            }
        }
    }
}
