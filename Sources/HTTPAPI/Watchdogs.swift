import NIOCore

/// The timers of one event loop's connections: one of the loop's own for all that are due within a moment of each other.
///
/// Each connection has one, and sets it anew or gives it up at every turn of its life. The loop's own timers are searched from the
/// first to the last for one that is given up, so that ten thousand connections that end together would keep it busy for seconds.
/// Only on the event loop.
final class Watchdogs {
    /// Those that are due in one moment, by its number.
    typealias Moment = UInt64

    /// How late a timer may be, in nanoseconds.
    private static let resolution: UInt64 = 20_000_000

    private let eventLoop: any EventLoop
    private var due: [Moment: [ObjectIdentifier: FastLane]] = [:]

    init(eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
    }

    /// Has the lane woken after `delay`, or up to 20 ms later.
    func schedule(_ lane: FastLane, in delay: TimeAmount) -> Moment {
        let moment = (NIODeadline.now() + delay).uptimeNanoseconds / Self.resolution + 1
        if due[moment] == nil {
            eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(
                deadline: .uptimeNanoseconds(moment * Self.resolution)
            ) { self.wake(moment) }
        }
        due[moment, default: [:]][ObjectIdentifier(lane)] = lane
        return moment
    }

    /// Gives up what ``schedule(_:in:)`` made. The loop's timer stays, for the others of the moment.
    func cancel(_ lane: FastLane, at moment: Moment) {
        due[moment]?[ObjectIdentifier(lane)] = nil
    }

    private func wake(_ moment: Moment) {
        guard let lanes = due.removeValue(forKey: moment) else { return }
        for lane in lanes.values { lane.wake(from: moment) }
    }
}
