internal import FoundationEssentials
internal import NIOCore
internal import NIOFoundationCompat

/// A problem document (RFC 9457) as nodes answer it.
struct Problem: Decodable {
    var type: String?
    var title: String?
    var detail: String?
    var outcome: ClientError.Outcome?
    var leader: NodeStatus.Leader?

    /// Turns an answer of 400 and above into the error that it stands for.
    static func error(from response: KontikiClient.Response, isRead: Bool) -> ClientError {
        let problem = try? JSONDecoder().decode(Problem.self, from: Data(buffer: response.body))
        let code: ClientError.Code =
            switch response.status {
            case 410: .compacted
            case 412: .preconditionFailed
            case 413: .tooLarge
            case 429, 503: .unavailable
            case 504: .timedOut
            case 507: .storageFull
            case 400..<500: .refused
            default: problem == nil ? .badAnswer : .unavailable
            }
        let fallback: ClientError.Outcome = response.status >= 500 && !isRead ? .unknown : .notExecuted
        return ClientError(
            code,
            outcome: isRead ? .notExecuted : problem?.outcome ?? fallback,
            status: response.status,
            problemType: problem?.type,
            endpoint: response.endpoint.url,
            leader: problem?.leader?.http,
            // A line of somebody else's words, and no more than that, wherever it is shown.
            (problem?.detail ?? problem?.title).map { Printable.shown($0) }
                ?? "the answer is no problem document of a Kontiki node"
        )
    }
}

/// Bytes that travel as text under one name, or as base64 under another.
func bytes(_ text: String?, _ base64: String?) -> [UInt8]? {
    if let text { return Array(text.utf8) }
    return base64.flatMap { Data(base64Encoded: $0) }.map { Array($0) }
}

struct ItemDocument: Decodable {
    var key: String?
    var keyBase64: String?
    var value: String?
    var valueBase64: String?
    var contentType: String?
    var createRevision: UInt64
    var modRevision: UInt64
    var version: UInt64
    var lease: String?

    enum CodingKeys: String, CodingKey {
        case key
        case keyBase64 = "key_base64"
        case value
        case valueBase64 = "value_base64"
        case contentType = "content_type"
        case createRevision = "create_revision"
        case modRevision = "mod_revision"
        case version, lease
    }

    var item: Item? {
        guard let key = bytes(key, keyBase64) else { return nil }
        return Item(
            key: Key(bytes: key),
            value: bytes(value, valueBase64) ?? [],
            contentType: contentType,
            createRevision: createRevision,
            modifyRevision: modRevision,
            version: version,
            lease: lease.flatMap { LeaseID($0) }
        )
    }
}

/// A key that is text, or an object with `key_base64`.
struct KeyDocument: Decodable {
    var key: Key

    private enum CodingKeys: String, CodingKey {
        case keyBase64 = "key_base64"
    }

    init(from decoder: any Decoder) throws {
        if let text = try? decoder.singleValueContainer().decode(String.self) {
            key = Key(text)
            return
        }
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let text = try container.decode(String.self, forKey: .keyBase64)
        guard let bytes = bytes(nil, text) else {
            throw DecodingError.dataCorruptedError(forKey: .keyBase64, in: container, debugDescription: "no base64")
        }
        key = Key(bytes: bytes)
    }
}

struct ListDocument: Decodable {
    var revision: UInt64
    var items: [ItemDocument]
    var prefixes: [KeyDocument]?
    var count: Int?
    var cursor: String?
    var more: Bool
}

struct IncrementDocument: Decodable {
    var value: Int64
}

struct TransactionDocument: Decodable {
    var succeeded: Bool
}

struct PutDocument: Decodable {
    var revision: UInt64
    var created: Bool
}

struct DeleteDocument: Decodable {
    var revision: UInt64
    var deleted: Int
}

struct ReadinessDocument: Decodable {
    struct Check: Decodable {
        var name: String
        var ok: Bool
        var detail: String?
    }

    var checks: [Check]
}

struct MembersDocument: Decodable {
    var members: [ClusterMember]
}

struct LeaseDocument: Decodable {
    var id: String
    var ttl: String
    var remaining: String
    var keys: [KeyDocument]?

    var lease: Lease? {
        guard let id = LeaseID(id), let time = Duration(nodeText: ttl), let left = Duration(nodeText: remaining) else {
            return nil
        }
        return Lease(id: id, time: time, remaining: left, keys: keys?.map(\.key) ?? [])
    }
}

struct LockDocument: Decodable {
    var name: String
    var token: UInt64
    var lease: String
    var value: String?
    var revision: UInt64

    var lock: Lock {
        Lock(name: name, token: token, lease: LeaseID(lease) ?? LeaseID(0), value: value, revision: revision)
    }
}

extension Duration {
    /// As nodes write and read it: `500ms`, `30s`, `5m`, `1h`, with a number below 2^40; nil for anything else.
    package init?(nodeText text: String) {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard let number = Int64(digits), number >= 0, number < 1 << 40 else { return nil }
        switch text[digits.endIndex...] {
        case "ms": self = .milliseconds(number)
        case "s": self = .seconds(number)
        case "m": self = .seconds(number * 60)
        case "h": self = .seconds(number * 3600)
        default: return nil
        }
    }
}

/// A request's body that is JSON.
protocol RequestDocument: Encodable {}

extension RequestDocument {
    func encoded() throws(ClientError) -> [UInt8] {
        do {
            return Array(try JSONEncoder().encode(self))
        } catch {
            throw ClientError(.invalidArgument, "the request cannot be written as JSON: \(error)")
        }
    }
}

struct LeaseRequest: RequestDocument {
    var ttl: String
}

struct LockRequest: RequestDocument {
    var ttl: String
    var wait: String?
    var value: String?
}

/// What a change of the membership, or a transfer, is asked with.
struct MemberRequest: RequestDocument {
    var name: String?
    var addr: String?
    var to: String?
}

extension KontikiClient.Response {
    func decoded<Document: Decodable>(_: Document.Type) throws(ClientError) -> Document {
        do {
            return try JSONDecoder().decode(Document.self, from: Data(buffer: body))
        } catch {
            throw ClientError(
                .badAnswer,
                outcome: .executed,
                status: status,
                endpoint: endpoint.url,
                "the answer is not what a Kontiki node says: \(error)"
            )
        }
    }
}
