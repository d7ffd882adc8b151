public import NIOCore
internal import Synchronization

/// What a reader asks of the state that it is answered from.
public struct ReadRequirement: Hashable, Sendable {
    public enum Consistency: Hashable, Sendable {
        /// Linearizable: everything that was acknowledged before the request is seen.
        case strong
        /// This node's state as it is, with or without a leader.
        case stale
        /// This node's state, when it can be proven to be at most so old as the request arrives; else it catches up first.
        ///
        /// What is confirmed after the request arrived is always new enough, though the confirmation may have taken longer than the bound:
        /// no client could tell it from a strong read. So a bound shorter than the way to the leader asks for strong reads, and is not in
        /// vain.
        case bounded(TimeAmount)
    }

    public var consistency: Consistency
    /// This node must have applied this revision.
    public var minimumRevision: UInt64?

    public init(_ consistency: Consistency, minimumRevision: UInt64? = nil) {
        self.consistency = consistency
        self.minimumRevision = minimumRevision
    }

    public static let strong = ReadRequirement(.strong)
    public static let stale = ReadRequirement(.stale)
}

/// From now on a read of the state meets its ``ReadRequirement``.
public struct ReadPermit: Hashable, Sendable {
    /// How old the state may be at most, as far as it can be proven without the clock of another machine; nil where nothing is proven.
    public var staleness: TimeAmount?

    /// For the answer's header: whole milliseconds, rounded up.
    public var stalenessMilliseconds: Int64? { staleness.map { ($0.nanoseconds + 999_999) / 1_000_000 } }

    public init(staleness: TimeAmount? = nil) { self.staleness = staleness }
}

/// Since when this node's state is known to be whole.
///
/// A read index that a quorum confirmed after t0, and that this node has applied, proves that the state holds all that was acknowledged
/// up to t0; and it never loses it. So only the newest t0 counts, whoever asked for it. The clock is this machine's alone, and counts
/// suspension, and other pauses as far as they can be known (``ElapsedClock``): a node that slept does not think itself fresh.
final class Freshness: Sendable {
    private let provenNanoseconds = Atomic<UInt64>(0)
    private let nanoseconds: @Sendable () -> UInt64

    init(nanoseconds: @escaping @Sendable () -> UInt64) { self.nanoseconds = nanoseconds }

    /// To be noted before a read index is asked for.
    var now: UInt64 { nanoseconds() }

    /// A read index that was asked for at `start` is confirmed, and applied here.
    func prove(asOf start: UInt64) {
        provenNanoseconds.max(start, ordering: .relaxed)
    }

    /// The newest moment up to which the state is known to be whole; nil when nothing is proven yet.
    var proven: UInt64? {
        let proven = provenNanoseconds.load(ordering: .relaxed)
        return proven == 0 ? nil : proven
    }

    var staleness: TimeAmount? { proven.map(age) }

    func age(of moment: UInt64) -> TimeAmount {
        let now = now
        return .nanoseconds(Int64(clamping: now - min(now, moment)))
    }
}
