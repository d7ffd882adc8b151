import Raft

/// What happened in a run: always a hash of it, and on demand a text.
struct Trace: Sendable {
    private(set) var hash: UInt64 = 0
    private(set) var lines: [String] = []
    let keepsText: Bool

    init(keepsText: Bool) { self.keepsText = keepsText }

    @inline(__always)
    mutating func mix(_ kind: UInt64, _ first: UInt64, _ second: UInt64) {
        hash = mixed(mixed(mixed(hash, kind), first), second)
    }

    /// Notes a line, with the time in seconds; the text is only made when somebody wants it.
    @inline(__always)
    mutating func note(_ time: UInt64, _ text: () -> String) {
        if keepsText { append(time, text()) }
    }

    private mutating func append(_ time: UInt64, _ text: String) {
        let micros = String(time % 1_000_000)
        let padded = String(repeating: "0", count: 6 - micros.count) + micros
        lines.append("\(time / 1_000_000).\(padded) \(text)")
    }

    // MARK: Texts

    /// A number for the kind of a message, and for what it answers.
    static func kind(_ message: Message) -> UInt64 {
        switch message.body {
        case .preVoteRequest: 1
        case .preVoteResponse(let granted): granted ? 2 : 3
        case .voteRequest: 4
        case .voteResponse(let granted): granted ? 5 : 6
        case .append: 7
        case .appendResponse: 8
        case .heartbeat: 9
        case .heartbeatResponse: 10
        case .timeoutNow: 11
        case .readIndexRequest: 12
        case .readIndexResponse: 13
        case .propose: 14
        case .proposeResponse: 15
        }
    }

    static func text(_ message: Message) -> String {
        "\(message.from.rawValue) → \(message.to.rawValue) term \(message.term) " + text(message.body)
    }

    private static func text(_ body: Message.Body) -> String {
        switch body {
        case .preVoteRequest(let request): "would you vote for \(request.last)?"
        case .preVoteResponse(let granted): granted ? "I would" : "I would not"
        case .voteRequest(let request): "vote for \(request.last)\(request.isTransfer ? " (handed over)" : "")!"
        case .voteResponse(let granted): granted ? "you have my vote" : "no vote"
        case .append(let append):
            "append behind \(append.previous): \(append.entries.map { text($0) }.joined(separator: " ")) commit \(append.commit)"
                + " session \(append.session) round \(append.round)"
        case .appendResponse(let response):
            switch response.result {
            case .accepted(let match): "holds \(match) session \(response.session) round \(response.round)"
            case .rejected(let index, let hint): "lacks \(index), try \(hint) session \(response.session)"
            }
        case .heartbeat(let beat): "heartbeat commit \(beat.commit) session \(beat.session) round \(beat.round)"
        case .heartbeatResponse(let beat): "heard session \(beat.session) round \(beat.round)"
        case .timeoutNow: "campaign now"
        case .readIndexRequest(let id): "read index? (\(id % 1000))"
        case .readIndexResponse(let id, let index): "read index \(index.map(String.init) ?? "unknown") (\(id % 1000))"
        case .propose(let id, let commands): "takes \(commands.count) commands? (\(id % 1000))"
        case .proposeResponse(let id, .accepted(let first)): "took them from \(first) on (\(id % 1000))"
        case .proposeResponse(let id, .rejected): "took none (\(id % 1000))"
        case .proposeResponse(let id, .overloaded): "has too much to do (\(id % 1000))"
        }
    }

    static func text(_ entry: Entry) -> String {
        switch entry.payload {
        case .noop: "\(entry.position)"
        case .command(let bytes):
            "\(entry.position)#\(RegisterCommand(decoding: bytes).map { String($0.operation) } ?? "?")"
        case .configuration(let configuration): "\(entry.position)[\(configuration)]"
        }
    }

    static func text(_ write: StorageWrite) -> String {
        var parts = ["\(write.sequence):"]
        if let state = write.hardState {
            parts.append("term \(state.term) vote \(state.vote.map { String($0.rawValue) } ?? "none")")
        }
        if let base = write.replaceLog { parts.append("new log behind \(base.position)") }
        if let first = write.truncateFrom { parts.append("truncate from \(first)") }
        if !write.append.isEmpty { parts.append(write.append.map { text($0) }.joined(separator: " ")) }
        if let base = write.trimTo { parts.append("trim to \(base.position)") }
        return parts.joined(separator: " ")
    }
}
