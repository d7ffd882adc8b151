import Simulation

@testable import Raft

/// One seeded run: faults first, with every invariant checked after every step; then the world heals and must make progress.
struct RandomRun {
    let cluster: TestCluster
    private var random: SeededRandom
    private let electionTicks: UInt64
    // How unkind this world is, in percent.
    private let loss: UInt64
    private let duplication: UInt64
    private let diskDelay: UInt64
    private let churn: UInt64
    /// Messages delivered at a time, at most.
    private let burst: UInt64
    /// How fast time goes.
    private let tempo: UInt64

    init(seed: UInt64) throws {
        random = SeededRandom(seed: seed)
        let count = 1 + Int(random.next() % 5)
        let voters = 1 + Int(random.next() % UInt64(count))
        var options = Options()
        options.electionTicks = 4 + random.next() % 8
        options.heartbeatTicks = 1 + random.next() % 2
        options.maxInFlightMessages = 1 + Int(random.next() % 6)
        options.maxAppendEntries = 1 + Int(random.next() % 5)
        options.maxInFlightBytes = random.next() % 3 == 0 ? 200 : 1 << 20
        options.maxAppendBytes = random.next() % 3 == 0 ? 100 : 1 << 20
        options.maxUncommittedBytes = random.next() % 3 == 0 ? 400 : 1 << 20
        electionTicks = options.electionTicks
        loss = [0, 0, 5, 10, 30][Int(random.next() % 5)]
        duplication = [0, 0, 5, 20, 50][Int(random.next() % 5)]
        diskDelay = [0, 20, 50, 80][Int(random.next() % 4)]
        churn = [2, 10, 30, 80][Int(random.next() % 4)]
        tempo = [20, 50, 100][Int(random.next() % 3)]
        burst = [2, 4, 10, 20][Int(random.next() % 4)]
        cluster = try TestCluster(count, voters: max(voters, count - 2), options: options, seed: random.next())
    }

    /// Runs both phases; answers the trace's hash.
    mutating func run(steps: Int) throws -> UInt64 {
        for _ in 0..<steps { try event() }
        try settle()
        try cluster.tokens.checkCommands(cluster.invariants)
        return cluster.trace
    }

    // MARK: Phase one

    private mutating func chance(_ percent: UInt64) -> Bool { random.next() % 100 < percent }

    private mutating func anybody() -> ServerID {
        cluster.servers[Int(random.next() % UInt64(cluster.servers.count))].id
    }

    /// Mostly a leader, so that most requests come to something.
    private mutating func somebodyUseful() -> ServerID {
        let leaders = cluster.servers.filter { $0.core?.isLeader ?? false }
        guard !leaders.isEmpty, chance(75) else { return anybody() }
        return leaders[Int(random.next() % UInt64(leaders.count))].id
    }

    private mutating func event() throws {
        switch random.next() % 1000 {
        case ..<400: for _ in 0...(random.next() % burst) { try network() }
        case ..<500:
            guard chance(tempo) else { return }
            for server in cluster.servers where !chance(10) { try cluster.step(server.id, [.tick]) }
        case ..<535:
            let messages = Int(random.next() % 6)
            try cluster.batch(anybody(), messages: messages, isTicking: chance(30), isReading: chance(20))
        case ..<545: try cluster.step(anybody(), [.tick])
        case ..<680: try persistSome()
        case ..<760: try applySome()
        case ..<830: try cluster.propose(somebodyUseful(), count: 1 + Int(random.next() % 3))
        case ..<870: try cluster.read(somebodyUseful())
        case ..<890: try snapshotSome()
        case ..<910: try finishSomeTransfer()
        case ..<915: try cluster.step(anybody(), [.unreachable(anybody())])
        default: if chance(churn) { try disturb() } else { try network() }
        }
    }

