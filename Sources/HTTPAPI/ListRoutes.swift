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
    /// Keys that are looked at for a count before others have their turn.
    static let countedAtOnce = 5_000

    static let parameters =
        ["prefix", "delimiter", "limit", "cursor", "keys_only", "count", "reverse", "rev", "timeout", "redirect"]
        + ReadDemand.parameters + WatchRequest.parameters
    static let deleteParameters = ["prefix", "all", "timeout", "redirect"]

    let server: ServerCore

    var routes: [Route] {
        [
            Route(method: .get, pattern: "/kv") { try await list($0) },
            Route(method: .delete, pattern: "/kv") { try await deletePrefix($0) },
        ]
    }

    // MARK: Listing

    private func list(_ request: APIRequest) async throws -> Answer {
        let query = try rangeQuery(request)
        let counts = try request.flag("count")
        try request.refuseWatch()
        if let answer = try redirect(request) { return answer }
        let given = try await server.prepareRead(request, reaching: query.revision)

        var (page, count) = try await readAtOnce(query, counts: counts)
        if query.limit == 0 {
            page.items = []
            page.groups = []
            page.more = (count ?? 0) > 0
        }
        let revision = query.revision ?? page.mark.revision
        var cursor: String?
        if page.more, query.limit > 0, let last = page.last { cursor = Cursor(after: last, revision: revision).text }
        var answer = Answer(200, contentType: "application/json")
        var pieces = PagePieces(
            page: page,
            revision: revision,
            withValues: !query.keysOnly,
            withGroups: query.delimiter != nil,
            count: count,
            cursor: cursor
        )
        if pieces.isSmall { pieces.next().map { answer.body = .buffer($0) } } else { answer.pieces = pieces }
        answer.revision = revision
        if let cursor { answer.link = "<\(nextTarget(request.query, cursor: cursor))>; rel=\"next\"" }
        return server.stamped(answer, given)
    }

    /// The page and the count. While they are read the past that the count needs may go; then both are read again, the count at once.
    private func readAtOnce(_ query: RangeQuery, counts: Bool) async throws -> (page: Page, count: Int?) {
        for slice in [Self.countedAtOnce, Int.max] {
            do {
                return try await read(query, counts: counts, slice)
            } catch HistoryError.compacted where query.revision == nil {
                continue
            }
        }
        return try await read(query, counts: counts, Int.max)
    }

    /// The page and the count, of one revision.
    private func read(_ query: RangeQuery, counts: Bool, _ slice: Int) async throws -> (page: Page, count: Int?) {
        var query = query
        query.limit = max(1, query.limit)
        let store = try server.service.readableStore()
        let page = try store.range(query)
        guard counts else { return (page, nil) }
        var whole = RangeQuery(prefix: query.prefix)
        whole.revision = query.revision ?? page.mark.revision
        if whole.prefix.isEmpty, query.revision == nil {
            // All keys are counted already, at the present revision.
            let (count, mark) = try store.count(prefix: [])
            if mark.revision == page.mark.revision { return (page, count) }
        }
        return (page, try await count(whole, slice))
    }

    /// Counts in slices, so that neither a reader of the state's file nor a thread is held for long, however many keys there are.
    private func count(_ query: RangeQuery, _ slice: Int) async throws -> Int {
        var (query, count) = (query, 0)
        while true {
            let counted = try server.service.readableStore().count(query, maximumVisits: slice)
            count += counted.count
            guard let last = counted.last else { return count }
            query.after = last
            await Task.yield()
        }
    }

    private func rangeQuery(_ request: APIRequest) throws(Problem) -> RangeQuery {
        var query = RangeQuery(limit: Self.defaultLimit, maximumBytes: Self.pageBytes)
        query.prefix = request.query["prefix"]?.value ?? []
        try server.checkPrefix(query.prefix)
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
            query.revision = cursor.revision
        }
        if let rev = request.query["rev"] {
            let revision = try rev.number()
            if let pinned = query.revision, pinned != revision {
                throw .invalidParameter(
                    "rev",
                    "the cursor holds revision \(pinned); leave rev out, or begin again without it."
                )
            }
            query.revision = revision
        }
        query.keysOnly = try request.flag("keys_only")
        query.reverse = try request.flag("reverse")
        return query
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
        try server.checkPrefix(prefix)
        let all = try request.flag("all")
        guard !prefix.isEmpty || all else {
            throw Problem.invalidParameter("all", "an empty prefix names every key; add all=true if that is meant.")
        }
        if let answer = try redirect(request) { return answer }
        let timeout = try request.timeout(server.service.options.defaultTimeout)
        let (outcome, isReplayed) = try await server.write(
            .deletePrefix(prefix[...]),
            try request.options(),
            timeout: timeout
        )
        guard case .deleted(let revision, let count, _) = outcome else { throw Problem.unfitOutcome }
        var json = JSONWriter()
        json.beginObject()
        json.member("revision", revision)
        json.member("deleted", count)
        json.endObject()
        var answer = Answer.json(200, json.buffer)
        answer.revision = revision
        answer.isReplayed = isReplayed
        return server.stamped(answer)
    }
}

