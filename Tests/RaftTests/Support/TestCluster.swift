import Simulation

@testable import Raft

/// Servers, their disks and the network between them: nothing happens by itself, everything is asked for.
///
/// After every step the invariants are checked; the first broken one is thrown.
final class TestCluster {
    struct Envelope: Hashable {
        var message: Message
        /// The life of the sender when it was sent.
        var life: Int
    }

    struct Link: Hashable {
        var from: ServerID
        var to: ServerID
    }

    struct SnapshotTransfer: Hashable {
        var from: ServerID
        var to: ServerID
        var life: Int
        var atLeast: LogIndex
    }

    var options: Options
    private(set) var servers: [TestServer] = []
    var network: [Envelope] = []
    var transfers: [SnapshotTransfer] = []
    var blocked: Set<Link> = []
    var invariants = Invariants()
    var tokens = Tokens()
    var random: SeededRandom
    /// Every outcome, in the order of arrival.
    private(set) var outcomes: [Outcome] = []
    /// Sees every message at the moment it leaves.
    var onSend: (Message) -> Void = { _ in }
    /// A running hash of all that happened (FNV-1a), to compare two runs of one seed.
    private(set) var trace: UInt64 = 0xcbf2_9ce4_8422_2325

    /// Servers 1 to `count`. The first `voters` of them form the cluster; the others wait to be taken in.
    init(_ count: Int, voters: Int? = nil, options: Options = Options(), seed: UInt64 = 1) throws {
        self.options = options
        self.random = SeededRandom(seed: seed)
        let all = (1...count).map { Self.member($0) }
        let founding = Configuration(voters: Array(all.prefix(voters ?? count)))
        let first = Entry(index: 1, term: 1, payload: .configuration(founding))
        invariants.bootstrap(first)
        for member in all {
            var disk = Disk()
            if founding.contains(member.id) {
                disk.log.hardState = HardState(term: 1)
                disk.log.entries = [first]
            }
            let server = TestServer(id: member.id, disk: disk)
            servers.append(server)
            try server.start(options: options, seed: random.next())
        }
    }

    static func member(_ number: Int) -> Member {
        Member(id: ServerID(UInt64(number)), name: "s\(number)", peerAddress: "s\(number):1")
    }

    func server(_ id: ServerID) -> TestServer { servers[Int(id.rawValue) - 1] }

    subscript(number: Int) -> Core {
        guard let core = servers[number - 1].core else { preconditionFailure("server \(number) is down") }
        return core
    }

    // MARK: Steps

    func step(_ id: ServerID, _ events: [Event]) throws {
        let server = server(id)
        guard server.core != nil else { return }
        var effects = Effects()
        server.core!.step(events, into: &effects)
        note(effects.messages.count, effects.writes.count, Int(server.core!.term), Int(server.core!.lastIndex))
        try carryOut(effects, of: server)
        try invariants.check(server, in: servers)
    }

    func step(_ number: Int, _ events: Event...) throws { try step(ServerID(UInt64(number)), events) }

    private func carryOut(_ effects: Effects, of server: TestServer) throws {
        if let halt = effects.halt { throw Broken("\(server.id) halts: \(halt)") }
        for write in effects.writes {
            let last = server.pendingWrites.last?.sequence
            try demand(last.map { $0 + 1 == write.sequence } ?? true, "a write's sequence leaves a gap")
            try invariants.check(write: write, to: server.memory, by: server)
            try server.memory.carryOut(write)
            server.pendingWrites.append(write)
        }
        for outgoing in effects.messages {
            switch outgoing {
            case .message(let message): try send(message, from: server)
            case .append(let order): try materialise(order, of: server)
            }
        }
        server.deferred += effects.deferred
        if let base = effects.restore {
            // Nothing is applied between the order to restore and its end (R40).
            server.restoring = base
            server.applyTarget = nil
        }
        if let target = effects.applyUpTo {
            try demand(server.restoring == nil, "\(server.id) is to apply while it restores (R40)")
            try demand(
                server.disk.log.lastIndex >= target,
                "\(server.id) is to apply \(target), which its disk does not hold"
            )
            server.applyTarget = target
        }
        for send in effects.snapshotSends {
            transfers.append(
                SnapshotTransfer(from: server.id, to: send.to, life: server.life, atLeast: send.atLeast)
            )
        }
        // A read that is ready is answered from a commit index that is checked first.
        try invariants.check(server, in: servers)
        for outcome in effects.outcomes {
            try tokens.take(outcome, from: server, invariants)
            outcomes.append(outcome)
        }
    }

    /// Fetches an append's entries from the log in memory, as the driver does right after the step.
    private func materialise(_ order: AppendOrder, of server: TestServer) throws {
        try demand(
            server.memory.term(at: order.previous.index) == order.previous.term,
            "an append follows \(order.previous), which the log of \(server.id) does not hold"
        )
        guard let entries = server.memory.entries(behind: order.previous.index, upTo: order.last) else {
            throw Broken("the log of \(server.id) does not hold \(order.previous.index)...\(order.last)")
        }
        let append = Append(
            previous: order.previous,
            entries: entries,
            commit: order.commit,
            session: order.session,
            round: order.round
        )
        try send(Message(from: server.id, to: order.to, term: order.term, body: .append(append)), from: server)
    }

