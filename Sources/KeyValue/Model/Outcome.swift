/// What applying a command did. The same on every replica.
///
/// A command that changes keys or locks takes one revision. Where nothing of that kind changed, `revision` is the state's present one.
public enum Outcome: Hashable, Sendable {
    /// - created: whether the key was not there before.
    /// - previous: what the key held before, when the command asked for it and there was something.
    case put(revision: UInt64, createRevision: UInt64, version: UInt64, created: Bool, previous: Item?)
    /// - count: how many keys were deleted; 0 or 1 for a delete of one key.
    /// - previous: the deleted item, when a delete of one key asked for it.
    case deleted(revision: UInt64, count: Int, previous: Item?)
    /// - current: the key's metadata, nil when it is not there.
    case conditionFailed(revision: UInt64, current: ItemMetadata?)
    /// The number that the key holds now.
    case incremented(revision: UInt64, value: Int64, createRevision: UInt64, version: UInt64)
    /// What should be added to is no number, or the sum would be none of 64 bits. Nothing was executed.
    /// - operation: which one of a transaction's operations.
    case notANumber(revision: UInt64, NumberProblem, operation: Int?)
    case transaction(TransactionOutcome)
    /// The lease that was granted.
    case lease(LeaseStatus)
    /// A lease cannot be granted under an id that is in use.
    case leaseExists(LeaseStatus)
    /// In the order of the request; nil for leases that are not there.
    case leasesKept([LeaseStatus?])
    /// There is no such lease, or it is one that belongs to a key or lock of its own. Nothing was executed.
    case leaseNotFound(UInt64)
    /// - keys: how many keys were deleted with it.
    case leaseRevoked(revision: UInt64, keys: Int)
    /// - leases: how many ended.
    /// - keys: how many keys were deleted with them.
    case leasesExpired(revision: UInt64, leases: Int, keys: Int)
    /// The ticket that was taken, or that the lease had already; of a release, the one that holds the lock and was to be given
    /// back only while it waits.
    case lock(LockTicketStatus)
    /// Somebody holds the lock, and the request does not wait.
    case lockHeld(LockStatus)
    /// There is no such ticket of this lock.
    case lockNotFound
    case lockReleased(revision: UInt64)
    /// The fence's token does not hold its lock. Nothing was executed.
    /// - current: the lock; nil when nobody holds it.
    case fenced(revision: UInt64, current: LockStatus?)
    /// A bound of ``KeyValueLimits`` that only shows when the command is executed. Nothing was executed.
    case tooLarge(ExceededLimit)
    /// The idempotency key was used with another request. Nothing was executed.
    case idempotencyMismatch
    /// The command was executed before, under the same idempotency key, with this outcome. Nothing was executed now.
    indirect case replayed(Outcome)
    /// The entry was no command that this version understands. It changed nothing.
    case invalid(InvalidCommand)

    /// The revision that the command took, or the state's present one when it took none; nil where there is none to tell.
    public var revision: UInt64? {
        switch self {
        case .put(let revision, _, _, _, _), .deleted(let revision, _, _), .conditionFailed(let revision, _),
            .incremented(let revision, _, _, _), .notANumber(let revision, _, _), .leaseRevoked(let revision, _),
            .leasesExpired(let revision, _, _), .lockReleased(let revision), .fenced(let revision, _):
            revision
        case .transaction(let outcome): outcome.revision
        case .lock(let status): status.revision
        case .lockHeld(let status): status.modRevision
        case .replayed(let outcome): outcome.revision
        case .lease, .leaseExists, .leasesKept, .leaseNotFound, .lockNotFound, .tooLarge, .idempotencyMismatch,
            .invalid:
            nil
        }
    }
}

/// Why an increment is not possible.
public enum NumberProblem: UInt8, Hashable, Sendable, CustomStringConvertible {
    case notANumber = 1
    case overflow = 2

    public var description: String {
        switch self {
        case .notANumber: "the key does not hold a decimal number of 64 bits"
        case .overflow: "the sum is beyond 64 bits"
        }
    }
}

/// A limit that an executed command met.
public enum ExceededLimit: UInt8, Hashable, Sendable, CustomStringConvertible {
    case resultBytes = 1
    case deletedKeys = 2
    case outcomeBytes = 3
    case lockQueue = 4
    case resultItems = 5

    public var description: String {
        switch self {
        case .resultBytes: "a transaction answers at most 8 MiB, each key counted with 64 bytes more"
        case .resultItems:
            "a transaction answers at most 10,000 keys in all its gets together; ask for fewer, or read pages of a listing at one revision"
        case .deletedKeys:
            "a request deletes at most 10,000 keys that have leases, and a transaction at most 10,000 keys, by prefixes; "
                + "delete in smaller prefixes, or a large one by itself"
        case .outcomeBytes: "with an idempotency key, an answer has at most 256 KiB"
        case .lockQueue: "at most 256 wait for one lock, with 32 KiB of values in all"
        }
    }
}

/// Why a command is refused.
public enum InvalidCommand: String, Error, Hashable, Sendable, CustomStringConvertible {
    case malformed = "the command's bytes are malformed"
    case unknownVersion = "the command has a format version that this version does not know"
    case unknownOperation = "the command is of a kind that this version does not know"
    case unknownFlag = "the command carries a flag that this version does not know"
    case keyEmpty = "the key is empty; a key has 1 to 480 bytes"
    case keyTooLong = "the key is too long; a key has 1 to 480 bytes"
    case contentTypeTooLong = "the content type is too long; it has at most 255 bytes"
    case valueTooLarge = "the value is too large for a command"
    case tooManyCompares = "the transaction has too many comparisons; it may have 128"
    case tooManyOperations = "the transaction has too many operations; each branch may have 128"
    case unfitOperation = "an operation of a transaction has no condition and does not return the previous item"
    case unfitCompare = "whether a key exists can only be compared by equal and not equal"
    case limitOutOfRange = "the limit of a range inside a transaction is 1 to 10,000"
    case ttlOutOfRange = "the ttl is out of range; it is 1 s to 366 days"
    case leaseMissing = "the lease is missing or 0"
    case tooManyLeases = "the command names too many leases; it may name 10,000"
    case lockName = "a lock's name has 1 to 255 bytes of UTF-8"
    case lockValueTooLong = "the value that goes with a lock has at most 4,096 bytes"
    case idempotencyKey = "an idempotency key has 1 to 255 bytes"

    public var description: String { rawValue }
}
