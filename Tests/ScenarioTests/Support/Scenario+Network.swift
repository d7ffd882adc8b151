import Simulation

@testable import Raft

extension World {
    /// Which messages a command is about: `[all] [last] [1->2|*->2] [KIND] [keep]`.
    private struct Selector {
        var isAll = false
        var isLast = false
        var isKept = false
        var from: Int?
        var to: Int?
        var kind: String?

        init(_ words: inout Words) throws {
            while let word = words.peek {
                if words.take("all") {
                    isAll = true
                } else if words.take("last") {
                    isLast = true
                } else if words.take("keep") {
                    isKept = true
                } else if word.contains("->") {
                    (from, to) = try words.link()
                } else {
                    kind = try words.next("a kind")
                }
            }
        }

        func matches(_ message: Message) -> Bool {
            (from.map { UInt64($0) == message.from.rawValue } ?? true)
                && (to.map { UInt64($0) == message.to.rawValue } ?? true)
                && (kind.map { $0 == MessageText.kind(message.body) } ?? true)
        }

        /// Where the messages lie; the scenario is wrong when there are none.
        func positions(in messages: [Message]) throws -> [Int] {
            let positions = messages.indices.filter { matches(messages[$0]) }
            guard let first = positions.first, let last = positions.last else {
                throw Broken("no such message is under way")
            }
            return isAll ? positions : [isLast ? last : first]
        }
    }

    func runNetwork(_ command: String, _ words: inout Words) throws {
        switch command {
        case "deliver":
            let selector = try Selector(&words)
            let taken = try take(selector, from: &network, keeping: selector.isKept)
            for message in taken { try deliver(message) }
        case "drop":
            for message in try take(try Selector(&words), from: &network) {
                heading("dropped \(text.text(message))")
            }
        case "hold":
            for message in try take(try Selector(&words), from: &network) {
                heading("held back \(text.text(message))")
                held.append(message)
            }
        case "release":
            for message in try take(try Selector(&words), from: &held) { try deliver(message) }
        case "partition": try partition(&words)
        case "cut":
            let (from, to) = try words.link()
            guard let from, let to else { throw Broken("cut takes one link") }
            cut.insert(Link(from: from, to: to))
            loseWhatIsCut()
        case "heal": cut = []
        case "send": try deliver(try words.message(to: self))
        case "unreachable":
            let (from, to) = try words.link()
            guard let from, let to else { throw Broken("unreachable takes one link") }
            try step(from, .unreachable(ServerID(UInt64(to))))
        default: try runSnapshots(command, &words)
        }
    }

    private func runSnapshots(_ command: String, _ words: inout Words) throws {
        let (from, to) = try words.link()
        if command == "receive-snapshot" {
            guard let from, let to else { throw Broken("receive-snapshot takes one link") }
            let position = try words.position()
            let configuration = words.take("members") ? try Words.list(words.next("members")) : []
            let base = LogBase(
                position: position,
                configuration: configuration.isEmpty
                    ? try core(to).configuration
                    : Configuration(voters: configuration.map { World.member($0) })
            )
            heading("\(from)→\(to) snapshot at \(MessageText.text(position)) arrives")
            try receive(base, at: to, from: from)
            return
        }
        guard let transfer = transfers.first(where: { $0.from == from && $0.to == to }) else {
            throw Broken("no such snapshot is under way")
        }
        try finish(transfer, succeeds: command == "deliver-snapshot")
    }

    private func take(
        _ selector: Selector,
        from messages: inout [Message],
        keeping: Bool = false
    ) throws -> [Message] {
        let positions = try selector.positions(in: messages)
        let taken = positions.map { messages[$0] }
        if !keeping { for position in positions.reversed() { messages.remove(at: position) } }
        return taken
    }

    func deliver(_ message: Message) throws {
        let to = Int(message.to.rawValue)
        heading(text.text(message) + " arrives" + (try server(to).core == nil ? ", \(to) is down" : ""))
        try step(to, .message(message))
    }

    /// `partition 1,2 | 3`; who is in no part is with nobody.
    private func partition(_ words: inout Words) throws {
        var parts: [[Int]] = []
        repeat { parts.append(try Words.list(words.next("servers"))) } while words.take("|")
        cut = []
        for from in servers.map(\.number) {
            for to in servers.map(\.number) where from != to {
                if !parts.contains(where: { $0.contains(from) && $0.contains(to) }) {
                    cut.insert(Link(from: from, to: to))
                }
            }
        }
        loseWhatIsCut()
    }

    private func loseWhatIsCut() {
        network.removeAll { message in
            let link = Link(from: Int(message.from.rawValue), to: Int(message.to.rawValue))
            guard cut.contains(link) else { return false }
            heading("lost \(text.text(message))")
            return true
        }
    }

