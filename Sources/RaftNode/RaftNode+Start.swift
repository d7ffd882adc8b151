internal import Glibc
public import Logging
public import NIOCore
internal import Raft
internal import RaftDriver
internal import RaftStorage
internal import RaftTransport

extension RaftNode {
    /// Opens the data directory, begins or joins a cluster where it is empty, and runs.
    ///
    /// Returns when the node is a part of a cluster; it may not know a leader yet. `raftLoop` is the Raft loop; it should do nothing else
    /// that takes long. Snapshot streams use loops of `group`.
    public static func start(
        options: NodeOptions,
        machine: Machine,
        raftLoop: any EventLoop,
        group: any EventLoopGroup,
        logger: Logger
    ) async throws -> RaftNode {
        let recovery = try translating { try NodeRecovery.run(options, machine: machine, logger: logger) }
        options.observer?.recovered(recovery.recovered)
        do {
            return try await start(recovery, options, machine, raftLoop, group, logger)
        } catch {
            try? recovery.store.close()
            throw error
        }
    }

    private static func start(
        _ opened: NodeRecovery,
        _ options: NodeOptions,
        _ machine: Machine,
        _ loop: any EventLoop,
        _ group: any EventLoopGroup,
        _ logger: Logger
    ) async throws -> RaftNode {
        let (snapshots, core, latest) = (opened.snapshots, opened.core, opened.latestSnapshot)
        let driver = Driver(
            core: core,
            options: options.driver,
            snapshotIndex: latest?.position.index ?? 0,
            snapshotBytes: Int(latest?.fileSize ?? 0)
        )
        let workers = Engine<Machine>.Workers(options.queues)
        let arrivals = Arrivals<Machine>()
        let transport = PeerTransport(
            eventLoop: loop,
            group: group,
            identity: ServerIdentity(opened.recovered.identity),
            logger: logger,
            snapshotReceiver: SnapshotInbox(
                snapshots: snapshots,
                store: opened.store,
                leader: { arrivals.leader },
                arrived: { arrivals.tell($0, from: $1) },
                failed: { arrivals.fail($0) }
            ),
            blockingExecutor: { work in workers.streams.submit(work) }
        )
        let board = StatusBoard(NodeStatus(opened.recovered, core: core, snapshotIndex: driver.snapshotIndex))
        let engine = Engine(
            loop: loop,
            options: options,
            logger: logger,
            machine: machine,
            store: opened.store,
            snapshots: snapshots,
            transport: transport,
            board: board,
            driver: driver,
            latestSnapshot: latest,
            quarantine: opened.quarantine,
            workers: workers
        )
        engine.isSnapshotMissing = latest == nil && opened.recovered.base.position.index > 0
        engine.seen.remember(opened.recovered)
        engine.comparison.publish(on: board)
        arrivals.connect(engine)
        do {
            let bound = try await translating { try await engine.listen() }
            let node = RaftNode(engine: engine, peerAddress: bound)
            try await node.begin(as: bound)
            return node
        } catch {
            await engine.shutdown(patience: nil)
            throw error
        }
    }

    private func begin(as address: String) async throws {
        let engine = engine
        if engine.store.identity.clusterID == .none {
            try await engine.join()
        } else {
            try await engine.loop.submit { engine.run() }.get()
        }
    }

    private static func translating<Result>(_ body: () throws -> Result) throws -> Result {
        do {
            return try body()
        } catch let error as StorageError {
            throw StartError(error)
        }
    }

    private static func translating<Result>(_ body: () async throws -> Result) async throws -> Result {
        do {
            return try await body()
        } catch let error as TransportError {
            throw StartError(error)
        }
    }
}

/// The log and the snapshots of a data directory, opened and verified.
struct NodeDirectory {
    let store: LogStore
    let snapshots: SnapshotStore
    private(set) var recovered: Recovered
    let quarantine: Quarantine?

    static func open(
        _ options: NodeOptions,
        _ contents: SnapshotContents,
        logger: Logger
    ) throws -> NodeDirectory {
        let logDirectory = options.directory + "/log"
        try makeDirectory(options.directory)
        if try !LogStore.exists(directory: logDirectory) { try create(options, logDirectory) }
        let (store, recovered) = try LogStore.open(directory: logDirectory, options: options.log)
        let snapshots = try SnapshotStore(
            directory: options.directory + "/snapshots",
            writeBytesPerSecond: options.snapshotWriteBytesPerSecond,
            contents: contents
        )
        logger.info(
            "opened the log",
            metadata: [
                "server": "\(recovered.identity.serverID)", "cluster": "\(recovered.identity.clusterID)",
                "term": "\(recovered.hardState.term)", "base": "\(recovered.base.position)",
                "entries": "\(recovered.entries.count)",
            ]
        )
        let quarantine = try Quarantine.load(options.directory)
        if let quarantine { logger.error("this server is in quarantine", metadata: ["why": "\(quarantine)"]) }
        return NodeDirectory(store: store, snapshots: snapshots, recovered: recovered, quarantine: quarantine)
    }

