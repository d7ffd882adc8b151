public import NIOCore
public import Raft
import RaftNode

/// Confirms strong reads for the requests of one event loop.
///
/// Requests that arrive in the same round of the loop share one confirmation, and so one wake-up of the Raft loop and one of this
/// loop. Not shared between threads: every call is on the loop.
public final class ReadGate {
    /// From now on, on the event loop, a read of the store is linearizable; or why not.
    public typealias Completion = (Result<LogIndex, ServiceError>) -> Void

    private struct Waiter {
        var deadline: NIODeadline
        var completion: Completion
    }

    /// Carries waiters through the Raft loop, which never looks inside.
    private struct Batch: @unchecked Sendable {
        // Sound: made on the event loop, and touched again only behind a hop back to it.
        var waiters: [Waiter]
        var gate: ReadGate
    }

    private let service: KeyValueNode
    private let eventLoop: any EventLoop
    private var waiting: [Waiter] = []
    private var count = 0
    private var isScheduled = false

    /// May be called on any thread; all else is on `eventLoop`.
    public init(service: KeyValueNode, eventLoop: any EventLoop) {
        self.service = service
        self.eventLoop = eventLoop
    }

    /// Asks for a linearizable read.
    public func confirm(deadline: NIODeadline, completion: @escaping Completion) {
        eventLoop.preconditionInEventLoop()
        guard count < service.options.maximumPendingReads else {
            return completion(.failure(ServiceError(.overloaded)))
        }
        count += 1
        enqueue(Waiter(deadline: deadline, completion: completion))
    }

    /// Asks for a read that meets `requirement`. What this node can grant at once it grants on the calling stack.
    public func confirm(
        _ requirement: ReadRequirement,
        deadline: NIODeadline,
        completion: @escaping (Result<ReadPermit, ServiceError>) -> Void
    ) {
        eventLoop.preconditionInEventLoop()
        let isThere = requirement.minimumRevision.map { service.revisions.isReached($0) } ?? true
        let isQuarantined = service.node.isQuarantined
        switch requirement.consistency {
        case .strong where isThere:
            let service = service
            return confirm(deadline: deadline) { result in
                completion(result.map { _ in ReadPermit(staleness: service.provenStaleness) })
            }
        case .stale where isThere && !isQuarantined:
            return completion(.success(ReadPermit(staleness: service.provenStaleness)))
        case .bounded(let maximum) where isThere && !isQuarantined:
            if let permit = service.boundedReads.permit(maximum) { return completion(.success(permit)) }
        default: break
        }
        let carried = Carried(completion: completion)
        let eventLoop = eventLoop
        service.permitRead(requirement, deadline: deadline) { result in
            eventLoop.execute { carried.completion(result) }
        }
    }

    /// Carries a completion through other threads, which never call it.
    private struct Carried: @unchecked Sendable {
        // Sound: made on the event loop, and called only behind a hop back to it.
        let completion: (Result<ReadPermit, ServiceError>) -> Void
    }

    private func enqueue(_ waiter: Waiter) {
        waiting.append(waiter)
        guard !isScheduled else { return }
        isScheduled = true
        // Runs at the end of this round of the loop, behind the other channels that have something to read.
        eventLoop.assumeIsolatedUnsafeUnchecked().execute { self.flush() }
    }

    private func flush() {
        isScheduled = false
        guard let deadline = waiting.map(\.deadline).min() else { return }
        let batch = Batch(waiters: waiting, gate: self)
        waiting = []
        let eventLoop = self.eventLoop
        service.confirmRead(deadline: deadline) { result in
            eventLoop.execute { batch.gate.finish(batch.waiters, result) }
        }
    }

    private func finish(_ waiters: [Waiter], _ result: Result<LogIndex, ServiceError>) {
        var due = waiters
        if case .failure(let error) = result, ![.overloaded, .shuttingDown, .quarantined].contains(error.code) {
            // The time was up for the most impatient of them; the others go on.
            let now = NIODeadline.now() + OperationTable.resolution
            due = waiters.filter { $0.deadline <= now }
            for waiter in waiters where waiter.deadline > now { enqueue(waiter) }
        }
        count -= due.count
        for waiter in due { waiter.completion(result) }
    }
}
