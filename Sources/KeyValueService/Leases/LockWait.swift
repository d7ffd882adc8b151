public import KeyValue
public import NIOCore
internal import Synchronization

/// What became of a request for a lock.
public enum LockAnswer: Sendable {
    /// The ticket holds the lock.
    case acquired(LockTicketStatus)
    /// It was not granted in time, and its place in the queue was given back; it is never granted later. But with an idempotency
    /// key of the client's and a lease of the ticket's own, the place is kept until that lease ends. The lock as it stands; nil
    /// when nobody holds it. Where a task was cancelled it is nil, too, and see ``LockWait/cancel()``.
    case notGranted(LockStatus?)
    /// The ticket's lease ended, or it was given back, while it waited.
    case lost
    /// No ticket was taken: the outcome says why.
    case refused(KeyValueNode.Written)
}

/// A request for a lock, on its way through the queue.
///
/// It keeps the ticket's lease alive while it waits, and never leaves a ticket behind that nobody can come back for: not when the
/// time is up, not when the client goes away, and not when it cannot be told at first whether one was taken.
///
/// Whoever gave the request an idempotency key of its own, or a lease that was granted before, can come back: the same key, and
/// the same lease, find the same ticket, at any node. So several requests may be told of one ticket, and this one never takes
/// away what another was told it holds: a place is left when the client goes away or gets an error, and when the time is up it is
/// given back only if it does not hold the lock by then, otherwise the answer is that it does.
public final class LockWait: Sendable {
    typealias Completion = @Sendable (Result<LockAnswer, ServiceError>) -> Void

    private struct State {
        var completion: Completion?
        var ticket: LockTicketStatus?
        var watch: Watch?
        var timer: SharedTimers.Timer?
        /// Of the next keep-alive of the ticket's lease.
        var keepAliveTimer: SharedTimers.Timer?
        var isOver = false
    }

    private let state: Mutex<State>
    private let service: KeyValueNode
    private let eventLoop: any EventLoop
    private let request: LockRequest
    private let options: CommandOptions
    /// The client named the request, and may send it again, here or elsewhere, to go on with the same ticket.
    private let isNamed: Bool
    /// The ticket lives with a lease that was granted before, which has one place in the queue, whoever asks for it.
    private let isAttached: Bool
    private let deadline: NIODeadline

    init(
        _ service: KeyValueNode,
        _ request: LockRequest,
        _ options: CommandOptions,
        deadline: NIODeadline,
        eventLoop: any EventLoop,
        completion: @escaping Completion
    ) {
        self.service = service
        self.eventLoop = eventLoop
        self.request = request
        self.deadline = deadline
        isNamed = options.idempotency != nil
        isAttached = if case .attached = request.lease { true } else { false }
        var options = options
        // With a name of its own, the request can be asked again what it did when its answer is lost. A lease is a name, too.
        if !isNamed, !isAttached { options.idempotency = Self.makeKey() }
        self.options = options
        state = Mutex(State(completion: completion))
    }

    private static func makeKey() -> IdempotencyKey {
        let bytes = withUnsafeBytes(of: UInt128.random(in: .min ... .max)) { Array($0) }
        return IdempotencyKey(key: Array("\0lock".utf8) + bytes, fingerprint: 0)
    }

    private var canComeBack: Bool { isNamed || isAttached }

    /// The client is gone: a place that was taken is given back, and nothing is answered. Nothing happens when it was answered already.
    /// Any thread.
    ///
    /// With an idempotency key of the client's, or a lease that was granted before, the place stays until the ticket's lease
    /// ends, no longer kept alive from here: the client may be waiting with the same ticket at another node by now, or hold the
    /// lock already, and would lose what it has.
    public func cancel() { end(because: nil) }

    func start() {
        // Asked for late, when the client is long gone, a ticket would be nobody's.
        let isOver: @Sendable () -> Bool = { self.state.withLock { $0.isOver } }
        service.write(.acquireLock(request), options: options, deadline: deadline, unless: isOver) { result in
            switch result {
            case .success(let written): self.asked(written)
            case .failure(let error):
                self.end(because: .failure(error))
                if error.mayHaveExecuted, !self.canComeBack { self.clearUp(attempts: 10) }
            }
        }
    }

    private func asked(_ written: KeyValueNode.Written) {
        guard case .lock(let ticket) = written.outcome.original else {
            return end(because: .success(.refused(written)))
        }
        let isOver = state.withLock { state -> Bool in
            state.ticket = ticket
            return state.isOver
        }
        if isOver { return giveBack(ticket) }
        // What is told again may be long past.
        let isNew = if case .replayed = written.outcome { false } else { true }
        if ticket.holds, isNew { return end(because: .success(.acquired(ticket))) }
        eventLoop.execute { self.wait(ticket) }
    }

    // MARK: Waiting, on the event loop

