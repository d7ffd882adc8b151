internal import KeyValue
internal import NIOCore
internal import Synchronization

/// Gathers what keeps leases alive: a request that comes alone goes at once, those that come within ``interval`` of one another become
/// one command for every ``maximumLeases`` leases. So a hundred thousand leases that are kept alive do not mean as many log entries.
final class KeepAlives: Sendable {
    typealias Completion = @Sendable (Result<LeaseStatus?, ServiceError>) -> Void
    /// Carries out one command for several leases; answers each lease's status, nil where there is none.
    typealias Keep =
        @Sendable ([UInt64], NIODeadline, @escaping @Sendable (Result<[LeaseStatus?], ServiceError>) -> Void) -> Void

    private struct Request: Sendable {
        var lease: UInt64
        var deadline: NIODeadline
        var completion: Completion
    }

    private struct State {
        var waiting: [Request] = []
        /// With those whose command is under way.
        var count = 0
        var isScheduled = false
        var lastFlush: NIODeadline?
    }

    static let maximumLeases = 500
    /// What another try would not mend.
    private static let final: Set<ServiceError.Code> = [.overloaded, .shuttingDown, .storageFull, .quarantined]
    /// Between the commands' beginnings; with many leases some of them begin together.
    static let interval = TimeAmount.milliseconds(10)
    private let state = Mutex(State())
    private let eventLoop: any EventLoop
    private let maximumCount: Int
    private let keep: Keep

    init(eventLoop: any EventLoop, maximumCount: Int, keep: @escaping Keep) {
        self.eventLoop = eventLoop
        self.maximumCount = maximumCount
        self.keep = keep
    }

    /// Any thread; completes on the service's loop, the Raft loop or the calling thread.
    func add(_ lease: UInt64, deadline: NIODeadline, completion: @escaping Completion) {
        let isIn = state.withLock { state -> Bool in
            guard state.count < maximumCount else { return false }
            state.count += 1
            return true
        }
        guard isIn else { return completion(.failure(ServiceError(.overloaded))) }
        enqueue([Request(lease: lease, deadline: deadline, completion: completion)])
    }

    private func enqueue(_ requests: [Request]) {
        let (isFirst, last) = state.withLock { state in
            state.waiting += requests
            defer { state.isScheduled = true }
            return (!state.isScheduled, state.lastFlush)
        }
        guard isFirst else { return }
        if let due = last.map({ $0 + Self.interval }), due > .now() {
            _ = eventLoop.scheduleTask(deadline: due) { self.flush() }
        } else {
            eventLoop.execute { self.flush() }
        }
    }

    private func flush() {
        var waiting = state.withLock { state in
            defer { (state.waiting, state.isScheduled, state.lastFlush) = ([], false, .now()) }
            return state.waiting
        }[...]
        while !waiting.isEmpty {
            var leases: [UInt64] = []
            var places: [UInt64: Int] = [:]
            let batch = waiting.prefix { request in
                if places[request.lease] != nil { return true }
                guard leases.count < Self.maximumLeases else { return false }
                places[request.lease] = leases.count
                leases.append(request.lease)
                return true
            }
            waiting = waiting.dropFirst(batch.count)
            send(Array(batch), leases, places)
        }
    }

    private func send(_ batch: [Request], _ leases: [UInt64], _ places: [UInt64: Int]) {
        guard let deadline = batch.map(\.deadline).min() else { return }
        keep(leases, deadline) { result in
            var due = batch
            if case .failure(let error) = result, !Self.final.contains(error.code) {
                // The time was up for the most impatient of them; to keep a lease alive once more does no harm.
                let now = NIODeadline.now() + OperationTable.resolution
                due = batch.filter { $0.deadline <= now }
                let again = batch.filter { $0.deadline > now }
                if !again.isEmpty { self.enqueue(again) }
            }
            self.state.withLock { $0.count -= due.count }
            for request in due {
                request.completion(result.map { $0[places[request.lease] ?? 0] })
            }
        }
    }
}
