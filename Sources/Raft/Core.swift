internal import DequeModule

/// The bounds and the pace of a core.
public struct Options: Hashable, Sendable {
    /// The shortest time without a leader before a server campaigns, in ticks; the longest is below twice that.
    public var electionTicks: UInt64 = 20
    /// The time between two heartbeats, in ticks; well below `electionTicks`.
    public var heartbeatTicks: UInt64 = 3
    /// Appends under way to one follower.
    public var maxInFlightMessages = 256
    /// Bytes of entries under way to one follower.
    public var maxInFlightBytes = 8 << 20
    /// Bytes of entries in one append; a larger single entry goes alone.
    public var maxAppendBytes = 256 << 10
    /// Entries in one append.
    public var maxAppendEntries = 1024
    /// Bytes of entries that are not committed yet, beyond which a leader refuses commands.
    public var maxUncommittedBytes = 64 << 20

    public init() {}
}

/// The Raft consensus core of one server: events in, effects out.
///
/// A value without I/O, clock or threads. All chance comes from the seed, so a schedule of events replays exactly.
public struct Core: Hashable, Sendable {
    public enum Role: String, Hashable, Sendable { case follower, preCandidate, candidate, leader }

    /// A write on its way to the disk.
    struct WriteInFlight: Hashable, Sendable {
        var sequence: WriteSequence
        /// The last index the write makes stable; lowered when a later truncation rewrites what it wrote (R9).
        var last: LogIndex
        var tick: UInt64
    }

    struct Transfer: Hashable, Sendable {
        var token: Token?
        var target: ServerID
        var startTick: UInt64
        var isOrdered = false
    }

    struct WatchedTransfer: Hashable, Sendable {
        var token: Token
        var tick: UInt64
    }

    public let id: ServerID
    public let options: Options
    public internal(set) var hardState: HardState
    var log: Log
    public internal(set) var role: Role = .follower
    public internal(set) var leaderID: ServerID?
    public internal(set) var commitIndex: LogIndex
    public internal(set) var appliedIndex: LogIndex
    /// Entries up to here are durable in their current version.
    public internal(set) var stableIndex: LogIndex
    /// What was last given out in ``Effects/applyUpTo``.
    var applyingIndex: LogIndex
    var restoring: LogIndex?
    public internal(set) var violation: Violation?
    /// Whether this server may lead, as ``Event/mayLead(_:)`` last said.
    public internal(set) var mayLead = true
    /// What ``Event/giveWay(_:)`` last said.
    public internal(set) var givesWay = false

    var random: SeededRandom
    var tick: UInt64 = 0
    /// When the election timer was last reset, in ticks.
    var timerTick: UInt64 = 0
    var electionTimeout: UInt64 = 0

    var lastSequence: WriteSequence = 0
    var persistedSequence: WriteSequence = 0
    /// The last write that changed the term or the vote.
    var hardStateSequence: WriteSequence = 0
    var writesInFlight: Deque<WriteInFlight> = []
    /// The write that this step builds.
    var openWrite: StorageWrite?

    // Candidates.
    var votes: [ServerID: Bool] = [:]  // only ever looked up by a voter's identity, never iterated
    /// The write after which the own vote counts (R2).
    var ownVoteSequence: WriteSequence = 0

    // Leaders.
    var peers: [Progress] = []  // sorted by identity, without this server
    var heartbeatTick: UInt64 = 0
    var uncommittedBytes = 0
    /// The index of the no-op this leader began its term with.
    var termStartIndex: LogIndex = 0
    var transfer: Transfer?
    /// When a leader that should not lead tries to hand leadership over again.
    var giveWayTick: UInt64 = 0
    /// Who was asked last.
    var giveWayAsked = ServerID(0)
    var membershipToken: Token?
    /// A transfer whose leader stood down; it ends well when somebody else leads.
    var watchedTransfer: WatchedTransfer?

    var proposals = ProposalTracker()
    var reads: ReadTracker
    /// The session of the leader's dealings with this server, for answers that follow no append.
    var leaderSession: UInt64 = 0
    /// The furthest that the leader this server follows said of its log.
    var heardLog: LeaderLog?

