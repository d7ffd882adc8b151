internal import Synchronization

/// A number that only grows. Counting is one atomic addition: no lock, no lookup.
public final class Counter: Sendable {
    private let count = Atomic<UInt64>(0)

    public init() {}

    public func add(_ amount: UInt64 = 1) { count.wrappingAdd(amount, ordering: .relaxed) }

    public var value: UInt64 { count.load(ordering: .relaxed) }

    func reset() { count.store(0, ordering: .relaxed) }
}

/// A number that goes up and down.
public final class Gauge: Sendable {
    private let bits = Atomic<UInt64>(0)

    public init() {}

    public func set(_ value: Double) { bits.store(value.bitPattern, ordering: .relaxed) }

    public func add(_ amount: Double) {
        var old = bits.load(ordering: .relaxed)
        while true {
            let new = (Double(bitPattern: old) + amount).bitPattern
            let (done, seen) = bits.weakCompareExchange(expected: old, desired: new, ordering: .relaxed)
            if done { return }
            old = seen
        }
    }

    public var value: Double { Double(bitPattern: bits.load(ordering: .relaxed)) }
}

/// How often values fell into each of some ranges. Whole numbers of a small unit (nanoseconds, say) are counted, so that
/// the sum is exact; ``scale`` makes of them the unit that is shown.
public final class Histogram: Sendable {
    /// Upper bounds of the buckets, included, ascending, in the counted unit.
    public let bounds: [UInt64]
    /// What one counted unit is in the unit that is shown.
    public let scale: Double
    // Sound: atomics that live as long as the histogram; one for each bound, one above them all, and the sum.
    private nonisolated(unsafe) let cells: UnsafeMutablePointer<Atomic<UInt64>>

    public init(bounds: [UInt64], scale: Double = 1) {
        precondition(zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 }, "bounds ascend")
        self.bounds = bounds
        self.scale = scale
        cells = .allocate(capacity: bounds.count + 2)
        for index in 0..<bounds.count + 2 { (cells + index).initialize(to: Atomic(0)) }
    }

    deinit {
        cells.deinitialize(count: bounds.count + 2)
        cells.deallocate()
    }

    /// Durations in nanoseconds, shown in seconds: from 100 µs to 10 s, and above.
    public static func durations() -> Histogram {
        let microseconds: [UInt64] = [
            100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
            5_000_000, 10_000_000,
        ]
        return Histogram(bounds: microseconds.map { $0 * 1_000 }, scale: 1e-9)
    }

    /// Counts: powers of two up to `maximum`.
    public static func counts(upTo maximum: UInt64) -> Histogram {
        var bounds: [UInt64] = [1]
        while let last = bounds.last, last < maximum { bounds.append(last * 2) }
        return Histogram(bounds: bounds)
    }

    public func observe(_ value: UInt64) {
        var (low, high) = (0, bounds.count)
        while low < high {
            let middle = (low + high) / 2
            if bounds[middle] < value { low = middle + 1 } else { high = middle }
        }
        cells[low].wrappingAdd(1, ordering: .relaxed)
        cells[bounds.count + 1].wrappingAdd(value, ordering: .relaxed)
    }

    public func observe(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        guard seconds >= 0 else { return observe(0) }
        observe(UInt64(seconds) * 1_000_000_000 + UInt64(max(0, attoseconds) / 1_000_000_000))
    }

    /// How many values fell into each bucket, not cumulated; the last is the one above all bounds.
    public var counts: [UInt64] { (0...bounds.count).map { cells[$0].load(ordering: .relaxed) } }

    /// The sum of all values, in the counted unit.
    public var sum: UInt64 { cells[bounds.count + 1].load(ordering: .relaxed) }
}