    private func wait(_ ticket: LockTicketStatus) {
        watch()
        keep(service.timers.schedule(at: deadline) { self.eventLoop.execute { self.timeIsUp() } }) { $0.timer = $1 }
        if let milliseconds = ttl(of: ticket) {
            // A long pause would leave its timer behind when the wait is over, which may be much sooner.
            keepAlive(ticket, every: .milliseconds(Int64(clamping: min(max(milliseconds / 3, 100), 60_000))))
        }
        look()
    }

    private func keepAlive(_ ticket: LockTicketStatus, every pause: TimeAmount) {
        let timer = service.timers.schedule(at: .now() + pause) {
            guard !self.state.withLock({ $0.isOver }) else { return }
            self.service.keepLeaseAlive(ticket.ticket.lease, deadline: .now() + pause) { _ in }
            self.keepAlive(ticket, every: pause)
        }
        keep(timer) { $0.keepAliveTimer = $1 }
    }

    private func keep(_ timer: SharedTimers.Timer, _ store: (inout State, SharedTimers.Timer) -> Void) {
        let isOver = state.withLock { state -> Bool in
            if !state.isOver { store(&state, timer) }
            return state.isOver
        }
        if isOver { service.timers.cancel(timer) }
    }

    private func ttl(of ticket: LockTicketStatus) -> UInt64? {
        if case .ttl(let milliseconds) = request.lease { return milliseconds }
        return try? service.store.lease(id: ticket.ticket.lease).lease?.ttlMilliseconds
    }

    private func watch() {
        let filter = EventFilter(.key(request.name), space: .locks)
        do throws(Watch.End) {
            let watch = try service.watch(filter, eventLoop: eventLoop) { self.look() }
            let old = state.withLock { state -> Watch? in
                guard !state.isOver else { return watch }
                defer { state.watch = watch }
                return state.watch
            }
            old?.cancel()
        } catch {
            end(because: .failure(Self.error(error)))
        }
    }

    /// Sees whether the lock is granted. What the events say is in the state.
    private func look() {
        let (watch, ticket, isOver) = state.withLock { ($0.watch, $0.ticket, $0.isOver) }
        guard !isOver, let ticket, let watch else { return }
        if let end = watch.take().end {
            switch end {
            case .failed(let error, _): return self.end(because: .failure(error))
            case .compacted, .tooSlow: self.watch()
            }
        }
        do {
            let (lock, mark) = try service.readableStore().lock(name: request.name)
            // Granted by a command that this node has not applied yet, if it was asked elsewhere: it comes with an event.
            guard mark.revision >= ticket.revision else { return }
            switch lock?.position(ofToken: ticket.token) {
            case 0:
                var granted = ticket
                (granted.position, granted.revision) = (0, mark.revision)
                end(because: .success(.acquired(granted)))
            case nil: end(because: .success(.lost))
            case .some: break
            }
        } catch let error as ServiceError {
            end(because: .failure(error))
        } catch {
            // The node is about to stop: its state cannot be read.
            end(because: .failure(ServiceError(.quarantined)))
        }
    }

    /// Gives up the place, unless it was granted in the meantime, which is the answer then. Any thread.
    func timeIsUp() {
        guard let (completion, ticket) = takeCompletion() else { return }
        // Who comes back with the key may have done so already, elsewhere; who does not leaves the queue when the ticket's own
        // lease ends.
        guard let ticket, isAttached || !isNamed else {
            completion?(.success(notGranted))
            return
        }
        service.releaseTicket(request.name, ticket.token, onlyWhileWaiting: true) { result in
            switch result {
            case .success(.lock(let granted)): completion?(.success(.acquired(granted)))
            case .success: completion?(.success(self.notGranted))
            case .failure(var error) where self.isAttached:
                // It may wait still, or hold the lock: told that it is not known, the client asks again.
                error.mayHaveExecuted = true
                completion?(.failure(error))
            case .failure:
                // Nobody else knows of the ticket: it goes even if it holds the lock by then.
                self.giveBack(ticket)
                completion?(.success(self.notGranted))
            }
        }
    }

    private var notGranted: LockAnswer { .notGranted(try? service.store.lock(name: request.name).lock) }

    // MARK: The end

    private static func error(_ end: Watch.End) -> ServiceError {
        if case .failed(let error, _) = end { error } else { ServiceError(.overloaded) }
    }

    /// Gives back a ticket that nobody wants, unless the client can come back for it.
    func giveBack(_ ticket: LockTicketStatus) {
        if !canComeBack { service.giveBackTicket(request.name, ticket.token) }
    }

