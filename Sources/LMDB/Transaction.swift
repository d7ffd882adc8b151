internal import CLMDB

/// What read and write transactions have in common: reading.
///
/// A value is shown in place, as the bytes of the map: valid until the transaction ends or, in a write transaction,
/// writes again. They are not aligned: use `loadUnaligned`.
package protocol Transaction: ~Copyable {
    var access: TransactionAccess { get }
}

/// The key to a transaction's innards, which only this module can turn.
package struct TransactionAccess {
    let pointer: OpaquePointer

    var path: String {
        var text: UnsafePointer<CChar>?
        guard mdb_env_get_path(mdb_txn_env(pointer), &text) == 0, let text else { return "?" }
        return String(cString: text)
    }

    func value(forKey key: UnsafeRawBufferPointer, in database: Database) throws(LMDBError) -> UnsafeRawBufferPointer? {
        var (key, value) = (MDB_val(key), MDB_val())
        switch mdb_get(pointer, database.identifier, &key, &value) {
        case 0: return UnsafeRawBufferPointer(value)
        case MDB_NOTFOUND: return nil
        case let result: throw LMDBError(result, "mdb_get", path: path)
        }
    }
}

extension Transaction where Self: ~Copyable {
    /// The value of a key in place (see ``Transaction``), or nil.
    package func value(
        forKey key: UnsafeRawBufferPointer,
        in database: Database
    ) throws(LMDBError) -> UnsafeRawBufferPointer? {
        try access.value(forKey: key, in: database)
    }

    /// The value of a key in place (see ``Transaction``), or nil.
    @inlinable
    package func value(
        forKey key: some ByteRegion,
        in database: Database
    ) throws(LMDBError) -> UnsafeRawBufferPointer? {
        try key.withRegion { (key) throws(LMDBError) in try value(forKey: key, in: database) }
    }

    /// A copy of the value of a key, or nil.
    @inlinable
    package func get(_ key: some ByteRegion, in database: Database) throws(LMDBError) -> [UInt8]? {
        try value(forKey: key, in: database).map { [UInt8]($0) }
    }

    /// Runs `body` with a cursor, which stands nowhere until it is moved.
    package func withCursor<Result>(
        in database: Database,
        _ body: (inout Cursor) throws -> Result
    ) throws -> Result {
        var opened: OpaquePointer?
        try check(mdb_cursor_open(access.pointer, database.identifier, &opened), "mdb_cursor_open", access.path)
        guard let opened else { throw LMDBError(MDB_CURSOR_FULL, "mdb_cursor_open", path: access.path) }
        defer { mdb_cursor_close(opened) }
        var cursor = Cursor(pointer: opened, access: access)
        return try body(&cursor)
    }

    /// How many entries and pages a database has.
    package func statistics(of database: Database) throws(LMDBError) -> DatabaseStatistics {
        var statistics = MDB_stat()
        try check(mdb_stat(access.pointer, database.identifier, &statistics), "mdb_stat", access.path)
        return DatabaseStatistics(
            entries: Int(statistics.ms_entries),
            depth: Int(statistics.ms_depth),
            pages: Int(statistics.ms_branch_pages + statistics.ms_leaf_pages + statistics.ms_overflow_pages)
        )
    }

    /// The number of the snapshot that is read, or of the write under way. It grows by one with each commit.
    package var transactionID: Int { Int(mdb_txn_id(access.pointer)) }
}

package struct DatabaseStatistics: Hashable, Sendable {
    package var entries: Int
    /// The depth of the B+ tree.
    package var depth: Int
    package var pages: Int
}

/// A consistent snapshot of an environment; see ``Environment/read(_:)``.
package struct ReadTransaction: ~Copyable, Transaction {
    private let environment: Environment
    private let pointer: OpaquePointer

    init(environment: Environment, pointer: OpaquePointer) {
        self.environment = environment
        self.pointer = pointer
    }

    deinit { environment.endRead(pointer) }

    package var access: TransactionAccess { TransactionAccess(pointer: pointer) }

    /// Moves on to the newest snapshot. What was shown in place before is no longer valid.
    ///
    /// After an error the transaction can only be dropped.
    package mutating func refresh() throws(LMDBError) {
        mdb_txn_reset(pointer)
        try check(mdb_txn_renew(pointer), "mdb_txn_renew", environment.path)
    }
}

