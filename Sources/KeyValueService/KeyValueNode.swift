public import KeyValue
public import NIOCore
public import Raft
public import RaftNode

/// The key-value service of one node: what a front end (HTTP now) calls.
///
/// Any node takes any request. Writes go to the leader through the node; a request that was certainly not executed, because
/// leadership was changing hands, is tried again until its deadline, so that callers see no failure during a handover.
public final class KeyValueNode: Sendable {
    public struct Options: Sendable {
        /// How long a request may take when it does not say.
        public var defaultTimeout = TimeAmount.seconds(5)
        /// The most writes and rounds of reads that may be under way.
        public var maximumPending = 16_384
        /// The most bytes of commands that may be under way.
        public var maximumPendingBytes = 256 << 20
        /// The most reads that may wait on one event loop.
        public var maximumPendingReads = 16_384

        /// The most watches, of keys and of locks each.
        public var maximumWatches = 20_000
        /// The most events, and bytes of them, that wait in memory for the reader of a watch.
        public var maximumBufferedEvents = 128
        public var maximumBufferedBytes = 256 << 10
        /// How many revisions the state may move on while a reader leaves its full buffer untouched, before its watch ends.
        public var maximumWatchLag: UInt64 = 100_000
        /// The most backups that may be read at a time.
        public var maximumBackups = 2

        public init() {}
    }

    /// A write that was executed.
    public struct Written: Sendable {
        public var outcome: KeyValue.Outcome
        /// Where in the log it stands.
        public var position: LogPosition

        public init(outcome: KeyValue.Outcome, position: LogPosition) {
            self.outcome = outcome
            self.position = position
        }
    }

    /// Called exactly once, on the Raft loop or on the service's event loop; it must not block.
    public typealias WriteCompletion = @Sendable (Result<Written, ServiceError>) -> Void

    public let node: RaftNode<KeyValueMachine>
    public let options: Options
    let operations: OperationTable
    let freshness: Freshness
    let boundedReads: BoundedReads
    let revisions: RevisionGate
    let keyWatches: WatchHub
    let lockWatches: WatchHub
    let loop: any EventLoop
    /// On ``loop``.
    let timers: SharedTimers
    let keepAlives: KeepAlives
    let backups: BackupSlots
    private let expirer: LeaseExpirer

    /// - Parameter eventLoop: keeps the deadlines.
    public convenience init(
        node: RaftNode<KeyValueMachine>,
        eventLoop: any EventLoop,
        options: Options = Options()
    ) {
        let clock = ElapsedClock()
        self.init(node: node, eventLoop: eventLoop, options: options, nanoseconds: { clock.nanoseconds })
    }

    /// - Parameter nanoseconds: a clock that never goes back and counts whatever time this machine did not run; see ``ElapsedClock``.
    package init(
        node: RaftNode<KeyValueMachine>,
        eventLoop: any EventLoop,
        options: Options,
        nanoseconds: @escaping @Sendable () -> UInt64
    ) {
        self.node = node
        self.options = options
        loop = eventLoop
        timers = SharedTimers(eventLoop: eventLoop)
        freshness = Freshness(nanoseconds: nanoseconds)
        boundedReads = BoundedReads(freshness: freshness, maximumCount: options.maximumPendingReads)
        let revisions = RevisionGate(
            revision: node.machine.store.mark.revision,
            eventLoop: eventLoop,
            maximumCount: options.maximumPendingReads
        )
        self.revisions = revisions
        let operations = OperationTable(
            eventLoop: eventLoop,
            maximumCount: options.maximumPending,
            maximumBytes: options.maximumPendingBytes
        )
        self.operations = operations
        keepAlives = Self.makeKeepAlives(node, operations, eventLoop, options)
        backups = BackupSlots(maximum: options.maximumBackups)
        expirer = LeaseExpirer(
            store: node.machine.store,
            clock: node.machine.clock,
            eventLoop: eventLoop
        ) { [weak node] command, completion in
            guard let node else { return completion(false) }
            node.propose(command) { outcome in
                if case .applied(.success, _) = outcome { completion(true) } else { completion(false) }
            }
        }
        let hubs = [EventFilter.Space.keys, .locks].map { space in
            WatchHub(space: space, store: node.machine.store, options: WatchHub.Options(options)) { [weak node] in
                guard let node else { return ServiceError(.shuttingDown) }
                return node.isQuarantined ? ServiceError(.quarantined, leader: node.vitals.leader?.id) : nil
            }
        }
        (keyWatches, lockWatches) = (hubs[0], hubs[1])
        node.machine.observe { revision in
            revisions.advance(to: revision)
            for hub in hubs { hub.wake() }
        }
        // What was applied before anybody was told of it.
        revisions.advance(to: node.machine.store.mark.revision)
        expirer.start()
    }

    private static func makeKeepAlives(
        _ node: RaftNode<KeyValueMachine>,
        _ operations: OperationTable,
        _ eventLoop: any EventLoop,
        _ options: Options
    ) -> KeepAlives {
        KeepAlives(eventLoop: eventLoop, maximumCount: options.maximumPendingReads) { leases, deadline, completion in
            let command = Command.keepLeasesAlive(leases).encode(timestampMilliseconds: node.machine.clock.now ?? 0)
            propose(command, to: node, operations, deadline: deadline) { result in
                completion(
                    result.map { written in
                        if case .leasesKept(let statuses) = written.outcome, statuses.count == leases.count {
                            statuses
                        } else {
                            leases.map { _ in nil }
                        }
                    }
                )
            }
        }
    }

    /// The state, for reads without any promise of freshness; see ``readableStore()``.
    public var store: Store { node.machine.store }

    /// ``store``, to answer a client from. Throws ``ServiceError/Code/quarantined`` while this node's state is known to be wrong.
    public func readableStore() throws(ServiceError) -> Store {
        if node.isQuarantined { throw quarantined }
        return store
    }

    var quarantined: ServiceError { ServiceError(.quarantined, leader: vitals.leader?.id) }

    /// Term, leader and applied index; cheap.
    public var vitals: Vitals { node.vitals }

    /// What the node knows of itself and of the cluster.
    public var status: NodeStatus { node.status }

    /// How old this node's state may be at most, as far as it can be proven; nil where nothing is proven yet.
    public var provenStaleness: TimeAmount? { freshness.staleness }

    /// Requests under way.
    public var pendingCount: Int { operations.count }

    /// Refuses requests from now on, and retries no more. What is under way is finished.
    public func close() {
        operations.close()
        expirer.close()
        revisions.close()
        keyWatches.close()
        lockWatches.close()
    }

    /// The deadline of a request that starts now and does not name one.
    public func deadline(after timeout: TimeAmount? = nil) -> NIODeadline {
        .now() + (timeout ?? options.defaultTimeout)
    }

    /// What a new command is stamped with: the time of this leader, or nothing for the leader to replace.
    var stamp: UInt64 { node.machine.clock.now ?? 0 }
}

extension WatchHub.Options {
    init(_ options: KeyValueNode.Options) {
        maximumWatches = options.maximumWatches
        maximumBufferedEvents = options.maximumBufferedEvents
        maximumBufferedBytes = options.maximumBufferedBytes
        maximumLag = options.maximumWatchLag
    }
}
