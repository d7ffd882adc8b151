/// The bounds that the driver keeps on its own account.
public struct DriverOptions: Hashable, Sendable {
    /// Recent entries kept in memory, in bytes.
    public var cacheBytes = 32 << 20
    /// Entries applied in one go, in bytes.
    public var applyBytes = 1 << 20
    /// A snapshot is taken when the log behind the last one outgrows this, in bytes …
    public var snapshotLogBytes = 64 << 20
    /// … and this multiple of the last snapshot's size, so that the bytes written for snapshots stay a small factor.
    public var snapshotGrowth = 1.0
    /// What is left of the log before a snapshot for followers that lag a little, in bytes.
    public var trailingLogBytes = 16 << 20
    /// The state machine is made durable when this much has been applied beyond what is, in bytes …
    public var flushBytes = 32 << 20
    /// … or when the oldest of it is this old, in ticks.
    public var flushTicks: UInt64 = 1_500
    /// Proposals are refused while this multiple of ``flushBytes`` is not durable in the state machine: its disk does not keep up.
    public var maxUnflushedFactor = 8
    /// What lacked room, and a snapshot that did not arrive, is tried again after this many ticks, and after twice as many each further time …
    public var retryTicks: UInt64 = 10
    /// … up to this many.
    public var maxRetryTicks: UInt64 = 250
    /// A learner that lags by no more than this many entries has caught up.
    public var promotionLag: UInt64 = 256
    /// A server keeps up with its leader from when it lags by no more than this many entries …
    public var readyLag: UInt64 = 1_000
    /// … until it lags by more than these: so many are never under way to one that is well, and so a loaded one does not flap.
    public var keptLag: UInt64 = 10_000

    public init() {}
}
