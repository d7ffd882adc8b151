package import NIOCore
package import Raft

/// The wire form of the core's messages. A first byte names the form; others are refused.
///
/// In the second form an append and a heartbeat say where their leader's log ends, behind their round. It is sent to peers whose protocol has it
/// (version 2), and only where there is something to say: everything else is of the first form, which every version reads.
package enum MessageCodec {
    static let format: UInt8 = 1
    static let formatWithLeaderLog: UInt8 = 2
    /// The version of the protocol that reads the second form.
    static let versionWithLeaderLog: UInt16 = 2
    /// Format, type, from, to, term.
    static let fixedBytes = 26
    /// Term, kind and count of bytes in front of an entry's payload.
    static let entryBytes = 13

    enum Kind: UInt8 {
        case preVoteRequest = 1
        case preVoteResponse, voteRequest, voteResponse, append, appendResponse, heartbeat, heartbeatResponse
        case timeoutNow, readIndexRequest, readIndexResponse, propose, proposeResponse
    }

    /// At least the bytes that ``encode(_:into:)`` will write, nearly exact for everything that can be large.
    static func estimatedBytes(_ body: Message.Body) -> Int {
        let small = 128
        switch body {
        case .append(let append):
            return append.entries.reduce(small) { sum, entry in
                switch entry.payload {
                case .command(let bytes): sum + entryBytes + bytes.count
                case .noop: sum + entryBytes
                case .configuration(let configuration): sum + entryBytes + 512 * configuration.members.count
                }
            }
        case .propose(_, let commands): return commands.reduce(small) { $0 + 4 + $1.count }
        default: return small
        }
    }

    /// Writes `message` at the end of `buffer`, for a peer that speaks `version` of the protocol. An append's entries must be contiguous (R25):
    /// their indexes are not sent.
    package static func encode(_ message: Message, version: UInt16, into buffer: inout ByteBuffer) {
        let leaderLog = version >= versionWithLeaderLog ? message.body.leaderLog : nil
        func begin(_ kind: Kind) {
            buffer.write(leaderLog == nil ? format : formatWithLeaderLog)
            buffer.write(kind.rawValue)
            buffer.write(message.from.rawValue)
            buffer.write(message.to.rawValue)
            buffer.write(message.term)
        }
        switch message.body {
        case .preVoteRequest(let request):
            begin(.preVoteRequest)
            encode(request, into: &buffer)
        case .preVoteResponse(let granted):
            begin(.preVoteResponse)
            buffer.write(UInt8(granted ? 1 : 0))
        case .voteRequest(let request):
            begin(.voteRequest)
            encode(request, into: &buffer)
        case .voteResponse(let granted):
            begin(.voteResponse)
            buffer.write(UInt8(granted ? 1 : 0))
        case .append(let append):
            begin(.append)
            encode(append, leaderLog, into: &buffer)
        case .appendResponse(let response):
            begin(.appendResponse)
            encode(response, into: &buffer)
        case .heartbeat(let heartbeat):
            begin(.heartbeat)
            buffer.write(heartbeat.commit)
            buffer.write(heartbeat.session)
            buffer.write(heartbeat.round)
            encode(leaderLog, into: &buffer)
        case .heartbeatResponse(let response):
            begin(.heartbeatResponse)
            buffer.write(response.session)
            buffer.write(response.round)
        case .timeoutNow:
            begin(.timeoutNow)
        case .readIndexRequest(let requestID):
            begin(.readIndexRequest)
            buffer.write(requestID)
        case .readIndexResponse(let requestID, let index):
            begin(.readIndexResponse)
            buffer.write(requestID)
            buffer.write(UInt8(index == nil ? 0 : 1))
            if let index { buffer.write(index) }
        case .propose(let requestID, let commands):
            begin(.propose)
            buffer.write(requestID)
            buffer.write(UInt32(commands.count))
            for command in commands { buffer.writeCounted(command) }
        case .proposeResponse(let requestID, let result):
            begin(.proposeResponse)
            buffer.write(requestID)
            encode(result, into: &buffer)
        }
    }

    private static func encode(_ request: VoteRequest, into buffer: inout ByteBuffer) {
        buffer.write(request.last)
        buffer.write(UInt8(request.isTransfer ? 1 : 0))
    }

    private static func encode(_ leaderLog: LeaderLog?, into buffer: inout ByteBuffer) {
        guard let leaderLog else { return }
        buffer.write(leaderLog.last)
        buffer.write(leaderLog.commit)
    }

    private static func encode(_ append: Append, _ leaderLog: LeaderLog?, into buffer: inout ByteBuffer) {
        buffer.write(append.previous)
        buffer.write(append.commit)
        buffer.write(append.session)
        buffer.write(append.round)
        encode(leaderLog, into: &buffer)
        buffer.write(UInt32(append.entries.count))
        var index = append.previous.index
        for entry in append.entries {
            index += 1
            precondition(
                entry.index == index,
                "the entries of an append are contiguous and follow its previous position"
            )
            let (kind, bytes) = entry.payload.encoded
            buffer.write(entry.term)
            buffer.write(kind)
            buffer.writeCounted(bytes)
        }
    }

    private static func encode(_ response: AppendResponse, into buffer: inout ByteBuffer) {
        buffer.write(response.session)
        buffer.write(response.round)
        switch response.result {
        case .accepted(let match):
            buffer.write(UInt8(1))
            buffer.write(match)
        case .rejected(let rejected, let hint):
            buffer.write(UInt8(0))
            buffer.write(rejected)
            buffer.write(hint)
        }
    }

    private static func encode(_ result: ProposeResult, into buffer: inout ByteBuffer) {
        switch result {
        case .accepted(let first):
            buffer.write(UInt8(1))
            buffer.write(first)
        case .rejected(let leader):
            buffer.write(UInt8(0))
            buffer.write(leader?.rawValue ?? 0)
        case .overloaded: buffer.write(UInt8(2))
        }
    }
}

