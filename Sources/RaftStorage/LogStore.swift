internal import Glibc
package import LMDB
package import Raft
internal import Synchronization

/// The log, the term and vote, and the identity of one server, in an LMDB environment of their own.
///
/// The unnamed database has integer keys: key 0 is the record of identity, hard state and log base, key i is entry i.
/// Every record carries a format version and a CRC-32C. Writes come from one thread (see ``GroupCommitter``);
/// reads from any.
package final class LogStore: Sendable {
    package struct Options: Sendable {
        package var environment = Environment.Options()
        /// How many zeroed bytes lie ready behind the used part of the file, so that commits need not make it longer; 0
        /// for none. The store tops them up when fewer than a quarter is left.
        package var zeroFillBytes = 16 << 20
        /// Believe the file's pages without looking at them. Only for tests that show what the examination is for.
        package var testOnlySkipsExamination = false

        package init() {}
    }

    struct State {
        var metadata: MetadataRecord
        /// What the record under key 0 holds; nil when it is to be written again.
        var recorded: MetadataRecord?
        /// The last entry, or the base's position when there is none.
        var last: LogPosition
        /// Whether the transaction under way has removed entries, and whether it has written the last one.
        var isTouched = false
        var isTailFresh = false
        /// Where entries at or below the base may still lie, which compaction has not removed yet.
        var staleFrom: LogIndex?
        /// The failure after which nothing is written any more (R6).
        var failure: StorageError?
    }

    let environment: Environment
    let database: Database
    let state: Mutex<State>
    private let zeroFillBytes: Int

    private init(environment: Environment, database: Database, state: State, options: Options) {
        self.environment = environment
        self.database = database
        self.state = Mutex(state)
        zeroFillBytes = options.zeroFillBytes
    }

    /// Whether `directory` holds a log. A creation that was cut short by a crash has left none.
    package static func exists(directory: String) throws(StorageError) -> Bool {
        guard access(directory + "/data.mdb", F_OK) == 0 else { return false }
        return try storing { try DataFile.holdsData(directory: directory) }
    }

    /// Makes the log of a new server, durably. The parent of `directory` must exist, a log in it must not.
    ///
    /// The first term is the base's, so that a log that begins behind a restored snapshot never goes back.
    package static func create(
        directory: String,
        identity: Identity,
        base: LogBase = LogBase(),
        options: Options = Options()
    ) throws(StorageError) {
        guard identity.serverID.rawValue != 0 else { throw StorageError(.invalid, "a server's identity is never 0") }
        try storing {
            try DataFile.removeUnfinished(directory: directory)
            let environment = try Environment(path: directory, options: options.environment)
            let database = try environment.openDatabase(hasIntegerKeys: true)
            let hardState = HardState(term: base.position.term)
            let record = MetadataRecord(identity: identity, hardState: hardState, base: base)
            try environment.write { transaction in
                guard try transaction.statistics(of: database).entries == 0 else {
                    throw StorageError(
                        .alreadyExists,
                        "\(directory) holds the log of a server already; a new server needs a new one"
                    )
                }
                try transaction.put(
                    record.encode(transactionID: UInt64(transaction.transactionID)),
                    forKey: UInt64(0),
                    in: database
                )
            }
        }
    }

    /// Opens a log: examines its file (see ``LMDB/DataFile``), then reads and verifies every record. Nothing is ever repaired by
    /// cutting it off.
    package static func open(
        directory: String,
        options: Options = Options()
    ) throws(StorageError) -> (LogStore, Recovered) {
        guard access(directory + "/data.mdb", F_OK) == 0 else { throw missing(directory) }
        return try storing {
            let lock = try DirectoryLock(directory: directory)
            if !options.testOnlySkipsExamination { try examineForOpening(directory, lock) }
            let environment = try Environment(path: directory, options: options.environment, holding: lock)
            let database = try environment.openDatabase(hasIntegerKeys: true)
            let (recovered, staleFrom) = try environment.read { transaction in
                guard let record = try transaction.value(forKey: UInt64(0), in: database) else {
                    throw missing(directory)
                }
                return try recover(MetadataRecord(verifying: record), transaction, database)
            }
            let metadata = MetadataRecord(
                identity: recovered.identity,
                hardState: recovered.hardState,
                base: recovered.base
            )
            let last =
                recovered.entries.last.map { LogPosition(index: $0.index, term: $0.term) } ?? recovered.base.position
            let state = State(metadata: metadata, recorded: metadata, last: last, staleFrom: staleFrom)
            let store = LogStore(environment: environment, database: database, state: state, options: options)
            try store.tidy()
            return (store, recovered)
        }
    }

    private static func missing(_ directory: String) -> StorageError {
        StorageError(.missing, "\(directory) holds no log: bootstrap a cluster or join one first")
    }

    private static func recover(
        _ metadata: MetadataRecord,
        _ transaction: borrowing ReadTransaction,
        _ database: Database
    ) throws -> (Recovered, staleFrom: LogIndex?) {
        var staleFrom: LogIndex?
        var entries: [EntryInfo] = []
        var position = metadata.base.position
        try transaction.withCursor(in: database) { cursor in
            var item = try cursor.seek(atLeast: UInt64(1))
            if let first = item, first.integerKey <= position.index {
                // A crash came between recording the base and removing what lies below it.
                staleFrom = first.integerKey
                item = try position.index == .max ? nil : cursor.seek(atLeast: position.index + 1)
            }
            while let current = item {
                let index = current.integerKey
                guard index == position.index + 1 else {
                    throw StorageError(
                        .corrupt,
                        "the log lacks entry \(position.index + 1), but has \(index); \(StorageError.remedy)",
                        index: position.index + 1
                    )
                }
                let info = try EntryRecord(verifying: current.value, index: index).info()
                guard info.term >= position.term, info.term <= metadata.hardState.term else {
                    throw StorageError(
                        .corrupt,
                        "entry \(index) has term \(info.term), which does not follow \(position) within "
                            + "term \(metadata.hardState.term); \(StorageError.remedy)",
                        index: index
                    )
                }
                position = LogPosition(index: index, term: info.term)
                entries.append(info)
                item = try cursor.next()
            }
        }
        let recovered = Recovered(
            identity: metadata.identity,
            hardState: metadata.hardState,
            base: metadata.base,
            entries: entries
        )
        return (recovered, staleFrom)
    }

    /// Closes the files, once no read is under way.
    package func close() throws(StorageError) { try storing { try environment.close() } }

    package var identity: Identity { state.withLock { $0.metadata.identity } }

    package var hardState: HardState { state.withLock { $0.metadata.hardState } }

    package var base: LogBase { state.withLock { $0.metadata.base } }

    /// The last durable entry, or the base's position when there is none.
    package var lastPosition: LogPosition { state.withLock { $0.last } }

    /// Bytes up to the last page ever used.
    package var usedBytes: Int { (try? environment.spaceUsage().usedBytes) ?? 0 }

    /// How full the map and the file system are; raise an alarm at 0.8 of the map.
    package func spaceUsage() throws(StorageError) -> SpaceUsage { try storing { try environment.spaceUsage() } }
}

