internal import DequeModule

/// What a leader knows of one follower.
struct Progress: Hashable, Sendable {
    enum State: Hashable, Sendable {
        /// Where the logs agree is not known: one append at a time. `isWaiting` until an answer or a heartbeat's answer comes.
        case probe(isWaiting: Bool)
        /// Appends are pipelined within the window.
        case replicate
        /// A snapshot is on its way.
        case snapshot
    }

    struct InFlight: Hashable, Sendable {
        var last: LogIndex
        var bytes: Int
    }

    let id: ServerID
    /// Names these dealings; answers to another session are ignored (R28).
    let session: UInt64
    private(set) var match: LogIndex = 0
    private(set) var next: LogIndex
    private(set) var state: State = .probe(isWaiting: false)
    private(set) var inFlight: Deque<InFlight> = []
    private(set) var inFlightBytes = 0
    /// When the last probe was sent, in ticks.
    var probeTick: UInt64 = 0
    /// Counts how often the window was cleared.
    var beginning: UInt64 = 0
    /// The newest read round that this follower confirmed.
    var confirmedRound: UInt64 = 0
    /// The commit index it was last told.
    var sentCommit: LogIndex = 0
    /// When it last answered successfully in this term, in ticks (R18).
    var contactTick: UInt64
    /// When an append was last acknowledged, the window was last empty or last probed, in ticks.
    var ackTick: UInt64
    /// It left the configuration and is only told so; it counts for nothing. The tick at which that ends anyway.
    var departsAtTick: UInt64?

    init(id: ServerID, session: UInt64, next: LogIndex, tick: UInt64) {
        self.id = id
        self.session = session
        self.next = next
        self.contactTick = tick
        self.ackTick = tick
    }

    /// Whether nothing more may be under way to it.
    func isFull(_ options: Options) -> Bool {
        inFlight.count >= options.maxInFlightMessages || inFlightBytes >= options.maxInFlightBytes
    }

    /// Notes that an append with entries up to `last` was sent.
    mutating func sent(upTo last: LogIndex, bytes: Int, tick: UInt64) {
        switch state {
        case .replicate:
            if inFlight.isEmpty { ackTick = tick }
            inFlight.append(InFlight(last: last, bytes: bytes))
            inFlightBytes += bytes
            next = last + 1
        case .probe:
            state = .probe(isWaiting: true)
            probeTick = tick
        case .snapshot: preconditionFailure("nothing is appended while a snapshot is under way")
        }
    }

    /// The follower holds everything up to `index`. Answers whether that was news.
    mutating func acknowledge(_ index: LogIndex, tick: UInt64) -> Bool {
        ackTick = tick
        while let first = inFlight.first, first.last <= index {
            inFlightBytes -= first.bytes
            inFlight.removeFirst()
        }
        let isNews = index > match
        match = max(match, index)
        next = max(next, match + 1)
        return isNews
    }

    mutating func becomeReplicate() {
        guard state != .replicate else { return }
        state = .replicate
        next = match + 1
        clearWindow()
    }

    /// Looks for the place of agreement from `next` on; never at or below `match` (R26).
    mutating func becomeProbe(next: LogIndex, isWaiting: Bool = false) {
        state = .probe(isWaiting: isWaiting)
        self.next = isPlanted(.probesBelowMatch) ? next : max(match + 1, next)
        clearWindow()
    }

    mutating func becomeSnapshot() {
        state = .snapshot
        clearWindow()
    }

    /// A sign of life: a probe that was not answered for `pause` ticks may have been lost, and is sent again. Reads bring many signs
    /// of life, which must not make many probes.
    mutating func resumeProbe(tick: UInt64, pause: UInt64) {
        if case .probe(isWaiting: true) = state, tick - probeTick >= pause { state = .probe(isWaiting: false) }
    }

    private mutating func clearWindow() {
        beginning &+= 1
        inFlight.removeAll()
        inFlightBytes = 0
    }
}