extension MessageCodec {
    /// Reads a message that takes all of `buffer`. Whatever the bytes are: a message or an error.
    package static func decode(_ buffer: ByteBuffer) throws(WireError) -> Message {
        try buffer.parse { reader throws(WireError) in
            let form = try reader.read(UInt8.self)
            guard form == format || form == formatWithLeaderLog else {
                throw WireError("a message of an unknown format")
            }
            guard let kind = Kind(rawValue: try reader.read()) else { throw WireError("a message of an unknown type") }
            guard form == format || kind == .append || kind == .heartbeat else {
                throw WireError("a message of a form that its type does not have")
            }
            let from = try reader.readServerID()
            let to = try reader.readServerID()
            let term: Term = try reader.read()
            return Message(from: from, to: to, term: term, body: try decodeBody(kind, form, &reader))
        }
    }

    private static func decodeLeaderLog(_ form: UInt8, _ reader: inout WireReader) throws(WireError) -> LeaderLog? {
        guard form == formatWithLeaderLog else { return nil }
        let last: LogIndex = try reader.read()
        return LeaderLog(last: last, commit: try reader.read())
    }

    private static func decodeHeartbeat(_ form: UInt8, _ reader: inout WireReader) throws(WireError) -> Heartbeat {
        let commit: LogIndex = try reader.read()
        let session: UInt64 = try reader.read()
        let round: UInt64 = try reader.read()
        let leaderLog = try decodeLeaderLog(form, &reader)
        return Heartbeat(commit: commit, session: session, round: round, leaderLog: leaderLog)
    }

