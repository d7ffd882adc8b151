internal import CLMDB
internal import Glibc
internal import Synchronization

/// One LMDB environment: a directory with one memory-mapped file of databases, many readers and one writer at a time.
///
/// Every commit is durable on return (data pages flushed, then the meta page). A directory is opened by one environment
/// at a time; a second opening, in this process or another, fails with ``LMDBError/Code/inUse``.
///
/// It closes when the last reference is gone, or by ``close()``.
package final class Environment: Sendable {
    package struct Options: Sendable {
        /// The size of the address range that the file is mapped into, in bytes: the most that the file may grow to.
        /// Address space costs nothing, so it is large; it is halved while the system refuses it (`RLIMIT_AS`).
        package var mapSize = 256 << 30
        /// How many read transactions may be open at the same time, idle ones kept for reuse included.
        package var maxReaders = 1024
        /// How many named databases may be opened.
        package var maxDatabases = 16
        /// Whether a missing directory is created (its parent must be there).
        package var createDirectory = true
        /// Commits are not flushed. Only for tests that measure something else: a power cut corrupts the file.
        package var testOnlyNoSync = false

        package init() {}
    }

    private struct State {
        var isClosed = false
        /// Transactions under way, read and write.
        var active = 0
        /// Reset read transactions, which keep their reader slot and are renewed in a fraction of a microsecond.
        var idleReaders: [Pointer] = []
    }

    package let path: String
    /// The size of the map that the system granted, in bytes.
    package let mapSize: Int
    /// The size of a page, in bytes.
    package let pageSize: Int
    let handle: Pointer
    private let maximumIdleReaders: Int
    private let state = Mutex(State())
    /// The thread inside ``write(_:)``; 0 for none. LMDB's mutex would wait for itself for ever.
    private let writer = Atomic<UInt>(0)
    private let lock: DirectoryLock

    /// Opens the environment in the directory `path`, creating its files when there are none.
    ///
    /// - Parameter held: the directory's lock, of a caller that has examined the file under it (see ``DataFile``).
    package init(
        path: String,
        options: Options = Options(),
        holding held: DirectoryLock? = nil
    ) throws(LMDBError) {
        if options.createDirectory { try makeDirectory(path) }
        if let held { lock = held } else { lock = try DirectoryLock(directory: path) }
        try Self.createDataFile(in: path)
        (handle, mapSize) = try Self.openHalving(path: path, options: options)
        self.path = path
        maximumIdleReaders = max(1, options.maxReaders / 2)
        var statistics = MDB_stat()
        mdb_env_stat(handle.pointer, &statistics)
        pageSize = Int(statistics.ms_psize)
        do {
            // An examination has looked at every page; and the last ones, when they are free, need not be there.
            if held == nil { try checkLength() }
            setCloseOnExec()
            try synchronizeDirectory(path)
        } catch {
            mdb_env_close(handle.pointer)
            state.withLock { $0.isClosed = true }
            throw error
        }
    }

    deinit {
        let (isClosed, idle) = state.withLock { ($0.isClosed, $0.idleReaders) }
        guard !isClosed else { return }
        for reader in idle { mdb_txn_abort(reader.pointer) }
        mdb_env_close(handle.pointer)
    }

    /// Closes the files now. Everything that is tried afterwards fails with ``LMDBError/Code/closed``.
    ///
    /// Throws ``LMDBError/Code/busy`` while transactions are open.
    package func close() throws(LMDBError) {
        let isIdle = state.withLock { state in
            guard state.active == 0 else { return false }
            guard !state.isClosed else { return true }
            state.isClosed = true
            // Under the mutex, so that nobody who finds the environment closed can find its files still open.
            for reader in state.idleReaders { mdb_txn_abort(reader.pointer) }
            state.idleReaders = []
            mdb_env_close(handle.pointer)
            return true
        }
        guard isIdle else {
            throw LMDBError(code: .busy, operation: "close", path: path, message: "transactions are still open")
        }
        lock.release()
    }

    private static func openHalving(path: String, options: Options) throws(LMDBError) -> (Pointer, Int) {
        var size = max(options.mapSize, 1 << 16)
        while true {
            do {
                return (try open(path: path, mapSize: size, options: options), size)
            } catch  where error.code.rawValue == ENOMEM && size >= 2 << 20 {
                size = (size / 2) & ~0xffff
            }
        }
    }

    private static func open(path: String, mapSize: Int, options: Options) throws(LMDBError) -> Pointer {
        var created: OpaquePointer?
        try check(mdb_env_create(&created), "mdb_env_create", path)
        guard let environment = created else { throw LMDBError(ENOMEM, "mdb_env_create", path: path) }
        do {
            try check(mdb_env_set_mapsize(environment, mapSize), "mdb_env_set_mapsize", path)
            try check(mdb_env_set_maxreaders(environment, UInt32(options.maxReaders)), "mdb_env_set_maxreaders", path)
            try check(mdb_env_set_maxdbs(environment, UInt32(options.maxDatabases)), "mdb_env_set_maxdbs", path)
            // NOTLS ties reader slots to transactions, so that readers are not bound to the thread that began them.
            let flags = MDB_NOTLS | (options.testOnlyNoSync ? MDB_NOSYNC : 0)
            try check(mdb_env_open(environment, path, UInt32(flags), 0o600), "mdb_env_open", path)
        } catch {
            mdb_env_close(environment)
            throw error
        }
        return Pointer(environment)
    }

    /// LMDB reads through the map, where a page beyond the end of the file is a SIGBUS and not an error.
    private func checkLength() throws(LMDBError) {
        let (length, used) = (try fileSize(), usedBytes)
        guard length >= used else {
            throw LMDBError(
                code: .truncatedFile,
                operation: "open",
                path: path,
                message: "data.mdb has \(length) bytes, but its last page ends at \(used): the file was cut off"
            )
        }
    }

    /// LMDB opens the data file without O_CLOEXEC; a child program must not inherit it.
    private func setCloseOnExec() {
        guard let descriptor = dataDescriptor else { return }
        _ = fcntl(descriptor, F_SETFD, fcntl(descriptor, F_GETFD) | FD_CLOEXEC)
    }

    var dataDescriptor: Int32? {
        var descriptor: Int32 = -1
        return mdb_env_get_fd(handle.pointer, &descriptor) == 0 ? descriptor : nil
    }
}