    /// The core of a server whose storage holds `hardState` and a log of `entries` behind `base`, and whose state machine durably
    /// stands at `applied`, which lies within the log.
    public init(
        id: ServerID,
        options: Options = Options(),
        seed: UInt64,
        hardState: HardState,
        base: LogBase,
        entries: [EntryInfo],
        applied: LogIndex
    ) {
        precondition(options.heartbeatTicks > 0 && options.electionTicks > options.heartbeatTicks)
        precondition(options.maxAppendEntries > 0 && options.maxInFlightMessages > 0 && options.maxAppendBytes > 0)
        self.id = id
        self.options = options
        self.hardState = hardState
        self.log = Log(base: base, entries: entries)
        // A snapshot may have come before any message of its term; its base is as durable as a hard state (R3).
        if log.last.term > hardState.term { self.hardState = HardState(term: log.last.term) }
        precondition(applied >= base.position.index && applied <= log.lastIndex, "applied lies within the log")
        self.commitIndex = applied
        self.appliedIndex = applied
        self.applyingIndex = applied
        self.stableIndex = log.lastIndex
        self.random = SeededRandom(seed: seed)
        self.reads = ReadTracker(firstID: random.next())
        resetElectionTimer()
    }

    // MARK: What the driver may know

    public var term: Term { hardState.term }
    public var configuration: Configuration { log.configuration }
    /// The index of the entry that ``configuration`` came with; the log's base when it is older.
    public var configurationIndex: LogIndex { log.configurationIndex }
    public var firstIndex: LogIndex { log.firstIndex }
    public var lastIndex: LogIndex { log.lastIndex }
    public var base: LogBase { log.logBase }
    public var isLeader: Bool { role == .leader }
    /// Whether this leader has committed an entry of its own term: it may answer reads and change the membership (R31, R42).
    public var hasCommittedInTerm: Bool { isLeader && commitIndex >= termStartIndex }
    /// Whether commands that were handed to the leader wait for its answer.
    public var awaitsForwardedProposals: Bool { proposals.hasForwarded }
    /// Whether a write has been under way for longer than an election timeout.
    public var isStorageStalled: Bool { storageStalled }

    /// What the leader of this term says of its own log, which is this server's where it leads itself; nil while none was heard to say so.
    public var leaderLog: LeaderLog? { isLeader ? ownLog : leaderID == nil ? nil : heardLog }

    var ownLog: LeaderLog { LeaderLog(last: log.lastIndex, commit: commitIndex) }

    public func term(at index: LogIndex) -> Term? { log.term(at: index) }

    /// The configuration in force at `index`, which the log must reach back to.
    public func configuration(at index: LogIndex) -> Configuration { log.configuration(at: index) }

    /// The bytes of the entries behind `index` up to `last`, as far as the log still holds them.
    public func logBytes(behind index: LogIndex, through last: LogIndex) -> Int {
        index < last ? log.bytes(in: (index + 1)...last) : 0
    }

    /// The index to trim the log to so that about `bytes` of entries stay before `bound`; at least the log's base.
    public func index(leaving bytes: Int, before bound: LogIndex) -> LogIndex {
        log.index(leaving: bytes, before: bound)
    }

    /// What a leader knows of a follower.
    public struct PeerView: Hashable, Sendable {
        public var id: ServerID
        public var match: LogIndex
        public var ticksSinceContact: UInt64
        public var isReceivingSnapshot: Bool
    }

    /// Every follower a leader deals with; empty elsewhere.
    public var peerViews: [PeerView] {
        peers.map {
            PeerView(
                id: $0.id,
                match: $0.match,
                ticksSinceContact: tick - $0.contactTick,
                isReceivingSnapshot: $0.state == .snapshot
            )
        }
    }

    // MARK: The one entrance

    /// Takes one event in and adds what is to be done to `effects`.
    public mutating func step(_ event: Event, into effects: inout Effects) {
        step(CollectionOfOne(event), into: &effects)
    }

    /// Takes events in, in order, as one step: what they cause is written and sent together.
    public mutating func step(_ events: some Sequence<Event>, into effects: inout Effects) {
        for event in events {
            guard violation == nil else { break }
            handle(event, into: &effects)
        }
        guard violation == nil else {
            // What a broken step began must not reach the disk or a peer.
            if !isPlanted(.brokenStepLeaks) { effects = Effects() }
            effects.halt = violation
            return
        }
        if isLeader { pump(into: &effects) }
        closeWrite(into: &effects)
        advanceApply(into: &effects)
    }

