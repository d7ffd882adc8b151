internal import Logging
public import Raft
internal import RaftStorage

/// What a lost or damaged state machine can be built anew from: its state is derived, and the log is trimmed only below a durable snapshot.
public enum StateRecovery {
    public enum Source: Hashable, Sendable {
        /// The log, which begins with the first entry.
        case log
        /// A snapshot, which was read to its end, and the log behind it.
        case snapshot(LogPosition)
    }

    /// What the node that uses `directory` would build its state from, if it had none.
    ///
    /// Everything is examined, snapshots by `machine` as well. Throws ``StartError`` when the log is damaged, or when no sound snapshot
    /// reaches it; also when there is no log although there was a state, which `hadState` tells.
    public static func source<Machine: StateMachine>(
        directory: String,
        hadState: Bool,
        machine: Machine.Type,
        snapshotSchema: String
    ) throws -> Source {
        do throws(StorageError) {
            guard try LogStore.exists(directory: directory + "/log") else {
                guard !hadState else { throw .lostLog(directory) }
                return .log
            }
            let (store, recovered) = try LogStore.open(directory: directory + "/log")
            try store.close()
            if recovered.base.position.index == 0 { return .log }
            let snapshots = try SnapshotStore(
                directory: directory + "/snapshots",
                contents: SnapshotContents(of: machine, schema: snapshotSchema)
            )
            for descriptor in try snapshots.candidates(for: recovered) {
                do throws(StorageError) {
                    try snapshots.verify(descriptor)
                    return .snapshot(descriptor.position)
                } catch  where error.isDamage {
                    continue
                }
            }
            throw StorageError(
                .corrupt,
                "no sound snapshot reaches the log, which begins behind entry \(recovered.base.position.index)"
            )
        } catch {
            throw StartError(error)
        }
    }
}

extension SnapshotStore {
    /// The snapshots that the log carries on from, newest first.
    func candidates(for recovered: Recovered) throws(StorageError) -> [SnapshotDescriptor] {
        let base = recovered.base.position
        return try list().filter { descriptor in
            let position = descriptor.position
            guard position.index > base.index else { return position == base }
            let offset = Int(clamping: position.index - base.index - 1)
            return offset < recovered.entries.count && recovered.entries[offset].term == position.term
        }
    }
}

extension SnapshotContents {
    /// What a machine knows of its snapshots.
    init<Machine: StateMachine>(of machine: Machine.Type, schema: String) {
        self.init(schema: schema) { header, read in
            try Machine.verifySnapshot(position: header.position, configuration: header.configuration, from: read)
        }
    }
}

extension NodeDirectory {
    /// Loads the newest sound snapshot that the log carries on from; damaged ones are set aside.
    func restoreNewest<Machine: StateMachine>(_ machine: Machine, logger: Logger) throws {
        let base = recovered.base.position
        for descriptor in try snapshots.candidates(for: recovered) {
            let position = descriptor.position
            logger.notice("loading a snapshot that the log goes on from", metadata: ["at": "\(position)"])
            do {
                try snapshots.verify(descriptor)
                try Engine<Machine>.restore(machine, from: snapshots, descriptor)
                return
            } catch let error as StorageError where error.isDamage {
                let name = try snapshots.setAside(descriptor) ?? descriptor.position.description
                logger.error(
                    "a snapshot is damaged and was set aside",
                    metadata: ["error": "\(error)", "file": "\(snapshots.directory)/\(name)"]
                )
            }
        }
        let others = try snapshots.scan().damaged.map { " \($0.message)." }.joined()
        throw StartError(
            .damaged,
            """
            the state must be loaded from a snapshot, because the log begins behind \(base), and none is left that can be.\(others) \
            In a cluster, let this server rejoin as a new one: the same command with --rejoin HOST:PORT of another member.
            """
        )
    }
}

extension StorageError {
    /// A state without the log that it was made from: whoever began anew there would forget what was acknowledged.
    static func lostLog(_ directory: String) -> StorageError {
        StorageError(
            .corrupt,
            "\(directory) holds a state, but its log is gone: it was removed, or the disk lost it. Put it back; or move everything "
                + "out of the directory, and let the server join as a new one"
        )
    }
}
