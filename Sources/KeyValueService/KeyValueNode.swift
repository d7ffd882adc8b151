import Glibc
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

    /// - Parameter eventLoop: keeps the deadlines.
    public init(node: RaftNode<KeyValueMachine>, eventLoop: any EventLoop, options: Options = Options()) {
        self.node = node
        self.options = options
        operations = OperationTable(
            eventLoop: eventLoop,
            maximumCount: options.maximumPending,
            maximumBytes: options.maximumPendingBytes
        )
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

    /// Requests under way.
    public var pendingCount: Int { operations.count }

    /// Refuses requests from now on, and retries no more. What is under way is finished.
    public func close() {
        operations.close()
    }

    /// The deadline of a request that starts now and does not name one.
    public func deadline(after timeout: TimeAmount? = nil) -> NIODeadline {
        .now() + (timeout ?? options.defaultTimeout)
    }

    static var wallClockMilliseconds: UInt64 {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return now.tv_sec < 0 ? 0 : UInt64(now.tv_sec) * 1_000 + UInt64(now.tv_nsec) / 1_000_000
    }
}
