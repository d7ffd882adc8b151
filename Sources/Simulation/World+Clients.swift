import Linearizability
import Raft
import RaftDriver

/// Somebody who asks one thing after the other.
struct Client: Sendable {
    let number: Int
    /// Where it asks: whom it believes to lead.
    var slot: Int
    /// The request that it waits for.
    var operation: Int?
    /// After the healing: a write of its own was answered, and a read.
    var hasWritten = false
    var hasRead = false

    var hasSettled: Bool { hasWritten && hasRead }
}

/// What a server answers.
enum ClientResult: Hashable, Sendable {
    case applied(Bool)
    case read(index: LogIndex)
    /// An administrator's request.
    case done
    case rejected
    case unknown
}

/// One request and what became of it.
struct ClientOperation: Sendable {
    enum Kind: Hashable, Sendable {
        case read
        case command(RegisterCommand.Kind)
    }

    /// The client of what came in a burst.
    static let nobody = -1

    /// What became of it, as its client may know.
    enum Fate: Hashable, Sendable { case open, answered, rejected, unknown }

    var client: Int
    var key: Int
    var kind: Kind
    var call: UInt64
    var returned: UInt64?
    var fate = Fate.open
    /// What a read answered.
    var value: Int64?
    /// What a compare-and-set answered.
    var succeeded = true
    /// What was committed anywhere when a read was asked for.
    var committedAtCall: LogIndex
    var isAfterHealing: Bool
}

/// Clients: they ask the servers, note when they asked and when they were answered, and give up after a while.
extension World {
    func wake(_ number: Int) throws(Broken) {
        guard clients[number].operation == nil, !(isHealed && clients[number].hasSettled) else { return }
        let server = chooseServer(number)
        guard server.isUp else {
            clients[number].slot = clientRandom.pick(slots.count)
            agenda.add(.clientWakes(number), at: now + climate.election / 2)
            return
        }
        let key = clientRandom.pick(climate.keys)
        let kind: ClientOperation.Kind
        // Values name the request, so that a read tells which write it saw.
        let value = Int64(operations.count)
        if isHealed ? clients[number].hasWritten : clientRandom.chance(climate.reads) {
            kind = .read
        } else if clientRandom.chance(300), !isHealed {
            kind = .command(.compareAndSet(expected: server.machine.values[key], new: value))
        } else {
            kind = .command(.write(value))
        }
        try ask(kind, key: key, client: number, server)
    }

    private func chooseServer(_ number: Int) -> SimulatedServer {
        if clientRandom.chance(isHealed ? 300 : climate.strays) {
            clients[number].slot = clientRandom.pick(slots.count)
        } else if clientRandom.chance(500), let leader = currentLeader {
            clients[number].slot = leader.slot
        }
        return server(inSlot: clients[number].slot)
    }

    private func ask(
        _ kind: ClientOperation.Kind,
        key: Int,
        client: Int,
        _ server: SimulatedServer
    ) throws(Broken) {
        let number = operations.count
        historyClock += 1
        operations.append(
            ClientOperation(
                client: client,
                key: key,
                kind: kind,
                call: historyClock,
                committedAtCall: invariants.highestCommit,
                isAfterHealing: isHealed
            )
        )
        clients[client].operation = number
        statistics.operations += 1
        trace.note(now) { "client \(client) asks \(server.id.rawValue): #\(number) \(kind), key \(key)" }
        trace.mix(8, UInt64(number), server.id.rawValue)
        agenda.add(.clientTimesOut(client, operation: number), at: now + climate.clientTimeout)
        let token = server.register(.operation(number))
        let event: Event =
            switch kind {
            case .read: .read([token])
            case .command(let command):
                .propose([
                    Proposal(
                        token: token,
                        command: RegisterCommand(operation: number, key: key, kind: command).encode()
                    )
                ])
            }
        if server.isPaused {
            // It waits in the socket until the process goes on.
            server.heldEvents.append(event)
        } else {
            try post([event], to: server)
        }
    }

    /// Somebody sends many writes in one go and does not wait for them one by one.
    func burst(_ count: Int, _ server: SimulatedServer) throws(Broken) {
        guard server.isUp, !server.isPaused else { return }
        var proposals: [Proposal] = []
        for _ in 0..<count {
            let number = operations.count
            let key = clientRandom.pick(climate.keys)
            let command = RegisterCommand(operation: number, key: key, kind: .write(Int64(number)))
            historyClock += 1
            operations.append(
                ClientOperation(
                    client: ClientOperation.nobody,
                    key: key,
                    kind: .command(command.kind),
                    call: historyClock,
                    committedAtCall: invariants.highestCommit,
                    isAfterHealing: false
                )
            )
            proposals.append(Proposal(token: server.register(.operation(number)), command: command.encode()))
        }
        statistics.operations += count
        try post([.propose(proposals)], to: server)
    }

    /// A server answers.
    func end(_ number: Int, _ result: ClientResult, _ server: SimulatedServer) throws(Broken) {
        let client = operations[number].client
        trace.note(now) { "client \(client) hears of #\(number): \(result)" }
        trace.mix(9, UInt64(number), UInt64(server.id.rawValue))
        // A client that gave up hears nothing any more, but what a server says must be true all the same.
        let isHeard = client == ClientOperation.nobody || clients[client].operation == number
        if isHeard, operations[number].returned == nil {
            historyClock += 1
            operations[number].returned = historyClock
        }
        switch result {
        case .applied(let succeeded):
            operations[number].fate = .answered
            operations[number].succeeded = succeeded
            if !isHeard { operations[number].returned = nil }
        case .read(let index):
            try demand(
                server.machine.position.index >= index && index >= operations[number].committedAtCall,
                "server \(server.id.rawValue) answers a read at \(server.machine.position) for index \(index); "
                    + "\(operations[number].committedAtCall) was committed when it was asked (R31-R34)"
            )
            operations[number].fate = isHeard ? .answered : .unknown
            operations[number].value = server.machine.values[operations[number].key]
        case .rejected: operations[number].fate = .rejected
        case .unknown: operations[number].fate = .unknown
        case .done:
            throw Broken("server \(server.id.rawValue) answers a command as if it were an administrator's request")
        }
        if isHeard { goOn(client, wasAnswered: operations[number].fate == .answered, operations[number]) }
    }

