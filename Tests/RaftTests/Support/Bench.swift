@testable import Raft

/// The identity of server `number`.
func server(_ number: Int) -> ServerID { ServerID(UInt64(number)) }

/// The configuration of numbered servers.
func configuration(_ voters: [Int], learners: [Int] = []) -> Configuration {
    Configuration(voters: voters.map { TestCluster.member($0) }, learners: learners.map { TestCluster.member($0) })
}

func position(_ index: LogIndex, _ term: Term) -> LogPosition { LogPosition(index: index, term: term) }

func command(_ index: LogIndex, _ term: Term, bytes: Int = 4) -> Entry {
    Entry(
        index: index,
        term: term,
        payload: .command([UInt8](repeating: UInt8(truncatingIfNeeded: index), count: bytes))
    )
}

/// One core on the bench: server 1 unless said otherwise, everything it hears is made by hand.
///
/// Its log begins with the configuration at 1@1; `terms` are those of the commands behind it.
struct Bench {
    var core: Core

    init(
        _ number: Int = 1,
        _ initial: Configuration = configuration([1, 2, 3]),
        term: Term = 1,
        vote: Int? = nil,
        terms: [Term] = [],
        applied: LogIndex = 1,
        options: Options = Options(),
        seed: UInt64 = 7
    ) {
        switchOnPlantedBug()
        var entries = [EntryInfo(Entry(index: 1, term: 1, payload: .configuration(initial)))]
        for (offset, term) in terms.enumerated() { entries.append(EntryInfo(command(UInt64(offset) + 2, term))) }
        core = Core(
            id: server(number),
            options: options,
            seed: seed,
            hardState: HardState(term: term, vote: vote.map { server($0) }),
            base: LogBase(),
            entries: entries,
            applied: applied
        )
    }

    @discardableResult
    mutating func step(_ events: Event...) -> Effects {
        var effects = Effects()
        core.step(events, into: &effects)
        return effects
    }

    /// A message of server `from`; of the core's own term unless said otherwise.
    @discardableResult
    mutating func receive(_ from: Int, term: Term? = nil, _ body: Message.Body) -> Effects {
        step(.message(Message(from: server(from), to: core.id, term: term ?? core.term, body: body)))
    }

    @discardableResult
    mutating func tick(_ count: UInt64 = 1) -> Effects {
        var effects = Effects()
        for _ in 0..<count { core.step(.tick, into: &effects) }
        return effects
    }

    /// A tick, behind which these servers answer a heartbeat.
    @discardableResult
    mutating func tick(hearing others: Int...) -> Effects {
        let effects = tick()
        for other in others { answerHeartbeat(other) }
        return effects
    }

    @discardableResult
    mutating func persist() -> Effects {
        core.persistedSequence < core.lastSequence ? step(.persisted(upTo: core.lastSequence)) : Effects()
    }

    @discardableResult
    mutating func apply() -> Effects {
        core.appliedIndex < core.applyingIndex ? step(.applied(upTo: core.applyingIndex)) : Effects()
    }

    // MARK: As a follower

    @discardableResult
    mutating func append(
        from leader: Int = 2,
        term: Term? = nil,
        behind previous: LogPosition,
        _ entries: [Entry] = [],
        commit: LogIndex = 0,
        session: UInt64 = 99,
        round: UInt64 = 0
    ) -> Effects {
        let append = Append(previous: previous, entries: entries, commit: commit, session: session, round: round)
        return receive(leader, term: term, .append(append))
    }

    @discardableResult
    mutating func heartbeat(from leader: Int = 2, term: Term? = nil, commit: LogIndex = 0, round: UInt64 = 0) -> Effects
    {
        receive(leader, term: term, .heartbeat(Heartbeat(commit: commit, session: 99, round: round)))
    }

    // MARK: As a leader

    var others: [Int] {
        core.configuration.members.filter { core.configuration.isVoter($0.id) && $0.id != core.id }.map {
            Int($0.id.rawValue)
        }
    }