    private static func decodeBody(
        _ kind: Kind,
        _ form: UInt8,
        _ reader: inout WireReader
    ) throws(WireError) -> Message.Body {
        switch kind {
        case .append: return .append(try decodeAppend(form, &reader))
        case .heartbeat: return .heartbeat(try decodeHeartbeat(form, &reader))
        case .preVoteRequest: return .preVoteRequest(try decodeVoteRequest(&reader))
        case .preVoteResponse: return .preVoteResponse(granted: try reader.readBool())
        case .voteRequest: return .voteRequest(try decodeVoteRequest(&reader))
        case .voteResponse: return .voteResponse(granted: try reader.readBool())
        case .appendResponse: return .appendResponse(try decodeAppendResponse(&reader))
        case .heartbeatResponse:
            let session: UInt64 = try reader.read()
            return .heartbeatResponse(HeartbeatResponse(session: session, round: try reader.read()))
        case .timeoutNow: return .timeoutNow
        case .readIndexRequest: return .readIndexRequest(requestID: try reader.read())
        case .readIndexResponse:
            let requestID: UInt64 = try reader.read()
            let index: LogIndex? = try reader.readBool() ? try reader.read() : nil
            return .readIndexResponse(requestID: requestID, index: index)
        case .propose:
            let requestID: UInt64 = try reader.read()
            let count = try reader.readCount(minimumSize: 4)
            var commands: [[UInt8]] = []
            commands.reserveCapacity(count)
            for _ in 0..<count { commands.append(try reader.readCountedBytes()) }
            return .propose(requestID: requestID, commands: commands)
        case .proposeResponse:
            let requestID: UInt64 = try reader.read()
            return .proposeResponse(requestID: requestID, try decodeProposeResult(&reader))
        }
    }

    private static func decodeVoteRequest(_ reader: inout WireReader) throws(WireError) -> VoteRequest {
        let last = try reader.readPosition()
        return VoteRequest(last: last, isTransfer: try reader.readBool())
    }

    private static func decodeAppend(_ form: UInt8, _ reader: inout WireReader) throws(WireError) -> Append {
        let previous = try reader.readPosition()
        let commit: LogIndex = try reader.read()
        let session: UInt64 = try reader.read()
        let round: UInt64 = try reader.read()
        let leaderLog = try decodeLeaderLog(form, &reader)
        let count = try reader.readCount(minimumSize: entryBytes)
        guard UInt64.max - previous.index >= UInt64(count) else { throw WireError("an entry's index is too large") }
        var entries: [Entry] = []
        entries.reserveCapacity(count)
        var index = previous.index
        for _ in 0..<count {
            index += 1
            let term: Term = try reader.read()
            let kind: UInt8 = try reader.read()
            guard let payload = Entry.Payload(kind: kind, bytes: try reader.readCountedBytes()) else {
                throw WireError("an entry's payload is malformed")
            }
            entries.append(Entry(index: index, term: term, payload: payload))
        }
        return Append(
            previous: previous,
            entries: entries,
            commit: commit,
            session: session,
            round: round,
            leaderLog: leaderLog
        )
    }

    private static func decodeAppendResponse(_ reader: inout WireReader) throws(WireError) -> AppendResponse {
        let session: UInt64 = try reader.read()
        let round: UInt64 = try reader.read()
        let result: AppendResponse.Result
        if try reader.readBool() {
            result = .accepted(match: try reader.read())
        } else {
            let rejected: LogIndex = try reader.read()
            result = .rejected(rejected: rejected, hint: try reader.readPosition())
        }
        return AppendResponse(result: result, session: session, round: round)
    }

    private static func decodeProposeResult(_ reader: inout WireReader) throws(WireError) -> ProposeResult {
        switch try reader.read(UInt8.self) {
        case 0:
            let leader: UInt64 = try reader.read()
            return .rejected(leader: leader == 0 ? nil : ServerID(leader))
        case 1: return .accepted(first: try reader.readPosition())
        case 2: return .overloaded
        default: throw WireError("an answer to commands of an unknown kind")
        }
    }
}

extension Message.Body {
    fileprivate var leaderLog: LeaderLog? {
        switch self {
        case .append(let append): append.leaderLog
        case .heartbeat(let heartbeat): heartbeat.leaderLog
        default: nil
        }
    }
}
