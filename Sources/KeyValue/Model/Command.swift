/// A change of the replicated state. Its encoded form is the payload of a log entry.
///
/// Each is one atomic step. What changes keys or locks takes one revision, whatever the number of its changes; what changes only leases
/// takes none.
public enum Command: Hashable, Sendable {
    /// Sets a key; see ``Put``.
    case put(Put)
    /// Removes a key, there or not.
    case delete(key: ArraySlice<UInt8>, condition: Condition = .none, returnsPrevious: Bool = false)
    /// Removes every key that begins with `prefix`, which may be empty, as one change with one revision.
    case deletePrefix(ArraySlice<UInt8>)
    /// Adds to the decimal number that a key holds; a key that is not there counts as 0. The key's lease and content type stay.
    case increment(key: ArraySlice<UInt8>, by: Int64, condition: Condition = .none)
    /// Compares, and then executes one of two lists of operations; see ``Transaction``.
    case transaction(Transaction)
    /// Makes a lease. With `id` 0 the state chooses one; a chosen one must not be in use.
    case grantLease(id: UInt64, ttlMilliseconds: UInt64)
    /// Begins the time of leases anew.
    case keepLeasesAlive([UInt64])
    /// Ends a lease at once: its keys are deleted, its locks released.
    case revokeLease(UInt64)
    /// Ends those of the leases whose deadline is at or before the command's time; none is no more than a tick of the clock.
    case expireLeases([UInt64])
    /// Takes a lock, or a place in its queue; see ``LockRequest``.
    case acquireLock(LockRequest)
    /// Gives back a lock, or a place in its queue.
    /// - onlyWhileWaiting: a ticket that holds the lock is left alone, and the outcome is that ticket. So a place can be given up
    ///   without taking away what has been granted in the meantime.
    case releaseLock(name: [UInt8], token: UInt64, onlyWhileWaiting: Bool = false)

    public static func put(
        key: ArraySlice<UInt8>,
        value: ArraySlice<UInt8>,
        contentType: String? = nil,
        condition: Condition = .none,
        returnsPrevious: Bool = false
    ) -> Command {
        .put(
            Put(
                key: key,
                value: value,
                contentType: contentType,
                condition: condition,
                returnsPrevious: returnsPrevious
            )
        )
    }
}

/// What a put sets.
public struct Put: Hashable, Sendable {
    public var key: ArraySlice<UInt8>
    public var value: ArraySlice<UInt8>
    public var contentType: String?
    /// Without a choice the key is taken from the lease that it had.
    public var lease: LeaseChoice
    /// None inside a transaction.
    public var condition: Condition
    /// Asks for what the key held before in the outcome, which costs a read of that value. Not inside a transaction.
    public var returnsPrevious: Bool

    public init(
        key: ArraySlice<UInt8>,
        value: ArraySlice<UInt8>,
        contentType: String? = nil,
        lease: LeaseChoice = .none,
        condition: Condition = .none,
        returnsPrevious: Bool = false
    ) {
        self.key = key
        self.value = value
        self.contentType = contentType
        self.lease = lease
        self.condition = condition
        self.returnsPrevious = returnsPrevious
    }
}

/// What a key or a place in a lock's queue lives with.
public enum LeaseChoice: Hashable, Sendable {
    case none
    /// A lease that was granted before, by its id.
    case attached(UInt64)
    /// A lease of its own, which ends with the key's next put or delete, or with the ticket.
    case ttl(milliseconds: UInt64)
}

/// What goes with any command.
public struct CommandOptions: Hashable, Sendable {
    /// Makes a retry of the same request answer what the first one answered.
    public var idempotency: IdempotencyKey?
    /// Executes the command only while a lock is held.
    public var fence: Fence?

    public init(idempotency: IdempotencyKey? = nil, fence: Fence? = nil) {
        self.idempotency = idempotency
        self.fence = fence
    }

    public static let none = CommandOptions()

    var isEmpty: Bool { idempotency == nil && fence == nil }
}

/// The name that a client gave a request, so that it is executed once.
public struct IdempotencyKey: Hashable, Sendable {
    /// 1 to ``KeyValueLimits/maximumIdempotencyKeyLength`` bytes.
    public var key: [UInt8]
    /// A hash of the request: another request under the same key is refused.
    public var fingerprint: UInt128

    public init(key: [UInt8], fingerprint: UInt128) {
        self.key = key
        self.fingerprint = fingerprint
    }
}

/// The lock that must be held with this token for a command to be executed.
public struct Fence: Hashable, Sendable {
    /// The lock's name.
    public var lock: [UInt8]
    public var token: UInt64

    public init(lock: [UInt8], token: UInt64) {
        self.lock = lock
        self.token = token
    }
}

/// Who wants which lock.
public struct LockRequest: Hashable, Sendable {
    /// 1 to ``KeyValueLimits/maximumLockNameLength`` bytes of UTF-8.
    public var name: [UInt8]
    /// What the ticket lives with; not ``LeaseChoice/none``.
    ///
    /// A lease that was granted before has one ticket at most of each lock: asked again with it, the outcome is that very ticket,
    /// as it stands, and nothing changes. So whoever lost an answer asks again, and never waits behind itself.
    public var lease: LeaseChoice
    /// Whether to wait in the queue while somebody else holds the lock. A request that does not is refused while its lease has no
    /// more than a place in the queue, too.
    public var waits: Bool
    /// Who asks, for others to read: at most ``KeyValueLimits/maximumLockValueLength`` bytes. A ticket that is there already
    /// keeps the value that it was taken with.
    public var value: [UInt8]

    public init(name: [UInt8], lease: LeaseChoice, waits: Bool, value: [UInt8] = []) {
        self.name = name
        self.lease = lease
        self.waits = waits
        self.value = value
    }
}