    private mutating func handle(_ event: Event, into effects: inout Effects) {
        switch event {
        case .tick: handleTick(into: &effects)
        case .message(let message): handleMessage(message, into: &effects)
        case .propose(let proposals): handlePropose(proposals, into: &effects)
        case .read(let tokens): handleRead(tokens, into: &effects)
        case .persisted(let sequence): handlePersisted(sequence, into: &effects)
        case .applied(let index): handleApplied(index, into: &effects)
        case .snapshotReceived(let base, let from): handleSnapshotReceived(base, from: from, into: &effects)
        case .restored(let index): handleRestored(index, into: &effects)
        case .snapshotSent(let peer, let sent): handleSnapshotSent(to: peer, sent: sent)
        case .compact(let index): handleCompact(upTo: index)
        case .changeMembership(let token, let target): handleChange(token, to: target, into: &effects)
        case .transfer(let token, let target): handleTransfer(token, to: target, into: &effects)
        case .unreachable(let peer): handleUnreachable(peer)
        case .mayLead(let may): mayLead = may
        case .giveWay(let gives): givesWay = gives
        case .storageFailed(let reason):
            if !isPlanted(.outlivesStorageFailure) { halt("the storage failed: \(reason)") }
        }
    }

    /// Stops for good: `reason` says which invariant broke.
    mutating func halt(_ reason: String) {
        if violation == nil { violation = Violation(reason) }
    }

    // MARK: Time

    private mutating func handleTick(into effects: inout Effects) {
        tick += 1
        if isPlanted(.redrawsTimeoutEachTick) {
            electionTimeout = options.electionTicks + random.next(upperBound: options.electionTicks)
        }
        expireForwarded(into: &effects)
        if isLeader {
            tickLeader(into: &effects)
        } else if tick - timerTick >= electionTimeout {
            resetElectionTimer()
            if mayCampaign {
                campaignForPreVotes(into: &effects)
            } else if !isPlanted(.learnerRemembersLeader) {
                // The leader is not heard any more, also where that is no reason to campaign: others may have our vote (R15).
                becomeFollower(term: term, leader: nil, into: &effects)
            }
        }
    }

    private mutating func tickLeader(into effects: inout Effects) {
        // A leader that is the only voter has nobody to give way to, and its reads need no disk.
        let isOnlyVoter = configuration.isOnlyVoter(id) && !isPlanted(.onlyVoterGivesUp)
        let isStalled = storageStalled && !isOnlyVoter && !isPlanted(.leadsWithStalledDisk)
        let isAlone = !hasRecentQuorum && !isPlanted(.leadsWithoutQuorum)
        if !mayLead || givesWay { giveWay() }
        let isBarred = !mayLead && transfer == nil && !isOnlyVoter && !isPlanted(.leadsWhenBarred)
        if isStalled || isAlone || isBarred {
            // R17, R19: without a quorum, or with a disk that does not answer, somebody else must lead.
            becomeFollower(term: term, leader: nil, into: &effects)
            return
        }
        expireTransfer(into: &effects)
        dropDeparted()
        if tick - heartbeatTick >= options.heartbeatTicks { broadcastHeartbeat(into: &effects) }
    }

    /// Draws a new timeout at each reset, never at each tick (R14).
    mutating func resetElectionTimer() {
        timerTick = tick
        // Who needs nobody's vote need not wait for anybody.
        guard !configuration.isOnlyVoter(id) else {
            electionTimeout = 1
            return
        }
        let extra = isPlanted(.neverRedrawsTimeout) ? 0 : random.next(upperBound: options.electionTicks)
        electionTimeout = options.electionTicks + extra
    }

    var storageStalled: Bool {
        guard let oldest = writesInFlight.first else { return false }
        return tick - oldest.tick > options.electionTicks
    }

    // MARK: Writes

    /// The write that this step builds; a new one takes the next sequence.
    mutating func withWrite(_ body: (inout StorageWrite) -> Void) {
        var write = openWrite ?? StorageWrite(sequence: lastSequence + 1)
        lastSequence = write.sequence
        openWrite = nil
        body(&write)
        openWrite = write
    }

