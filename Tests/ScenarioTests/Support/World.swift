import Simulation

@testable import Raft

/// Servers, their disks and the network between them: nothing happens by itself, everything is asked for and noted down.
final class World {
    enum Detail {
        case all
        /// Who leads, what is committed, what became of requests.
        case brief
        case none
    }

    struct Link: Hashable {
        var from: Int
        var to: Int
    }

    struct SnapshotTransfer: Hashable {
        var from: Int
        var to: Int
        var life: UInt64
    }

    private struct Asked {
        var label: String
        var server: Int
        var life: UInt64
    }

    var options: Options
    let seed: UInt64
    private let founding: Configuration
    private(set) var servers: [Server] = []
    /// Under way, in the order of sending.
    var network: [Message] = []
    /// Taken out of the network by the scenario, to come late.
    var held: [Message] = []
    var transfers: [SnapshotTransfer] = []
    var cut: Set<Link> = []
    var text = MessageText()
    var detail = Detail.all
    /// What happened since the runner last took it.
    var lines: [String] = []

    private var safety = SafetyCheck()
    private var asked: [Token: Asked] = [:]
    private var lastToken: Token = 0

    init(_ count: Int, voters: [Int], options: Options, seed: UInt64) throws {
        self.options = options
        self.seed = seed
        self.founding = Configuration(voters: voters.map { Self.member($0) })
        let first = Entry(index: 1, term: 1, payload: .configuration(founding))
        for number in 1...count {
            let server = Server(number: number)
            servers.append(server)
            if voters.contains(number) {
                server.disk.log.hardState = HardState(term: 1)
                server.disk.log.entries = [first]
            }
            try server.start(options: options, seed: seed)
        }
        try safety.note([first], behind: .zero)
    }

    static func member(_ number: Int) -> Member {
        Member(id: ServerID(UInt64(number)), name: "s\(number)", peerAddress: "s\(number):1")
    }

    func server(_ number: Int) throws -> Server {
        guard servers.indices.contains(number - 1) else { throw Broken("there is no server \(number)") }
        return servers[number - 1]
    }

    func core(_ number: Int) throws -> Core {
        guard let core = try server(number).core else { throw Broken("server \(number) is down") }
        return core
    }

    /// Notes what decides a story.
    func event(_ line: String) {
        if detail != .none { lines.append(detail == .all ? "  " + line : line) }
    }

    /// Notes how it came about.
    func step(_ line: String) {
        if detail == .all { lines.append("  " + line) }
    }

    /// Notes what the scenario itself did.
    func heading(_ line: String) {
        if detail == .all { lines.append(line) }
    }

    // MARK: Steps

    func step(_ number: Int, _ event: Event) throws {
        let server = try server(number)
        guard let before = server.core else { return }
        var effects = Effects()
        server.core!.step(event, into: &effects)
        if let halt = effects.halt {
            try server.stop(keeping: 0)
            var reason = halt.description
            for other in servers { reason = reason.replacing(other.id.description, with: "\(other.number)") }
            self.event("\(number) halts: \(reason)")
            return
        }
        noteRole(before, server.core!)
        try carryOut(effects, of: server)
        try noteCommit(since: before.commitIndex, server)
        try safety.check(server)
        for outcome in effects.outcomes { try note(outcome, of: server) }
        if server.pace == .fast { try persist(number, isSilent: true) }
        if server.appliesAtOnce { try apply(number) }
    }

