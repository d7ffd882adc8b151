internal import CLMDB
internal import Glibc

/// What went wrong in an environment: which operation, where, why, and what to do about it where that is known.
public struct LMDBError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The kind of a failure: LMDB's own negative codes, the system's positive `errno` values, and this module's own.
    public struct Code: RawRepresentable, Hashable, Sendable {
        public var rawValue: Int32

        public init(rawValue: Int32) { self.rawValue = rawValue }

        /// The environment's map is used up (`MDB_MAP_FULL`); the transaction was undone.
        public static let mapFull = Code(rawValue: MDB_MAP_FULL)
        /// Every reader slot is taken (`MDB_READERS_FULL`).
        public static let readersFull = Code(rawValue: MDB_READERS_FULL)
        /// A key is empty or too long, or a key of a database with integer keys is not eight bytes long.
        public static let badValueSize = Code(rawValue: MDB_BAD_VALSIZE)
        /// A key was given to `append` that is not beyond the last, or to `insert` that is there.
        public static let keyExists = Code(rawValue: MDB_KEYEXIST)
        /// The database was not there, and was not to be created.
        public static let notFound = Code(rawValue: MDB_NOTFOUND)
        /// A meta page could not be written (`MDB_PANIC`): which of two states the file holds is not known. The environment
        /// answers nothing any more; the process must end.
        public static let panic = Code(rawValue: MDB_PANIC)
        /// The files are no environment of LMDB.
        public static let invalid = Code(rawValue: MDB_INVALID)
        /// The directory is in use, by another process or by this one.
        public static let inUse = Code(rawValue: -1)
        /// The environment was closed.
        public static let closed = Code(rawValue: -2)
        /// The data file ends before the last page that it should hold.
        public static let truncatedFile = Code(rawValue: -3)
        /// The environment has open transactions.
        public static let busy = Code(rawValue: -4)
    }

    public var code: Code
    /// The operation that failed, in the words of LMDB or of the system.
    public var operation: String
    /// The directory of the environment, or the file, that it was about.
    public var path: String
    public var message: String
    /// For ``Code/inUse``: the process that holds the directory, when it could be told.
    public var processID: Int32?

    package init(code: Code, operation: String, path: String, message: String, processID: Int32? = nil) {
        self.code = code
        self.operation = operation
        self.path = path
        self.message = message
        self.processID = processID
    }

    /// From a result of LMDB, which is either its own code or an `errno`.
    init(_ result: Int32, _ operation: String, path: String) {
        let message = mdb_strerror(result).map { String(cString: $0) } ?? "unknown error"
        self.init(code: Code(rawValue: result), operation: operation, path: path, message: message)
    }

    /// From an `errno` value of a system call.
    package static func system(_ code: Int32, _ operation: String, path: String) -> LMDBError {
        LMDBError(code, operation, path: path)
    }

    public var isMapFull: Bool { code == .mapFull }

    /// The map, the file system or a quota has no room. Nothing of the transaction is in the databases, and a new one, which
    /// writes all of its pages anew, may be tried when there is room.
    public var isLackOfRoom: Bool { isMapFull || isDiskFull }

    /// The disk failed to give back a part of a file.
    package var isUnreadable: Bool { code.rawValue == EIO && operation == "pread" }

    /// There is no file of that name.
    package var isMissingFile: Bool { code.rawValue == ENOENT && ["open", "rename"].contains(operation) }

    public var isNotFound: Bool { code == .notFound }

    public var isInUse: Bool { code == .inUse }

    /// The file system (or a quota, or a limit on the size of a file) has no room. The transaction was undone, the
    /// state before it is intact.
    public var isDiskFull: Bool { [ENOSPC, EDQUOT, EFBIG].contains(code.rawValue) }

    public var description: String { "\(path): \(operation): \(message) (code \(code.rawValue))" }
}

/// Throws unless `result` is 0.
func check(_ result: Int32, _ operation: StaticString, _ path: @autoclosure () -> String) throws(LMDBError) {
    guard result == 0 else { throw LMDBError(result, "\(operation)", path: path()) }
}
