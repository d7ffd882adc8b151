public import NIOCore
internal import Synchronization

/// Timers of one event loop: one of the loop's own for all that are due within a moment of each other.
///
/// Most are given up before their time: those of connections, of long polls, of waits for locks. The loop's own timers are searched
/// from the first to the last for one that is given up, so that ten thousand that end together would keep it busy for seconds.
public final class SharedTimers: Sendable {
    /// What was scheduled.
    public struct Timer: Hashable, Sendable {
        fileprivate var moment: UInt64
        fileprivate var number: UInt64
    }

    private struct State {
        /// Those that are due in one moment, by its number.
        var due: [UInt64: [UInt64: @Sendable () -> Void]] = [:]
        var nextNumber: UInt64 = 0

        mutating func next(of moment: UInt64) -> (@Sendable () -> Void)? {
            guard let next = due[moment]?.popFirst() else {
                due[moment] = nil
                return nil
            }
            return next.value
        }
    }

    /// How late a timer may be, in nanoseconds.
    private static let resolution: UInt64 = 20_000_000

    private let eventLoop: any EventLoop
    private let state = Mutex(State())

    public init(eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    /// Has `body` called on the event loop at `deadline`, or up to 20 ms later. Any thread.
    public func schedule(at deadline: NIODeadline, _ body: @escaping @Sendable () -> Void) -> Timer {
        let moment = min(deadline, .distantFuture - .hours(1)).uptimeNanoseconds / Self.resolution + 1
        let (timer, isFirst) = state.withLock { state in
            state.nextNumber += 1
            let isFirst = state.due[moment] == nil
            state.due[moment, default: [:]][state.nextNumber] = body
            return (Timer(moment: moment, number: state.nextNumber), isFirst)
        }
        if isFirst {
            _ = eventLoop.scheduleTask(deadline: .uptimeNanoseconds(moment * Self.resolution)) { self.wake(moment) }
        }
        return timer
    }

    /// Gives up what was scheduled; from another thread than the event loop's, its body may be under way. The loop's timer stays, for
    /// the others of the moment.
    public func cancel(_ timer: Timer) {
        // What it holds is let go outside the lock.
        _ = state.withLock { $0.due[timer.moment]?.removeValue(forKey: timer.number) }
    }

    private func wake(_ moment: UInt64) {
        while let body = state.withLock({ $0.next(of: moment) }) { body() }
    }
}