// MARK: - On the storage thread, or before it starts

extension LogStore {
    /// Records that the server has become a part of a cluster. It can be so of one cluster only, for ever.
    package func adopt(clusterID: ClusterID) throws(StorageError) {
        precondition(clusterID != .none, "no cluster is not a cluster")
        let present = identity.clusterID
        guard present != clusterID else { return }
        guard present == .none else {
            throw StorageError(
                .clusterMismatch,
                "this server belongs to cluster \(present) and cannot join \(clusterID); use an empty directory"
            )
        }
        try update { $0.identity.clusterID = clusterID }
    }

    /// Records how the server is called and reached now.
    package func update(name: String, peerAddress: String, clientAddress: String) throws(StorageError) {
        var changed = identity
        (changed.name, changed.peerAddress, changed.clientAddress) = (name, peerAddress, clientAddress)
        guard changed != identity else { return }
        try update { $0.identity = changed }
    }

    private func update(_ change: (inout MetadataRecord) -> Void) throws(StorageError) {
        var next = try stateForWriting()
        change(&next.metadata)
        try commit(&next) { transaction, next in
            try record(&next, transaction)
        }
    }

    /// Whether ``maintain()`` has something to do. Cheap.
    package var needsMaintenance: Bool { state.withLock { $0.staleFrom != nil && $0.failure == nil } }

    /// One short step of housekeeping between commits: removes at most 10,000 entries below the base. Returns whether
    /// there may be more.
    package func maintain() throws(StorageError) -> Bool {
        var next = try stateForWriting()
        guard next.staleFrom != nil else { return false }
        try commit(&next) { transaction, next in
            try removeStale(&next, transaction, limit: Self.trimChunk)
            try record(&next, transaction)
        }
        return next.staleFrom != nil
    }

    /// The housekeeping of a start. A lack of room does not keep the log from being read: the committer tries again.
    private func tidy() throws(StorageError) {
        do throws(StorageError) {
            while try maintain() {}
            try extendFile()
        } catch {
            guard error.isLackOfRoom else { throw error }
        }
    }

    /// Writes zeros ahead of the used part of the file when few are left (see ``Options/zeroFillBytes``), and answers what the
    /// disk lacks when it cannot be done. Cheap when there is nothing to do; otherwise it takes some ten milliseconds, which
    /// the commits that follow save.
    ///
    /// What is written ahead is also the reserve: a disk that gives no more shows here first, while terms and votes can still
    /// be written.
    @discardableResult
    package func extendFile() throws(StorageError) -> LackOfRoom? {
        guard zeroFillBytes > 0 else { return nil }
        _ = try stateForWriting()
        let minimum = zeroFillBytes / 4
        do throws(StorageError) {
            return try storing {
                guard try environment.needsZeroFill(minimum: minimum) else { return nil }
                let ahead = try environment.zeroFillAhead(minimum: minimum, target: zeroFillBytes)
                guard ahead < minimum, try environment.needsZeroFill(minimum: minimum) else { return nil }
                return LackOfRoom(
                    directory: environment.path,
                    // Only a quarter of what is there is taken for it.
                    neededBytes: 4 * minimum,
                    availableBytes: try environment.spaceUsage().availableDiskBytes,
                    cause: "the log's reserve is down to \(ahead >> 10) KiB"
                )
            }
        } catch {
            if error.isLackOfRoom { return lackOfRoom(error) }
            throw stop(error)
        }
    }

    /// What a write that failed for lack of room says.
    package func lackOfRoom(_ error: StorageError) -> LackOfRoom {
        LackOfRoom(
            directory: environment.path,
            neededBytes: max(zeroFillBytes, 1 << 20),
            availableBytes: (try? environment.spaceUsage().availableDiskBytes) ?? 0,
            cause: error.message
        )
    }
}
