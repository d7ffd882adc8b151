internal import CLMDB

/// A place in a database, moved along its keys in order; see ``Transaction/withCursor(in:_:)``.
///
/// Keys are ordered by their bytes (shorter first), integer keys as numbers.
package struct Cursor: ~Copyable {
    /// A key and its value in place: valid until the transaction ends or writes.
    package struct Item {
        package var key: UnsafeRawBufferPointer
        package var value: UnsafeRawBufferPointer

        /// The key of a database with integer keys.
        package var integerKey: UInt64 { key.loadUnaligned(as: UInt64.self) }
    }

    private let pointer: OpaquePointer
    private let access: TransactionAccess

    init(pointer: OpaquePointer, access: TransactionAccess) {
        self.pointer = pointer
        self.access = access
    }

    /// The lowest key; nil in an empty database.
    package mutating func first() throws(LMDBError) -> Item? { try move(MDB_FIRST) }

    /// The highest key; nil in an empty database.
    package mutating func last() throws(LMDBError) -> Item? { try move(MDB_LAST) }

    /// The key after the present one, or the first one when the cursor stands nowhere. After ``deleteCurrent()`` it is
    /// the one behind the removed one.
    package mutating func next() throws(LMDBError) -> Item? { try move(MDB_NEXT) }

    /// The key before the present one, or the last one when the cursor stands nowhere.
    package mutating func previous() throws(LMDBError) -> Item? { try move(MDB_PREV) }

    /// The lowest key that is not below `key`.
    package mutating func seek(atLeast key: some ByteRegion) throws(LMDBError) -> Item? {
        try move(MDB_SET_RANGE, to: key)
    }

    /// Exactly `key`.
    package mutating func seek(_ key: some ByteRegion) throws(LMDBError) -> Item? {
        try move(MDB_SET_KEY, to: key)
    }

    /// The highest key that is below `key`.
    package mutating func seek(below key: some ByteRegion) throws(LMDBError) -> Item? {
        try seek(atLeast: key) == nil ? last() : previous()
    }

    /// Removes the entry under the cursor, in a write transaction.
    package mutating func deleteCurrent() throws(LMDBError) {
        try check(mdb_cursor_del(pointer, 0), "mdb_cursor_del", access.path)
    }

    private func move(_ operation: MDB_cursor_op) throws(LMDBError) -> Item? {
        var (key, value) = (MDB_val(), MDB_val())
        return try move(operation, &key, &value)
    }

    private func move(_ operation: MDB_cursor_op, to key: some ByteRegion) throws(LMDBError) -> Item? {
        try key.withRegion { (bytes) throws(LMDBError) in
            var (key, value) = (MDB_val(bytes), MDB_val())
            return try move(operation, &key, &value)
        }
    }

    private func move(
        _ operation: MDB_cursor_op,
        _ key: inout MDB_val,
        _ value: inout MDB_val
    ) throws(LMDBError) -> Item? {
        switch mdb_cursor_get(pointer, &key, &value, operation) {
        case 0: return Item(key: UnsafeRawBufferPointer(key), value: UnsafeRawBufferPointer(value))
        case MDB_NOTFOUND: return nil
        case let result: throw LMDBError(result, "mdb_cursor_get", path: access.path)
        }
    }
}