    /// Ends it with an answer, or without one; a ticket that does not hold is given back, unless the client can come back for it:
    /// then it is not known what becomes of it.
    private func end(because result: Result<LockAnswer, ServiceError>?) {
        guard let (completion, ticket) = takeCompletion() else { return }
        let isKept =
            switch result {
            case .success(.acquired), .success(.lost), .success(.refused): true
            case .success(.notGranted), .failure, nil: false
            }
        if !isKept, let ticket { giveBack(ticket) }
        guard let result else { return }
        if case .failure(var error) = result, ticket != nil, canComeBack {
            error.mayHaveExecuted = true
            completion?(.failure(error))
        } else {
            completion?(result)
        }
    }

    private func takeCompletion() -> (Completion?, LockTicketStatus?)? {
        let before = state.withLock { state -> State? in
            guard !state.isOver else { return nil }
            defer { state = State(ticket: state.ticket, isOver: true) }
            return state
        }
        guard let before else { return nil }
        before.watch?.cancel()
        for case .some(let timer) in [before.timer, before.keepAliveTimer] { service.timers.cancel(timer) }
        return (before.completion, before.ticket)
    }

    /// It is not known whether a ticket was taken: asked again under the same name, the state tells, and what was taken is given back.
    private func clearUp(attempts: Int) {
        guard attempts > 0 else { return }
        service.write(.acquireLock(request), options: options, deadline: service.deadline()) { result in
            switch result {
            case .success(let written):
                if case .lock(let ticket) = written.outcome.original {
                    self.service.giveBackTicket(self.request.name, ticket.token)
                }
            case .failure(let error):
                if error.code != .shuttingDown { self.clearUp(attempts: attempts - 1) }
            }
        }
    }
}

extension KeyValueNode {
    /// Asks for a lock; with ``KeyValue/LockRequest/waits``, waits in its queue until it is granted or the deadline has come. While it waits,
    /// the ticket's lease is kept alive. Asked again with a lease that was granted before, it is the same ticket, at any node.
    ///
    /// - Parameters:
    ///   - eventLoop: keeps the time of the wait.
    ///   - completion: called once, on any thread, unless the wait is cancelled. With ``LockAnswer/acquired(_:)`` the ticket is the caller's,
    ///     who keeps its lease alive from then on.
    /// - Returns: what ends the wait for a client that went away.
    @discardableResult
    public func acquireLock(
        _ request: LockRequest,
        options: CommandOptions = .none,
        deadline: NIODeadline,
        eventLoop: any EventLoop,
        completion: @escaping @Sendable (Result<LockAnswer, ServiceError>) -> Void
    ) -> LockWait {
        let wait = LockWait(
            self,
            request,
            options,
            deadline: deadline,
            eventLoop: eventLoop,
            completion: completion
        )
        wait.start()
        return wait
    }

    /// Gives a ticket back, trying again for a while. A ticket that stays for lack of a leader ends with its lease.
    func giveBackTicket(_ name: [UInt8], _ token: UInt64, attempts: Int = 10) {
        guard attempts > 0 else { return }
        releaseTicket(name, token) { result in
            if case .failure(let error) = result, error.code != .shuttingDown {
                self.giveBackTicket(name, token, attempts: attempts - 1)
            }
        }
    }

    /// Tries once to give a ticket back.
    func releaseTicket(
        _ name: [UInt8],
        _ token: UInt64,
        onlyWhileWaiting: Bool = false,
        completion: @escaping @Sendable (Result<KeyValue.Outcome, ServiceError>) -> Void
    ) {
        let command = Command.releaseLock(name: name, token: token, onlyWhileWaiting: onlyWhileWaiting)
        write(command, deadline: .now() + .seconds(2)) { result in completion(result.map(\.outcome)) }
    }
}

extension KeyValue.Outcome {
    /// What was answered the first time, where it was answered before.
    var original: KeyValue.Outcome {
        if case .replayed(let outcome) = self { outcome } else { self }
    }
}

/// Ties a wait to a task: a cancelled one must be answered, too.
final class LockHandle: Sendable {
    private struct State {
        var wait: LockWait?
        var completion: LockWait.Completion?
        var isCancelled = false
    }

    private let state = Mutex(State())

    func begin(_ completion: @escaping LockWait.Completion, _ start: (@escaping LockWait.Completion) -> LockWait) {
        state.withLock { $0.completion = completion }
        let wait = start { result in
            if let completion = self.take() { return completion(result) }
            // Granted while the task was being cancelled, which was answered already. Who can come back for it finds it granted.
            if case .success(.acquired(let ticket)) = result { self.state.withLock { $0.wait }?.giveBack(ticket) }
        }
        let isCancelled = state.withLock { state -> Bool in
            state.wait = wait
            return state.isCancelled
        }
        if isCancelled { cancel() }
    }

    func cancel() {
        let wait = state.withLock { state in
            state.isCancelled = true
            return state.wait
        }
        guard let wait else { return }
        wait.cancel()
        take()?(.success(.notGranted(nil)))
    }

    private func take() -> LockWait.Completion? { state.withLock { $0.completion.take() } }
}