    /// The server that was asked died.
    func loseConnection(_ waiter: Waiter) {
        guard case .operation(let number) = waiter else { return }
        let client = operations[number].client
        operations[number].fate = .unknown
        trace.note(now) { "client \(client) loses its connection with #\(number)" }
        if client != ClientOperation.nobody, clients[client].operation == number {
            goOn(client, wasAnswered: false, operations[number])
        }
    }

    func timeOut(_ client: Int, operation number: Int) {
        guard clients[client].operation == number else { return }
        trace.note(now) { "client \(client) gives up on #\(number)" }
        statistics.timeouts += 1
        operations[number].fate = .unknown
        goOn(client, wasAnswered: false, operations[number])
    }

    private func goOn(_ number: Int, wasAnswered: Bool, _ operation: ClientOperation) {
        guard number != ClientOperation.nobody else { return }
        clients[number].operation = nil
        if wasAnswered {
            statistics.answered += 1
            if operation.isAfterHealing {
                if operation.kind == .read { clients[number].hasRead = true } else { clients[number].hasWritten = true }
            }
        } else if clientRandom.chance(500) {
            clients[number].slot = clientRandom.pick(slots.count)
        }
        agenda.add(.clientWakes(number), at: now + 1 + clientRandom.upTo(2 * climate.thinking))
    }

    // MARK: What must be true of the answers

    /// A server says that a command stands committed at a place: it does, and nobody says so of another one.
    func checkCommitted(_ token: Token, at position: LogPosition, _ server: SimulatedServer) throws(Broken) {
        guard case .operation(let number) = server.waiters[token] else { return }
        try demand(position.index <= invariants.highestCommit, "#\(number) is not committed at \(position)")
        let entry = invariants.committed[Int(position.index) - 1]
        var isSame = false
        if entry.term == position.term, case .command(let bytes) = entry.payload {
            isSame = RegisterCommand(decoding: bytes)?.operation == number
        }
        try demand(
            isSame,
            "server \(server.id.rawValue) takes #\(number) for committed at \(position), where something else stands"
        )
    }

    /// After the run: no command was executed twice, none that was rejected was executed at all, and every key's history is linearizable.
    func checkHistories() throws(Broken) {
        var executed = Array(repeating: 0, count: operations.count)
        var order: [Int] = []
        for entry in invariants.committed {
            guard case .command(let bytes) = entry.payload, let command = RegisterCommand(decoding: bytes) else {
                continue
            }
            executed[command.operation] += 1
            order.append(command.operation)
        }
        for (number, operation) in operations.enumerated() {
            try demand(executed[number] <= 1, "#\(number) was executed \(executed[number]) times")
            try demand(
                operation.fate != .rejected || executed[number] == 0,
                "#\(number) was rejected, and executed (R48)"
            )
            if operation.fate == .answered, case .command = operation.kind {
                try demand(executed[number] == 1, "#\(number) was acknowledged, and never executed")
            }
        }
        for key in 0..<climate.keys { try checkHistory(of: key, executed, order) }
    }

    /// - Parameters:
    ///   - executed: how often each command was. One that never was must have been seen by nobody.
    ///   - order: in which the commands were executed.
    private func checkHistory(of key: Int, _ executed: [Int], _ order: [Int]) throws(Broken) {
        var history = History(RegisterModel())
        var places: [Int: Int] = [:]
        for (number, operation) in operations.enumerated()
        where operation.key == key && operation.fate != .rejected {
            guard operation.fate == .answered || operation.kind != .read && executed[number] > 0 else { continue }
            places[number] = history.operations.count
            let action: RegisterModel.Action =
                switch operation.kind {
                case .read: .read(operation.value)
                case .command(.write(let value)): .write(value)
                case .command(.compareAndSet(let expected, let new)):
                    .compareAndSet(
                        expected: expected,
                        new: new,
                        succeeded: operation.fate == .answered ? operation.succeeded : true
                    )
                }
            history.append(
                Operation(
                    client: operation.client,
                    call: operation.call,
                    returned: operation.fate == .answered ? operation.returned : nil,
                    action: action
                )
            )
        }
        // The first bound is for speed; few histories need more, and some few of those far more than can be had.
        var verdict = history.check(limit: 200_000)
        if verdict == .undecided {
            let isProven = history.isLinearizable(inOrder: order.compactMap { places[$0] })
            verdict = isProven ? .linearizable : history.check(limit: 50_000_000)
        }
        switch verdict {
        case .linearizable: break
        case .notLinearizable:
            let part = history.counterexample().map { "\n\($0)" } ?? ""
            throw Broken("the history of key \(key) is not linearizable\(part)")
        case .undecided: statistics.undecided += 1
        }
    }
}

extension ClientOperation.Kind: CustomStringConvertible {
    var description: String {
        switch self {
        case .read: "read"
        case .command(.write(let value)): "write \(value)"
        case .command(.compareAndSet(let expected, let new)):
            "\(new) if it is \(expected.map(String.init) ?? "nothing")"
        }
    }
}
