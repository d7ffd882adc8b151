import NIOCore
import RaftNode
import Synchronization

/// The requests under way: bounds them, retries them and times them out.
///
/// One coarse clock serves all: a tick every ``resolution`` while anything is under way walks the table. Scheduling a task for each
/// request would cost more than the request's own share of the work.
final class OperationTable: Sendable {
    /// Deadlines and retries are kept to this.
    static let resolution = TimeAmount.milliseconds(10)
    private static let firstBackoff = TimeAmount.milliseconds(10)
    private static let maximumBackoff = TimeAmount.milliseconds(160)

    private struct State {
        var slots: [Operation?] = []
        var free: [Int] = []
        var count = 0
        var bytes = 0
        var isTicking = false
        var isClosed = false
    }

    private let state = Mutex(State())
    let eventLoop: any EventLoop
    private let maximumCount: Int
    private let maximumBytes: Int

    init(eventLoop: any EventLoop, maximumCount: Int, maximumBytes: Int) {
        self.eventLoop = eventLoop
        self.maximumCount = maximumCount
        self.maximumBytes = maximumBytes
    }

    /// Requests under way.
    var count: Int { state.withLock { $0.count } }

    /// Takes an operation in and submits it, or fails it because a bound is reached.
    func start(_ operation: Operation) {
        enum Verdict { case go(startsClock: Bool), refuse(ServiceError.Code) }
        let verdict: Verdict = state.withLock { state in
            if state.isClosed { return .refuse(.shuttingDown) }
            guard state.count < maximumCount, state.bytes + operation.bytes <= maximumBytes else {
                return .refuse(.overloaded)
            }
            let slot = state.free.popLast() ?? state.slots.count
            if slot == state.slots.count { state.slots.append(operation) } else { state.slots[slot] = operation }
            operation.state.slot = slot
            operation.state.attempts = 1
            state.count += 1
            state.bytes += operation.bytes
            let startsClock = !state.isTicking
            state.isTicking = true
            return .go(startsClock: startsClock)
        }
        switch verdict {
        case .refuse(let code): operation.fail(ServiceError(code))
        case .go(let startsClock):
            if startsClock { scheduleTick() }
            operation.submit(operation)
        }
    }

    /// Takes an operation out. True for exactly one caller; that one completes it.
    func finish(_ operation: Operation) -> Bool {
        state.withLock { Self.remove(operation, from: &$0) }
    }

    /// The node refused the operation without executing it: it is tried again soon, or fails.
    func reject(_ operation: Operation, _ rejection: Rejection) {
        let now = NIODeadline.now()
        let fails = state.withLock { state -> Bool in
            guard operation.state.slot != nil else { return false }
            if rejection.isWorthRetrying, !state.isClosed, now < operation.deadline {
                let doublings = min(operation.state.attempts - 1, 4)
                let backoff = min(Self.firstBackoff * (1 << doublings), Self.maximumBackoff)
                operation.state.phase = .waiting(rejection, at: now + backoff)
                return false
            }
            return Self.remove(operation, from: &state)
        }
        if fails { operation.fail(ServiceError(rejection)) }
    }

    /// Refuses what comes from now on. What is under way goes on; nothing is retried.
    func close() {
        state.withLock { $0.isClosed = true }
    }

    private static func remove(_ operation: Operation, from state: inout State) -> Bool {
        guard let slot = operation.state.slot else { return false }
        operation.state.slot = nil
        state.slots[slot] = nil
        state.free.append(slot)
        state.count -= 1
        state.bytes -= operation.bytes
        return true
    }

    private func scheduleTick() {
        eventLoop.scheduleTask(in: Self.resolution) { self.tick() }
    }

    private func tick() {
        let now = NIODeadline.now()
        var expired: [(Operation, ServiceError)] = []
        var again: [Operation] = []
        let goesOn = state.withLock { state in
            for case .some(let operation) in state.slots {
                if operation.deadline <= now {
                    expired.append((operation, Self.timeoutError(operation)))
                    _ = Self.remove(operation, from: &state)
                } else if case .waiting(let rejection, let at) = operation.state.phase {
                    if state.isClosed {
                        expired.append((operation, ServiceError(rejection)))
                        _ = Self.remove(operation, from: &state)
                    } else if at <= now {
                        operation.state.phase = .inFlight
                        operation.state.attempts += 1
                        again.append(operation)
                    }
                }
            }
            if state.count == 0 {
                // A burst leaves no table of its size behind to be walked for ever.
                state.slots.removeAll(keepingCapacity: true)
                state.free.removeAll(keepingCapacity: true)
            }
            state.isTicking = state.count > 0
            return state.isTicking
        }
        if goesOn { scheduleTick() }
        for operation in again { operation.submit(operation) }
        for (operation, error) in expired { operation.fail(error) }
    }

    private static func timeoutError(_ operation: Operation) -> ServiceError {
        switch operation.state.phase {
        case .inFlight: ServiceError(.timedOut, mayHaveExecuted: operation.isWrite)
        // Every attempt so far was certainly not executed.
        case .waiting(let rejection, _): ServiceError(rejection)
        }
    }
}