    private mutating func network() throws {
        guard !cluster.network.isEmpty else { return }
        // Often the oldest, so that things move; sometimes any at all.
        let count = UInt64(cluster.network.count)
        let position = Int(chance(60) ? random.next() % min(count, 3) : random.next() % count)
        if chance(loss) {
            cluster.network.remove(at: position)
            return
        }
        var again = chance(duplication)
        if case .propose = cluster.network[position].message.body { again = false }  // at most once by contract
        let envelope = cluster.network[position]
        if cluster.blocked.contains(.init(from: envelope.message.from, to: envelope.message.to)) {
            cluster.network.remove(at: position)
            return
        }
        try cluster.deliver(at: position, again: again)
        if cluster.network.count > 300 { cluster.network.removeFirst(100) }
    }

    private mutating func persistSome() throws {
        for server in cluster.servers where !chance(diskDelay) {
            try cluster.persist(server.id, count: chance(70) ? .max : 1 + Int(random.next() % 3))
        }
    }

    private mutating func applySome() throws {
        for server in cluster.servers where chance(70) {
            if chance(50) { try cluster.restore(server.id) }
            let bound = server.applied + 1 + random.next() % 5
            try cluster.apply(server.id, upTo: chance(60) ? .max : bound)
        }
    }

    private mutating func snapshotSome() throws {
        let id = anybody()
        try cluster.flush(id, snapshot: chance(60))
        if chance(60) { try cluster.compact(id, upTo: chance(70) ? .max : random.next() % 40) }
    }

    private mutating func finishSomeTransfer() throws {
        guard !cluster.transfers.isEmpty else { return }
        let position = Int(random.next() % UInt64(cluster.transfers.count))
        let transfer = cluster.transfers[position]
        let isCut = cluster.blocked.contains(.init(from: transfer.from, to: transfer.to))
        try cluster.finishTransfer(at: position, succeeds: !isCut && !chance(20))
    }

    private mutating func disturb() throws {
        switch random.next() % 15 {
        case 0:
            let id = anybody()
            if cluster.server(id).isUp {
                let pending = UInt64(cluster.server(id).pendingWrites.count)
                try cluster.crash(id, surviving: Int(random.next() % (pending + 1)))
            }
        case 1, 2, 3: for server in cluster.servers where !server.isUp && chance(80) { try cluster.start(server.id) }
        case 4: partition()
        case 5, 6, 7: cluster.heal()
        case 8, 9: try depose()
        case 10: try pause()
        case 11, 12: try changeMembership()
        default: try cluster.transfer(somebodyUseful(), to: chance(50) ? nil : anybody())
        }
    }

    /// A leader is cut off in the middle of its work, and the others lose patience.
    private mutating func depose() throws {
        let id = somebodyUseful()
        cluster.isolate(Int(id.rawValue))
        try cluster.propose(id, count: 1 + Int(random.next() % 6))
        for _ in 0..<(2 * electionTicks) {
            for server in cluster.servers where server.id != id { try cluster.step(server.id, [.tick]) }
        }
        for _ in 0...(random.next() % 60) { try network() }
        try persistSome()
        for _ in 0...(random.next() % 60) { try network() }
        if chance(70) { cluster.heal() }
    }

    /// A leader stands still while what it sent and what is sent to it stays under way; the others elect and commit. Then it goes
    /// on as if nothing had happened, and hears of the past first.
    private mutating func pause() throws {
        let id = somebodyUseful()
        let others = cluster.servers.map(\.id).filter { $0 != id }
        guard let other = others.randomElement(using: &random) else { return }
        try cluster.read(id)
        try cluster.propose(id, count: 1 + Int(random.next() % 3))
        try deliverSome(random.next() % 10, except: id)
        for round in 0..<(2 * electionTicks) {
            for server in others { try cluster.step(server, [.tick]) }
            try deliverSome(random.next() % 10, except: id)
            for server in others where chance(70) { try cluster.persist(server) }
            if round % 4 == 3 { try cluster.propose(other) }
        }
        let isSlow = chance(50)
        for _ in 0..<4 {
            try cluster.read(id)
            try cluster.batch(id, messages: Int(random.next() % 4), isTicking: isSlow, isReading: true)
            try cluster.apply(id)
        }
    }

    private mutating func deliverSome(_ count: UInt64, except id: ServerID) throws {
        for _ in 0..<count {
            guard let position = cluster.network.indices.filter({ cluster.network[$0].message.to != id }).first else {
                return
            }
            try cluster.deliver(at: position)
        }
    }