    private func send(_ message: Message, from server: TestServer) throws {
        try invariants.check(sent: message, by: server)
        onSend(message)
        guard !blocked.contains(Link(from: message.from, to: message.to)) else { return }
        network.append(Envelope(message: message, life: server.life))
    }

    // MARK: Disk

    /// Makes the first `count` writes under way durable, sends what waited for them, and tells the core.
    func persist(_ id: ServerID, count: Int = .max, notify: Bool = true) throws {
        let server = server(id)
        let done = server.pendingWrites.prefix(count)
        guard let last = done.last?.sequence, server.isUp else { return }
        for write in done { try server.disk.log.carryOut(write) }
        server.pendingWrites.removeFirst(done.count)
        let released = server.deferred.filter { $0.after <= last }
        server.deferred.removeAll { $0.after <= last }
        for item in released { try send(item.message, from: server) }
        if notify { try step(id, [.persisted(upTo: last)]) }
    }

    // MARK: Network

    /// Delivers the message at `position`; it stays in the network too where `again` says so.
    func deliver(at position: Int, again: Bool = false) throws {
        let envelope = network[position]
        if !again {
            network.swapAt(position, network.count - 1)
            network.removeLast()
        }
        note(position, Int(envelope.message.to.rawValue))
        try step(envelope.message.to, [.message(envelope.message)])
    }

    /// Delivers, in order, everything that is under way now and `matches`.
    func deliver(where matches: (Message) -> Bool = { _ in true }) throws {
        let now = network.filter { matches($0.message) }
        network.removeAll { matches($0.message) }
        for envelope in now { try step(envelope.message.to, [.message(envelope.message)]) }
    }

    /// What a busy driver does: several messages, the end of a write, an apply, requests and a tick, all in one step.
    func batch(_ id: ServerID, messages count: Int, isTicking: Bool, isReading: Bool) throws {
        let server = server(id)
        guard server.isUp else { return }
        var events: [Event] = []
        if let last = server.pendingWrites.last?.sequence {
            try persist(id, notify: false)
            events.append(.persisted(upTo: last))
        }
        for _ in 0..<count {
            guard let position = network.firstIndex(where: { $0.message.to == id }) else { break }
            events.append(.message(network.remove(at: position).message))
        }
        if isReading { events.append(.read([tokens.ask(.read(atLeast: invariants.highestCommit), of: server)])) }
        if isTicking { events.append(.tick) }
        events.shuffle(using: &random)
        note(events.count)
        try step(id, events)
    }

    func block(_ from: Int, _ to: Int) {
        blocked.insert(Link(from: ServerID(UInt64(from)), to: ServerID(UInt64(to))))
    }

    /// Cuts a server off from all others, both ways. What is under way is lost.
    func isolate(_ number: Int) {
        let id = ServerID(UInt64(number))
        for other in servers where other.id != id {
            blocked.insert(Link(from: id, to: other.id))
            blocked.insert(Link(from: other.id, to: id))
        }
        network.removeAll { $0.message.from == id || $0.message.to == id }
    }

    func heal() { blocked = [] }

    // MARK: State machine

    /// Applies what was given out, up to `bound`.
    func apply(_ id: ServerID, upTo bound: LogIndex = .max) throws {
        let server = server(id)
        guard server.isUp, let target = server.applyTarget else { return }
        let end = min(target, bound)
        guard end > server.applied else { return }
        for index in (server.applied + 1)...end {
            guard let entry = server.memory.entry(at: index) else {
                throw Broken("\(id) is to apply \(index), which its log no longer holds")
            }
            try invariants.check(applied: entry, by: server)
        }
        server.applied = end
        if end == target { server.applyTarget = nil }
        try step(id, [.applied(upTo: end)])
    }

    /// Ends a restore that was asked for.
    func restore(_ id: ServerID) throws {
        let server = server(id)
        guard server.isUp, let base = server.restoring else { return }
        guard let snapshot = server.disk.snapshot, snapshot.position.index >= base.position.index else {
            throw Broken("\(id) is to restore \(base.position), but holds no such snapshot")
        }
        server.restoring = nil
        server.disk.machine = base
        server.applied = base.position.index
        try step(id, [.restored(base.position.index)])
    }

    /// Makes the state machine durable where it stands, and a snapshot there where asked for.
    func flush(_ id: ServerID, snapshot: Bool) throws {
        let server = server(id)
        guard let core = server.core, server.restoring == nil else { return }
        let index = server.applied
        guard let term = core.term(at: index) else { throw Broken("\(id) does not know the term of what it applied") }
        let base = LogBase(
            position: LogPosition(index: index, term: term),
            configuration: core.configuration(at: index)
        )
        try invariants.check(base: base, of: server)
        server.disk.machine = base
        if snapshot { server.disk.snapshot = base }
    }

