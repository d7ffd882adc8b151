public import Raft
public import RaftDriver
package import RaftStorage

/// How a node is set up.
public struct NodeOptions: Sendable {
    /// What a server does that finds its data directory empty.
    public enum Beginning: Sendable {
        /// Nothing: a new server must be told which of the others it is.
        case mustExist
        /// Make a cluster of this one server.
        case bootstrap
        /// Ask these servers (`host:port` for peers) to be taken in; `replacing` names a member whose place to take.
        case join([String], replacing: String?)
    }

    /// The data directory; the node keeps the log in `log/` and snapshots in `snapshots/` below it.
    public var directory: String
    /// The operator's label, unique in the cluster.
    public var name: String
    /// `host:port` to listen on for peers; port 0 lets the system choose.
    public var listenAddress: String
    /// `host:port` where peers reach this server; the bound address when empty.
    public var peerAddress: String
    /// Where clients reach it; opaque, shown to the other members.
    public var clientAddress: String
    public var beginning = Beginning.mustExist
    /// One tick of the core, in milliseconds.
    public var tickMilliseconds = 20
    public var core = Options()
    public var driver = DriverOptions()
    /// The most requests of this node's clients that wait for the Raft loop.
    public var maxQueuedRequests = 65_536
    /// The most bytes of commands that wait for the Raft loop or for the log's disk.
    public var maxQueuedBytes = 128 << 20
    /// A bound on the rate of one snapshot transfer; nil for none.
    public var snapshotBytesPerSecond: Int?
    /// The servers compare their states at multiples of so many entries, and whenever all is applied; 0 never. It must be the same on all.
    public var comparisonEntries: UInt64 = 1_024
    /// How often the leader asks for what there is to compare, in milliseconds.
    public var comparisonMilliseconds = 1_000
    /// How fast the hash of the state is recomputed from what is stored, after the start and every day, in bytes a second; nil never.
    public var verificationBytesPerSecond: Int? = 32 << 20
    /// A bound on how fast a snapshot is written, so that it costs those who write meanwhile little; nil for none.
    public var snapshotWriteBytesPerSecond: Int? = 64 << 20
    /// All files are read again, slowly, this often, in milliseconds, to find what the disk has damaged; 0 for never.
    public var scrubPeriodMilliseconds = 86_400_000
    /// Names the format of the machine's snapshots; a snapshot of another format is refused.
    public var snapshotSchema: String
    /// How the log is kept.
    package var log = LogStore.Options()
    /// How many jobs may wait for each of the threads that block on disks.
    package struct Queues: Sendable {
        package var background = 64
        package var reader = 4096
        package var streams = 4096
    }

    package var queues = Queues()
    /// For tests.
    package var observer: NodeObserver?
    /// Where to count; nil counts nothing.
    public var metrics: NodeMetrics?
    /// Called once when the node cannot go on (a failed disk, a broken invariant): the process should end. Any thread.
    public var onFailure: @Sendable (String) -> Void

    public init(
        directory: String,
        name: String,
        listenAddress: String,
        peerAddress: String = "",
        clientAddress: String = "",
        snapshotSchema: String,
        onFailure: @escaping @Sendable (String) -> Void
    ) {
        self.directory = directory
        self.name = name
        self.listenAddress = listenAddress
        self.peerAddress = peerAddress
        self.clientAddress = clientAddress
        self.snapshotSchema = snapshotSchema
        self.onFailure = onFailure
    }
}

/// Why a node did not start; the description says what to do.
public struct StartError: Error, Hashable, Sendable, CustomStringConvertible {
    public struct Code: RawRepresentable, Hashable, Sendable {
        public var rawValue: String

        public init(rawValue: String) { self.rawValue = rawValue }

        /// The data directory is empty, and nothing says how to begin.
        public static let nothingToStart = Code(rawValue: "nothing-to-start")
        /// Another process uses the data directory.
        public static let directoryInUse = Code(rawValue: "directory-in-use")
        /// A newer version of the program wrote the data directory.
        public static let newerFormat = Code(rawValue: "newer-format")
        /// What lies in the data directory is damaged.
        public static let damaged = Code(rawValue: "damaged")
        public static let addressInUse = Code(rawValue: "address-in-use")
        public static let invalidAddress = Code(rawValue: "invalid-address")
        /// The cluster does not take the server in.
        public static let joinRefused = Code(rawValue: "join-refused")
        public static let failed = Code(rawValue: "failed")
    }

    public var code: Code
    public var description: String

    public init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}
