internal import Raft

extension SmallWorld {
    /// One server: its core, its disk, and what is between them.
    struct Node: Hashable {
        var core: Core
        /// The log as every write asked for will make it.
        var memory: Disk
        /// What the disk says it holds.
        var disk: Disk
        /// Writes under way, oldest first, numbered from 1 on.
        var pending: [StorageWrite] = []
        var deferred: [DeferredMessage] = []

        /// What would be left after a power cut, and the writes that only seem to be durable: a lying disk alone has
        /// these.
        var platter: Disk?
        var unsynced: [StorageWrite] = []

        /// Requests of this life that have no outcome yet, and those of all lives that were rejected; one bit each.
        var openTokens: UInt64 = 0
        var rejectedTokens: UInt64 = 0
        /// Counts the lives where reads are asked for: what answers a read of an earlier life must not answer one of
        /// this.
        var life: UInt8 = 0
        /// The last vote that left this server, in any life.
        var promise = HardState()

        init(id: ServerID, disk: Disk, seed: UInt64, options: Raft.Options) {
            self.disk = disk
            self.memory = disk
            self.core = Self.start(id, disk, seed: seed, options)
        }

        /// What is truly durable.
        var durable: Disk { platter ?? disk }

        private static func start(_ id: ServerID, _ disk: Disk, seed: UInt64, _ options: Raft.Options) -> Core {
            var core = Core(
                id: id,
                options: options,
                seed: seed,
                hardState: disk.hardState,
                base: LogBase(),
                entries: disk.entries.map { EntryInfo($0) },
                applied: 0
            )
            _ = core.canonicalize()
            return core
        }

        /// Dies, and starts again from the disk. The first `surviving` of the writes under way have reached it.
        mutating func crash(surviving: Int, seed: UInt64, fault: Fault) throws(Broken) {
            var left = durable
            for write in (unsynced + pending).prefix(surviving) { try left.carryOut(write) }
            switch fault {
            case .forgottenVote: left.hardState.vote = nil
            case .lostEntry where left.entries.count > 1: left.entries.removeLast()
            default: break
            }
            disk = left
            if platter != nil { platter = left }
            memory = left
            pending = []
            unsynced = []
            deferred = []
            openTokens = 0
            core = Self.start(core.id, left, seed: seed, core.options)
        }
    }

    /// What one event does to one server.
    struct StepResult {
        var sent: [Message] = []
        var outcomes: [Outcome] = []
    }
}

extension SmallWorld.Node {
    typealias Broken = SmallWorld.Broken

    /// Feeds `events` to the core and does what it asks for: writes and deferred messages queue up, what is committed
    /// is applied at once, and writes beyond the bound are waited for.
    mutating func step(
        _ event: Event,
        within options: SmallWorld.Options,
        into result: inout SmallWorld.StepResult
    ) throws(Broken) {
        let (term, commit) = (core.term, core.commitIndex)
        try take(event, options, into: &result)
        while pending.count > options.writesUnderWay { try persist(options, into: &result) }
        if core.term < term { throw Broken("\(name)'s term goes back from \(term) to \(core.term)") }
        if core.commitIndex < commit {
            throw Broken("\(name)'s commit index goes back from \(commit) to \(core.commitIndex)")
        }
        renumber()
    }

    /// The oldest write becomes durable, or is said to.
    mutating func persist(_ options: SmallWorld.Options, into result: inout SmallWorld.StepResult) throws(Broken) {
        let write = pending.removeFirst()
        try disk.carryOut(write)
        if options.fault == .lyingDisk { unsynced.append(write) }
        try release(upTo: write.sequence, into: &result)
        try take(.persisted(upTo: write.sequence), options, into: &result)
    }

    mutating func renumber() {
        let durable = core.canonicalize()
        for position in pending.indices { pending[position].sequence -= durable }
        for position in deferred.indices { deferred[position].after -= durable }
        for position in unsynced.indices { unsynced[position].sequence = 0 }
    }

    private var name: String { "s\(core.id.rawValue)" }

