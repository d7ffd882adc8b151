import Simulation

@testable import Raft

/// What must hold in every scenario, whatever its text expects: it reads disks, logs and messages, and remembers.
struct SafetyCheck {
    private struct Known {
        var entry: Entry
        var previousTerm: Term
    }

    private struct Seen {
        var life: UInt64 = 0
        var term: Term = 0
        var commit: LogIndex = 0
    }

    private struct Ballot: Hashable {
        var voter: ServerID
        var term: Term
    }

    private struct Committed {
        var entry: Entry
        /// The term of the server that first said so.
        var inTerm: Term
    }

    /// Every entry that ever stood in a log: the same position holds the same entry behind the same term everywhere.
    private var known: [LogPosition: Known] = [:]
    private var leaders: [Term: Int] = [:]
    private var ballots: [Ballot: ServerID] = [:]
    private var seen: [Int: Seen] = [:]
    private var committed: [LogIndex: Committed] = [:]

    mutating func note(_ entries: [Entry], behind previous: LogPosition) throws {
        var previous = previous
        for entry in entries {
            if let other = known[entry.position] {
                try demand(
                    other.entry == entry && other.previousTerm == previous.term,
                    "two different entries at \(entry.term).\(entry.index): log matching is broken"
                )
            }
            known[entry.position] = Known(entry: entry, previousTerm: previous.term)
            previous = entry.position
        }
    }

    mutating func check(write: StorageWrite, of server: Server) throws {
        guard let first = write.append.first else { return }
        let term = server.memory.term(at: first.index - 1) ?? 0
        try note(write.append, behind: LogPosition(index: first.index - 1, term: term))
    }

    /// R2: at the moment a message leaves, the disk holds what it promises.
    mutating func check(sent message: Message, by server: Server) throws {
        let stored = server.disk.log.hardState
        switch message.body {
        case .preVoteRequest, .preVoteResponse: return
        case .voteResponse(granted: true):
            try demand(
                stored.term > message.term || stored.vote == message.to,
                "\(server.number) grants a vote that is not durable (R2)"
            )
            let ballot = Ballot(voter: server.id, term: message.term)
            try demand(ballots[ballot] ?? message.to == message.to, "\(server.number) votes twice")
            ballots[ballot] = message.to
        case .appendResponse(let response):
            guard case .accepted(let match) = response.result, server.core?.term == message.term else { break }
            try demand(server.disk.log.lastIndex >= match, "\(server.number) acknowledges what is not durable (R2)")
        default: break
        }
        try demand(stored.term >= message.term, "\(server.number) speaks of a term that is not durable (R2)")
    }

    mutating func check(_ server: Server) throws {
        guard let core = server.core else { return }
        var last = seen[server.number] ?? Seen()
        if last.life != server.life {
            last = Seen(life: server.life, term: last.life == 0 ? 0 : server.disk.log.hardState.term)
        }
        try demand(core.term >= last.term, "the term of \(server.number) goes back")
        try demand(core.commitIndex >= last.commit, "the commit index of \(server.number) goes back")
        try demand(core.commitIndex <= core.lastIndex, "\(server.number) commits beyond its log")
        try demand(core.log.last == server.memory.last, "the log of \(server.number) is not what it wrote")
        try demand(core.hardState == server.memory.hardState, "the hard state of \(server.number) is not what it wrote")
        try checkCommit(from: last.commit, server, core)
        if core.isLeader { try checkLeader(server, core) }
        seen[server.number] = Seen(life: server.life, term: core.term, commit: core.commitIndex)
    }

    private mutating func checkCommit(from old: LogIndex, _ server: Server, _ core: Core) throws {
        guard core.commitIndex > old else { return }
        for index in (old + 1)...core.commitIndex {
            guard let entry = server.memory.entry(at: index) else { continue }  // below a snapshot
            if let other = committed[index] {
                try demand(other.entry == entry, "\(server.number) commits another entry at \(index) than others did")
            } else {
                committed[index] = Committed(entry: entry, inTerm: core.term)
            }
        }
    }

    private mutating func checkLeader(_ server: Server, _ core: Core) throws {
        guard leaders[core.term] != server.number else { return }
        try demand(leaders[core.term] == nil, "term \(core.term) has two leaders")
        leaders[core.term] = server.number
        for (index, item) in committed where item.inTerm < core.term && index > core.base.position.index {
            try demand(core.term(at: index) == item.entry.term, "leader \(server.number) lacks the committed \(index)")
        }
    }
}
