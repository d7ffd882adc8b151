internal import DequeModule
internal import Logging
internal import NIOCore
internal import Observability
internal import Raft
internal import RaftDriver
internal import RaftStorage
internal import RaftTransport
internal import Synchronization

/// The shell around the driver: it moves bytes between the driver, the disk's threads, the links and the machine, and decides nothing.
///
/// Sound to share between threads because every stored variable is touched on `loop` only; entrances from elsewhere hop there first.
final class Engine<Machine: StateMachine>: @unchecked Sendable {
    enum Waiter {
        case proposal(@Sendable (ProposalOutcome<Machine.Output>) -> Void)
        case read(@Sendable (ReadOutcome) -> Void)
        /// A transfer or a change of membership.
        case operation(@Sendable (Outcome) -> Void)
    }

    /// A snapshot on its way out; without a handle while its file is being opened.
    struct Transfer {
        let number: UInt64
        /// What is sent; nil once it was examined because of a doubt.
        var descriptor: SnapshotDescriptor?
        var handle: SnapshotTransfer?
    }

    let loop: any EventLoop
    let options: NodeOptions
    let logger: Logger
    let machine: Machine
    let store: LogStore
    let snapshots: SnapshotStore
    let transport: PeerTransport
    let inbox: Inbox<Machine.Output>
    let board: StatusBoard
    /// Flushes, snapshots, restores.
    let background: WorkerThread
    /// Reads of the log.
    let reader: WorkerThread
    /// Chunks of snapshots that come and go.
    let streams: WorkerThread
    /// Recomputes the state's hash, slowly.
    let verifier: WorkerThread
    /// What a command needs that takes long.
    let applier: WorkerThread

    var driver: Driver
    var identity: Identity
    var committer: GroupCommitter?
    private var nextToken: Token = Driver.internalToken + 1
    private var waiters: [Token: Waiter] = [:]
    var answers = Answers<Machine.Output>()
    var tickTask: RepeatedTask?
    private(set) var hasFailed = false
    /// Nothing is done any more.
    private var isStopped = false
    /// Where servers say that they are reached, in their handshakes: newer than what the configuration says.
    var announced: [ServerID: String] = [:]
    /// Where servers were reached that the configuration may not name any more.
    var lastAddresses: [ServerID: String] = [:]
    /// The last try to have the own record in the configuration changed, and when the next may begin.
    var correction: Task<Void, Never>?
    var nextCorrectionTick: UInt64 = 0
    var linkedPeers: [ServerID: String] = [:]
    var transfers: [ServerID: Transfer] = [:]
    var lastTransfer: UInt64 = 0
    var latestSnapshot: SnapshotDescriptor?
    /// The last one that came from a leader.
    var lastArrived: SnapshotDescriptor?
    /// No sound snapshot is left of those that the log was trimmed by: another one is to be taken at once.
    var isSnapshotMissing = false
    /// The next step of reading all files again.
    var scrubTask: Scheduled<Void>?
    /// Servers that opened a link to this one and that the configuration does not name.
    var callers: [ServerID] = []
    var seen = Seen()
    /// What there is no room for; nil while there is.
    var lackOfRoom = Lack()
    /// Asking again to be taken in, while the configuration does not name this server.
    var joining: Task<Void, Never>?
    var isAskingToJoin = false
    var nextJoinTick: UInt64 = 50
    var comparison: ComparisonState
    var applying = Applying()
    /// The longest that one piece of work has held the loop.
    private var longestHold = Duration.zero
    private var isHolding = false
    var confirmation = Confirmation()
    private var isPerforming = false
    private var backlog: Deque<Driver.Actions> = []

    init(
        loop: any EventLoop,
        options: NodeOptions,
        logger: Logger,
        machine: Machine,
        store: LogStore,
        snapshots: SnapshotStore,
        transport: PeerTransport,
        board: StatusBoard,
        driver: Driver,
        latestSnapshot: SnapshotDescriptor?,
        quarantine: Quarantine?,
        workers: Workers
    ) {
        self.loop = loop
        self.options = options
        self.logger = logger
        self.machine = machine
        self.store = store
        self.snapshots = snapshots
        self.transport = transport
        self.inbox = Inbox(maxCount: options.maxQueuedRequests, maxBytes: options.maxQueuedBytes)
        self.board = board
        self.driver = driver
        self.latestSnapshot = latestSnapshot
        self.identity = store.identity
        self.background = workers.background
        self.reader = workers.reader
        self.streams = workers.streams
        self.verifier = workers.verifier
        self.applier = workers.applier
        self.comparison = ComparisonState(quarantine: quarantine)
    }

