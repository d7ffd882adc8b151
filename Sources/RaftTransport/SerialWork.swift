internal import DequeModule
internal import Synchronization

/// Runs pieces of blocking work one after the other, in order, on an executor that may have many threads.
final class SerialWork: Sendable {
    private struct State {
        var waiting: Deque<@Sendable () -> Void> = []
        var isRunning = false
    }

    private let executor: BlockingExecutor
    private let state = Mutex(State())

    init(_ executor: @escaping BlockingExecutor) { self.executor = executor }

    /// False when the executor takes no more at the moment: the piece is not run then.
    func submit(_ work: @escaping @Sendable () -> Void) -> Bool {
        state.withLock { state in
            guard !state.isRunning else {
                state.waiting.append(work)
                return true
            }
            state.isRunning = executor { self.run(work) }
            return state.isRunning
        }
    }

    /// One piece a turn, so that others get theirs when the executor has a single thread. Where it takes no more, this thread goes on.
    private func run(_ first: @escaping @Sendable () -> Void) {
        var next = first
        while true {
            next()
            let following = state.withLock { state in
                state.isRunning = !state.waiting.isEmpty
                return state.waiting.popFirst()
            }
            guard let following, !executor({ self.run(following) }) else { return }
            next = following
        }
    }
}