    /// A new server. A joining one begins with an empty configuration: it neither votes nor campaigns until it is taken in.
    private static func create(_ options: NodeOptions, _ directory: String) throws {
        var identity = Identity.new(
            name: options.name,
            peerAddress: options.peerAddress.isEmpty ? options.listenAddress : options.peerAddress,
            clientAddress: options.clientAddress
        )
        var base = LogBase()
        switch options.beginning {
        case .mustExist:
            throw StartError(
                .nothingToStart,
                """
                \(options.directory) holds no data yet, and nothing says how to begin. \
                For the first server of a new cluster use --bootstrap; \
                to join a cluster use --join HOST:PORT with the peer address of any of its members.
                """
            )
        case .bootstrap:
            identity.clusterID = ClusterID(.random(in: 1 ... .max))
            let member = Member(
                id: identity.serverID,
                name: identity.name,
                peerAddress: identity.peerAddress,
                clientAddress: identity.clientAddress
            )
            base.configuration = Configuration(voters: [member])
        case .join: break
        }
        try LogStore.create(directory: directory, identity: identity, base: base, options: options.log)
    }

    /// The newest sound snapshot; damaged ones are named in the log and set aside.
    func latestSnapshot(logger: Logger) throws -> SnapshotDescriptor? {
        for error in try snapshots.setDamagedAside() {
            logger.error("a snapshot file is damaged and not used", metadata: ["error": "\(error)"])
        }
        return try snapshots.list().first
    }

    /// Makes a directory and those above it, and their names durable, also when somebody else just made them: nothing that is
    /// synced inside would be found again without them.
    private static func makeDirectory(_ path: String) throws {
        var prefix = path.hasPrefix("/") ? "/" : ""
        let parts = path.split(separator: "/")
        for (index, part) in parts.enumerated() {
            prefix += (prefix.isEmpty || prefix.hasSuffix("/") ? "" : "/") + part
            // What the log holds is nobody's business but this user's.
            guard mkdir(prefix, index == parts.count - 1 ? 0o700 : 0o755) == 0 || errno == EEXIST else {
                throw StartError(.failed, "the directory \(prefix) cannot be made: \(String(cString: strerror(errno)))")
            }
            try synchronize(prefix + "/..")
        }
    }

    private static func synchronize(_ directory: String) throws {
        let descriptor = Glibc.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else {
            // One that may not be read holds nothing that this user made.
            if errno == EACCES || errno == EPERM { return }
            throw StartError(
                .failed,
                "the directory \(directory) cannot be opened: \(String(cString: strerror(errno)))"
            )
        }
        defer { Glibc.close(descriptor) }
        // A file system that is only read cannot, and need not.
        guard fsync(descriptor) == 0 || errno == EROFS || errno == EINVAL else {
            throw StartError(
                .failed,
                "the directory \(directory) cannot be synced: \(String(cString: strerror(errno)))"
            )
        }
    }

    /// Brings the machine to where the log can carry it on from: a crash may have come between taking a snapshot in and loading it.
    func reconcile<Machine: StateMachine>(_ machine: Machine, logger: Logger) throws {
        let base = recovered.base
        if machine.durablePosition.index < base.position.index {
            try restoreNewest(machine, logger: logger)
        }
        let position = machine.durablePosition
        let term =
            position.index == base.position.index
            ? base.position.term : recovered.entries.first { $0.index == position.index }?.term
        guard term == position.term else {
            throw StartError(
                .damaged,
                """
                the state stands at \(position), which is not in the log (it begins behind \(base.position) and has \
                \(recovered.entries.count) entries): the directories do not belong together, or one of them was restored alone. \
                Remove this server from the cluster and let it join anew with an empty data directory.
                """
            )
        }
    }
}

extension NodeStatus {
    init(_ recovered: Recovered, core: Core, snapshotIndex: LogIndex) {
        self.init(
            serverID: core.id,
            clusterID: recovered.identity.clusterID,
            name: recovered.identity.name,
            role: .follower,
            term: core.term,
            leader: nil,
            firstIndex: core.firstIndex,
            lastIndex: core.lastIndex,
            commitIndex: core.commitIndex,
            appliedIndex: core.appliedIndex,
            durableIndex: core.appliedIndex,
            snapshotIndex: snapshotIndex,
            configuration: core.configuration,
            peers: [],
            logBytes: 0,
            fault: nil
        )
    }
}

extension StartError {
    init(_ error: StorageError) {
        let code: Code =
            switch error.code {
            case .inUse: .directoryInUse
            case .newerFormat: .newerFormat
            case .corrupt: .damaged
            default: .failed
            }
        self.init(code, error.message)
    }

    init(_ error: TransportError) {
        let code: Code =
            switch error.code {
            case .addressInUse: .addressInUse
            case .invalidAddress: .invalidAddress
            default: .failed
            }
        self.init(code, error.description)
    }
}
