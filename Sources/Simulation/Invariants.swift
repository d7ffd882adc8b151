package import Raft

/// What an invariant may look at of a server.
package protocol ObservedServer: AnyObject {
    var id: ServerID { get }
    /// Counts the starts.
    var life: Int { get }
    /// nil while the server is down.
    var core: Core? { get }
    /// What a power cut now would leave.
    var durableLog: StoredLog { get }
    /// What every write asked for so far will make of it.
    var writtenLog: StoredLog { get }
}

/// What must hold in every world, kept apart from the code it checks: it reads disks, logs and messages, and remembers.
package struct Invariants: Sendable {
    private struct Known: Sendable {
        var entry: Entry
        var previousTerm: Term
    }

    private struct Seen: Sendable {
        var life = 0
        var term: Term = 0
        var commit: LogIndex = 0
        var applied: LogIndex = 0
        var isLeader = false
        var configurationIndex: LogIndex = 0
    }

    private struct Ballot: Hashable, Sendable {
        var voter: ServerID
        var term: Term
    }

    // Dictionaries that are only looked into, never iterated: their order differs between processes.
    /// Every entry that ever stood in a log. The same position holds the same entry behind the same term everywhere: log matching.
    private var known: [LogPosition: Known] = [:]
    private var leaders: [Term: ServerID] = [:]
    /// Where the log of the leader of a term ended last.
    private var leaderEnds: [Term: LogIndex] = [:]
    private var ballots: [Ballot: ServerID] = [:]
    private var seen: [ServerID: Seen] = [:]
    /// What is committed, by index from 1 on.
    package private(set) var committed: [Entry] = []
    /// The term whose leader committed each of them.
    private var committedIn: [Term] = []
    /// Every configuration that a log was asked to hold, with its position; those before the last committed one are dropped.
    package private(set) var configurations: [(position: LogPosition, configuration: Configuration)] = []
    /// Where configurations are committed.
    private var committedConfigurations: [LogIndex] = []

    package init() {}

    package var highestCommit: LogIndex { LogIndex(committed.count) }

    /// Makes an entry known that stands in logs from the beginning.
    package mutating func bootstrap(_ entry: Entry) {
        known[entry.position] = Known(entry: entry, previousTerm: 0)
        note(entry)
    }

    /// The configuration that the cluster begins with, where no entry holds it.
    package mutating func bootstrap(_ configuration: Configuration) { configurations = [(.zero, configuration)] }

    // MARK: Writes

    /// A server asks its storage for `write`; `log` is what the writes before it make of the log.
    package mutating func check(
        write: StorageWrite,
        to log: StoredLog,
        by server: some ObservedServer
    ) throws(Broken) {
        var previous = log.last
        if let base = write.replaceLog {
            previous = base.position
            try demand(
                log.term(at: base.position.index) != base.position.term,
                "server \(server.id.rawValue) drops its log for a snapshot at \(base.position), which it holds (R38)"
            )
        }
        if let first = write.truncateFrom {
            // Entries go only where those of a later leader take their place, at once; a step of several messages may add some before them.
            try demand(
                write.append.first.map { $0.index <= first } ?? false
                    && write.append[write.append.count - 1].index >= first,
                "server \(server.id.rawValue) truncates from \(first), and nothing takes the place (R4, R20)"
            )
            let commit = seen[server.id].map { $0.life == server.life ? $0.commit : 0 } ?? 0
            try demand(first > commit, "server \(server.id.rawValue) truncates from \(first), commit \(commit) (R24)")
        }
        if let first = write.append.first {
            guard let term = first.index == previous.index + 1 ? previous.term : log.term(at: first.index - 1) else {
                throw Broken("server \(server.id.rawValue) appends \(first.position) behind a gap (R25)")
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
                note(entry)
            }
            previous = entry.position
        }
    }

    private mutating func note(_ entry: Entry) {
        if case .configuration(let configuration) = entry.payload {
            configurations.append((entry.position, configuration))
        }
    }

    // MARK: Messages

    /// R2: at the moment a message leaves, the disk holds what it promises.
    package mutating func check(sent message: Message, by server: some ObservedServer) throws(Broken) {
        let stored = server.durableLog.hardState
        var term = message.term
        switch message.body {
        case .preVoteRequest: term -= 1
        case .preVoteResponse(granted: true): return
        case .voteRequest:
            try demand(
                stored.term > term || stored.vote == server.id,
                "server \(server.id.rawValue) asks for votes before its own is durable (R2)"
            )
        case .voteResponse(granted: true):
            try demand(
                stored.term > term || stored.vote == message.to,
                "server \(server.id.rawValue) grants a vote that is not durable (R2)"
            )
            let ballot = Ballot(voter: server.id, term: term)
            try demand(
                ballots[ballot] ?? message.to == message.to,
                "server \(server.id.rawValue) votes twice in term \(term)"
            )
            ballots[ballot] = message.to
        case .appendResponse(let response):
            guard case .accepted(let match) = response.result, server.core?.term == term else { break }
            try demand(
                server.durableLog.lastIndex >= match,
                "server \(server.id.rawValue) acknowledges \(match), its disk ends at \(server.durableLog.last) (R2)"
            )
        default: break
        }
        try demand(
            stored.term >= term,
            "server \(server.id.rawValue) sends a message of term \(term), its disk holds \(stored.term) (R2)"
        )
    }

    // MARK: State

    /// `server` has just taken a step.
    package mutating func check<Server: ObservedServer>(_ server: Server, in servers: [Server]) throws(Broken) {
        guard let core = server.core else { return }
        var last = seen[server.id] ?? Seen()
        if last.life != server.life {
            last = Seen(life: server.life)
            try demand(
                core.term >= server.durableLog.hardState.term,
                "server \(server.id.rawValue) starts in a term before its disk's"
            )
        }
        try demand(core.term >= last.term, "the term of server \(server.id.rawValue) goes back")
        try demand(core.commitIndex >= last.commit, "the commit index of server \(server.id.rawValue) goes back")
        try demand(core.appliedIndex >= last.applied, "the applied index of server \(server.id.rawValue) goes back")
        try demand(
            core.appliedIndex <= core.commitIndex,
            "server \(server.id.rawValue) applied beyond its commit index"
        )
        try demand(core.commitIndex <= core.lastIndex, "server \(server.id.rawValue) committed beyond its log")
        if !core.isRestoring {
            try demand(
                core.firstIndex <= core.appliedIndex + 1,
                "server \(server.id.rawValue) trimmed beyond what it applied (R8)"
            )
        }
        try checkLog(core, server)
        try checkLeader(core, server)
        try checkHeard(core, server, since: last)
        try checkCommit(since: last, core, server, in: servers)
        last.term = core.term
        last.commit = core.commitIndex
        last.applied = core.appliedIndex
        last.isLeader = core.isLeader
        last.configurationIndex = core.configurationIndex
        seen[server.id] = last
    }

    private func checkLog(_ core: Core, _ server: some ObservedServer) throws(Broken) {
        let written = server.writtenLog
        try demand(core.last == written.last, "the log of server \(server.id.rawValue) ends elsewhere than its writes")
        try demand(
            core.firstIndex == written.base.position.index + 1,
            "the log of server \(server.id.rawValue) begins elsewhere"
        )
        try demand(
            core.term >= core.last.term,
            "the term of server \(server.id.rawValue) is before its last entry's (R3)"
        )
        try demand(
            core.hardState == written.hardState,
            "server \(server.id.rawValue) changed its hard state without a write"
        )
        let stable = core.stableIndex
        if stable >= core.firstIndex {
            try demand(
                server.durableLog.term(at: stable) == core.term(at: stable),
                "server \(server.id.rawValue) takes \(stable) for stable, its disk does not (R9)"
            )
        }
        if core.configurationIndex >= core.firstIndex {
            guard case .configuration(core.configuration)? = written.entry(at: core.configurationIndex)?.payload else {
                throw Broken("server \(server.id.rawValue) goes by a configuration that its log does not hold (R10)")
            }
        }
        guard core.isLeader else { return }
        try demand(
            core.configuration.isVoter(core.id) || core.configurationIndex > core.commitIndex,
            "server \(server.id.rawValue) leads, and its removal is committed (R43)"
        )
        for peer in core.replication {
            try demand(peer.match < peer.next, "match \(peer.match) is not below next \(peer.next) (R26)")
            try demand(peer.match <= core.lastIndex, "match \(peer.match) is beyond the leader's log")
        }
    }

    private mutating func checkLeader(_ core: Core, _ server: some ObservedServer) throws(Broken) {
        guard core.isLeader, leaders[core.term] != server.id else { return }
        if let other = leaders[core.term] {
            throw Broken("term \(core.term) has two leaders: \(server.id.rawValue) and \(other.rawValue)")
        }
        leaders[core.term] = server.id
        // Leader completeness: every entry committed in an earlier term stands in its log.
        let base = core.base.position
        for position in committed.indices
        where committedIn[position] < core.term && committed[position].index > base.index {
            let entry = committed[position]
            try demand(
                core.term(at: entry.index) == entry.term,
                "leader server \(server.id.rawValue) of term \(core.term) lacks committed \(entry.position) (leader completeness)"
            )
        }
        try demand(
            base.index <= highestCommit,
            "leader server \(server.id.rawValue) begins its log beyond what is committed"
        )
    }

    /// What a follower heard of its leader's log was so.
    private mutating func checkHeard(_ core: Core, _ server: some ObservedServer, since last: Seen) throws(Broken) {
        // A leader may append, say so and stand down in one step.
        for term in (last.isLeader ? [last.term] : []) + (core.isLeader ? [core.term] : []) {
            leaderEnds[term] = max(leaderEnds[term] ?? 0, core.lastIndex)
        }
        guard !core.isLeader, let heard = core.leaderLog, let end = leaderEnds[core.term] else { return }
        try demand(
            heard.last <= end && heard.commit <= min(heard.last, highestCommit),
            "server \(server.id.rawValue) heard of \(heard.last), \(heard.commit) of them committed, which its leader does not have"
        )
    }

    private mutating func checkCommit<Server: ObservedServer>(
        since last: Seen,
        _ core: Core,
        _ server: Server,
        in servers: [Server]
    ) throws(Broken) {
        let old = last.commit
        guard core.commitIndex > old else { return }
        if core.commitIndex > highestCommit {
            // A leader may commit and stand down in one step.
            try demand(
                last.isLeader,
                "server \(server.id.rawValue) commits \(core.commitIndex) before any leader did (R22)"
            )
            let position = LogPosition(index: core.commitIndex, term: last.term)
            try demand(
                core.term(at: position.index) == position.term,
                "an entry of an old term is committed by counting (R21)"
            )
            if core.term == last.term {
                // A step may commit, append a configuration that is in force from then on, and commit again.
                let before = max(last.configurationIndex, core.base.position.index)
                let isDurable =
                    isDurable(position, on: core.configuration, servers)
                    || core.configurationIndex != before
                        && isDurable(position, on: core.configuration(at: before), servers)
                try demand(isDurable, "\(position) is committed, but not durable on a quorum (R2)")
            }
        }
        let written = server.writtenLog
        for index in (old + 1)...core.commitIndex {
            guard let entry = written.entry(at: index) else { continue }  // below an installed snapshot
            if index <= highestCommit {
                try demand(
                    committed[Int(index) - 1] == entry,
                    "server \(server.id.rawValue) commits another entry at \(index)"
                )
            } else {
                committed.append(entry)
                committedIn.append(last.term)
                if case .configuration = entry.payload { commitConfiguration(at: entry.position) }
            }
        }
        let base = core.base.position
        if base.index > old, base.index > 0 {
            try demand(
                base.index <= highestCommit,
                "server \(server.id.rawValue) installed \(base), which is not committed"
            )
            try demand(
                committed[Int(base.index) - 1].term == base.term,
                "server \(server.id.rawValue) installed a foreign \(base)"
            )
        }
    }

    /// What came before it in the log, or stands where it stands, is not in force any more.
    private mutating func commitConfiguration(at position: LogPosition) {
        committedConfigurations.append(position.index)
        configurations.removeAll { $0.position != position && $0.position.index <= position.index }
    }

    private func isDurable<Server: ObservedServer>(
        _ position: LogPosition,
        on configuration: Configuration,
        _ servers: [Server]
    ) -> Bool {
        func holds(_ id: ServerID) -> Bool {
            guard let log = servers.first(where: { $0.id == id })?.durableLog else { return false }
            return log.base.position.index >= position.index || log.term(at: position.index) == position.term
        }
        return [configuration.voters, configuration.outgoing].allSatisfy { half in
            half.isEmpty || 2 * half.count(where: holds) > half.count
        }
    }

    /// The state machine applies `entry`: everybody applies the same one at the same place.
    package func check(applied entry: Entry, by server: some ObservedServer) throws(Broken) {
        try demand(
            entry.index <= highestCommit,
            "server \(server.id.rawValue) applies \(entry.position), which is not committed"
        )
        try demand(
            committed[Int(entry.index) - 1] == entry,
            "server \(server.id.rawValue) applies a foreign \(entry.position)"
        )
    }

    /// The configuration in force at a committed index, as the committed entries tell it; `initial` where none does.
    package func configuration(at index: LogIndex, initial: Configuration = .empty) -> Configuration {
        guard let position = committedConfigurations.last(where: { $0 <= index }),
            case .configuration(let configuration) = committed[Int(position) - 1].payload
        else { return initial }
        return configuration
    }

    /// `server` has a snapshot whose description says that it stands at `base`.
    package func check(
        base: LogBase,
        of server: some ObservedServer,
        initial: Configuration = .empty
    ) throws(Broken) {
        try demand(
            base.position.index <= highestCommit,
            "server \(server.id.rawValue) has a snapshot of what is not committed"
        )
        try demand(
            base.configuration == configuration(at: base.position.index, initial: initial),
            "server \(server.id.rawValue) has a snapshot at \(base.position) with a configuration that was not in force there"
        )
    }
}