extension ServerCore {
    /// Refuses a prefix that no key can begin with.
    func checkPrefix(_ prefix: [UInt8]) throws(Problem) {
        guard prefix.count <= options.limits.keyBytes else {
            throw Problem(
                400,
                .invalidKey,
                "prefix too long",
                "No key is longer than \(options.limits.keyBytes) bytes, so no key begins with this prefix."
            ).with { $0.limit = options.limits.keyBytes }
        }
    }
}

/// Where a listing goes on, and at which revision. Opaque to clients, so that what it holds may change.
struct Cursor: Equatable {
    private static let version: UInt8 = 2

    /// The last key or group of the page before.
    var after: [UInt8]
    /// That of the first page.
    var revision: UInt64

    init(after: [UInt8], revision: UInt64) {
        self.after = after
        self.revision = revision
    }

    init?(_ text: [UInt8]) {
        guard let bytes = Base64.decode(text), bytes.first == Self.version, (9...9 + 480).contains(bytes.count) else {
            return nil
        }
        revision = bytes[1..<9].reduce(0) { $0 << 8 | UInt64($1) }
        after = Array(bytes[9...])
    }

    var text: String {
        let number = (0..<8).map { UInt8(truncatingIfNeeded: revision >> (56 - 8 * $0)) }
        return String(decoding: Base64.encode([Self.version] + number + after, forURL: true), as: UTF8.self)
    }
}

/// The JSON of a page, made piece by piece while it is sent: as text a page may be six times as long as its keys and values.
struct PagePieces: Sendable {
    /// A piece ends behind the item that reaches this many bytes.
    static let pieceBytes = 1 << 16

    private let page: Page
    private let revision: UInt64
    private let withValues: Bool
    private let withGroups: Bool
    private let count: Int?
    private let cursor: String?
    /// The next item; one beyond the last is the rest.
    private var index = 0

    init(page: Page, revision: UInt64, withValues: Bool, withGroups: Bool, count: Int?, cursor: String?) {
        self.page = page
        self.revision = revision
        self.withValues = withValues
        self.withGroups = withGroups
        self.count = count
        self.cursor = cursor
    }

    /// Whether it surely is a single piece.
    var isSmall: Bool {
        page.items.count <= 64
            && page.items.reduce(0) { $0 + $1.key.count + $1.value.count + ($1.contentType?.utf8.count ?? 0) } < 4096
    }

    /// The next piece; nil behind the last.
    mutating func next() -> ByteBuffer? {
        guard index <= page.items.count else { return nil }
        var json = JSONWriter(capacity: Self.pieceBytes)
        if index == 0 {
            json.beginObject()
            json.member("revision", revision)
            json.name("items")
            json.beginArray()
        } else {
            json.resumeBehindElement()
        }
        while index < page.items.count {
            json.item(page.items[index], withValue: withValues)
            index += 1
            if json.count >= Self.pieceBytes { return json.buffer }
        }
        index += 1
        json.endArray()
        if withGroups {
            json.name("prefixes")
            json.beginArray()
            for group in page.groups { json.key(group) }
            json.endArray()
        }
        if let count { json.member("count", count) }
        json.member("more", page.more)
        if let cursor { json.member("cursor", cursor) }
        json.endObject()
        return json.buffer
    }
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
