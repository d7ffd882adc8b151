internal import KeyValue
internal import NIOCore
internal import RaftNode
internal import Synchronization

/// Ends leases whose time is up, while this node leads: by commands, so that all nodes agree.
///
/// One command with a bounded number of leases is under way at a time, so that what clients write goes in between, however many end
/// at once. While there are leases and nothing else is written, a command without leases tells the others every few seconds what time it is:
/// so much at most is given to leases at a change of leader.
final class LeaseExpirer: Sendable {
    struct Options: Sendable {
        /// How often it looks.
        var interval = TimeAmount.milliseconds(100)
        var maximumLeases = 500
        /// How old the state's time may become, in milliseconds.
        var maximumAge: UInt64 = 3_000
    }

    private struct State {
        var isUnderWay = false
        var task: RepeatedTask?
        var isClosed = false
    }

    typealias Propose = @Sendable ([UInt8], @escaping @Sendable (_ isDone: Bool) -> Void) -> Void

    private let state = Mutex(State())
    private let store: Store
    private let clock: ClusterClock
    private let eventLoop: any EventLoop
    private let options: Options
    private let propose: Propose

    init(
        store: Store,
        clock: ClusterClock,
        eventLoop: any EventLoop,
        options: Options = Options(),
        propose: @escaping Propose
    ) {
        self.store = store
        self.clock = clock
        self.eventLoop = eventLoop
        self.options = options
        self.propose = propose
    }

    deinit { state.withLock { $0.task }?.cancel() }

    func start() {
        eventLoop.execute { [weak self] in
            guard let self, !state.withLock({ $0.isClosed }) else { return }
            let task = eventLoop.scheduleRepeatedTask(initialDelay: options.interval, delay: options.interval) {
                [weak self] task in
                if let self { look() } else { task.cancel() }
            }
            let isClosed = state.withLock { state in
                if !state.isClosed { state.task = task }
                return state.isClosed
            }
            if isClosed { task.cancel() }
        }
    }

    func close() {
        let task = state.withLock { state in
            state.isClosed = true
            // Given up once: its event loop may be gone when this goes.
            return state.task.take()
        }
        task?.cancel()
    }

    /// Proposes what is due, if this node leads and nothing is under way.
    func look() {
        guard let now = clock.now, let next = store.nextLeaseDeadline else { return }
        let due = next <= now ? store.dueLeases(at: now, limit: options.maximumLeases) : []
        let time = store.mark.timestampMilliseconds
        guard !due.isEmpty || now - min(now, time) >= options.maximumAge else { return }
        let isFree = state.withLock { state -> Bool in
            guard !state.isUnderWay, !state.isClosed else { return false }
            state.isUnderWay = true
            return true
        }
        guard isFree else { return }
        propose(Command.expireLeases(due).encode(timestampMilliseconds: now)) { [weak self] isDone in
            guard let self else { return }
            state.withLock { $0.isUnderWay = false }
            // What did not go is tried again at the next look, not at once.
            guard isDone, !due.isEmpty else { return }
            eventLoop.execute { [weak self] in self?.look() }
        }
    }
}
