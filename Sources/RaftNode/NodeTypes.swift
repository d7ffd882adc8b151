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