    private func carryOut(_ effects: Effects, of server: Server) throws {
        for write in effects.writes {
            try safety.check(write: write, of: server)
            try server.memory.carryOut(write)
            server.pendingWrites.append(write)
            let number = server.pace == .fast ? "" : " #\(write.sequence)"
            step("\(server.number) writes\(number): \(MessageText.text(write))")
        }
        for outgoing in effects.messages {
            switch outgoing {
            case .message(let message): try send(message, from: server)
            case .append(let order): try send(filled(order, by: server), from: server)
            }
        }
        for item in effects.deferred {
            server.deferred.append(item)
            if server.pace != .fast { step("\(text.text(item.message)) (waits for write #\(item.after))") }
        }
        if let base = effects.restore {
            server.restoring = base
            server.applyTarget = nil
            event("\(server.number) is to restore the snapshot at \(MessageText.text(base.position))")
        }
        if let target = effects.applyUpTo {
            try demand(server.restoring == nil, "\(server.number) is to apply while it restores (R40)")
            try demand(server.disk.log.lastIndex >= target, "\(server.number) is to apply what is not durable")
            server.applyTarget = target
        }
        for send in effects.snapshotSends {
            let to = Int(send.to.rawValue)
            transfers.append(SnapshotTransfer(from: server.number, to: to, life: server.life))
            event("\(server.number)→\(to) snapshot at \(send.atLeast) or later begins")
        }
    }

    /// An append with its entries, which the driver fetches right after the step.
    private func filled(_ order: AppendOrder, by server: Server) throws -> Message {
        try demand(
            server.memory.term(at: order.previous.index) == order.previous.term,
            "an append follows what the log of \(server.number) does not hold"
        )
        let entries = order.isEmpty ? [] : (order.previous.index + 1...order.last).compactMap(server.memory.entry(at:))
        let append = Append(
            previous: order.previous,
            entries: entries,
            commit: order.commit,
            session: order.session,
            round: order.round
        )
        return Message(from: server.id, to: order.to, term: order.term, body: .append(append))
    }

    private func send(_ message: Message, from server: Server) throws {
        try safety.check(sent: message, by: server)
        let isLost = cut.contains(Link(from: server.number, to: Int(message.to.rawValue)))
        step(text.text(message) + (isLost ? " (lost)" : ""))
        if !isLost { network.append(message) }
    }

    private func noteRole(_ before: Core, _ now: Core) {
        guard before.role != now.role || before.term != now.term || before.leaderID != now.leaderID else { return }
        switch now.role {
        case .preCandidate: step("\(now.id.rawValue) asks for pre-votes for t\(now.term + 1)")
        case .candidate: event("\(now.id.rawValue) is a candidate in t\(now.term)")
        case .leader: event("\(now.id.rawValue) leads t\(now.term)")
        case .follower:
            let past = before.isLeader ? "\(now.id.rawValue) stands down and" : "\(now.id.rawValue)"
            if let leader = now.leaderID {
                step("\(past) follows \(leader.rawValue) in t\(now.term)")
            } else if before.isLeader {
                event("\(past) follows nobody in t\(now.term)")
            } else {
                step("\(past) follows nobody in t\(now.term)")
            }
        }
    }

    private func noteCommit(since old: LogIndex, _ server: Server) throws {
        guard let core = server.core, core.commitIndex > old else { return }
        let entries = (old + 1...core.commitIndex).compactMap { server.memory.entry(at: $0) }
        let list = entries.isEmpty ? "up to \(core.commitIndex)" : MessageText.text(entries)
        event("\(server.number) commits \(list)")
    }

    // MARK: Disk and state machine

    /// Makes the first `count` writes under way durable, sends what waited for them, and tells the core.
    func persist(_ number: Int, count: Int = .max, isSilent: Bool = false) throws {
        let server = try server(number)
        let done = server.pendingWrites.prefix(count)
        guard let last = done.last?.sequence, server.core != nil else { return }
        for write in done { try server.disk.log.carryOut(write) }
        server.pendingWrites.removeFirst(done.count)
        if !isSilent { heading("\(number) wrote up to #\(last)") }
        let released = server.deferred.filter { $0.after <= last }
        server.deferred.removeAll { $0.after <= last }
        for item in released { try send(item.message, from: server) }
        try step(number, .persisted(upTo: last))
    }

    func apply(_ number: Int) throws {
        let server = try server(number)
        guard server.core != nil, let target = server.applyTarget else { return }
        server.applyTarget = nil
        if !server.appliesAtOnce { heading("\(number) applied up to \(target)") }
        server.applied = target
        try step(number, .applied(upTo: target))
    }