    // MARK: Requests

    func runRequest(_ command: String, _ words: inout Words) throws {
        let number = try words.number("a server")
        switch command {
        case "propose":
            let proposals = try words.all().map { word in
                Proposal(token: try token(word, at: number), command: Array(word.utf8))
            }
            try step(number, .propose(proposals))
        case "read":
            let labels = words.isEmpty ? ["a read"] : words.all()
            try step(number, .read(try labels.map { try token("read \($0)", at: number) }))
        case "change":
            let target = try target(from: try core(number).configuration, &words)
            let label = "change to \(MessageText.text(target))"
            try step(number, .changeMembership(try token(label, at: number), to: target))
        default:
            let to = words.optionalNumber()
            let label = "transfer" + (to.map { " to \($0)" } ?? "")
            try step(number, .transfer(try token(label, at: number), to: to.map { ServerID(UInt64($0)) }))
        }
    }

    /// `add 4`, `learner 4`, `remove 3`, `replace 3 4`, one or several.
    private func target(from configuration: Configuration, _ words: inout Words) throws -> Configuration {
        var voters = configuration.voters.map { Int($0.rawValue) }
        var learners = configuration.learners.map { Int($0.rawValue) }
        while !words.isEmpty {
            let word = try words.next("add, learner, remove or replace")
            let number = try words.number("a server")
            voters.removeAll { $0 == number }
            learners.removeAll { $0 == number }
            switch word {
            case "add": voters.append(number)
            case "learner": learners.append(number)
            case "remove": break
            case "replace": voters.append(try words.number("a server"))
            default: throw Broken("change: \(word) is not understood")
            }
        }
        return Configuration(voters: voters.map { Self.member($0) }, learners: learners.map { Self.member($0) })
    }
}

extension Words {
    /// A message made by hand: `2->1 append t3 prev 1.3 entries 3.4 commit 5`, with the words that transcripts print.
    mutating func message(to world: World) throws -> Message {
        let (from, to) = try link()
        guard let from, let to else { throw Broken("a message goes from one server to another") }
        let kind = try next("a kind")
        let termWord = try next("a term such as t3")
        guard termWord.first == "t", let term = Term(termWord.dropFirst()) else {
            throw Broken("\(termWord) is no term such as t3")
        }
        let sender = ServerID(UInt64(from))
        // It speaks of the session of now, as an honest server's does.
        let core = try world.server(to).core
        let session = core?.progress(sender)?.session ?? core?.leaderSession ?? 0
        return Message(from: sender, to: ServerID(UInt64(to)), term: term, body: try body(kind, session))
    }

    private mutating func body(_ kind: String, _ session: UInt64) throws -> Message.Body {
        switch kind {
        case "pre-vote?", "vote?":
            guard take("last") else { throw Broken("\(kind) last POSITION") }
            let request = VoteRequest(last: try position(), isTransfer: take("transfer"))
            return kind == "vote?" ? .voteRequest(request) : .preVoteRequest(request)
        case "pre-vote": return .preVoteResponse(granted: try next("granted or refused") == "granted")
        case "vote": return .voteResponse(granted: try next("granted or refused") == "granted")
        case "append":
            guard take("prev") else { throw Broken("append tT prev POSITION [entries …] [commit N]") }
            let previous = try position()
            let sent = take("entries") ? try entries() : []
            let commit = take("commit") ? try number("an index") : 0
            return .append(
                Append(previous: previous, entries: sent, commit: LogIndex(commit), session: session, round: 0)
            )
        case "append-ok":
            guard take("match") else { throw Broken("append-ok tT match INDEX") }
            let result = AppendResponse.Result.accepted(match: LogIndex(try number("an index")))
            return .appendResponse(AppendResponse(result: result, session: session, round: 0))
        case "append-no":
            guard take("at") else { throw Broken("append-no tT at INDEX hint POSITION") }
            let rejected = LogIndex(try number("an index"))
            guard take("hint") else { throw Broken("append-no tT at INDEX hint POSITION") }
            let result = AppendResponse.Result.rejected(rejected: rejected, hint: try position())
            return .appendResponse(AppendResponse(result: result, session: session, round: 0))
        case "heartbeat":
            let commit = take("commit") ? try number("an index") : 0
            return .heartbeat(Heartbeat(commit: LogIndex(commit), session: session, round: 0))
        case "heartbeat-ok": return .heartbeatResponse(HeartbeatResponse(session: session, round: 0))
        case "timeout-now": return .timeoutNow
        default: throw Broken("a message \(kind) cannot be made by hand")
        }
    }
}
