@testable import Raft

/// What must hold in every world, kept apart from the code it checks: it reads disks, logs and messages, and remembers.
struct Invariants {
    private struct Known {
        var entry: Entry
        var previousTerm: Term
    }

    private struct Seen {
        var life = 0
        var term: Term = 0
        var commit: LogIndex = 0
        var applied: LogIndex = 0
        var isLeader = false
    }

    private struct Ballot: Hashable {
        var voter: ServerID
        var term: Term
    }

    /// Every entry that ever stood in a log. The same position holds the same entry behind the same term everywhere: log matching.
    private var known: [LogPosition: Known] = [:]
    private var leaders: [Term: ServerID] = [:]
    private var ballots: [Ballot: ServerID] = [:]
    private var seen: [ServerID: Seen] = [:]
    /// What is committed, by index from 1 on.
    private(set) var committed: [Entry] = []
    /// The term whose leader committed each of them.
    private var committedIn: [Term] = []

    var highestCommit: LogIndex { LogIndex(committed.count) }

    mutating func bootstrap(_ entry: Entry) {
        known[entry.position] = Known(entry: entry, previousTerm: 0)
    }

    // MARK: Writes

    mutating func check(write: StorageWrite, to log: StoredLog, by server: TestServer) throws {
        var previous = log.last
        if let base = write.replaceLog { previous = base.position }
        if let first = write.truncateFrom {
            let commit = seen[server.id].map { $0.life == server.life ? $0.commit : 0 } ?? 0
            try demand(first > commit, "\(server.id) truncates from \(first), commit \(commit) (R24)")
        }
        if let first = write.append.first {
            guard let term = first.index == previous.index + 1 ? previous.term : log.term(at: first.index - 1) else {
                throw Broken("\(server.id) appends \(first.position) behind a gap (R25)")
            }
            previous = LogPosition(index: first.index - 1, term: term)
        }
        for entry in write.append {
            if let other = known[entry.position] {
                try demand(
                    other.entry == entry && other.previousTerm == previous.term,
                    "two entries at \(entry.position): log matching is broken"
                )
            } else {
                known[entry.position] = Known(entry: entry, previousTerm: previous.term)
            }
            previous = entry.position
        }
    }

    // MARK: Messages

    /// R2: at the moment a message leaves, the disk holds what it promises.
    mutating func check(sent message: Message, by server: TestServer) throws {
        let stored = server.disk.log.hardState
        var term = message.term
        switch message.body {
        case .preVoteRequest: term -= 1
        case .preVoteResponse(granted: true): return
        case .voteRequest:
            try demand(
                stored.term > term || stored.vote == server.id,
                "\(server.id) asks for votes before its own is durable (R2)"
            )
        case .voteResponse(granted: true):
            try demand(
                stored.term > term || stored.vote == message.to,
                "\(server.id) grants a vote that is not durable (R2)"
            )
            let ballot = Ballot(voter: server.id, term: term)
            try demand(ballots[ballot] ?? message.to == message.to, "\(server.id) votes twice in term \(term)")
            ballots[ballot] = message.to
        case .appendResponse(let response):
            guard case .accepted(let match) = response.result, server.core?.term == term else { break }
            try demand(
                server.disk.log.lastIndex >= match,
                "\(server.id) acknowledges \(match), its disk ends at \(server.disk.log.last) (R2)"
            )
        default: break
        }
        try demand(
            stored.term >= term,
            "\(server.id) sends a message of term \(term), its disk holds \(stored.term) (R2)"
        )
    }

    // MARK: State

    mutating func check(_ server: TestServer, in servers: [TestServer]) throws {
        guard let core = server.core else { return }
        var last = seen[server.id] ?? Seen()
        if last.life != server.life {
            last = Seen(life: server.life)
            try demand(core.term >= server.disk.log.hardState.term, "\(server.id) starts in a term before its disk's")
        }
        try demand(core.term >= last.term, "the term of \(server.id) goes back")
        try demand(core.commitIndex >= last.commit, "the commit index of \(server.id) goes back")
        try demand(core.appliedIndex >= last.applied, "the applied index of \(server.id) goes back")
        try demand(core.appliedIndex <= core.commitIndex, "\(server.id) applied beyond its commit index")
        try demand(core.commitIndex <= core.lastIndex, "\(server.id) committed beyond its log")
        if core.restoring == nil {
            try demand(
                core.base.position.index <= core.appliedIndex,
                "\(server.id) trimmed beyond what it applied (R8)"
            )
        }
        try checkLog(core, server)
        try checkLeader(core, server)
        try checkCommit(since: last, core, server, in: servers)
        last.term = core.term
        last.commit = core.commitIndex
        last.applied = core.appliedIndex
        last.isLeader = core.isLeader
        seen[server.id] = last
    }

