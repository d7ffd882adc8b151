internal import NIOCore
internal import Synchronization

/// Tells the watches of one event loop that there is something for them.
///
/// Thousands may have to be told of one change, and each then writes what it has. So they are told some at a time, and between the
/// turns the loop serves its other connections.
final class WatchAnnouncer: Sendable {
    /// How long a turn may take, up to one watch.
    private static let turn = TimeAmount.milliseconds(4)
    /// The loop looks at its connections only when nothing is due at once, so the next turn is due a little later.
    private static let pause = TimeAmount.milliseconds(1)

    private struct State {
        /// In the order in which they are told.
        var waiting = CircularBuffer<Watch>()
        /// There is a turn now or later.
        var isUnderWay = false
    }

    private let eventLoop: any EventLoop
    private let state = Mutex(State())

    init(eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    /// Any thread.
    func announce(_ watches: [Watch]) {
        let begins = state.withLock { state -> Bool in
            state.waiting.append(contentsOf: watches)
            defer { state.isUnderWay = true }
            return !state.isUnderWay
        }
        if begins { eventLoop.execute { self.tell() } }
    }

    private func tell() {
        let end = NIODeadline.now() + Self.turn
        repeat {
            let next = state.withLock { state -> Watch? in
                if state.waiting.isEmpty { state.isUnderWay = false }
                return state.waiting.popFirst()
            }
            guard let next else { return }
            next.announce()
        } while NIODeadline.now() < end
        eventLoop.scheduleTask(in: Self.pause) { self.tell() }
    }
}
