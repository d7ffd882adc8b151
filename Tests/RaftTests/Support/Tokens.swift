import Simulation

@testable import Raft

/// Follows what was asked of the cores: every token has one outcome, and the outcome is true.
struct Tokens {
    enum Request: Hashable {
        case command([UInt8])
        /// With the highest commit index that anybody knew when the read was asked for.
        case read(atLeast: LogIndex)
        case other
    }

    struct Asked {
        var request: Request
        var server: ServerID
        var life: Int
        var outcome: Outcome?
    }

    private(set) var asked: [Asked] = []

    /// Tokens are their place in the order of asking, from 1 on.
    mutating func ask(_ request: Request, of server: TestServer) -> Token {
        asked.append(Asked(request: request, server: server.id, life: server.life))
        return Token(asked.count)
    }

    subscript(token: Token) -> Outcome? { asked[Int(token) - 1].outcome }

    mutating func take(_ outcome: Outcome, from server: TestServer, _ invariants: Invariants) throws {
        let token = outcome.token
        try demand(
            token >= 1 && token <= Token(asked.count),
            "an outcome for a token that nobody asked about: \(outcome)"
        )
        let item = asked[Int(token) - 1]
        try demand(item.server == server.id && item.life == server.life, "a stranger's token: \(outcome)")
        try demand(item.outcome == nil, "a second outcome for one token: \(item.outcome!), \(outcome)")
        asked[Int(token) - 1].outcome = outcome
        switch (outcome, item.request) {
        case (.committed(_, let position), .command(let bytes)):
            try demand(position.index <= invariants.highestCommit, "\(outcome), which is not committed")
            let entry = invariants.committed[Int(position.index) - 1]
            try demand(
                entry.position == position && entry.payload == .command(bytes),
                "\(outcome), but there is \(entry)"
            )
        case (.readReady(_, let index), .read(let atLeast)):
            try demand(index >= atLeast, "a stale read: \(index) after \(atLeast) was committed")
            try demand(server.applied >= index, "\(outcome), but only \(server.applied) is applied (R33)")
        case (.committed, _), (.readReady, _): throw Broken("\(outcome) does not fit \(item.request)")
        case (.done, .command), (.done, .read): throw Broken("\(outcome) does not fit \(item.request)")
        default: break
        }
    }

    /// Whom the world still owes an outcome: servers that did not crash since.
    func open(in servers: [TestServer]) -> [Token] {
        var open: [Token] = []
        for (position, item) in asked.enumerated() where item.outcome == nil {
            guard let server = servers.first(where: { $0.id == item.server }), server.isUp, server.life == item.life
            else {
                continue
            }
            open.append(Token(position + 1))
        }
        return open
    }

    /// At the end: no command stands in the log twice, and none that was said to be rejected stands in it at all.
    func checkCommands(_ invariants: Invariants) throws {
        var count: [[UInt8]: Int] = [:]
        for entry in invariants.committed {
            if case .command(let bytes) = entry.payload { count[bytes, default: 0] += 1 }
        }
        for (position, item) in asked.enumerated() {
            guard case .command(let bytes) = item.request else { continue }
            let times = count[bytes] ?? 0
            try demand(times <= 1, "the command of token \(position + 1) was committed \(times) times")
            if case .rejected = item.outcome {
                try demand(times == 0, "token \(position + 1) was rejected, but committed: \(item.outcome!)")
            }
        }
    }
}
