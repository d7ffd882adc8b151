import Simulation

@testable import Raft

/// Carries out the commands of a transcript, and answers what they print.
struct Scenario {
    var world: World?

    /// What the commands of a block print; `ok` where nothing is to be said.
    mutating func run(_ block: Transcript.Block) throws -> [String] {
        var output: [String] = []
        for command in block.commands {
            do {
                try run(command)
            } catch let broken as Broken {
                throw Broken("\(command): \(broken.description)\n\((world?.lines ?? []).joined(separator: "\n"))")
            }
            output += world?.lines ?? []
            world?.lines = []
        }
        return output.isEmpty ? ["ok"] : output
    }

    mutating func run(_ line: String) throws {
        var words = Words(line)
        if words.peek == "cluster" {
            try makeCluster(&words)
        } else {
            guard let world else { throw Broken("a scenario begins with the command cluster") }
            world.detail = .all
            if words.take("briefly") { world.detail = .brief }
            if words.take("quietly") { world.detail = .none }
            try world.run(&words)
            world.detail = .all
        }
        guard words.isEmpty else { throw Broken("\"\(words.peek ?? "")\" is not understood in \"\(line)\"") }
    }

    /// `cluster 3 [voters 1,2] [seed N] [window N] [entries N] [uncommitted BYTES] [disks fast|slow|stuck]`
    private mutating func makeCluster(_ words: inout Words) throws {
        _ = words.take("cluster")
        let count = try words.number("the number of servers")
        var voters = Array(1...max(1, count))
        var options = Options()
        var seed: UInt64 = 1
        var pace = DiskPace.slow
        while let word = words.peek {
            _ = words.take(word)
            switch word {
            case "voters": voters = try Words.list(words.next("the voters"))
            case "seed": seed = UInt64(try words.number("a seed"))
            case "window": options.maxInFlightMessages = try words.number("a window")
            case "entries": options.maxAppendEntries = try words.number("a number of entries")
            case "uncommitted": options.maxUncommittedBytes = try words.number("bytes")
            case "disks": pace = try World.pace(&words)
            default: throw Broken("cluster: \(word) is not understood")
            }
        }
        let world = try World(count, voters: voters, options: options, seed: seed)
        for server in world.servers { server.pace = pace }
        self.world = world
    }
}

extension World {
    static func pace(_ words: inout Words) throws -> DiskPace {
        let word = try words.next("fast, slow or stuck")
        guard let pace = DiskPace(rawValue: word) else { throw Broken("a disk is fast, slow or stuck, not \(word)") }
        return pace
    }

    func run(_ words: inout Words) throws {
        let command = try words.next("a command")
        switch command {
        case "server", "disk", "persist", "apply", "restore", "crash", "restart", "snapshot", "compact", "fail-storage":
            try runServer(command, &words)
        case "deliver", "drop", "hold", "release", "partition", "cut", "heal", "send", "deliver-snapshot",
            "fail-snapshot", "receive-snapshot", "unreachable":
            try runNetwork(command, &words)
        case "tick", "campaign", "elect", "run", "stabilize": try runTime(command, &words)
        case "propose", "read", "change", "transfer": try runRequest(command, &words)
        case "status", "progress", "members", "waiting": try runReport(command, &words)
        default: throw Broken("the command \(command) is not known")
        }
    }

    // MARK: Servers and disks

