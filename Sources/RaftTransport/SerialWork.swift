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

    func submit(_ work: @escaping @Sendable () -> Void) {
        let mustStart = state.withLock { state in
            state.waiting.append(work)
            defer { state.isRunning = true }
            return !state.isRunning
        }
        if mustStart { executor { self.runOne() } }
    }

    /// One piece a turn, so that others get theirs when the executor has a single thread.
    private func runOne() {
        guard let work = state.withLock({ $0.waiting.popFirst() }) else { return }
        work()
        let isMore = state.withLock { state in
            state.isRunning = !state.waiting.isEmpty
            return state.isRunning
        }
        if isMore { executor { self.runOne() } }
    }
}
