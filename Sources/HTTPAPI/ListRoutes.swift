import HTTPTypes
import KeyValue
import KeyValueService
import NIOCore

/// `GET /kv` and `DELETE /kv`: all keys that begin with a prefix.
struct ListRoutes: Sendable {
    /// Items of a page, when the client names no bound, and at most.
    static let defaultLimit = 1_000
    static let maximumLimit = 10_000
    /// Keys and values of a page, in bytes. A page ends there, whatever the limit.
    static let pageBytes = 4 << 20

    let server: ServerCore

    var routes: [Route] {
        [
            Route(
                method: .get,
                pattern: "/kv",
                parameters: [
                    "prefix", "delimiter", "limit", "cursor", "keys_only", "count", "reverse", "consistency", "timeout",
                    "redirect",
                ]
            ) { try await list($0) },
            Route(method: .delete, pattern: "/kv", parameters: ["prefix", "all", "timeout", "redirect"]) {
                try await deletePrefix($0)
            },
        ]
    }

    // MARK: Listing

    private func list(_ request: APIRequest) async throws -> Answer {
        let consistency = try request.query["consistency"]?.consistency() ?? .strong
        let query = try rangeQuery(request)
        let counts = try request.flag("count")
        if let answer = try redirect(request) { return answer }
        let timeout = try request.timeout(server.service.options.defaultTimeout)
        if consistency == .strong { try await server.service.confirmRead(timeout: timeout) }

        var (page, count) = try read(query, counts: counts)
        if query.limit == 0 {
            page.items = []
            page.groups = []
            page.more = (count ?? 0) > 0
        }
        var json = JSONWriter(capacity: 1024)
        json.beginObject()
        json.member("revision", page.mark.revision)
        json.name("items")
        json.beginArray()
        for item in page.items { json.item(item, withValue: !query.keysOnly) }
        json.endArray()
        if query.delimiter != nil {
            json.name("prefixes")
            json.beginArray()
            for group in page.groups { json.key(group) }
            json.endArray()
        }
        if let count { json.member("count", count) }
        json.member("more", page.more)
        var cursor: String?
        if page.more, query.limit > 0, let last = page.last { cursor = Cursor(after: last).text }
        if let cursor { json.member("cursor", cursor) }
        json.endObject()

        var answer = Answer.json(200, json.buffer)
        answer.revision = page.mark.revision
        answer.consistency = consistency
        if let cursor { answer.link = "<\(nextTarget(request.query, cursor: cursor))>; rel=\"next\"" }
        return server.stamped(answer)
    }

    /// The page and the count, of one state: they are read one after the other, so again while something changes in between.
    private func read(_ query: RangeQuery, counts: Bool) throws -> (page: Page, count: Int?) {
        var query = query
        query.limit = max(1, query.limit)
        for _ in 0..<8 {
            let page = try server.service.readableStore().range(query)
            guard counts else { return (page, nil) }
            let (count, mark) = try server.service.store.count(prefix: query.prefix)
            if mark.revision == page.mark.revision { return (page, count) }
        }
        throw ServiceError(.overloaded)
    }

    private func rangeQuery(_ request: APIRequest) throws(Problem) -> RangeQuery {
        var query = RangeQuery(limit: Self.defaultLimit, maximumBytes: Self.pageBytes)
        query.prefix = request.query["prefix"]?.value ?? []
        try checkPrefix(query.prefix)
        if let delimiter = request.query["delimiter"] {
            guard (1...server.options.limits.keyBytes).contains(delimiter.value.count) else {
                throw .invalidParameter("delimiter", "must have 1 to \(server.options.limits.keyBytes) bytes.")
            }
            query.delimiter = delimiter.value
        }
        if let limit = request.query["limit"] {
            // 0 makes sense with ?count: how many there are, and none of them.
            guard let number = Int(exactly: try limit.number()), (0...Self.maximumLimit).contains(number) else {
                throw Problem.invalidParameter("limit", "must lie between 0 and \(Self.maximumLimit).")
                    .with { $0.limit = Self.maximumLimit }
            }
            query.limit = number
        }
        if let cursor = request.query["cursor"] {
            guard let cursor = Cursor(cursor.value) else {
                throw .invalidParameter("cursor", "is none that this API gave; begin again without it.")
            }
            query.after = cursor.after
        }
        query.keysOnly = try request.flag("keys_only")
        query.reverse = try request.flag("reverse")
        return query
    }