    private func runServer(_ command: String, _ words: inout Words) throws {
        let number = try words.number("a server")
        let server = try server(number)
        switch command {
        case "server": try rewrite(number, &words)
        case "disk": server.pace = try Self.pace(&words)
        case "persist":
            let count = words.take("all") ? Int.max : words.optionalNumber() ?? 1
            guard !server.pendingWrites.isEmpty else { throw Broken("nothing is on its way to the disk of \(number)") }
            try persist(number, count: count)
        case "apply":
            if words.take("pause") {
                server.appliesAtOnce = false
            } else {
                try apply(number)
                server.appliesAtOnce = true
            }
        case "restore":
            guard server.restoring != nil, server.pendingWrites.isEmpty else { throw Broken("nothing to restore yet") }
            try restore(number)
        case "crash":
            try server.stop(keeping: words.take("keeping") ? words.number("writes") : 0)
            transfers.removeAll { $0.from == number }
        case "restart":
            guard server.core == nil else { throw Broken("server \(number) is up") }
            try start(number)
        case "snapshot": try snapshot(number)
        case "compact":
            let index = LogIndex(try words.number("an index"))
            guard index <= server.disk.snapshot?.position.index ?? 0 else { throw Broken("no snapshot at \(index)") }
            try step(number, .compact(upTo: index))
        default: try step(number, .storageFailed(words.all().joined(separator: " ")))
        }
    }

    /// `server 1 log 1.1 2.2..4 term 3 [vote 2] [committed 1]`
    private func rewrite(_ number: Int, _ words: inout Words) throws {
        var log: [Entry] = []
        var state = HardState()
        var committed: LogIndex = 0
        while let word = words.peek {
            _ = words.take(word)
            switch word {
            case "log": log = try words.entries()
            case "term": state.term = Term(try words.number("a term"))
            case "vote": state.vote = ServerID(UInt64(try words.number("a vote")))
            case "committed": committed = LogIndex(try words.number("an index"))
            default: throw Broken("server: \(word) is not understood")
            }
        }
        state.term = max(state.term, log.last?.term ?? 0)
        try rewrite(number, log: log, hardState: state, committed: committed)
    }

    // MARK: Time

    private func runTime(_ command: String, _ words: inout Words) throws {
        switch command {
        case "tick":
            let all = words.take("all")
            let numbers = all ? servers.map(\.number) : [try words.number("a server")]
            for _ in 0..<(words.optionalNumber() ?? 1) { for number in numbers { try step(number, .tick) } }
        case "campaign": try campaign(try words.number("a server"))
        case "elect":
            let number = try words.number("a server")
            try campaign(number)
            try stabilize(among: servers.map(\.number))
            try demand(try core(number).isLeader, "server \(number) is not elected")
        case "run":
            let ticks = try words.number("ticks")
            let numbers = try words.numbers()
            let among = numbers.isEmpty ? servers.map(\.number) : numbers
            for _ in 0..<ticks {
                for number in among { try step(number, .tick) }
                try stabilize(among: among)
            }
        default:
            let numbers = try words.numbers()
            try stabilize(among: numbers.isEmpty ? servers.map(\.number) : numbers)
        }
    }

    /// Lets time pass at one server until it asks for votes.
    private func campaign(_ number: Int) throws {
        let before = try core(number)
        for _ in 0..<(3 * options.electionTicks) {
            try step(number, .tick)
            let now = try core(number)
            let asks = (now.role == .preCandidate || now.role == .candidate) && now.timerTick == now.tick
            if asks || now.term > before.term { return }
        }
        throw Broken("server \(number) does not campaign")
    }

    /// Everything that is under way among these servers gets done, until they are at rest.
    private func stabilize(among numbers: [Int]) throws {
        func concerns(_ message: Message) -> Bool {
            numbers.contains(Int(message.from.rawValue)) && numbers.contains(Int(message.to.rawValue))
        }
        for _ in 0..<500 {
            var isQuiet = true
            for number in numbers {
                let server = try server(number)
                if server.pace != .stuck, !server.pendingWrites.isEmpty {
                    isQuiet = false
                    try persist(number)
                }
                if server.restoring != nil, server.pendingWrites.isEmpty {
                    isQuiet = false
                    try restore(number)
                }
            }
            for transfer in transfers where numbers.contains(transfer.from) && numbers.contains(transfer.to) {
                isQuiet = false
                try finish(transfer, succeeds: true)
            }
            let now = network.filter(concerns)
            network.removeAll(where: concerns)
            for message in now {
                isQuiet = false
                try deliver(message)
            }
            if isQuiet { return }
        }
        throw Broken("the servers do not come to rest")
    }
}