    /// Threads for what blocks.
    struct Workers {
        let background: WorkerThread
        let reader: WorkerThread
        let streams: WorkerThread
        let verifier = WorkerThread(name: "kontiki-verify", capacity: 1)
        let applier = WorkerThread(name: "kontiki-apply", capacity: 64)

        init(_ bounds: NodeOptions.Queues) {
            background = WorkerThread(name: "kontiki-state", capacity: bounds.background)
            reader = WorkerThread(name: "kontiki-read", capacity: bounds.reader)
            streams = WorkerThread(name: "kontiki-snap", capacity: bounds.streams)
        }
    }

    // MARK: Running

    /// Begins to serve: from now on the log is written, time passes and messages count.
    func run() {
        loop.preconditionInEventLoop()
        guard committer == nil else { return }
        committer = GroupCommitter(
            store: store,
            onPersisted: { sequence in self.loop.execute { self.step([.persisted(upTo: sequence)]) } },
            onFailure: { error in self.loop.execute { self.fail("the log cannot be written: \(error)") } },
            onCommit: { [metrics = options.metrics] commit in metrics?.count(commit) },
            onRoom: { lack in self.loop.execute { self.noteRoom(\.log, lack?.description) } }
        )
        let pace = TimeAmount.milliseconds(Int64(options.tickMilliseconds))
        tickTask = loop.scheduleRepeatedTask(initialDelay: pace, delay: pace) { _ in self.step([.tick]) }
        if isSnapshotMissing { act { $0.requestSnapshot(into: &$1) } }
        if comparison.quarantine != nil { step([.mayLead(false)]) }
        planScrub()
        observe()
    }

    func step(_ events: [Event]) {
        guard isRunning else { return }
        act { driver, actions in driver.step(events, into: &actions) }
    }

    /// Runs `body` on the driver and carries out what it asks for.
    func act(_ body: (inout Driver, inout Driver.Actions) -> Void) {
        loop.preconditionInEventLoop()
        guard isRunning else { return }
        holdingLoop {
            var actions = Driver.Actions()
            body(&driver, &actions)
            backlog.append(actions)
            // What an action causes at once (a completion that asks for more, say) waits its turn.
            guard !isPerforming else { return }
            isPerforming = true
            while !hasFailed, let next = backlog.popFirst() { perform(next) }
            isPerforming = false
            observe()
        }
    }

    /// Does a piece of work, during which nothing else happens on the loop, and counts how long that took.
    func holdingLoop(_ body: () -> Void) {
        guard !isHolding, let metrics = options.metrics else { return body() }
        isHolding = true
        let start = ContinuousClock.now
        body()
        let duration = start.duration(to: .now)
        isHolding = false
        metrics.loopHold.observe(duration)
        guard duration > longestHold else { return }
        longestHold = duration
        metrics.longestLoopHold.set(duration / .seconds(1))
    }

    /// Stops for good and says so; nothing is written, sent or answered as done after it (R6).
    func fail(_ reason: String) {
        guard !hasFailed else { return }
        hasFailed = true
        logger.critical("the node stops", metadata: ["reason": "\(reason)"])
        tickTask?.cancel()
        scrubTask?.cancel()
        giveUpApply()
        inbox.close()
        endAllWaiters()
        board.update { $0.fault = reason }
        options.onFailure(reason)
    }

    // MARK: Requests

    func drainInbox() {
        let contents = inbox.take()
        options.metrics?.proposals.add(UInt64(contents.proposals.count))
        // Those whose clients gave up still wait here for their outcome; their number has a bound, too.
        guard waiters.count + contents.proposals.count + contents.reads.count <= 2 * options.maxQueuedRequests else {
            let rejection = Rejection(.overloaded, leader: driver.core.leaderID)
            for proposal in contents.proposals { proposal.completion(.rejected(rejection)) }
            for read in contents.reads { read(.rejected(rejection)) }
            return
        }
        var events: [Event] = []
        if let rejection = rejectionForLackOfRoom {
            for proposal in contents.proposals { proposal.completion(.rejected(rejection)) }
        } else if !contents.proposals.isEmpty {
            let leads = driver.core.isLeader
            let proposals = contents.proposals.map { proposal in
                var command = proposal.command
                if leads { machine.prepare(&command) }
                return Proposal(token: register(.proposal(proposal.completion)), command: command)
            }
            events.append(.propose(proposals))
        }
        if !contents.reads.isEmpty { events.append(.read(contents.reads.map { register(.read($0)) })) }
        guard isRunning else {
            endAllWaiters()
            return
        }
        if !events.isEmpty { step(events) }
    }

