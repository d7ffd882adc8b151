internal import LMDB
package import Raft
internal import Synchronization

/// What a store of snapshots is told of their payloads, which it keeps without understanding them.
package struct SnapshotContents: Sendable {
    /// The form of payload that can be read; a snapshot of another one is not used.
    package var schema: String
    /// Reads a payload to its end and throws unless a state could be loaded from it. It changes nothing.
    package var examine: @Sendable (SnapshotHeader, _ read: (_ maxBytes: Int) throws -> [UInt8]?) throws -> Void

    package init(
        schema: String,
        examine: @escaping @Sendable (SnapshotHeader, _ read: (_ maxBytes: Int) throws -> [UInt8]?) throws -> Void
    ) {
        self.schema = schema
        self.examine = examine
    }

    func requireSchema(of header: SnapshotHeader) throws(StorageError) {
        guard header.schema != schema else { return }
        throw StorageError(
            .newerFormat,
            "the snapshot at \(header.position) has the format '\(header.schema)', this program reads '\(schema)'"
        )
    }
}

/// The directory of a server's snapshot files.
///
/// A file gets its name only when it is whole, verified and flushed; so a snapshot under its name is complete.
package final class SnapshotStore: Sendable {
    /// How many snapshots stay: the newest, and the one before in case the disk damages it.
    static let kept = 2
    static let suffix = ".snapshot"
    static let temporarySuffix = ".tmp"
    static let incomingSuffix = ".incoming"

    package let directory: String
    /// How fast snapshots are written, in bytes a second; nil for no bound.
    package let writeBytesPerSecond: Int?
    /// What is known of the payloads; nil takes any for good.
    let contents: SnapshotContents?
    private let hurry = Atomic(false)
    private let temporaries = Atomic<UInt64>(0)
    private let protection = Mutex<LogPosition?>(nil)
    /// The transfer that comes in; one at a time.
    private let incoming = Mutex<IncomingSnapshot?>(nil)
    /// Held while names in the directory are read or changed: several threads do.
    private let names = Mutex(())

    /// The snapshot at this position stays, whatever else comes: it is about to be loaded.
    package var protected: LogPosition? {
        get { protection.withLock { $0 } }
        set { protection.withLock { $0 = newValue } }
    }

    /// Opens the directory, creating it if it is missing (its parent must be there), and sweeps what unfinished
    /// snapshots left. Transfers from other servers stay: they are resumed.
    package init(
        directory: String,
        writeBytesPerSecond: Int? = nil,
        contents: SnapshotContents? = nil
    ) throws(StorageError) {
        self.directory = directory
        self.writeBytesPerSecond = writeBytesPerSecond
        self.contents = contents
        try storing {
            try makeDirectory(directory)
            for name in try fileNames(in: directory) where name.hasSuffix(Self.temporarySuffix) {
                try File.remove(directory + "/" + name)
            }
        }
    }

    /// From now on snapshots are written as fast as they can be: somebody waits for the end.
    package func hurryUp() { hurry.store(true, ordering: .relaxed) }

    var isHurried: Bool { hurry.load(ordering: .relaxed) }

    /// Begins a new snapshot file.
    package func begin(_ header: SnapshotHeader) throws(StorageError) -> SnapshotWriter {
        let number = temporaries.add(1, ordering: .relaxed).newValue
        let path = "\(directory)/\(ServerID(header.position.index))-\(number)\(Self.temporarySuffix)"
        return try storing { try SnapshotWriter(store: self, header: header, path: path) }
    }

    /// The snapshots whose header and trailer are sound and whose form is known, newest first. Those that are not are in `damaged`.
    package func scan() throws(StorageError) -> (snapshots: [SnapshotDescriptor], damaged: [StorageError]) {
        let (snapshots, damaged) = try scanFiles()
        return (snapshots, damaged.map(\.error))
    }

    func scanFiles() throws(StorageError) -> (
        snapshots: [SnapshotDescriptor], damaged: [(name: String, error: StorageError)]
    ) {
        try storing { try names.withLock { _ in try scanHoldingNames() } }
    }

    private func scanHoldingNames() throws -> (
        snapshots: [SnapshotDescriptor], damaged: [(name: String, error: StorageError)]
    ) {
        var (snapshots, damaged): ([SnapshotDescriptor], [(String, StorageError)]) = ([], [])
        for name in try fileNames(in: directory) where name.hasSuffix(Self.suffix) {
            do {
                let reader = try storing { try SnapshotReader(file: File.read(directory + "/" + name)) }
                guard name == reader.descriptor.fileName + Self.suffix else {
                    throw StorageError(.corrupt, "\(directory)/\(name) holds another snapshot than its name says")
                }
                try contents?.requireSchema(of: reader.header)
                snapshots.append(reader.descriptor)
            } catch let error as StorageError where error.code == .missing {
                // Somebody removed it since it was listed.
            } catch let error as StorageError where error.code != .failed {
                damaged.append((name, error))
            }
        }
        return (snapshots.sorted { $1.position.index < $0.position.index }, damaged)
    }

    /// The snapshots, newest first.
    package func list() throws(StorageError) -> [SnapshotDescriptor] { try scan().snapshots }

    /// The newest snapshot.
    package func latest() throws(StorageError) -> SnapshotDescriptor? { try list().first }

    /// Opens a snapshot. A reader goes on to work when the file is removed meanwhile.
    package func open(_ descriptor: SnapshotDescriptor) throws(StorageError) -> SnapshotReader {
        do {
            return try storing {
                let reader = try SnapshotReader(file: File.read(path(of: descriptor)), expecting: descriptor)
                try contents?.requireSchema(of: reader.header)
                return reader
            }
        } catch  where error.code == .missing {
            throw StorageError(.missing, "there is no snapshot at \(descriptor.position) in \(directory)")
        }
    }

    /// Begins or resumes a transfer of this snapshot from another server. Transfers of other snapshots are given up, and one that is
    /// under way hears of it with its next bytes: two that wrote at a time would spoil each other's file.
    ///
    /// - Parameter clusterID: the cluster that the snapshot must be of; `none` for a server that is not in one yet.
    package func receive(
        _ descriptor: SnapshotDescriptor,
        clusterID: ClusterID
    ) throws(StorageError) -> IncomingSnapshot {
        let name = descriptor.fileName + Self.incomingSuffix
        return try storing {
            incoming.withLock { $0.take() }?.supersede()
            try removeIncoming(except: name)
            let snapshot = try IncomingSnapshot(
                store: self,
                descriptor: descriptor,
                clusterID: clusterID,
                path: directory + "/" + name
            )
            // Should two begin at a time all the same, one of them ends here.
            incoming.withLock { current in
                defer { current = snapshot }
                return current
            }?.supersede()
            return snapshot
        }
    }

    private func removeIncoming(except kept: String) throws {
        try names.withLock { _ in
            for other in try fileNames(in: directory) where other.hasSuffix(Self.incomingSuffix) && other != kept {
                try File.remove(directory + "/" + other)
            }
        }
    }

    /// Names in the directory are changed by `body`, durably, while nobody else looks at them.
    func changingNames<Result>(_ body: () throws -> Result) throws -> Result {
        try names.withLock { _ in
            let result = try body()
            try synchronizeDirectory(directory)
            return result
        }
    }

    private func path(of descriptor: SnapshotDescriptor) -> String {
        directory + "/" + descriptor.fileName + Self.suffix
    }

    /// Gives a verified and flushed file its name, durably, and removes the snapshots beyond the newest two.
    func publish(_ temporary: String, _ descriptor: SnapshotDescriptor) throws {
        try changingNames { try File.rename(temporary, to: path(of: descriptor)) }
        try names.withLock { _ in
            // Damaged files are left for people to look at.
            for old in try scanHoldingNames().snapshots.dropFirst(Self.kept)
            where old != descriptor && old.position != protected {
                try File.remove(path(of: old))
            }
        }
    }
}