    private mutating func take(
        _ event: Event,
        _ options: SmallWorld.Options,
        into result: inout SmallWorld.StepResult
    ) throws(Broken) {
        var next: Event? = event
        while let event = next {
            next = nil
            var effects = Effects()
            core.step(event, into: &effects)
            if let violation = effects.halt { throw Broken("\(name)'s core halts: \(violation)") }
            for write in effects.writes {
                try memory.carryOut(write)
                pending.append(write)
            }
            for outgoing in effects.messages { try send(message(of: outgoing), into: &result) }
            for message in effects.deferred {
                // What it waits for may have become durable within this very event.
                if options.fault == .impatientDriver || message.after <= durableSequence {
                    try send(message.message, into: &result)
                } else {
                    wait(message)
                }
            }
            for outcome in effects.outcomes { try note(outcome, into: &result) }
            if let target = effects.applyUpTo {
                guard target <= UInt64(disk.entries.count), disk.entry(at: target) == memory.entry(at: target) else {
                    throw Broken("\(name) is to apply \(target), which is not durable here")
                }
                next = .applied(upTo: target)
            }
        }
        if core.isLeader, disk.hardState != HardState(term: core.term, vote: core.id) {
            throw Broken("\(name) leads term \(core.term) before its own vote is durable (R2)")
        }
        guard memory.entries.count == Int(core.lastIndex), memory.hardState == core.hardState else {
            throw Broken("\(name)'s writes do not add up to its log, which ends at \(core.lastIndex)")
        }
    }

    /// Two copies of one message wait as one, and the order of waiting does not count: the network keeps none either.
    private mutating func wait(_ message: DeferredMessage) {
        guard !deferred.contains(where: { $0.message == message.message }) else { return }
        let text = SmallWorld.Transcript.describe(message.message)
        let position = deferred.firstIndex { other in
            (message.after, text) < (other.after, SmallWorld.Transcript.describe(other.message))
        }
        deferred.insert(message, at: position ?? deferred.count)
    }

    /// The last write that is durable, in the core's present numbers.
    private var durableSequence: WriteSequence {
        guard let oldest = pending.first else { return .max }
        return oldest.sequence - 1
    }

    private mutating func release(upTo sequence: WriteSequence, into result: inout SmallWorld.StepResult) throws(Broken)
    {
        let waiting = deferred
        deferred.removeAll { $0.after <= sequence }
        for message in waiting where message.after <= sequence { try send(message.message, into: &result) }
    }

    /// Fetches the entries of an append, as a driver does.
    private func message(of outgoing: Outgoing) throws(Broken) -> Message {
        switch outgoing {
        case .message(let message): return message
        case .append(let order):
            guard order.previous.index <= order.last, order.last <= UInt64(memory.entries.count),
                (memory.entry(at: order.previous.index)?.term ?? 0) == order.previous.term
            else { throw Broken("\(name) orders an append of entries it does not hold, behind \(order.previous)") }
            let append = Append(
                previous: order.previous,
                entries: Array(memory.entries[Int(order.previous.index)..<Int(order.last)]),
                commit: order.commit,
                session: order.session,
                round: order.round
            )
            return Message(from: core.id, to: order.to, term: order.term, body: .append(append))
        }
    }

    /// A message leaves: what it promises must be durable (R2), as far as the disk says.
    private mutating func send(_ message: Message, into result: inout SmallWorld.StepResult) throws(Broken) {
        var promised = message.term
        switch message.body {
        case .preVoteRequest: promised -= 1  // it speaks of a term that nobody is in yet
        case .preVoteResponse(granted: true): promised = 0
        case .voteRequest: try promise(HardState(term: message.term, vote: core.id), message)
        case .voteResponse(granted: true): try promise(HardState(term: message.term, vote: message.to), message)
        case .appendResponse(let response):
            if case .accepted(let match) = response.result, match > UInt64(disk.entries.count) {
                throw Broken("\(name) acknowledges \(match), but only \(disk.entries.count) entries are durable (R2)")
            }
        default: break
        }
        if disk.hardState.term < promised {
            throw Broken("\(name) speaks of term \(promised), but only \(disk.hardState.term) is durable (R2)")
        }
        result.sent.append(message.canonical)
    }

    private mutating func promise(_ vote: HardState, _ message: Message) throws(Broken) {
        if promise.term == vote.term, promise.vote != vote.vote {
            throw Broken(
                "\(name) votes for s\(promise.vote?.rawValue ?? 0) and s\(message.to.rawValue) in term \(vote.term)"
            )
        }
        if vote.term > promise.term { promise = vote }
        if disk.hardState.term <= vote.term, disk.hardState != vote {
            throw Broken("\(name)'s vote of term \(vote.term) leaves before it is durable (R2)")
        }
    }

    private mutating func note(_ outcome: Outcome, into result: inout SmallWorld.StepResult) throws(Broken) {
        let bit = UInt64(1) << outcome.token
        guard openTokens & bit != 0 else { throw Broken("\(name) gives an outcome that nobody waits for: \(outcome)") }
        openTokens &= ~bit
        if case .rejected = outcome { rejectedTokens |= bit }
        if case .readReady(_, let index) = outcome, core.appliedIndex < index {
            throw Broken("\(name) lets a read go at \(index), but has applied \(core.appliedIndex) only (R33)")
        }
        result.outcomes.append(outcome)
    }
}