    private func checkLog(_ core: Core, _ server: TestServer) throws {
        try demand(core.log.last == server.memory.last, "the log of \(server.id) ends elsewhere than its writes")
        try demand(core.base == server.memory.base, "the log of \(server.id) begins elsewhere than its writes")
        try demand(core.term >= core.log.last.term, "the term of \(server.id) is before its last entry's (R3)")
        try demand(core.hardState == server.memory.hardState, "\(server.id) changed its hard state without a write")
        let stable = core.stableIndex
        if stable > core.base.position.index {
            try demand(
                server.disk.log.term(at: stable) == core.term(at: stable),
                "\(server.id) takes \(stable) for stable, its disk does not (R9)"
            )
        }
        for peer in core.peers {
            try demand(peer.match < peer.next, "match \(peer.match) is not below next \(peer.next) (R26)")
            try demand(peer.match <= core.lastIndex, "match \(peer.match) is beyond the leader's log")
        }
    }

    private mutating func checkLeader(_ core: Core, _ server: TestServer) throws {
        guard core.isLeader, leaders[core.term] != server.id else { return }
        try demand(leaders[core.term] == nil, "term \(core.term) has two leaders: \(server.id), \(leaders[core.term]!)")
        leaders[core.term] = server.id
        // Leader completeness: every entry committed in an earlier term stands in its log.
        for (entry, term) in zip(committed, committedIn)
        where term < core.term && entry.index > core.base.position.index {
            try demand(
                core.term(at: entry.index) == entry.term,
                "leader \(server.id) lacks committed \(entry.position)"
            )
        }
        let base = core.base.position
        try demand(base.index <= highestCommit, "leader \(server.id) begins its log beyond what is committed")
    }

    private mutating func checkCommit(
        since last: Seen,
        _ core: Core,
        _ server: TestServer,
        in servers: [TestServer]
    ) throws {
        let old = last.commit
        guard core.commitIndex > old else { return }
        let known = highestCommit
        if core.commitIndex > known {
            // A leader may commit and stand down in one step.
            try demand(last.isLeader, "\(server.id) commits \(core.commitIndex) before any leader did")
            let position = LogPosition(index: core.commitIndex, term: last.term)
            try demand(
                core.term(at: position.index) == position.term,
                "an entry of an old term is committed by counting (R21)"
            )
            if core.term == last.term { try checkDurableOnQuorum(position, core.configuration, servers) }
        }
        for index in (old + 1)...core.commitIndex {
            guard let entry = server.memory.entry(at: index) else { continue }  // below an installed snapshot
            if index <= highestCommit {
                try demand(committed[Int(index) - 1] == entry, "\(server.id) commits another entry at \(index)")
            } else {
                committed.append(entry)
                committedIn.append(last.term)
            }
        }
        let base = core.base.position
        if base.index > old {
            try demand(committed[Int(base.index) - 1].term == base.term, "\(server.id) installed a foreign \(base)")
        }
    }

    private func checkDurableOnQuorum(
        _ position: LogPosition,
        _ configuration: Configuration,
        _ servers: [TestServer]
    ) throws {
        func holds(_ id: ServerID) -> Bool {
            guard let log = servers.first(where: { $0.id == id })?.disk.log else { return false }
            return log.base.position.index >= position.index || log.term(at: position.index) == position.term
        }
        for half in [configuration.voters, configuration.outgoing] where !half.isEmpty {
            let count = half.count { holds($0) }
            try demand(2 * count > half.count, "\(position) is committed, but durable only on \(count) of \(half)")
        }
    }

    /// The state machine applies `entry`: everybody applies the same one at the same place.
    func check(applied entry: Entry, by server: TestServer) throws {
        try demand(entry.index <= highestCommit, "\(server.id) applies \(entry.position), which is not committed")
        try demand(committed[Int(entry.index) - 1] == entry, "\(server.id) applies a foreign \(entry.position)")
    }

    /// The configuration in force at a committed index, as the committed entries tell it.
    func configuration(at index: LogIndex) -> Configuration {
        for entry in committed.prefix(Int(index)).reversed() {
            if case .configuration(let configuration) = entry.payload { return configuration }
        }
        return .empty
    }

    func check(base: LogBase, of server: TestServer) throws {
        try demand(base.position.index <= highestCommit, "\(server.id) has a snapshot of what is not committed")
        try demand(
            base.configuration == configuration(at: base.position.index),
            "\(server.id) has a snapshot at \(base.position) with a configuration that was not in force there"
        )
    }
}
