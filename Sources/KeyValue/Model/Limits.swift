/// The bounds that every replica holds a command against.
///
/// They are a part of the apply rules: changing one changes what a replicated entry means.
public enum KeyValueLimits {
    /// The longest key, in bytes. LMDB takes 511; the rest is room for what is stored beside keys.
    public static let maximumKeyLength = 480
    /// The longest content type, in bytes of UTF-8.
    public static let maximumContentTypeLength = 255
    /// The most comparisons of a transaction.
    public static let maximumCompares = 128
    /// The most operations in each branch of a transaction.
    public static let maximumOperations = 128
    /// The most bytes that a transaction answers: of keys and values, with ``resultItemBytes`` for each.
    public static let maximumResultBytes = 8 << 20
    /// What each answered key counts beside its own bytes and its value's: metadata, and what frames them in any text.
    public static let resultItemBytes = 64
    /// The most keys that a transaction answers, those of all its ranges and gets together.
    public static let maximumResultItems = 10_000
    /// The most keys that a transaction deletes by prefixes.
    public static let maximumDeletedKeys = 10_000
    /// The most keys with leases that go with a deleted prefix: each is a change of its lease, too.
    public static let maximumDeletedLeasedKeys = 10_000
    /// The most keys that a range inside a transaction answers.
    public static let maximumRangeLimit = 10_000
    /// The shortest and the longest life of a lease, in milliseconds.
    public static let ttlMilliseconds: ClosedRange<UInt64> = 1_000...(366 * 86_400_000)
    /// The most leases that one command keeps alive or ends.
    public static let maximumLeasesPerCommand = 10_000
    /// The most keys and locks that one command ends with expired leases; the others go with the next.
    public static let maximumExpiredKeys = 1_000
    /// The most keys and locks that go at once with a revoked lease; the others go as if it had expired.
    public static let maximumRevokedKeys = 10_000
    /// The longest name of a lock, in bytes of UTF-8.
    public static let maximumLockNameLength = 255
    public static let maximumLockValueLength = 4_096
    /// The most who wait for one lock. Each change of a lock stores the whole queue, and what it was before in the history.
    public static let maximumLockWaiters = 256
    /// The most bytes that those who hold and wait for one lock tell of themselves.
    public static let maximumLockBytes = 32 << 10
    public static let maximumIdempotencyKeyLength = 255
    /// The largest outcome that is kept for a retry, encoded.
    public static let maximumIdempotentOutcomeBytes = 256 << 10
    /// How long an outcome is kept, in milliseconds of the cluster's time.
    public static let idempotencyAgeMilliseconds: UInt64 = 3_600_000
    /// How many outcomes are kept.
    public static let maximumIdempotencyRecords: UInt64 = 1_000_000
    /// How many outcomes one command forgets at most.
    static let idempotencyEvictionsPerCommand = 4
}
