import Linearizability
import Raft
import RaftDriver

/// A whole cluster with its network, disks, clocks and clients, on one thread and from one seed.
final class World {
    let options: SimulationOptions
    let climate: Climate
    let faults: [PlannedFault]
    let length: UInt64
    let initial: Configuration

    var now: UInt64 = 0
    var agenda = Agenda()
    var servers: [SimulatedServer] = []
    /// The server that lives in each slot now.
    var slots: [ServerID] = []
    var invariants = Invariants()
    /// What the machine's digest was at each index; 0 where nobody has been yet.
    var digests: [UInt64] = [0]
    var clients: [Client] = []
    var operations: [ClientOperation] = []
    /// Numbers the calls and returns of all operations.
    var historyClock: UInt64 = 0
    var partitions: [Partition] = []
    var storm: (loss: UInt64, delay: UInt64)?
    /// What the administrator asked for lately.
    var asked: [Configuration] = []
    /// The next server to come to this moment crashes.
    var armed: (moment: Fault.Moment, after: UInt64, down: UInt64)?
    var isHealed = false
    var trace: Trace
    var statistics = SimulationStatistics()
    var lastTransfer: UInt64 = 0
    /// What the disks are allowed to be.
    var loss: UInt64
    var duplication: UInt64

    // Streams of their own, so that one more draw here changes nothing there.
    var networkRandom: SeededRandom
    var diskRandom: SeededRandom
    var clientRandom: SeededRandom
    var serverRandom: SeededRandom

    init(_ options: SimulationOptions) {
        self.options = options
        var random = SeededRandom(seed: options.seed)
        climate = Climate(options, random: &random)
        length = UInt64(options.seconds * 1_000_000)
        var planner = FaultPlanner(seed: random.next(), servers: climate.servers, election: climate.election)
        let planned = planner.plan(length: length, options: options)
        faults = planned
        networkRandom = SeededRandom(seed: random.next())
        diskRandom = SeededRandom(seed: random.next())
        clientRandom = SeededRandom(seed: random.next())
        serverRandom = SeededRandom(seed: random.next())
        loss = climate.loss
        duplication = climate.duplication
        trace = Trace(keepsText: options.traces)
        let members = (1...climate.servers).map { World.member(ServerID(UInt64($0))) }
        initial = Configuration(voters: Array(members.prefix(climate.voters)))
        invariants.bootstrap(initial)
        for number in 0..<climate.servers { addServer(slot: number, isMember: number < climate.voters) }
        slots = servers.map(\.id)
        clients = (0..<climate.clients).map { Client(number: $0, slot: $0 % climate.servers) }
    }

    static func member(_ id: ServerID) -> Member {
        Member(id: id, name: "n\(id.rawValue)", peerAddress: "n\(id.rawValue):1", promotion: .manual)
    }

    func server(_ id: ServerID) -> SimulatedServer { servers[Int(id.rawValue) - 1] }

    func server(inSlot slot: Int) -> SimulatedServer { server(slots[slot]) }

    private func addServer(slot: Int, isMember: Bool) {
        let id = ServerID(UInt64(servers.count + 1))
        servers.append(
            SimulatedServer(
                id: id,
                slot: slot,
                base: LogBase(configuration: isMember ? initial : .empty),
                machine: RegisterMachine(keys: climate.keys),
                tickLength: climate.tick
            )
        )
    }

    /// A new server, with an empty disk, takes a slot.
    func replaceServer(inSlot slot: Int) -> SimulatedServer {
        addServer(slot: slot, isMember: false)
        slots[slot] = servers[servers.count - 1].id
        return servers[servers.count - 1]
    }

    // MARK: Running

    /// Plays both phases; throws what broke.
    func run() throws(Broken) {
        for server in servers { try start(server) }
        for client in clients.indices { agenda.add(.clientWakes(client), at: clientRandom.upTo(climate.thinking)) }
        for (number, planned) in faults.enumerated() where options.keptFaults?.contains(number) ?? true {
            agenda.add(.fault(number), at: planned.time)
        }
        agenda.add(.rescue, at: climate.election)
        try runUntil(length) { false }
        try heal()
        let bound = now + 400 * climate.election + 60_000_000
        var nextLook = now
        try runUntil(bound) {
            guard now >= nextLook else { return false }
            nextLook = now + climate.election / 2
            return isSettled
        }
        guard isSettled else { throw Broken("no progress after healing: \(whatIsStuck)") }
        try checkHistories()
    }

