package import Logging
package import Raft
package import RaftStorage

/// What a start finds on the disk, verified, with the machine brought to where the log can carry it on from: the part of
/// ``RaftNode/start(options:machine:raftLoop:group:logger:)`` that needs neither links nor loops.
package struct NodeRecovery {
    package let store: LogStore
    package let snapshots: SnapshotStore
    package let recovered: Recovered
    /// The newest sound snapshot.
    package let latestSnapshot: SnapshotDescriptor?
    package let core: Core
    let quarantine: Quarantine?

    /// Opens the data directory, making it where it is empty and the options say how to begin.
    ///
    /// - Throws: ``StartError``, `StorageError` or what the machine throws; nothing is open then.
    package static func run<Machine: StateMachine>(
        _ options: NodeOptions,
        machine: Machine,
        logger: Logger
    ) throws -> NodeRecovery {
        if machine.durablePosition.index > 0, try !LogStore.exists(directory: options.directory + "/log") {
            throw StorageError.lostLog(options.directory)
        }
        let contents = SnapshotContents(of: Machine.self, schema: options.snapshotSchema)
        let opened = try NodeDirectory.open(options, contents, logger: logger)
        do {
            try opened.reconcile(machine, logger: logger)
            let core = Core(
                id: opened.recovered.identity.serverID,
                options: options.core,
                seed: .random(in: .min ... .max),
                hardState: opened.recovered.hardState,
                base: opened.recovered.base,
                entries: opened.recovered.entries,
                applied: machine.durablePosition.index
            )
            return NodeRecovery(
                store: opened.store,
                snapshots: opened.snapshots,
                recovered: opened.recovered,
                latestSnapshot: try opened.latestSnapshot(logger: logger),
                core: core,
                quarantine: opened.quarantine
            )
        } catch {
            try? opened.store.close()
            throw error
        }
    }
}

/// Tells a test what a node is about to do, in the order in which it does it. The closures are called on the Raft loop, the first one
/// where the node is started; they must not block.
package struct NodeObserver: Sendable {
    /// What the start found.
    package var recovered: @Sendable (Recovered) -> Void
    /// Right before the write is handed to the storage thread.
    package var writes: @Sendable (StorageWrite) -> Void
    /// Right before the message leaves: what it promises must be durable by now.
    package var sends: @Sendable (Message) -> Void

    package init(
        recovered: @escaping @Sendable (Recovered) -> Void,
        writes: @escaping @Sendable (StorageWrite) -> Void,
        sends: @escaping @Sendable (Message) -> Void
    ) {
        self.recovered = recovered
        self.writes = writes
        self.sends = sends
    }
}