    mutating func becomePreCandidate() {
        for _ in 0..<1000 where core.role == .follower { tick() }
    }

    mutating func becomeCandidate() {
        becomePreCandidate()
        for other in others where core.role == .preCandidate {
            receive(other, term: core.term + 1, .preVoteResponse(granted: true))
        }
    }

    /// Wins an election; `committed` says whether the others acknowledge its first entry too.
    mutating func lead(committed: Bool = true) {
        becomeCandidate()
        persist()
        for other in others where !core.isLeader { receive(other, .voteResponse(granted: true)) }
        guard committed else { return }
        persist()
        for other in others { acknowledge(other) }
        apply()
    }

    /// Server `number` says that it holds everything up to `match` (all of the log, if not said otherwise).
    @discardableResult
    mutating func acknowledge(
        _ number: Int,
        _ match: LogIndex? = nil,
        round: UInt64? = nil,
        session: UInt64? = nil
    ) -> Effects {
        let progress = core.progress(server(number))
        let response = AppendResponse(
            result: .accepted(match: match ?? core.lastIndex),
            session: session ?? progress?.session ?? 0,
            round: round ?? 0
        )
        return receive(number, .appendResponse(response))
    }

    @discardableResult
    mutating func answerHeartbeat(_ number: Int, round: UInt64? = nil) -> Effects {
        let response = HeartbeatResponse(
            session: core.progress(server(number))?.session ?? 0,
            round: round ?? core.reads.round
        )
        return receive(number, .heartbeatResponse(response))
    }

    @discardableResult
    mutating func reject(_ number: Int, at rejected: LogIndex, hint: LogPosition) -> Effects {
        let response = AppendResponse(
            result: .rejected(rejected: rejected, hint: hint),
            session: core.progress(server(number))?.session ?? 0,
            round: 0
        )
        return receive(number, .appendResponse(response))
    }

    /// Changes the membership and has both of its entries committed by `committedBy` (all voters of both, if not said otherwise).
    @discardableResult
    mutating func change(_ token: Token, to target: Configuration, committedBy: [Int]? = nil) -> Effects {
        var effects = Effects()
        core.step(.changeMembership(token, to: target), into: &effects)
        for _ in 0..<2 {
            let voters = committedBy ?? others
            effects.outcomes += persist().outcomes
            for voter in voters where core.isLeader { effects.outcomes += acknowledge(voter).outcomes }
        }
        apply()
        return effects
    }

    @discardableResult
    mutating func propose(_ token: Token, bytes: Int = 4) -> Effects {
        step(.propose([Proposal(token: token, command: [UInt8](repeating: 1, count: bytes))]))
    }
}

extension Effects {
    /// The messages to be sent at once, appends aside.
    var sent: [Message] {
        messages.compactMap {
            if case .message(let message) = $0 { return message }
            return nil
        }
    }

    var orders: [AppendOrder] {
        messages.compactMap {
            if case .append(let order) = $0 { return order }
            return nil
        }
    }

    func orders(to number: Int) -> [AppendOrder] { orders.filter { $0.to == server(number) } }

    /// Everything that goes to `number`, at once or later.
    func bodies(to number: Int) -> [Message.Body] {
        (sent + deferred.map(\.message)).filter { $0.to == server(number) }.map(\.body)
    }

    func heartbeats(to number: Int) -> [Heartbeat] {
        bodies(to: number).compactMap {
            if case .heartbeat(let heartbeat) = $0 { return heartbeat }
            return nil
        }
    }

    /// Answers to appends, sent at once.
    var appendResults: [AppendResponse.Result] {
        sent.compactMap {
            if case .appendResponse(let response) = $0.body { return response.result }
            return nil
        }
    }

    var deferredAppendResults: [AppendResponse.Result] {
        deferred.compactMap {
            if case .appendResponse(let response) = $0.message.body { return response.result }
            return nil
        }
    }
}