    /// Trims the log as far as the driver may: below the durable snapshot and the durable state machine (R8).
    func compact(_ id: ServerID, upTo bound: LogIndex = .max) throws {
        let server = server(id)
        guard server.isUp, let snapshot = server.disk.snapshot else { return }
        let index = min(bound, snapshot.position.index, server.disk.machine.position.index)
        try step(id, [.compact(upTo: index)])
    }

    /// Ends the snapshot transfer at `position`: the receiver gets the sender's newest snapshot, or nothing.
    func finishTransfer(at position: Int, succeeds: Bool = true) throws {
        let transfer = transfers.remove(at: position)
        let (from, to) = (server(transfer.from), server(transfer.to))
        let isAlive = from.isUp && from.life == transfer.life
        guard succeeds, isAlive, to.isUp, let snapshot = from.disk.snapshot else {
            if isAlive { try step(from.id, [.snapshotSent(to: to.id, sent: nil)]) }
            return
        }
        try demand(
            snapshot.position.index >= transfer.atLeast,
            "\(from.id) has no snapshot at \(transfer.atLeast), newest \(snapshot.position)"
        )
        try invariants.check(base: snapshot, of: from)
        if snapshot.position.index > to.disk.snapshot?.position.index ?? 0 { to.disk.snapshot = snapshot }
        try step(to.id, [.snapshotReceived(snapshot, from: from.id)])
        if from.isUp, from.life == transfer.life {
            try step(from.id, [.snapshotSent(to: to.id, sent: snapshot.position.index)])
        }
    }

    // MARK: Life

    func crash(_ id: ServerID, surviving: Int = 0) throws {
        transfers.removeAll { $0.from == id }
        try server(id).crash(surviving: surviving)
    }

    func start(_ id: ServerID) throws {
        let server = server(id)
        try server.start(options: options, seed: random.next())
        try invariants.check(server, in: servers)
    }

    // MARK: Calm scenarios

    /// Everything that is under way gets done: writes, messages in order, applies, snapshots.
    func settle() throws {
        for _ in 0..<1000 {
            let isQuiet =
                network.isEmpty && transfers.isEmpty
                && servers.allSatisfy { $0.pendingWrites.isEmpty && $0.applyTarget == nil && $0.restoring == nil }
            for server in servers {
                try persist(server.id)
                try restore(server.id)
                try apply(server.id)
            }
            while !transfers.isEmpty { try finishTransfer(at: 0) }
            try deliver()
            if isQuiet, network.isEmpty { return }
        }
        throw Broken("the world does not come to rest")
    }

    /// Time passes for everybody, and all that it causes gets done.
    func run(ticks: UInt64) throws {
        for _ in 0..<ticks {
            for server in servers { try step(server.id, [.tick]) }
            try settle()
        }
    }

    /// Makes server `number` the leader, while nobody else notices time.
    func elect(_ number: Int) throws {
        for _ in 0..<(2 * options.electionTicks) where !self[number].isLeader {
            try step(number, .tick)
            try settle()
        }
        try demand(self[number].isLeader, "server \(number) is not elected")
    }

    // MARK: Requests

    @discardableResult
    func propose(_ id: ServerID, count: Int = 1, bytes: Int = 8) throws -> [Token] {
        let server = server(id)
        guard server.isUp else { return [] }
        let proposals = (0..<count).map { _ in
            // The token is in the command, so that no two are alike.
            let number = UInt64(tokens.asked.count + 1)
            let command = (0..<8).map { UInt8(truncatingIfNeeded: number >> (8 * UInt64($0))) }
            let padded = command + [UInt8](repeating: 0, count: max(0, bytes - 8))
            return Proposal(token: tokens.ask(.command(padded), of: server), command: padded)
        }
        try step(id, [.propose(proposals)])
        return proposals.map(\.token)
    }

    @discardableResult
    func read(_ id: ServerID) throws -> Token? {
        let server = server(id)
        guard server.isUp else { return nil }
        let token = tokens.ask(.read(atLeast: invariants.highestCommit), of: server)
        try step(id, [.read([token])])
        return token
    }

    @discardableResult
    func change(_ id: ServerID, to target: Configuration) throws -> Token? {
        let server = server(id)
        guard server.isUp else { return nil }
        let token = tokens.ask(.other, of: server)
        try step(id, [.changeMembership(token, to: target)])
        return token
    }

    @discardableResult
    func transfer(_ id: ServerID, to target: ServerID?) throws -> Token? {
        let server = server(id)
        guard server.isUp else { return nil }
        let token = tokens.ask(.other, of: server)
        try step(id, [.transfer(token, to: target)])
        return token
    }

    private func note(_ values: Int...) {
        for value in values { trace = (trace ^ UInt64(truncatingIfNeeded: value)) &* 0x100_0000_01b3 }
    }
}
