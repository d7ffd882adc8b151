internal import NIOCore
internal import Synchronization

/// Reads with a bound on their staleness that nothing proves yet: one confirmation at a time serves all who wait.
final class BoundedReads: Sendable {
    typealias Completion = @Sendable (Result<ReadPermit, ServiceError>) -> Void

    private struct Waiter: Sendable {
        var maximum: TimeAmount
        /// When it asked, on the clock of the proof. What is confirmed after that is as good as a strong read.
        var start: UInt64
        var deadline: NIODeadline
        var completion: Completion
    }

    private struct State {
        var waiters: [Waiter] = []
        var isAsking = false
    }

    private let state = Mutex(State())
    private let freshness: Freshness
    private let maximumCount: Int

    init(freshness: Freshness, maximumCount: Int) {
        self.freshness = freshness
        self.maximumCount = maximumCount
    }

    /// The permit, when the bound can be proven now.
    func permit(_ maximum: TimeAmount) -> ReadPermit? {
        freshness.staleness.flatMap { $0 <= maximum ? ReadPermit(staleness: $0) : nil }
    }

    /// Completes when the bound is proven, or fails; `ask` confirms a read and says so when it is applied here.
    func confirm(
        _ maximum: TimeAmount,
        deadline: NIODeadline,
        ask: @escaping Ask,
        completion: @escaping Completion
    ) {
        if let permit = permit(maximum) { return completion(.success(permit)) }
        let waiter = Waiter(maximum: maximum, start: freshness.now, deadline: deadline, completion: completion)
        let (isFull, asks) = state.withLock { state in
            guard state.waiters.count < maximumCount else { return (true, false) }
            state.waiters.append(waiter)
            defer { state.isAsking = true }
            return (false, !state.isAsking)
        }
        if isFull { return completion(.failure(ServiceError(.overloaded))) }
        if asks { start(ask) }
    }

    typealias Ask =
        @Sendable (NIODeadline, @escaping @Sendable (Result<UInt64, ServiceError>) -> Void) -> Void

    private func start(_ ask: @escaping Ask) {
        let deadline = state.withLock { state -> NIODeadline? in
            let deadline = state.waiters.map(\.deadline).min()
            if deadline == nil { state.isAsking = false }
            return deadline
        }
        guard let deadline else { return }
        ask(deadline) { self.answered($0, ask) }
    }

    private func answered(_ result: Result<UInt64, ServiceError>, _ ask: @escaping Ask) {
        let now = NIODeadline.now() + OperationTable.resolution
        let proven = freshness.proven ?? 0
        let staleness = freshness.age(of: proven)
        let done = state.withLock { state -> [Waiter] in
            let isDone: (Waiter) -> Bool
            switch result {
            case .success: isDone = { $0.start <= proven || staleness <= $0.maximum }
            case .failure(let error) where [.overloaded, .shuttingDown, .quarantined].contains(error.code):
                isDone = { _ in true }
            // The time was up for the most impatient of them.
            case .failure: isDone = { $0.deadline <= now }
            }
            let done = state.waiters.filter(isDone)
            state.waiters.removeAll(where: isDone)
            return done
        }
        for waiter in done {
            waiter.completion(result.map { _ in ReadPermit(staleness: staleness) }.mapError { Self.unproven($0) })
        }
        start(ask)
    }

    private static func unproven(_ error: ServiceError) -> ServiceError {
        guard error.code == .timedOut else { return error }
        return ServiceError(.tooStale, leader: error.leader)
    }
}
