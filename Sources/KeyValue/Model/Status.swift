/// A lease, as it stands.
public struct LeaseStatus: Hashable, Sendable {
    /// Whom a lease was made for.
    public enum Owner: UInt8, Hashable, Sendable {
        /// A client, which attaches to it what it likes.
        case client = 0
        /// One key (`ttl` of a put).
        case key = 1
        /// One ticket of a lock.
        case lock = 2
    }

    public var id: UInt64
    /// How long it lives after it was granted or kept alive.
    public var ttlMilliseconds: UInt64
    /// How long it lives yet in the cluster's time, 0 when its end is due.
    public var remainingMilliseconds: UInt64
    /// How many keys are attached.
    public var keys: Int
    public var owner: Owner

    public init(id: UInt64, ttlMilliseconds: UInt64, remainingMilliseconds: UInt64, keys: Int, owner: Owner = .client) {
        self.id = id
        self.ttlMilliseconds = ttlMilliseconds
        self.remainingMilliseconds = remainingMilliseconds
        self.keys = keys
        self.owner = owner
    }

    public var isOwnOfKey: Bool { owner == .key }
}

/// A place in a lock's queue; the first one holds the lock.
public struct LockTicket: Hashable, Sendable {
    /// The revision of the command that asked. Tickets hold the lock in the order of their tokens.
    public var token: UInt64
    /// The lease that it lives with.
    public var lease: UInt64
    /// Who asked.
    public var value: [UInt8]

    public init(token: UInt64, lease: UInt64, value: [UInt8]) {
        self.token = token
        self.lease = lease
        self.value = value
    }
}

/// A lock, as it stands. There is none without a holder.
public struct LockStatus: Hashable, Sendable {
    public var name: [UInt8]
    public var holder: LockTicket
    /// Who waits, the next one first.
    public var waiters: [LockTicket]
    /// When it was first taken since it was free, and when it was last changed.
    public var createRevision: UInt64
    public var modRevision: UInt64

    public init(
        name: [UInt8],
        holder: LockTicket,
        waiters: [LockTicket],
        createRevision: UInt64,
        modRevision: UInt64
    ) {
        self.name = name
        self.holder = holder
        self.waiters = waiters
        self.createRevision = createRevision
        self.modRevision = modRevision
    }

    /// The ticket's place: 0 for the holder's; nil when there is no such ticket.
    public func position(ofToken token: UInt64) -> Int? {
        holder.token == token ? 0 : waiters.firstIndex { $0.token == token }.map { $0 + 1 }
    }
}

/// A ticket with its place.
public struct LockTicketStatus: Hashable, Sendable {
    public var name: [UInt8]
    public var ticket: LockTicket
    /// How many stand before it; 0 when it holds the lock.
    public var position: Int
    /// The state's revision.
    public var revision: UInt64

    public init(name: [UInt8], ticket: LockTicket, position: Int, revision: UInt64) {
        self.name = name
        self.ticket = ticket
        self.position = position
        self.revision = revision
    }

    public var token: UInt64 { ticket.token }
    public var holds: Bool { position == 0 }
}
