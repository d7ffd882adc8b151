internal import FoundationEssentials
internal import NIOCore
internal import NIOHTTP1

extension KontikiClient {
    /// Reads a key; nil when it does not exist.
    public func get(_ key: Key, consistency: Consistency = .strong) async throws(ClientError) -> Item? {
        let response = try await perform(
            Request(method: .GET, target: try target(key, ["consistency=\(consistency.rawValue)"])),
            accepting: [404]
        )
        if response.status == 404 {
            // A missing key says so with the store's revision; another 404 comes from a server that is no Kontiki node.
            guard response.headers.contains(name: "Kontiki-Served-By") else {
                throw Problem.error(from: response, isRead: true)
            }
            return nil
        }
        let tag = response.headers.first(name: "ETag")?.filter { $0 != "\"" }
        return Item(
            key: key,
            value: Array(response.body.readableBytesView),
            contentType: response.headers.first(name: "Content-Type"),
            createRevision: response.number("Kontiki-Create-Revision"),
            modifyRevision: tag.flatMap { UInt64($0) } ?? 0,
            version: response.number("Kontiki-Version")
        )
    }

    /// Writes a key; returns when the write is durable on a majority of the voters.
    ///
    /// - Parameter contentType: kept with the value; the node's default when nil.
    /// - Throws: `preconditionFailed` when the condition does not hold, `tooLarge`, and others; look at the error's outcome.
    @discardableResult
    public func put(
        _ key: Key,
        _ value: [UInt8],
        contentType: String? = nil,
        condition: Condition? = nil
    ) async throws(ClientError) -> PutResult {
        var request = Request(method: .PUT, target: try target(key), body: value, isIdempotent: condition == nil)
        if let contentType { request.headers.append(("Content-Type", contentType)) }
        if let condition { request.headers.append(Self.header(condition)) }
        let document = try await perform(request).decoded(PutDocument.self)
        return PutResult(revision: document.revision, created: document.created)
    }

    /// Deletes a key, there or not.
    public func delete(_ key: Key, condition: Condition? = nil) async throws(ClientError) {
        var request = Request(method: .DELETE, target: try target(key), isIdempotent: condition == nil)
        if let condition { request.headers.append(Self.header(condition)) }
        _ = try await perform(request)
    }

    /// Lists keys that begin with `prefix`, in order, a page at a time; an empty prefix means all.
    ///
    /// - Parameters:
    ///   - limit: the most items of the page; the node has an upper bound of its own.
    ///   - cursor: of the page before.
    ///   - keysOnly: the items' values are left out.
    public func list(
        prefix: Key = "",
        limit: Int? = nil,
        cursor: String? = nil,
        keysOnly: Bool = false,
        consistency: Consistency = .strong
    ) async throws(ClientError) -> Page {
        var parameters = ["prefix=" + PercentEncoding.query(prefix.bytes), "consistency=\(consistency.rawValue)"]
        if let limit { parameters.append("limit=\(limit)") }
        if let cursor { parameters.append("cursor=" + PercentEncoding.query(cursor.utf8)) }
        if keysOnly { parameters.append("keys_only=true") }
        let response = try await perform(Request(method: .GET, target: "/kv?" + parameters.joined(separator: "&")))
        let document = try response.decoded(ListDocument.self)
        let items = document.items.compactMap(\.item)
        guard items.count == document.items.count else {
            throw ClientError(
                .badAnswer,
                status: response.status,
                endpoint: response.endpoint.url,
                "an item has no key"
            )
        }
        return Page(revision: document.revision, items: items, cursor: document.more ? document.cursor : nil)
    }

    private func target(_ key: Key, _ parameters: [String] = []) throws(ClientError) -> String {
        guard !key.bytes.isEmpty else { throw ClientError(.invalidArgument, "a key has at least one byte") }
        var parameters = parameters
        var target = "/kv/" + PercentEncoding.path(key.bytes)
        if String(validating: key.bytes, as: UTF8.self) == nil {
            // URL libraries on the way lose a path whose bytes are no text.
            target = "/kv"
            parameters.insert("key_b64=" + PercentEncoding.query(Data(key.bytes).base64EncodedString().utf8), at: 0)
        }
        return parameters.isEmpty ? target : target + "?" + parameters.joined(separator: "&")
    }

    private static func header(_ condition: Condition) -> (String, String) {
        switch condition {
        case .revision(let revision): ("If-Match", "\"\(revision)\"")
        case .absent: ("If-None-Match", "*")
        }
    }
}
