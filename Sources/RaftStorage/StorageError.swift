package import LMDB

/// What went wrong with the log, the hard state or a snapshot file; its message says what to do next.
public struct StorageError: Error, Hashable, Sendable, CustomStringConvertible {
    public struct Code: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
        public var rawValue: String

        public init(rawValue: String) { self.rawValue = rawValue }

        public var description: String { rawValue }

        /// What the disk gives back is not what was written. Never repaired by cutting it off.
        public static let corrupt = Code(rawValue: "corrupt")
        /// A snapshot is as it was written, but what it holds is not what a state could be loaded from.
        public static let unsound = Code(rawValue: "unsound")
        /// Written by a newer version of this software.
        public static let newerFormat = Code(rawValue: "newer-format")
        /// The file system has no room. What was durable before is intact.
        public static let diskFull = Code(rawValue: "disk-full")
        /// The environment's map is used up. What was durable before is intact.
        public static let mapFull = Code(rawValue: "map-full")
        /// Another opener has the directory.
        public static let inUse = Code(rawValue: "in-use")
        /// There is no such log or snapshot.
        public static let missing = Code(rawValue: "missing")
        /// There is a log already.
        public static let alreadyExists = Code(rawValue: "already-exists")
        /// The server belongs to another cluster.
        public static let clusterMismatch = Code(rawValue: "cluster-mismatch")
        /// The caller broke the order of writes: a gap, a term that goes back, bytes at the wrong offset. Nothing was
        /// written.
        public static let outOfOrder = Code(rawValue: "out-of-order")
        /// The caller gave what no record can hold.
        public static let invalid = Code(rawValue: "invalid")
        /// An earlier failure stopped the store (R6).
        public static let stopped = Code(rawValue: "stopped")
        /// The system or LMDB failed in another way.
        public static let failed = Code(rawValue: "failed")
    }

    public var code: Code
    public var message: String
    /// The log entry it is about; 0 is the record of identity and hard state.
    public var index: UInt64?

    /// The file system, a quota or the map has no room. What was durable is intact, and the same may be tried again when there is.
    public var isLackOfRoom: Bool { code == .diskFull || code == .mapFull }

    /// What was read is of no use, and will be of none when it is read again.
    package var isDamage: Bool { code == .corrupt || code == .unsound }

    package init(_ code: Code, _ message: String, index: UInt64? = nil) {
        self.code = code
        self.message = message
        self.index = index
    }

    package init(_ error: LMDBError) {
        if error.isDiskFull {
            self.init(.diskFull, "\(error); free some space, nothing that was acknowledged is lost")
        } else if error.isMapFull {
            self.init(.mapFull, "\(error); start again with a larger map, nothing that was acknowledged is lost")
        } else if error.isInUse {
            self.init(.inUse, "\(error)")
        } else if error.code == .panic {
            self.init(.failed, "\(error); start again, nothing that was acknowledged is lost")
        } else if error.code == .invalid || error.code == .truncatedFile {
            self.init(.corrupt, "\(error); \(Self.remedy)")
        } else if error.isMissingFile {
            self.init(.missing, "\(error)")
        } else if error.isUnreadable {
            self.init(.corrupt, "\(error): the disk does not give back what it holds")
        } else {
            self.init(.failed, "\(error)")
        }
    }

    /// What to do about a damaged log.
    static let remedy = """
        do not use this directory again: remove the server from its cluster and let it join as a new one with an \
        empty directory; a single server is restored from a backup
        """

    public var description: String { "\(code): \(message)" }
}

/// Runs `body` and turns whatever it throws into a ``StorageError``.
func storing<Result>(_ body: () throws -> Result) throws(StorageError) -> Result {
    do {
        return try body()
    } catch let error as StorageError {
        throw error
    } catch let error as LMDBError {
        throw StorageError(error)
    } catch {
        throw StorageError(.failed, "\(error)")
    }
}
