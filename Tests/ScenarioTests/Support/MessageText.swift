@testable import Raft

/// Says positions, entries, messages and writes the way the transcripts do.
///
/// Sessions and request ids are random numbers; in a transcript they are counted in the order in which they are first seen,
/// sessions within a term and only named from the second on.
struct MessageText {
    private struct Dealings: Hashable {
        var leader: ServerID
        var follower: ServerID
        var term: Term
    }

    private var sessions: [Dealings: [UInt64]] = [:]
    private var requests: [UInt64] = []

    // MARK: Entries

    static func text(_ position: LogPosition) -> String { "\(position.term).\(position.index)" }

    static func text(_ entry: Entry) -> String {
        switch entry.payload {
        case .noop: "\(text(entry.position)):noop"
        case .command(let bytes) where bytes.isEmpty: text(entry.position)
        case .command(let bytes): "\(text(entry.position)):\(String(decoding: bytes, as: UTF8.self))"
        case .configuration(let configuration): "\(text(entry.position)):members(\(text(configuration)))"
        }
    }

    /// Entries one by one; those without content by their terms, as in ``runs(_:)``.
    static func text(_ entries: [Entry]) -> String {
        var words: [String] = []
        var bare: [Entry] = []
        for entry in entries {
            if entry.payload == .command([]) {
                bare.append(entry)
                continue
            }
            if !bare.isEmpty { words.append(runs(bare)) }
            bare = []
            words.append(text(entry))
        }
        if !bare.isEmpty { words.append(runs(bare)) }
        return words.joined(separator: " ")
    }

    static func text(_ configuration: Configuration) -> String {
        func list(_ ids: [ServerID]) -> String { ids.map { "\($0.rawValue)" }.joined(separator: " ") }
        var text = list(configuration.voters)
        if configuration.isJoint { text += " and \(list(configuration.outgoing))" }
        if !configuration.learners.isEmpty { text += ", learners \(list(configuration.learners))" }
        if !configuration.learnersNext.isEmpty { text += ", learners next \(list(configuration.learnersNext))" }
        return text
    }

    /// A log by its terms: `1.1..3 4.4..5` holds three entries of term 1 and two of term 4.
    static func runs(_ entries: [Entry]) -> String {
        var runs: [(term: Term, first: LogIndex, last: LogIndex)] = []
        for entry in entries {
            if let last = runs.indices.last, runs[last].term == entry.term, runs[last].last + 1 == entry.index {
                runs[last].last = entry.index
            } else {
                runs.append((entry.term, entry.index, entry.index))
            }
        }
        if runs.isEmpty { return "empty" }
        return runs.map { "\($0.term).\($0.first)" + ($0.last > $0.first ? "..\($0.last)" : "") }
            .joined(separator: " ")
    }

    static func text(_ write: StorageWrite) -> String {
        var parts: [String] = []
        if let base = write.replaceLog { parts.append("begin the log behind \(text(base.position))") }
        if let first = write.truncateFrom { parts.append("truncate from \(first)") }
        if !write.append.isEmpty { parts.append("append \(text(write.append))") }
        if let base = write.trimTo { parts.append("trim to \(text(base.position))") }
        if let state = write.hardState { parts.append("t\(state.term) vote \(text(state.vote))") }
        return parts.joined(separator: "; ")
    }

    static func text(_ server: ServerID?) -> String { server.map { "\($0.rawValue)" } ?? "nobody" }

    // MARK: Messages

    /// The word for a message's kind, as commands select by it.
    static func kind(_ body: Message.Body) -> String {
        switch body {
        case .preVoteRequest: "pre-vote?"
        case .preVoteResponse: "pre-vote"
        case .voteRequest: "vote?"
        case .voteResponse: "vote"
        case .append: "append"
        case .appendResponse(let response): if case .accepted = response.result { "append-ok" } else { "append-no" }
        case .heartbeat: "heartbeat"
        case .heartbeatResponse: "heartbeat-ok"
        case .timeoutNow: "timeout-now"
        case .readIndexRequest: "read?"
        case .readIndexResponse: "read-index"
        case .propose: "propose"
        case .proposeResponse: "proposed"
        }
    }

    mutating func text(_ message: Message) -> String {
        let details = details(message)
        let head = "\(message.from.rawValue)→\(message.to.rawValue) \(Self.kind(message.body)) t\(message.term)"
        return details.isEmpty ? head : head + " " + details
    }

    private mutating func details(_ message: Message) -> String {
        switch message.body {
        case .preVoteRequest(let request), .voteRequest(let request):
            return "last \(Self.text(request.last))" + (request.isTransfer ? " by transfer" : "")
        case .preVoteResponse(let granted), .voteResponse(let granted):
            return granted ? "granted" : "refused"
        case .append(let append):
            let entries = append.entries.isEmpty ? "empty" : "entries \(Self.text(append.entries))"
            return "prev \(Self.text(append.previous)) \(entries) commit \(append.commit)"
                + tail(
                    append.session,
                    append.round,
                    Dealings(leader: message.from, follower: message.to, term: message.term)
                )
        case .appendResponse(let response):
            let tail = tail(
                response.session,
                response.round,
                Dealings(leader: message.to, follower: message.from, term: message.term)
            )
            switch response.result {
            case .accepted(let match): return "match \(match)" + tail
            case .rejected(let rejected, let hint): return "at \(rejected) hint \(Self.text(hint))" + tail
            }
        case .heartbeat(let heartbeat):
            return "commit \(heartbeat.commit)"
                + tail(
                    heartbeat.session,
                    heartbeat.round,
                    Dealings(leader: message.from, follower: message.to, term: message.term)
                )
        case .heartbeatResponse(let response):
            let tail = tail(
                response.session,
                response.round,
                Dealings(leader: message.to, follower: message.from, term: message.term)
            )
            return String(tail.drop { $0 == " " })
        case .timeoutNow: return ""
        case .readIndexRequest(let id): return "#\(number(id))"
        case .readIndexResponse(let id, let index): return "#\(number(id)) " + (index.map { "index \($0)" } ?? "none")
        case .propose(let id, let commands):
            let list = commands.map { String(decoding: $0, as: UTF8.self) }.joined(separator: " ")
            return "#\(number(id)) \(list)"
        case .proposeResponse(let id, .accepted(let first)): return "#\(number(id)) from \(Self.text(first))"
        case .proposeResponse(let id, .rejected(let leader)):
            return "#\(number(id)) refused, leader \(Self.text(leader))"
        case .proposeResponse(let id, .overloaded): return "#\(number(id)) overloaded"
        }
    }

    private mutating func tail(_ session: UInt64, _ round: UInt64, _ dealings: Dealings) -> String {
        var text = ""
        if session != 0 {
            if !sessions[dealings, default: []].contains(session) { sessions[dealings, default: []].append(session) }
            let number = sessions[dealings]?.firstIndex(of: session) ?? 0
            if number > 0 { text += " session \(number + 1)" }
        }
        if round > 0 { text += " round \(round)" }
        return text
    }

    private mutating func number(_ request: UInt64) -> Int {
        if !requests.contains(request) { requests.append(request) }
        return (requests.firstIndex(of: request) ?? 0) + 1
    }
}