    private func checkPrefix(_ prefix: [UInt8]) throws(Problem) {
        guard prefix.count <= server.options.limits.keyBytes else {
            throw Problem(
                400,
                .invalidKey,
                "prefix too long",
                "No key is longer than \(server.options.limits.keyBytes) bytes, so no key begins with this prefix."
            ).with { $0.limit = server.options.limits.keyBytes }
        }
    }

    private func redirect(_ request: APIRequest) throws(Problem) -> Answer? {
        guard try request.flag("redirect") else { return nil }
        return KeyHandler(server: server).redirect(to: request.target)
    }

    /// The same request with another cursor.
    private func nextTarget(_ query: Query, cursor: String) -> String {
        var parts: [String] = []
        for parameter in query.parameters where parameter.name != "cursor" {
            parts.append("\(parameter.name)=\(PercentDecoding.encode(parameter.value))")
        }
        parts.append("cursor=\(cursor)")
        return "/kv?" + parts.joined(separator: "&")
    }

    // MARK: Deleting

    private func deletePrefix(_ request: APIRequest) async throws -> Answer {
        guard request.fields.ifMatch == nil, request.fields.ifNoneMatch == nil else {
            throw Problem.notSupported("A precondition on the deletion of a prefix")
        }
        guard let prefix = request.query["prefix"]?.value else {
            throw Problem.invalidParameter(
                "prefix",
                "is missing: name what to delete, or ?prefix=&all=true for all keys."
            )
        }
        try checkPrefix(prefix)
        let all = try request.flag("all")
        guard !prefix.isEmpty || all else {
            throw Problem.invalidParameter("all", "an empty prefix names every key; add all=true if that is meant.")
        }
        if let answer = try redirect(request) { return answer }
        let timeout = try request.timeout(server.service.options.defaultTimeout)
        let written = try await server.service.deletePrefix(prefix, timeout: timeout)
        switch written.outcome {
        case .deleted(let revision, let count, _):
            var json = JSONWriter()
            json.beginObject()
            json.member("revision", revision)
            json.member("deleted", count)
            json.endObject()
            var answer = Answer.json(200, json.buffer)
            answer.revision = revision
            return server.stamped(answer)
        case .invalid(let reason): throw Problem.invalidCommand(reason)
        case .put, .conditionFailed:
            throw Problem(
                500,
                .nodeFault,
                "internal error",
                "The deletion was answered as another kind of write; see the log."
            ).with { $0.outcome = .unknown }
        }
    }
}

/// Where a listing goes on. Opaque to clients, so that what it holds may change.
struct Cursor: Equatable {
    private static let version: UInt8 = 1

    /// The last key or group of the page before.
    var after: [UInt8]

    init(after: [UInt8]) {
        self.after = after
    }

    init?(_ text: [UInt8]) {
        guard let bytes = Base64.decode(text), bytes.first == Self.version, bytes.count <= 1 + 480 else { return nil }
        after = Array(bytes.dropFirst())
    }

    var text: String { String(decoding: Base64.encode([Self.version] + after, forURL: true), as: UTF8.self) }
}

extension JSONWriter {
    /// A key alone: text, or an object with its Base64 when it is no UTF-8.
    mutating func key(_ bytes: [UInt8]) {
        if let text = String(validating: bytes, as: UTF8.self) {
            value(text)
        } else {
            beginObject()
            self.bytes(bytes, text: "key", base64: "key_base64")
            endObject()
        }
    }
}
