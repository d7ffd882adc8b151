internal import NIOCore
internal import Synchronization

/// Reads that wait for this node to apply a revision.
final class RevisionGate: Sendable {
    private final class Waiter: Sendable {
        let revision: UInt64
        let operation: Operation
        let completion: @Sendable () -> Void
        /// It was taken out of its table already.
        let isOver = Atomic(false)

        init(_ revision: UInt64, _ operation: Operation, _ completion: @escaping @Sendable () -> Void) {
            self.revision = revision
            self.operation = operation
            self.completion = completion
        }
    }

    private struct State {
        var revision: UInt64
        /// The highest revision first.
        var waiters: [Waiter] = []
        var over = 0
    }

    private let state: Mutex<State>
    private let operations: OperationTable

    /// - Parameter revision: the state's, or one that it had.
    init(revision: UInt64, eventLoop: any EventLoop, maximumCount: Int) {
        state = Mutex(State(revision: revision))
        operations = OperationTable(eventLoop: eventLoop, maximumCount: maximumCount, maximumBytes: .max)
    }

    /// How many wait.
    var count: Int { operations.count }

    /// How many are kept, those included that gave up.
    var keptCount: Int { state.withLock { $0.waiters.count } }

    func isReached(_ revision: UInt64) -> Bool { state.withLock { $0.revision >= revision } }

    /// Completes when `revision` is applied, or fails. On the calling thread, the one that applies, or the service's.
    func wait(
        for revision: UInt64,
        deadline: NIODeadline,
        completion: @escaping @Sendable (Result<Void, ServiceError>) -> Void
    ) {
        if isReached(revision) { return completion(.success(())) }
        let box = Box()
        let operation = Operation(
            deadline: deadline,
            bytes: 0,
            isWrite: false,
            submit: { operation in
                let waiter = Waiter(revision, operation) { completion(.success(())) }
                if box.put(waiter) { self.add(waiter) }
            },
            fail: { error in
                if let waiter = box.close() { self.giveUp(waiter) }
                let isLate = error.code == .timedOut
                completion(.failure(isLate ? ServiceError(.notCaughtUp) : error))
            }
        )
        operations.start(operation)
    }

    /// Carries the waiter from the submission to the failure, which may come first: the table's clock runs on another thread.
    private final class Box: Sendable {
        private let slot = Mutex<(waiter: Waiter?, isClosed: Bool)>((nil, false))

        /// False when it has failed already: nobody would take the waiter out of the list again.
        func put(_ waiter: Waiter) -> Bool {
            slot.withLock { slot in
                if !slot.isClosed { slot.waiter = waiter }
                return !slot.isClosed
            }
        }

        func close() -> Waiter? {
            slot.withLock { slot in
                slot.isClosed = true
                return slot.waiter.take()
            }
        }
    }

    /// The state stands at `revision` now.
    func advance(to revision: UInt64) {
        let due = state.withLock { state -> [Waiter] in
            state.revision = max(state.revision, revision)
            var due: [Waiter] = []
            while let last = state.waiters.last, last.revision <= state.revision {
                due.append(state.waiters.removeLast())
            }
            return due
        }
        release(due)
    }

    /// Fails all who wait, and who come.
    func close() {
        operations.close()
        let all = state.withLock { state in
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in all where operations.finish(waiter.operation) {
            waiter.operation.fail(ServiceError(.shuttingDown))
        }
    }

    private func add(_ waiter: Waiter) {
        let isDue = state.withLock { state -> Bool in
            if state.revision >= waiter.revision { return true }
            // It failed between its submission and now.
            if waiter.isOver.load(ordering: .relaxed) { return false }
            var (low, high) = (0, state.waiters.count)
            while low < high {
                let middle = (low + high) / 2
                if state.waiters[middle].revision > waiter.revision { low = middle + 1 } else { high = middle }
            }
            state.waiters.insert(waiter, at: low)
            return false
        }
        if isDue { release([waiter]) }
    }

    private func release(_ waiters: [Waiter]) {
        for waiter in waiters where operations.finish(waiter.operation) { waiter.completion() }
    }

    /// Those who gave up are swept out when they are the half.
    private func giveUp(_ waiter: Waiter) {
        waiter.isOver.store(true, ordering: .relaxed)
        state.withLock { state in
            state.over += 1
            guard state.over > 64, 2 * state.over > state.waiters.count else { return }
            state.waiters.removeAll { $0.isOver.load(ordering: .relaxed) }
            state.over = 0
        }
    }
}