    var isRunning: Bool { !hasFailed && !isStopped && committer != nil }

    var hasWaiters: Bool { !waiters.isEmpty }

    func register(_ waiter: Waiter) -> Token {
        defer { nextToken += 1 }
        waiters[nextToken] = waiter
        return nextToken
    }

    func forget(_ token: Token) -> Waiter? { waiters.removeValue(forKey: token) }

    /// The last thing that happens to an engine.
    func stop() {
        isStopped = true
        giveUpApply()
        endAllWaiters()
    }

    func endAllWaiters() {
        let all = waiters
        waiters = [:]
        answers.removeAll()
        for (token, waiter) in all {
            switch waiter {
            case .proposal(let completion): completion(.unknown(leader: nil))
            case .read(let completion): completion(.rejected(Rejection(.shuttingDown)))
            case .operation(let completion): completion(.unknown(token, leader: nil))
            }
        }
    }

    // MARK: Actions

    private func perform(_ actions: Driver.Actions) {
        if let violation = actions.halt { return fail(violation.description) }
        // What was being applied is a part of the state that comes.
        if driver.isLoadingSnapshot { giveUpApply() }
        for write in actions.writes {
            options.observer?.writes(write)
            committer?.submit(write)
        }
        for message in actions.messages {
            options.observer?.sends(message)
            guard !transport.send(message) else { continue }
            if case .propose = message.body { act { $0.proposalNotSent(message, into: &$1) } }
        }
        for fetch in actions.fetches { startFetch(fetch.purpose, fetch.range, maxBytes: fetch.maxBytes) }
        for outcome in actions.outcomes { settle(outcome) }
        if !actions.apply.isEmpty { beginApply(actions.apply) }
        for send in actions.snapshotSends { startSnapshotSend(send) }
        if let base = actions.restore { startRestore(base) }
        if actions.flush { startFlush() }
        if actions.takeSnapshot { startSnapshot() }
    }

    // MARK: Outcomes

    private func settle(_ outcome: Outcome) {
        switch outcome {
        case .committed(let token, let position): settleCommitted(token, at: position)
        case .readReady(let token, let index):
            if case .read(let completion) = waiters.removeValue(forKey: token) {
                completion(.ready(index: index, term: driver.core.term))
            }
        case .done(let token): settleOperation(token, outcome)
        case .rejected(let token, let reason, let leader):
            let rejection = Rejection(core: reason, leader: leader)
            switch waiters[token] {
            case .proposal: finish(token, .rejected(rejection))
            case .read(let completion):
                waiters[token] = nil
                completion(.rejected(rejection))
            case .operation, nil: settleOperation(token, outcome)
            }
        case .unknown(let token, let leader):
            if case .proposal = waiters[token] {
                finish(token, .unknown(leader: leader))
            } else {
                settleOperation(token, outcome)
            }
        }
    }

    private func settleOperation(_ token: Token, _ outcome: Outcome) {
        if case .operation(let completion) = waiters.removeValue(forKey: token) { completion(outcome) }
    }

    private func settleCommitted(_ token: Token, at position: LogPosition) {
        switch answers.committed(token, at: position, applied: driver.core.appliedIndex) {
        case .later: break
        case .known(let output): finish(token, .applied(output, at: position))
        case .lost: finish(token, .unknown(leader: driver.core.leaderID))
        }
    }

    func finish(_ token: Token, _ outcome: ProposalOutcome<Machine.Output>) {
        if case .proposal(let completion) = waiters.removeValue(forKey: token) { completion(outcome) }
    }

    /// A snapshot took the place of entries up to `index`: what their commands answered will not be known.
    func abandonCommitted(upTo index: LogIndex) {
        for token in answers.abandon(upTo: index) { finish(token, .unknown(leader: driver.core.leaderID)) }
    }
}

extension Rejection {
    init(core reason: RejectionReason, leader: ServerID?) {
        switch reason {
        case .noLeader: self.init(.noLeader, leader: leader)
        case .transferring, .busy, .invalid: self.init(.leadershipChanging, leader: leader)
        case .overloaded: self.init(.overloaded, leader: leader)
        case .superseded: self.init(.superseded, leader: leader)
        }
    }
}
