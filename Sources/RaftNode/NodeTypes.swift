public import Raft

/// Why a request was certainly not carried out. It may be tried again.
public struct Rejection: Error, Hashable, Sendable {
    public enum Reason: String, Hashable, Sendable {
        /// No leader is known, or the one that was known could not be asked.
        case noLeader
        /// Leadership is being handed over, or was lost before the request was appended.
        case leadershipChanging
        /// A queue has reached its bound.
        case overloaded
        /// The disk (or its quota) is full.
        case storageFull
        /// Another leader's entry took the place of this one.
        case superseded
        /// This node is stopping.
        case shuttingDown
    }

    public var reason: Reason
    /// Who might take it.
    public var leader: ServerID?
    /// More about the reason, for people: which directory lacks room, say.
    public var detail: String?

    public init(_ reason: Reason, leader: ServerID? = nil, detail: String? = nil) {
        self.reason = reason
        self.leader = leader
        self.detail = detail
    }
}

/// What became of a proposed command. Every proposal gets exactly one.
public enum ProposalOutcome<Output: Sendable>: Sendable {
    /// Committed, and applied on this node.
    case applied(Output, at: LogPosition)
    /// Certainly not executed.
    case rejected(Rejection)
    /// It may have been, or may yet be, executed (R48).
    case unknown(leader: ServerID?)
}

/// What became of a request to confirm leadership for a read.
public enum ReadOutcome: Hashable, Sendable {
    /// A quorum confirmed the leader after the request came, and this node has applied up to `index`.
    case ready(index: LogIndex, term: Term)
    case rejected(Rejection)
}

/// What this node knows of itself and of the cluster at a moment.
public struct NodeStatus: Sendable {
    public enum Role: String, Sendable, CaseIterable { case leader, follower, candidate, learner }

    public struct Peer: Sendable {
        public var member: Member
        public var isVoter: Bool
        public var isLeader: Bool
        /// The last index the peer holds durably; known to the leader, and to each server of itself.
        public var matchIndex: LogIndex?
        /// Milliseconds since the leader heard from it; nil where unknown.
        public var lastContactMilliseconds: Int?
        /// Heard from within an election timeout.
        public var isHealthy: Bool
        /// A snapshot is on its way to it.
        public var isReceivingSnapshot: Bool
    }

    public var serverID: ServerID
    public var clusterID: ClusterID
    public var name: String
    public var role: Role
    public var term: Term
    public var leader: Member?
    /// The first index the log still holds.
    public var firstIndex: LogIndex
    public var lastIndex: LogIndex
    public var commitIndex: LogIndex
    public var appliedIndex: LogIndex
    /// Applied and durable in the state machine.
    public var durableIndex: LogIndex
    /// The position of the newest snapshot file.
    public var snapshotIndex: LogIndex
    public var configuration: Configuration
    public var peers: [Peer]
    /// Bytes that the log's store uses on disk.
    public var logBytes: Int
    /// Why this node neither votes nor leads, when something is wrong with it.
    public var fault: String?
    /// Which directory lacks room and how much, while one does. Reads go on.
    public var lackOfRoom: String?
    /// New writes are refused for lack of room.
    public var refusesWrites = false
    /// Set while this node's state is known to be wrong.
    public var quarantine: Quarantine?
    /// What the replicas' states were found to be.
    public var comparison = ComparisonStatus()
    /// How this server stands to its leader.
    public var pursuit = Pursuit()
}

/// How far a server is from what its leader has, and what is on its way to it: a server that others are to count on is close behind.
public struct Pursuit: Sendable {
    public enum Snapshot: Hashable, Sendable {
        /// One comes in from the leader.
        case receiving
        /// One is loaded into the state machine, or waits to be.
        case installing
    }

    /// What the leader last said of its own log, which is this server's where it leads; nil where none is known, or one of an earlier version.
    public var leaderLog: LeaderLog?
    /// The entries that the leader has and this server lacks: not durable here, or committed and not applied here; nil without a leader.
    public var lag: UInt64?
    /// Whether it has been within ``readyLag`` entries of its leader, and not beyond ``keptLag`` since.
    public var keepsUp = false
    public var readyLag: UInt64 = 0
    public var keptLag: UInt64 = 0
    /// Whether a read index was confirmed since the start, and applied: the state held all that was acknowledged by then.
    public var hasConfirmedRead = false
    public var snapshot: Snapshot?
    /// When the leader was last heard of, or, where this server leads, a quorum; nil while no leader is known.
    public var leaderHeard: ContinuousClock.Instant?
    /// For how long a leader may be silent until its followers have given it up.
    public var patience = Duration.zero

    public init() {}
}

/// What is known from comparing the replicas' states.
public struct ComparisonStatus: Hashable, Sendable {
    /// How many indexes this server compared, while it led.
    public var made: UInt64 = 0
    /// At how many of them a server differed.
    public var differing: UInt64 = 0
    /// The last index at which this server noted its state's hash.
    public var notedIndex: LogIndex = 0
    /// The last index that this server compared.
    public var comparedIndex: LogIndex = 0
    /// How often this server's hash was recomputed from what is stored.
    public var verifications: UInt64 = 0
    /// A difference that does not put this node in quarantine, because no majority says which state is right; or what
    /// else was found wrong with this node's state.
    public var alarm: String?
}

/// What the headers of answers tell of a node: cheap to get for every request.
public struct Vitals: Sendable {
    public var term: Term
    public var leader: Member?
    public var appliedIndex: LogIndex
}

/// A change of the cluster's membership, as an operator asks for it.
public enum MembershipRequest: Hashable, Sendable {
    /// Takes a new server in as a learner; `member.promotion` says what becomes of it when it has caught up.
    case add(Member)
    /// Makes a learner a voter now.
    case promote(ServerID)
    case remove(ServerID)
    /// Changes the name or the addresses of a member.
    case update(Member)
    /// In one step the first leaves and the second, a learner, becomes a voter.
    case replace(ServerID, with: ServerID)
}

/// Why a change of membership, a transfer or a join did not happen.
public struct OperationError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: String, Hashable, Sendable {
        /// This node does not lead; ask `leader`.
        case notLeader
        /// Another change is under way.
        case busy
        /// The request does not fit the configuration (unknown server, name taken, last voter …).
        case invalid
        /// It was not seen to succeed in time; it may yet.
        case timedOut
        case shuttingDown
        /// The server to take in, or the leader, could not be reached.
        case unreachable
    }

    public var code: Code
    public var leader: ServerID?
    public var description: String

    public init(_ code: Code, leader: ServerID? = nil, _ description: String) {
        self.code = code
        self.leader = leader
        self.description = description
    }
}
