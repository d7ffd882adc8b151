internal import HeapModule

/// The deadlines of all leases in their order. It is made from the stored leases, and kept up with every change of one.
struct LeaseClock: Sendable {
    private struct Deadline: Comparable {
        var time: UInt64
        var lease: UInt64

        static func < (left: Deadline, right: Deadline) -> Bool {
            left.time == right.time ? left.lease < right.lease : left.time < right.time
        }
    }

    private var deadlines: [UInt64: UInt64] = [:]
    /// Holds every deadline of `deadlines`, and old ones besides, which are dropped when they come up.
    private var queue = Heap<Deadline>()

    /// What was set and removed (nil), in order, where that is all that is kept.
    private var recorded: [(lease: UInt64, deadline: UInt64?)]?

    init() {}

    /// One that only keeps what is done to it, for another to ``follow(_:)``.
    init(recording: Bool) { recorded = recording ? [] : nil }

    mutating func set(_ lease: UInt64, deadline: UInt64) {
        guard recorded == nil else {
            recorded?.append((lease, deadline))
            return
        }
        guard deadlines.updateValue(deadline, forKey: lease) != deadline else { return }
        queue.insert(Deadline(time: deadline, lease: lease))
        // Leases that are kept alive again and again must not fill the memory.
        if queue.count > 2 * deadlines.count + 64 {
            queue = Heap(deadlines.map { Deadline(time: $0.value, lease: $0.key) })
        }
    }

    mutating func remove(_ lease: UInt64) {
        deadlines[lease] = nil
        recorded?.append((lease, nil))
    }

    /// Does what was done to one that records.
    mutating func follow(_ other: LeaseClock) {
        for (lease, deadline) in other.recorded ?? [] {
            if let deadline { set(lease, deadline: deadline) } else { remove(lease) }
        }
    }

    /// The first deadline; nil when there is no lease.
    mutating func next() -> UInt64? {
        dropOld()
        return queue.min?.time
    }

    /// The first `limit` of the leases whose deadline is at or before `time`, in their order.
    mutating func due(at time: UInt64, limit: Int) -> [UInt64] {
        var due: [Deadline] = []
        dropOld()
        while due.count < limit, let first = queue.min, first.time <= time {
            // The same deadline may be there twice.
            if due.last != first { due.append(first) }
            queue.removeMin()
            dropOld()
        }
        for deadline in due { queue.insert(deadline) }
        return due.map(\.lease)
    }

    private mutating func dropOld() {
        while let first = queue.min, deadlines[first.lease] != first.time { queue.removeMin() }
    }
}
