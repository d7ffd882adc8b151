/// What one server's core says to another's.
public struct Message: Hashable, Sendable {
    public var from: ServerID
    public var to: ServerID
    /// The sender's term; in a pre-vote request, the term it would campaign in.
    public var term: Term
    public var body: Body

    public init(from: ServerID, to: ServerID, term: Term, body: Body) {
        self.from = from
        self.to = to
        self.term = term
        self.body = body
    }

    public enum Body: Hashable, Sendable {
        case preVoteRequest(VoteRequest)
        case preVoteResponse(granted: Bool)
        case voteRequest(VoteRequest)
        case voteResponse(granted: Bool)
        case append(Append)
        case appendResponse(AppendResponse)
        case heartbeat(Heartbeat)
        case heartbeatResponse(HeartbeatResponse)
        /// The leader's order to campaign at once (leadership transfer).
        case timeoutNow
        /// A follower asks the leader for a read index on behalf of its clients.
        case readIndexRequest(requestID: UInt64)
        /// `index` is nil when the receiver of the request cannot answer (no leader, or no entry of its term committed).
        case readIndexResponse(requestID: UInt64, index: LogIndex?)
        /// A follower hands commands of its clients to the leader. The transport must deliver it at most once.
        case propose(requestID: UInt64, commands: [[UInt8]])
        case proposeResponse(requestID: UInt64, ProposeResult)
    }
}

public struct VoteRequest: Hashable, Sendable {
    /// The end of the candidate's log.
    public var last: LogPosition
    /// The leader itself asked for this election; voters then ignore that they heard from it lately.
    public var isTransfer: Bool

    public init(last: LogPosition, isTransfer: Bool = false) {
        self.last = last
        self.isTransfer = isTransfer
    }
}

/// What a leader says of its own log with every append and heartbeat, in whatever state it deals with the receiver: so that one that lacks much
/// of it, and is told of no commit yet, knows how much.
public struct LeaderLog: Hashable, Sendable {
    /// The last index, committed or not.
    public var last: LogIndex
    public var commit: LogIndex

    public init(last: LogIndex, commit: LogIndex) {
        self.last = last
        self.commit = commit
    }
}

public struct Append: Hashable, Sendable {
    /// The position right before the first entry.
    public var previous: LogPosition
    /// Contiguous entries (R25); may be empty, which asks for nothing but an answer.
    public var entries: [Entry]
    public var commit: LogIndex
    /// Names the leader's present dealings with this follower; replies carry it back (R28).
    public var session: UInt64
    /// The newest round of read confirmation when it was sent; replies carry it back (R32).
    public var round: UInt64
    /// Nil from a leader of an earlier version, which does not say.
    public var leaderLog: LeaderLog?

    public init(
        previous: LogPosition,
        entries: [Entry],
        commit: LogIndex,
        session: UInt64,
        round: UInt64,
        leaderLog: LeaderLog? = nil
    ) {
        self.previous = previous
        self.entries = entries
        self.commit = commit
        self.session = session
        self.round = round
        self.leaderLog = leaderLog
    }
}

public struct AppendResponse: Hashable, Sendable {
    public enum Result: Hashable, Sendable {
        /// The follower's log agrees with the leader's up to here, durably.
        case accepted(match: LogIndex)
        /// The entry at `rejected` (the append's previous index) is missing or differs; `hint` is the best position of the
        /// follower's log at or below it whose term is no higher than the append's previous term.
        case rejected(rejected: LogIndex, hint: LogPosition)
    }

    public var result: Result
    public var session: UInt64
    public var round: UInt64

    public init(result: Result, session: UInt64, round: UInt64) {
        self.result = result
        self.session = session
        self.round = round
    }
}

public struct Heartbeat: Hashable, Sendable {
    /// The leader's commit index, but never beyond what it knows this follower to hold (R23).
    public var commit: LogIndex
    public var session: UInt64
    public var round: UInt64
    /// Nil from a leader of an earlier version, which does not say.
    public var leaderLog: LeaderLog?

    public init(commit: LogIndex, session: UInt64, round: UInt64, leaderLog: LeaderLog? = nil) {
        self.commit = commit
        self.session = session
        self.round = round
        self.leaderLog = leaderLog
    }
}

public struct HeartbeatResponse: Hashable, Sendable {
    public var session: UInt64
    public var round: UInt64

    public init(session: UInt64, round: UInt64) {
        self.session = session
        self.round = round
    }
}

public enum ProposeResult: Hashable, Sendable {
    /// The commands stand in the leader's log from `first` on, one entry each. They may yet fail to commit.
    case accepted(first: LogPosition)
    /// Nothing was appended; `leader` is who might take them.
    case rejected(leader: ServerID?)
    /// Nothing was appended: the leader has too much to do. To ask again at once would make it worse.
    case overloaded
}