// MARK: - Transactions

extension Environment {
    /// Runs `body` with a consistent snapshot of all databases.
    ///
    /// `body` cannot suspend, and the transaction cannot leave it. Keep it short: pages that are freed while a reader
    /// is open are not used again, and the file grows.
    package func read<Result>(_ body: (borrowing ReadTransaction) throws -> Result) throws -> Result {
        let transaction = try beginRead()
        return try body(transaction)
    }

    /// A snapshot that is held beyond one closure. It ends when the value goes out of scope.
    ///
    /// Never hold one across a suspension point or longer than a bounded time (see ``read(_:)``).
    package func beginRead() throws(LMDBError) -> ReadTransaction {
        let idle = try enter { $0.idleReaders.popLast() }
        do throws(LMDBError) {
            if let idle {
                do throws(LMDBError) {
                    try check(mdb_txn_renew(idle.pointer), "mdb_txn_renew", path)
                } catch {
                    mdb_txn_abort(idle.pointer)
                    throw error
                }
                return ReadTransaction(environment: self, pointer: idle.pointer)
            }
            var begun: OpaquePointer?
            try check(mdb_txn_begin(handle.pointer, nil, UInt32(MDB_RDONLY), &begun), "mdb_txn_begin", path)
            guard let begun else { throw LMDBError(ENOMEM, "mdb_txn_begin", path: path) }
            return ReadTransaction(environment: self, pointer: begun)
        } catch {
            state.withLock { $0.active -= 1 }
            throw error
        }
    }

    /// Takes a reader back: kept for reuse, or ended when enough are kept.
    func endRead(_ pointer: OpaquePointer) {
        let reader = Pointer(pointer)
        mdb_txn_reset(pointer)
        let isKept = state.withLock { state in
            guard state.idleReaders.count < maximumIdleReaders else { return false }
            state.active -= 1
            state.idleReaders.append(reader)
            return true
        }
        if !isKept {
            mdb_txn_abort(reader.pointer)
            state.withLock { $0.active -= 1 }
        }
    }

