internal import Glibc
internal import Synchronization

/// Nanoseconds that pass no slower than time does, as far as this machine can know: what was noted on it is at least as old as it says, within
/// ``tolerance``.
///
/// `CLOCK_BOOTTIME` counts suspension, but not the time for which a hypervisor stopped the whole machine, nor that between the making of an
/// image and its restoring. When the wall clock is set right after such a pause, it advances against the other by what was missed, and this clock
/// advances with it. A wall clock that is set forward for another reason looks the same: then more seems to have passed than has, which costs a
/// proof and breaks none. One that is set back changes nothing. What neither clock has noticed yet nobody here can know.
final class ElapsedClock: Sendable {
    /// How far the wall clock may advance against the other unnoticed.
    static let tolerance: Int64 = 10_000_000

    private let boot: @Sendable () -> UInt64
    private let wall: @Sendable () -> UInt64
    /// How far the wall clock was ahead of the other when that was last noted.
    private let ahead: Atomic<Int64>
    /// What the wall clock advanced against the other, all together.
    private let missed = Atomic<UInt64>(0)
    private let noting = Mutex<Void>(())

    /// - Parameters:
    ///   - boot: nanoseconds on a clock that never goes back.
    ///   - wall: nanoseconds on a clock that may be set.
    init(
        boot: @escaping @Sendable () -> UInt64 = ClusterClock.systemNanoseconds,
        wall: @escaping @Sendable () -> UInt64 = ElapsedClock.wallNanoseconds
    ) {
        self.boot = boot
        self.wall = wall
        ahead = Atomic(Self.difference(wall(), boot()))
    }

    /// Never goes back.
    var nanoseconds: UInt64 {
        let known = ahead.load(ordering: .acquiring)
        // The wall clock first: whoever is held up in between sees it advance less, never more.
        let time = wall()
        let now = boot()
        if abs(Self.difference(time, now) - known) > Self.tolerance { note() }
        return now + missed.load(ordering: .acquiring)
    }

    private func note() {
        noting.withLock { _ in
            // The true difference lies between the two, however long this thread is held up.
            let before = boot()
            let time = wall()
            let (least, most) = (Self.difference(time, boot()), Self.difference(time, before))
            let known = ahead.load(ordering: .relaxed)
            if least > known + Self.tolerance {
                // Whoever sees the new difference must see what was missed, too.
                missed.add(UInt64(least - known), ordering: .relaxed)
                ahead.store(least, ordering: .releasing)
            } else if most < known - Self.tolerance {
                ahead.store(most, ordering: .releasing)
            }
        }
    }

    private static func difference(_ wall: UInt64, _ boot: UInt64) -> Int64 { Int64(truncatingIfNeeded: wall &- boot) }

    @Sendable static func wallNanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return UInt64(truncatingIfNeeded: time.tv_sec) &* 1_000_000_000 &+ UInt64(truncatingIfNeeded: time.tv_nsec)
    }
}