    private mutating func partition() {
        switch random.next() % 3 {
        case 0: cluster.isolate(Int(anybody().rawValue))
        case 1: cluster.blocked.insert(.init(from: anybody(), to: anybody()))  // one way
        default:
            // Two halves, and perhaps a bridge between them that sees both.
            let bridge = chance(50) ? anybody() : ServerID(0)
            let halves = cluster.servers.map { _ in chance(50) }
            for (left, isLeft) in zip(cluster.servers, halves) where left.id != bridge {
                for (right, isRight) in zip(cluster.servers, halves) where right.id != bridge && isLeft != isRight {
                    cluster.blocked.insert(.init(from: left.id, to: right.id))
                }
            }
        }
    }

    private mutating func changeMembership() throws {
        let id = somebodyUseful()
        var voters: [Member] = []
        var learners: [Member] = []
        for number in 1...cluster.servers.count {
            switch random.next() % 4 {
            case 0, 1: voters.append(TestCluster.member(number))
            case 2: learners.append(TestCluster.member(number))
            default: break
            }
        }
        try cluster.change(id, to: Configuration(voters: voters, learners: learners))
    }

    // MARK: Phase two

    /// Everybody comes back, nothing is lost any more: a leader, an own command applied by every member, and an outcome for
    /// everything that was asked for, within a bound.
    private mutating func settle() throws {
        cluster.heal()
        cluster.network.shuffle(using: &random)
        for server in cluster.servers where !server.isUp { try cluster.start(server.id) }
        var goal: Token?
        for round in 0..<(60 * electionTicks) {
            try calmRound()
            guard let leader = cluster.servers.last(where: { $0.core?.isLeader ?? false }), let core = leader.core
            else {
                continue
            }
            switch goal.map({ cluster.tokens[$0] }) {
            case nil: goal = round > 2 * electionTicks ? try cluster.propose(leader.id).first : nil
            case .some(.some(.committed(_, let position))):
                let configuration = core.configuration
                let isDone = cluster.servers.allSatisfy {
                    !configuration.contains($0.id) || $0.applied >= position.index
                }
                if isDone, !configuration.isJoint, core.hasCommittedInTerm,
                    cluster.tokens.open(in: cluster.servers.filter { configuration.contains($0.id) }).isEmpty
                {
                    return
                }
            case .some(.some): goal = try cluster.propose(leader.id).first
            case .some(nil):
                // A server that was removed may never learn what became of it.
                let asked = cluster.tokens.asked[Int(goal!) - 1].server
                if !core.configuration.contains(asked) { goal = try cluster.propose(leader.id).first }
            }
        }
        throw Broken("no progress after healing: \(stuck(goal))")
    }

    private mutating func calmRound() throws {
        for server in cluster.servers { try cluster.step(server.id, [.tick]) }
        for _ in 0..<3 {
            for server in cluster.servers {
                try cluster.persist(server.id)
                try cluster.restore(server.id)
                try cluster.apply(server.id)
            }
            while !cluster.transfers.isEmpty { try cluster.finishTransfer(at: 0) }
            try cluster.deliver()
        }
    }

    private func stuck(_ goal: Token?) -> String {
        let states = cluster.servers.map { server -> String in
            guard let core = server.core else { return "\(server.id.rawValue) down" }
            return
                "\(server.id.rawValue) \(core.role) term \(core.term) commit \(core.commitIndex) applied \(server.applied) "
                + "log \(core.firstIndex)...\(core.log.last) \(core.configuration) peers "
                + core.peers.map { "\($0.id.rawValue):\($0.match)<\($0.next) \($0.state) \($0.inFlight.count)" }
                .joined(separator: ", ")
        }
        let open = cluster.tokens.open(in: cluster.servers).prefix(5).map { token in
            "\(token): \(cluster.tokens.asked[Int(token) - 1])"
        }
        return "goal \(String(describing: goal.map { cluster.tokens[$0] }))\n"
            + states.joined(separator: "\n") + "\nopen: " + open.joined(separator: "\n")
    }
}
