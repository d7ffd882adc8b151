/// What happens to a server: everything that can make its core do something.
public enum Event: Hashable, Sendable {
    /// One unit of time passed.
    case tick
    case message(Message)
    /// Commands of this server's own clients, each with its token.
    case propose([Proposal])
    /// Requests for a read index by this server's own clients.
    case read([Token])
    /// Every write up to this sequence is durable.
    case persisted(upTo: WriteSequence)
    /// The state machine has applied every entry up to here.
    case applied(upTo: LogIndex)
    /// A snapshot lies on this server's disk, verified and durable. `from` is the leader that sent it.
    case snapshotReceived(LogBase, from: ServerID)
    /// The state machine now stands at the snapshot that ``Effects/restore`` named.
    case restored(LogIndex)
    /// A transfer that ``Effects/snapshotSends`` asked for has ended; `sent` is the snapshot's index, nil when it failed.
    case snapshotSent(to: ServerID, sent: LogIndex?)
    /// A durable snapshot and the durable state cover the log up to here: it may be trimmed (R8).
    case compact(upTo: LogIndex)
    case changeMembership(Token, to: Configuration)
    /// Hand leadership to `to`, or to the best follower.
    case transfer(Token, to: ServerID?)
    /// The link to a peer broke: what was sent may be lost.
    case unreachable(ServerID)
    /// Whether this server may lead; it may until it is told otherwise. One that may not goes on voting and following, neither campaigns
    /// nor lets itself be made a leader, and as the leader hands leadership over, or stands down within two election timeouts.
    case mayLead(Bool)
    /// Whether this server would rather not lead: its disk is full, say. It declines when it is asked to lead, and as the leader hands leadership
    /// over once somebody holds the whole log; but where nobody else leads, it does.
    case giveWay(Bool)
    /// The storage failed. The core stops for good (R6).
    case storageFailed(String)
}

public struct Proposal: Hashable, Sendable {
    public var token: Token
    public var command: [UInt8]

    public init(token: Token, command: [UInt8]) {
        self.token = token
        self.command = command
    }
}

/// What the core wants done. The fields are carried out in any order, but for what they say of one another.
public struct Effects: Hashable, Sendable {
    /// To storage, in this order. Their sequences are contiguous over all steps.
    public var writes: [StorageWrite] = []
    /// To be sent at once, in this order per receiver.
    public var messages: [Outgoing] = []
    /// To be sent when the named write is durable, not before (R2).
    public var deferred: [DeferredMessage] = []
    /// Entries up to here are committed and durable here: apply them in order, then say ``Event/applied(upTo:)``.
    public var applyUpTo: LogIndex?
    /// Load this snapshot into the state machine, then say ``Event/restored(_:)``. Nothing is to be applied in between (R40).
    public var restore: LogBase?
    /// Start sending a snapshot at or behind this index to a follower.
    public var snapshotSends: [SnapshotSend] = []
    public var outcomes: [Outcome] = []
    /// An invariant is broken or the storage failed: stop the process; nothing was changed by the step that found it.
    public var halt: Violation?

    public init() {}

    public var isEmpty: Bool { self == Effects() }
}

public struct DeferredMessage: Hashable, Sendable {
    public var after: WriteSequence
    public var message: Message

    public init(after: WriteSequence, message: Message) {
        self.after = after
        self.message = message
    }
}

public enum Outgoing: Hashable, Sendable {
    case message(Message)
    /// An append whose entries the driver fetches.
    case append(AppendOrder)
}

/// An append to send: the entries behind `previous` up to `last`, which may be none.
public struct AppendOrder: Hashable, Sendable {
    public var to: ServerID
    public var term: Term
    public var previous: LogPosition
    public var last: LogIndex
    public var commit: LogIndex
    public var session: UInt64
    public var round: UInt64
    public var leaderLog: LeaderLog
    /// Counts how often the leader began anew with this follower: what it asked for before is void, and not worth fetching.
    public var beginning: UInt64

    public var isEmpty: Bool { last == previous.index }

    /// Whether the leader has not begun anew between the two.
    package func belongs(with other: AppendOrder) -> Bool {
        (term, session, beginning) == (other.term, other.session, other.beginning)
    }
}

public struct SnapshotSend: Hashable, Sendable {
    public var to: ServerID
    /// The follower needs a snapshot at this index or a later one.
    public var atLeast: LogIndex
}

/// Why a request was certainly not carried out.
public enum RejectionReason: Hashable, Sendable {
    /// No leader is known, or it cannot answer.
    case noLeader
    /// Leadership is being handed over.
    case transferring
    /// Too many bytes are on their way already.
    case overloaded
    /// A different entry was committed in its place.
    case superseded
    /// Another change of membership or transfer of leadership is under way, or no entry of this term is committed yet (R42).
    case busy
    /// The request does not fit the configuration.
    case invalid
}

/// What became of a token. Each gets exactly one.
public enum Outcome: Hashable, Sendable {
    /// The command stands at `at`, committed; its result comes when the driver applies that entry.
    case committed(Token, at: LogPosition)
    /// The state machine holds everything that was committed when the read was asked for.
    case readReady(Token, index: LogIndex)
    /// Leadership went to another server, or the membership change is complete.
    case done(Token)
    case rejected(Token, RejectionReason, leader: ServerID?)
    /// It may or may not have happened, or happen yet (R48).
    case unknown(Token, leader: ServerID?)

    public var token: Token {
        switch self {
        case .committed(let token, _), .readReady(let token, _), .done(let token), .rejected(let token, _, _),
            .unknown(let token, _):
            token
        }
    }
}

/// A broken invariant.
public struct Violation: Hashable, Sendable, Error, CustomStringConvertible {
    public var description: String

    public init(_ description: String) { self.description = description }
}