    /// Runs `body` in a write transaction: committed durably when it returns, undone when it throws.
    ///
    /// Waits for another thread's write transaction. `body` cannot suspend; it must not call `write` again. When this
    /// throws, nothing of the transaction is in the databases. After any error but a full map or disk the
    /// process should end: a later success would say nothing about what the disk holds.
    package func write<Result>(_ body: (borrowing WriteTransaction) throws -> Result) throws -> Result {
        try enter { _ in }
        defer { state.withLock { $0.active -= 1 } }
        let thread = UInt(pthread_self())
        precondition(writer.load(ordering: .relaxed) != thread, "a write transaction inside another would never begin")
        var begun: OpaquePointer?
        try check(mdb_txn_begin(handle.pointer, nil, 0, &begun), "mdb_txn_begin", path)
        guard let pointer = begun else { throw LMDBError(ENOMEM, "mdb_txn_begin", path: path) }
        writer.store(thread, ordering: .relaxed)
        let result: Result
        do {
            result = try body(WriteTransaction(pointer: pointer))
        } catch {
            writer.store(0, ordering: .relaxed)
            mdb_txn_abort(pointer)
            throw error
        }
        writer.store(0, ordering: .relaxed)
        do throws(LMDBError) {
            try check(mdb_txn_commit(pointer), "mdb_txn_commit", path)
        } catch {
            throw judged(error)
        }
        return result
    }

    /// Tells a commit that failed for lack of room, which may be tried again, from one after which the process must end.
    private func judged(_ error: LMDBError) -> LMDBError {
        var judged = error
        // Where only a part of the pages still fits, the system writes that part, and LMDB calls it an I/O error. A real one
        // that comes while the file system is full may be taken for it. That is no fsync trap: who tries again does
        // so with a whole new transaction, whose pages are all written and flushed anew before a meta page names them.
        if error.code.rawValue == EIO, let code = lackOfRoom() {
            judged = LMDBError(code, error.operation, path: path)
            judged.message += ", only a part was written"
        }
        if judged.isDiskFull { takeReportedErrors() }
        // Without room for a meta page LMDB gives the environment up, for readers as well.
        if judged.isDiskFull, isGivenUp {
            judged.code = .panic
            judged.message += ", while a meta page was written"
        }
        return judged
    }

    private var isGivenUp: Bool {
        do throws(LMDBError) {
            _ = try beginRead()
            return false
        } catch {
            return error.code == .panic
        }
    }

    /// Opens a database for the lifetime of the environment. Do so once, at start.
    ///
    /// - Parameters:
    ///   - name: nil for the unnamed database. An environment that has named databases keeps their names in the unnamed
    ///     one, so use either that one or named ones.
    ///   - hasIntegerKeys: keys are `UInt64`, ordered as numbers.
    package func openDatabase(_ name: String? = nil, hasIntegerKeys: Bool = false) throws -> Database {
        let flags = MDB_CREATE | (hasIntegerKeys ? MDB_INTEGERKEY : 0)
        return try write { transaction in
            var identifier: MDB_dbi = 0
            let result = mdb_dbi_open(transaction.access.pointer, name, UInt32(flags), &identifier)
            try check(result, "mdb_dbi_open", path)
            return Database(identifier: identifier, hasIntegerKeys: hasIntegerKeys)
        }
    }

    private func enter<Result: Sendable>(_ body: (inout State) -> Result) throws(LMDBError) -> Result {
        let result: Result? = state.withLock { state in
            guard !state.isClosed else { return nil }
            state.active += 1
            return body(&state)
        }
        guard let result else {
            throw LMDBError(code: .closed, operation: "begin", path: path, message: "the environment is closed")
        }
        return result
    }
}

/// A database inside an environment; valid as long as the environment is.
package struct Database: Hashable, Sendable {
    let identifier: UInt32
    package let hasIntegerKeys: Bool
}

/// A pointer of LMDB.
///
/// Sendable is sound for an `MDB_env`, which LMDB allows every thread to use, and for a reset read transaction under
/// MDB_NOTLS, which only the one thread that took it out of the environment's mutex touches.
struct Pointer: @unchecked Sendable {
    let pointer: OpaquePointer

    init(_ pointer: OpaquePointer) { self.pointer = pointer }
}