    private func runUntil(_ end: UInt64, _ isDone: () -> Bool) throws(Broken) {
        while !isDone(), let (time, happening) = agenda.next() {
            if time >= end {
                agenda.add(happening, at: time)
                now = end
                return
            }
            now = time
            statistics.events += 1
            try happen(happening)
        }
    }

    private func happen(_ happening: Happening) throws(Broken) {
        if let (id, life) = happening.process {
            let server = server(id)
            guard server.life == life, server.isUp else { return }
            guard !server.isPaused else {
                // Time that passes for somebody who stands still comes as one tick, as a timer does.
                if case .tick = happening {
                    scheduleTick(server)
                } else {
                    server.held.append(happening)
                }
                return
            }
        }
        switch happening {
        case .tick(let id, _): try tick(server(id))
        case .arrival(let message): try arrive(message)
        case .drain(let id, _): try drain(server(id))
        case .synced(let id, _): try finishSync(server(id))
        case .fetched(let id, _, let purpose, let range, let maxBytes):
            try finishFetch(server(id), purpose, range, maxBytes: maxBytes)
        case .background(let id, _, let work): try finishBackground(server(id), work)
        case .snapshotPiece(let transfer): try movePiece(transfer)
        case .transferEnded(let id, _, let peer, let number, let sent):
            guard server(id).transfers[peer] == number else { return }
            server(id).transfers[peer] = nil
            try step(server(id), [.snapshotSent(to: peer, sent: sent)])
        case .unreachable(let id, _, let peer): try step(server(id), [.unreachable(peer)])
        case .clientWakes(let client): try wake(client)
        case .clientTimesOut(let client, let operation): timeOut(client, operation: operation)
        case .fault(let number): try befall(faults[number].fault, number)
        case .crash(let id, let life, let down):
            if server(id).life == life { try crash(server(id), down: down) }
        case .restart(let id): try restart(server(id))
        case .resume(let id, let life): try resume(server(id), life: life)
        case .partitionHeals(let number): healPartition(number)
        case .stormEnds: storm = nil
        case .diskRecovers(let id): server(id).sync = nil
        case .mayLeadAgain(let id): if server(id).isBarred { try bar(server(id), false) }
        case .rescue: try rescue()
        }
    }

    // MARK: Healing

    /// From here on nothing goes wrong any more, and everything that is pending must come to its end.
    private func heal() throws(Broken) {
        isHealed = true
        trace.note(now) { "the world heals" }
        partitions = []
        storm = nil
        armed = nil
        (loss, duplication) = (0, 0)
        for id in slots {
            let server = server(id)
            server.sync = nil
            server.effectsLeft = nil
            server.tickLength = climate.tick
            if server.isPaused { try resume(server, life: server.life) }
            if server.isBarred { try bar(server, false) }
            if !server.isUp { try start(server) }
        }
    }

    /// Somebody leads, every member has applied what is committed, a write of after the healing among it, and knows that it keeps up, and nobody
    /// waits.
    private var isSettled: Bool {
        guard clients.allSatisfy({ $0.operation == nil && $0.hasSettled }), let core = currentLeader?.core,
            core.hasCommittedInTerm, !core.configuration.isJoint, core.configurationIndex <= core.commitIndex,
            core.commitIndex == core.lastIndex
        else { return false }
        return slots.allSatisfy { id in
            guard core.configuration.contains(id) else { return true }
            let server = server(id)
            return server.isUp && server.machine.position.index == core.commitIndex && server.waiters.isEmpty
                && server.driver?.keepsUp ?? false
        }
    }

    /// Whoever leads in the newest term.
    var currentLeader: SimulatedServer? {
        var found: SimulatedServer?
        var term: Term = 0
        for id in slots {
            let server = server(id)
            guard server.driver?.core.isLeader ?? false, let newer = server.driver?.core.term, newer > term else {
                continue
            }
            (found, term) = (server, newer)
        }
        return found
    }

    private var whatIsStuck: String {
        var lines: [String] = []
        for id in slots {
            let server = server(id)
            guard let core = server.core else {
                lines.append("\(id.rawValue) is down")
                continue
            }
            let peers = core.peerViews.map { "\($0.id.rawValue):\($0.match)" }.joined(separator: " ")
            lines.append(
                "\(id.rawValue) \(core.role) term \(core.term) commit \(core.commitIndex) applied "
                    + "\(server.machine.position.index) log \(core.firstIndex)...\(core.last) \(core.configuration) "
                    + "waiting \(server.waiters.count) peers \(peers)"
            )
        }
        for client in clients where client.operation != nil || !client.hasSettled {
            lines.append("client \(client.number) waits for \(client.operation.map(String.init) ?? "a server")")
        }
        return "\n  " + lines.joined(separator: "\n  ")
    }
}
