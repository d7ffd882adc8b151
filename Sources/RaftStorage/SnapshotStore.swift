internal import LMDB
package import Raft
internal import Synchronization

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
    private let hurry = Atomic(false)
    private let temporaries = Atomic<UInt64>(0)
    private let protection = Mutex<LogPosition?>(nil)

    /// The snapshot at this position stays, whatever else comes: it is about to be loaded.
    package var protected: LogPosition? {
        get { protection.withLock { $0 } }
        set { protection.withLock { $0 = newValue } }
    }

    /// Opens the directory, creating it if it is missing (its parent must be there), and sweeps what unfinished
    /// snapshots left. Transfers from other servers stay: they are resumed.
    package init(directory: String, writeBytesPerSecond: Int? = nil) throws(StorageError) {
        self.directory = directory
        self.writeBytesPerSecond = writeBytesPerSecond
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

    /// The snapshots whose header and trailer are sound, newest first. Those that are not are in `damaged`.
    package func scan() throws(StorageError) -> (snapshots: [SnapshotDescriptor], damaged: [StorageError]) {
        let (snapshots, damaged) = try scanFiles()
        return (snapshots, damaged.map(\.error))
    }

    func scanFiles() throws(StorageError) -> (
        snapshots: [SnapshotDescriptor], damaged: [(name: String, error: StorageError)]
    ) {
        try storing {
            var (snapshots, damaged): ([SnapshotDescriptor], [(String, StorageError)]) = ([], [])
            for name in try fileNames(in: directory) where name.hasSuffix(Self.suffix) {
                do {
                    let reader = try storing { try SnapshotReader(file: File.read(directory + "/" + name)) }
                    guard name == reader.descriptor.fileName + Self.suffix else {
                        throw StorageError(.corrupt, "\(directory)/\(name) holds another snapshot than its name says")
                    }
                    snapshots.append(reader.descriptor)
                } catch let error as StorageError where error.code != .failed {
                    damaged.append((name, error))
                }
            }
            return (snapshots.sorted { $1.position.index < $0.position.index }, damaged)
        }
    }

    /// The snapshots, newest first.
    package func list() throws(StorageError) -> [SnapshotDescriptor] { try scan().snapshots }

    /// The newest snapshot.
    package func latest() throws(StorageError) -> SnapshotDescriptor? { try list().first }

    /// Opens a snapshot. A reader goes on to work when the file is removed meanwhile.
    package func open(_ descriptor: SnapshotDescriptor) throws(StorageError) -> SnapshotReader {
        try storing {
            do {
                let file = try File.read(path(of: descriptor))
                return try SnapshotReader(file: file, expecting: descriptor)
            } catch let error as LMDBError where error.isMissingFile {
                throw StorageError(.missing, "there is no snapshot at \(descriptor.position) in \(directory)")
            }
        }
    }

    /// Begins or resumes a transfer of this snapshot from another server. Transfers of other snapshots are given up.
    ///
    /// - Parameter clusterID: the cluster that the snapshot must be of; `none` for a server that is not in one yet.
    package func receive(
        _ descriptor: SnapshotDescriptor,
        clusterID: ClusterID
    ) throws(StorageError) -> IncomingSnapshot {
        let name = descriptor.fileName + Self.incomingSuffix
        return try storing {
            for other in try fileNames(in: directory) where other.hasSuffix(Self.incomingSuffix) && other != name {
                try File.remove(directory + "/" + other)
            }
            return try IncomingSnapshot(
                store: self,
                descriptor: descriptor,
                clusterID: clusterID,
                path: directory + "/" + name
            )
        }
    }

    func synchronizeSnapshots() throws { try synchronizeDirectory(directory) }

    private func path(of descriptor: SnapshotDescriptor) -> String {
        directory + "/" + descriptor.fileName + Self.suffix
    }

    /// Gives a verified and flushed file its name, durably, and removes the snapshots beyond the newest two.
    func publish(_ temporary: String, _ descriptor: SnapshotDescriptor) throws {
        try File.rename(temporary, to: path(of: descriptor))
        try synchronizeDirectory(directory)
        // Damaged files are left for people to look at.
        for old in try list().dropFirst(Self.kept) where old != descriptor && old.position != protected {
            try File.remove(path(of: old))
        }
    }
}

extension LMDBError {
    fileprivate var isMissingFile: Bool { code.rawValue == 2 }
}