    mutating func setHardState(term: Term, vote: ServerID?) {
        precondition(term >= hardState.term, "a term never goes back")
        let state = HardState(term: term, vote: vote)
        guard state != hardState else { return }
        let isMixed = isPlanted(.mixesTermAndVote) && term > hardState.term
        let stored = isMixed ? HardState(term: term, vote: hardState.vote) : state
        hardState = state
        withWrite { write in
            if vote != nil || !isPlanted(.forgetsFollowersTerm) { write.hardState = stored }
        }
        hardStateSequence = lastSequence
    }

    /// Appends to the log and to the step's write.
    mutating func appendEntries(_ entries: some Sequence<Entry>) {
        let configurationIndex = log.configurationIndex
        withWrite { _ in }
        for entry in entries {
            log.append(EntryInfo(entry))
            openWrite!.append.append(entry)  // opened right above
        }
        if log.configurationIndex != configurationIndex { configurationChanged() }
    }

    mutating func closeWrite(into effects: inout Effects) {
        guard let write = openWrite else { return }
        openWrite = nil
        effects.writes.append(write)
        let last = write.append.last?.index ?? write.replaceLog?.position.index ?? 0
        writesInFlight.append(WriteInFlight(sequence: write.sequence, last: last, tick: tick))
    }

    /// Drops the log's end. What storage still writes of it will not become stable (R9).
    mutating func truncate(from index: LogIndex) {
        log.truncate(from: index)
        if !isPlanted(.rewrittenStaysStable) { stableIndex = min(stableIndex, index - 1) }
        for position in writesInFlight.indices where !isPlanted(.lateWriteRevivesTruncated) {
            writesInFlight[position].last = min(writesInFlight[position].last, index - 1)
        }
        withWrite { write in
            write.append.removeAll { $0.index >= index }
            write.truncateFrom = min(write.truncateFrom ?? index, index)
        }
        configurationChanged()
    }

    private mutating func handlePersisted(_ sequence: WriteSequence, into effects: inout Effects) {
        guard sequence > persistedSequence else { return }
        guard sequence <= lastSequence else {
            return halt("storage reports write \(sequence), which was never asked for")
        }
        persistedSequence = sequence
        while let write = writesInFlight.first, write.sequence <= sequence {
            stableIndex = max(stableIndex, write.last)
            writesInFlight.removeFirst()
        }
        if role == .candidate, votes[id] == nil, sequence >= ownVoteSequence {
            recordVote(from: id, granted: true, into: &effects)
        }
        if isLeader { advanceCommit(into: &effects) }
    }

    /// Sends `message` once everything asked of storage so far is durable.
    mutating func sendWhenDurable(_ message: Message, into effects: inout Effects) {
        send(message, after: lastSequence, into: &effects)
    }

    /// Sends `message` once the write `sequence` is durable, which may be now.
    mutating func send(_ message: Message, after sequence: WriteSequence, into effects: inout Effects) {
        if sequence <= persistedSequence {
            effects.messages.append(.message(message))
        } else {
            effects.deferred.append(DeferredMessage(after: sequence, message: message))
        }
    }

    func message(to peer: ServerID, term: Term? = nil, _ body: Message.Body) -> Message {
        Message(from: id, to: peer, term: term ?? self.term, body: body)
    }

    // MARK: Apply

    /// Gives out what is committed and durable here, but nothing while a snapshot is being installed (R40).
    private mutating func advanceApply(into effects: inout Effects) {
        let target = isPlanted(.appliesUndurable) ? commitIndex : min(commitIndex, stableIndex)
        guard restoring == nil || isPlanted(.appliesDuringRestore), target > applyingIndex else { return }
        applyingIndex = target
        effects.applyUpTo = target
    }

    private mutating func handleApplied(_ index: LogIndex, into effects: inout Effects) {
        guard index > appliedIndex else { return }
        guard index <= applyingIndex else {
            return halt("applied \(index), beyond what was given out (\(applyingIndex))")
        }
        appliedIndex = index
        reads.release(applied: index, into: &effects)
    }
}

extension SeededRandom {
    /// A number in `0..<upperBound`; the tiny bias does not matter for timeouts.
    mutating func next(upperBound: UInt64) -> UInt64 { next() % upperBound }
}