    /// Ends a restore that was asked for, once the log that begins at the snapshot is durable.
    func restore(_ number: Int) throws {
        let server = try server(number)
        guard let base = server.restoring, server.pendingWrites.isEmpty else { return }
        server.restoring = nil
        server.disk.machine = base
        server.applied = base.position.index
        heading("\(number) restored the snapshot at \(MessageText.text(base.position))")
        try step(number, .restored(base.position.index))
    }

    /// Makes the state machine durable where it stands, and a snapshot of it.
    func snapshot(_ number: Int) throws {
        let server = try server(number)
        let core = try core(number)
        let position = LogPosition(index: server.applied, term: core.term(at: server.applied) ?? 0)
        let base = LogBase(position: position, configuration: core.configuration(at: server.applied))
        server.disk.machine = base
        server.disk.snapshot = base
    }

    func finish(_ transfer: SnapshotTransfer, succeeds: Bool) throws {
        transfers.removeAll { $0 == transfer }
        let from = try server(transfer.from)
        let to = try server(transfer.to)
        let isSenderAlive = from.core != nil && from.life == transfer.life
        guard succeeds, isSenderAlive, to.core != nil, let snapshot = from.disk.snapshot else {
            heading("\(from.number)→\(to.number) snapshot fails")
            if isSenderAlive { try step(from.number, .snapshotSent(to: to.id, sent: nil)) }
            return
        }
        heading("\(from.number)→\(to.number) snapshot at \(MessageText.text(snapshot.position)) arrives")
        try receive(snapshot, at: to.number, from: from.number)
        try step(from.number, .snapshotSent(to: to.id, sent: snapshot.position.index))
    }

    /// A snapshot lies whole on the disk of `number`.
    func receive(_ snapshot: LogBase, at number: Int, from sender: Int) throws {
        let server = try server(number)
        let newest = server.disk.snapshot?.position.index ?? 0
        if snapshot.position.index > newest { server.disk.snapshot = snapshot }
        try step(number, .snapshotReceived(snapshot, from: ServerID(UInt64(sender))))
    }

    // MARK: Requests

    /// A token whose outcome is noted down under `label`.
    func token(_ label: String, at number: Int) throws -> Token {
        let server = try server(number)
        guard server.core != nil else { throw Broken("server \(number) is down") }
        lastToken += 1
        asked[lastToken] = Asked(label: label, server: number, life: server.life)
        return lastToken
    }

    private func note(_ outcome: Outcome, of server: Server) throws {
        guard let request = asked.removeValue(forKey: outcome.token) else {
            throw Broken("a token gets a second outcome: \(outcome)")
        }
        try demand(request.server == server.number && request.life == server.life, "a stranger's outcome: \(outcome)")
        let what: String
        switch outcome {
        case .committed(_, let position): what = "committed at \(MessageText.text(position))"
        case .readReady(_, let index):
            try demand(server.applied >= index, "a read before its apply (R33)")
            what = "may read at \(index)"
        case .done: what = "done"
        case .rejected(_, let reason, let leader): what = "rejected (\(reason)), leader \(MessageText.text(leader))"
        case .unknown(_, let leader): what = "unknown, leader \(MessageText.text(leader))"
        }
        event("\(server.number): \(request.label): \(what)")
    }

    // MARK: Life

    func start(_ number: Int) throws {
        let server = try server(number)
        try server.start(options: options, seed: seed)
        try safety.check(server)
    }

    /// Gives a server another past than the founding of the cluster.
    func rewrite(_ number: Int, log: [Entry], hardState: HardState, committed: LogIndex) throws {
        let server = try server(number)
        var entries = log
        if entries.first?.position == LogPosition(index: 1, term: 1) {
            entries[0].payload = .configuration(founding)
        }
        server.disk.log.entries = entries
        server.disk.log.hardState = hardState
        guard let term = server.disk.log.term(at: committed) else {
            throw Broken("the log of \(number) does not hold \(committed)")
        }
        if committed > 0 {
            let position = LogPosition(index: committed, term: term)
            server.disk.machine = LogBase(position: position, configuration: founding)
        }
        try safety.note(entries, behind: .zero)
        server.core = nil
        try start(number)
    }
}