/// The one write transaction of an environment; see ``Environment/write(_:)``. It reads its own writes.
///
/// After an operation threw, the transaction cannot be committed.
package struct WriteTransaction: ~Copyable, Transaction {
    package let access: TransactionAccess

    init(pointer: OpaquePointer) { access = TransactionAccess(pointer: pointer) }

    /// How ``put(_:forKey:in:mode:)`` treats what is there.
    package enum PutMode: Sendable {
        /// Insert or replace.
        case replace
        /// The key must be beyond the last (else ``LMDBError/Code/keyExists``); pages are filled to the brim.
        case append

        var flags: Int32 {
            switch self {
            case .replace: 0
            case .append: MDB_APPEND
            }
        }
    }

    package func put(
        _ value: UnsafeRawBufferPointer,
        forKey key: UnsafeRawBufferPointer,
        in database: Database,
        mode: PutMode = .replace
    ) throws(LMDBError) {
        var (key, value) = (MDB_val(key), MDB_val(value))
        let result = mdb_put(access.pointer, database.identifier, &key, &value, UInt32(mode.flags))
        try check(result, "mdb_put", access.path)
    }

    /// Sets the value of a key. Keys have 1 to 511 bytes, or are a `UInt64` in a database with integer keys.
    @inlinable
    package func put(
        _ value: some ByteRegion,
        forKey key: some ByteRegion,
        in database: Database,
        mode: PutMode = .replace
    ) throws(LMDBError) {
        try key.withRegion { (key) throws(LMDBError) in
            try value.withRegion { (value) throws(LMDBError) in
                try put(value, forKey: key, in: database, mode: mode)
            }
        }
    }

    /// Sets the value of a key to `count` bytes that `fill` writes in place. `fill` must write every byte.
    package func put(
        count: Int,
        forKey key: some ByteRegion,
        in database: Database,
        mode: PutMode = .replace,
        fill: (UnsafeMutableRawBufferPointer) -> Void
    ) throws(LMDBError) {
        let place = try key.withRegion { (key) throws(LMDBError) in
            var (key, value) = (MDB_val(key), MDB_val(mv_size: count, mv_data: nil))
            let flags = UInt32(mode.flags | MDB_RESERVE)
            try check(mdb_put(access.pointer, database.identifier, &key, &value, flags), "mdb_put", access.path)
            return value
        }
        fill(UnsafeMutableRawBufferPointer(start: place.mv_data, count: place.mv_size))
    }

    /// Removes a key; false when it was not there.
    @discardableResult
    package func delete(_ key: some ByteRegion, in database: Database) throws(LMDBError) -> Bool {
        try key.withRegion { (key) throws(LMDBError) in
            var key = MDB_val(key)
            switch mdb_del(access.pointer, database.identifier, &key, nil) {
            case 0: return true
            case MDB_NOTFOUND: return false
            case let result: throw LMDBError(result, "mdb_del", path: access.path)
            }
        }
    }

    /// Removes the integer keys in `range`, at most `limit` of them, from the lowest on, and returns how many.
    @discardableResult
    package func delete(
        _ range: ClosedRange<UInt64>,
        in database: Database,
        limit: Int = .max
    ) throws -> Int {
        precondition(database.hasIntegerKeys, "a range of numbers needs a database with integer keys")
        return try withCursor(in: database) { cursor in
            var count = 0
            var item = try cursor.seek(atLeast: range.lowerBound)
            while let current = item, count < limit, current.integerKey <= range.upperBound {
                try cursor.deleteCurrent()
                count += 1
                item = try cursor.next()
            }
            return count
        }
    }

    /// Removes every entry of a database.
    package func deleteAll(in database: Database) throws(LMDBError) {
        try check(mdb_drop(access.pointer, database.identifier, 0), "mdb_drop", access.path)
    }
}

extension MDB_val {
    init(_ bytes: UnsafeRawBufferPointer) {
        // LMDB does not write through the pointers it is given here; C only cannot say so.
        self.init(mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
    }
}

extension UnsafeRawBufferPointer {
    init(_ value: MDB_val) { self.init(start: value.mv_data, count: value.mv_size) }
}
