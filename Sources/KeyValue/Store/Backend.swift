internal import LMDB

/// One generation of the state on disk: an LMDB environment with the items and the record of the state.
final class Backend: Sendable {
    static let databaseNames = ["items", "meta", "history", "deletions"]
    static let recordKey = Array("state".utf8)
    /// Under it lies the number of the transaction that wrote the record of the state, with a checksum: each commit writes it.
    static let commitKey = Array("commit".utf8)

    let path: String
    let environment: Environment
    let items: Database
    let meta: Database
    /// What each change replaced, see ``HistoryRecord``.
    let history: Database
    /// When the keys were deleted that the history still knows, see ``DeletionRecord``.
    let deletions: Database

    /// Opens the environment in `path`, creating it when there is none (its parent must be there).
    init(path: String, options: StoreOptions) throws {
        var environmentOptions = Environment.Options()
        environmentOptions.mapSize = options.mapSize
        environmentOptions.maxReaders = options.maximumReaders
        environmentOptions.maxDatabases = 4
        environmentOptions.testOnlyNoSync = options.testOnlyNoSync
        self.path = path
        try makeDirectory(path)
        let lock = try DirectoryLock(directory: path)
        if options.verification != .testOnlyNone { try Self.examineForOpening(path, lock, options) }
        environment = try Environment(path: path, options: environmentOptions, holding: lock)
        items = try environment.openDatabase("items")
        meta = try environment.openDatabase("meta")
        history = try environment.openDatabase("history")
        deletions = try environment.openDatabase("deletions")
    }

    /// Closes the files now; throws LMDB's `busy` while transactions are open.
    func close() throws { try environment.close() }

    /// The record of the state; that of an empty one when none was written.
    func readStateRecord() throws -> StateRecord {
        try environment.read { try readStateRecord(in: $0) }
    }

    func readStateRecord<T: LMDB.Transaction & ~Copyable>(in transaction: borrowing T) throws -> StateRecord {
        guard let bytes = try transaction.value(forKey: Self.recordKey, in: meta) else { return StateRecord() }
        return try StateRecord(decoding: bytes, path: path)
    }

    /// The stored record of a key in place, or nil; throws when it is corrupt. `key` is a raw one.
    func record(
        of key: UnsafeRawBufferPointer,
        in transaction: borrowing ReadTransaction
    ) throws -> StoredRecord? {
        guard let bytes = try transaction.value(forKey: key, in: items) else { return nil }
        return try decode(bytes, key: key)
    }

    func decode(_ bytes: UnsafeRawBufferPointer, key: UnsafeRawBufferPointer) throws(StoreError) -> StoredRecord {
        guard let record = StoredRecord(bytes, key: key) else { throw .corruptItem(key, path: path) }
        return record
    }

    /// What a record adds to the state's hash, from its content.
    func recomputedHash(of record: StoredRecord, key: UnsafeRawBufferPointer) throws(StoreError) -> UInt128 {
        guard let hash = record.recomputedHash(key: key) else { throw .corruptItem(key, path: path) }
        return hash
    }

    func item(
        _ record: StoredRecord,
        key: UnsafeRawBufferPointer,
        keysOnly: Bool = false
    ) throws(StoreError) -> Item {
        guard let item = record.item(key: key, keysOnly: keysOnly) else { throw .corruptItem(key, path: path) }
        return item
    }

    func withItemCursor<Result>(
        in transaction: borrowing ReadTransaction,
        _ body: (inout Cursor) throws -> Result
    ) throws -> Result {
        try transaction.withCursor(in: items, body)
    }

    /// Writes what the memtable holds and the history of it, and the record that tells how far it goes, as one durable transaction (R7).
    func commit(_ frozen: FrozenMemtable) throws {
        try environment.write { transaction in
            try writeHistory(frozen, in: transaction)
            let table = frozen.table
            for prefix in table.deletedPrefixes { try delete(prefix: prefix, in: transaction) }
            // In the order of the keys, so that each page is touched once.
            var position = table.first
            while let current = position {
                try write(table[current], in: transaction)
                position = table.position(after: current)
            }
            try put(frozen.record.encode(), in: transaction)
        }
    }

    /// Writes the record of the state, and the number of the transaction beside it.
    private func put(_ record: [UInt8], in transaction: borrowing WriteTransaction) throws {
        try transaction.put(record, forKey: Self.recordKey, in: meta)
        let stamp = Self.stamp(UInt64(transaction.transactionID))
        try transaction.put(stamp, forKey: Self.commitKey, in: meta)
    }

    private func write(_ entry: MemtableEntry, in transaction: borrowing WriteTransaction) throws {
        if entry.isTombstone {
            try entry.withKey { _ = try transaction.delete($0, in: items) }
            return
        }
        try entry.withParts { parts in
            try transaction.put(count: StoredRecord.length(of: parts), forKey: parts.key, in: items) {
                StoredRecord.encode(parts, hash: entry.hash, into: $0)
            }
        }
    }

    private func delete(prefix: [UInt8], in transaction: borrowing WriteTransaction) throws {
        if try prefix == [Space.keys.rawValue] && holdsOnlyKeys(transaction) {
            try transaction.deleteAll(in: items)
            return
        }
        try transaction.withCursor(in: items) { cursor in
            var item = try cursor.seek(atLeast: prefix)
            while let current = item, prefix.withUnsafeBytes({ current.key.hasPrefix($0) }) {
                try cursor.deleteCurrent()
                item = try cursor.next()
            }
        }
    }

    private func holdsOnlyKeys(_ transaction: borrowing WriteTransaction) throws -> Bool {
        try transaction.withCursor(in: items) { cursor in
            try cursor.last().map { $0.key.first == Space.keys.rawValue } ?? true
        }
    }

    /// A record that is added to a database behind its last key.
    struct Appended {
        var database: Database
        var key: [UInt8]
        var record: [UInt8]
    }

    /// Adds records whose keys lie in ascending order beyond those that are there, as they were stored elsewhere; and the record of
    /// the state, and of the history, with the last ones.
    func append(_ batch: [Appended], last: (record: StateRecord, history: [UInt8])?) throws {
        try environment.write { transaction in
            for one in batch { try transaction.put(one.record, forKey: one.key, in: one.database, mode: .append) }
            guard let last else { return }
            try transaction.put(last.history, forKey: Self.historyKey, in: meta)
            try put(last.record.encode(), in: transaction)
        }
    }
}

extension Backend {
    /// For tests: changes a stored byte behind the checksums' back.
    func testOnlyFlipByte(at offset: Int, ofRecordFor key: [UInt8]) throws {
        try environment.write { transaction in
            let key = Space.keys.raw(key)
            guard var bytes = try transaction.get(key, in: items) else { return }
            bytes[offset] ^= 1
            try transaction.put(bytes, forKey: key, in: items)
            try transaction.put(Self.stamp(UInt64(transaction.transactionID)), forKey: Self.commitKey, in: meta)
        }
    }

    /// For tests: replaces the record of the state.
    func testOnlyPutStateRecord(_ bytes: [UInt8]) throws {
        try environment.write { try put(bytes, in: $0) }
    }
}
