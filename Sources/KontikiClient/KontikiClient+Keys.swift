internal import FoundationEssentials
internal import NIOCore
internal import NIOHTTP1

extension KontikiClient {
    /// Reads a key; nil when it does not exist.
    ///
    /// - Parameters:
    ///   - revision: as it stood at this revision of the store; the present when nil. A past that the node no longer has is `compacted`.
    ///   - minimumRevision: wait until the asked node has applied this revision: what a writer was told, to read its own write anywhere.
    ///   - maximumStaleness: with ``Consistency/bounded``, how old the state may be when the request arrives at the node.
    public func get(
        _ key: Key,
        consistency: Consistency = .strong,
        revision: UInt64? = nil,
        minimumRevision: UInt64? = nil,
        maximumStaleness: Duration? = nil
    ) async throws(ClientError) -> Item? {
        let read = Self.readParameters(consistency, revision, minimumRevision, maximumStaleness)
        let response = try await perform(
            Request(method: .GET, target: try target(key, read)),
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
    /// - Parameters:
    ///   - contentType: kept with the value; the node's default when nil.
    ///   - lifetime: whether the key ends by itself.
    ///   - fence: the write takes place only while the lock is held with this token.
    /// - Throws: `preconditionFailed` when the condition or the fence does not hold, `tooLarge`, and others; look at the error's outcome.
    @discardableResult
    public func put(
        _ key: Key,
        _ value: [UInt8],
        contentType: String? = nil,
        condition: Condition? = nil,
        lifetime: Lifetime = .unbounded,
        fence: Fence? = nil
    ) async throws(ClientError) -> PutResult {
        var parameters: [String] = []
        switch lifetime {
        case .unbounded: break
        case .time(let time): parameters.append("ttl=\(Milliseconds(time))")
        case .lease(let lease): parameters.append("lease=\(lease)")
        }
        var request = Request(
            method: .PUT,
            target: try target(key, parameters),
            body: value,
            isIdempotent: condition == nil,
            idempotencyKey: newIdempotencyKey()
        )
        if let contentType { request.headers.append(("Content-Type", contentType)) }
        request.add(condition, fence)
        let document = try await perform(request).decoded(PutDocument.self)
        return PutResult(revision: document.revision, created: document.created)
    }

    /// Deletes a key, there or not.
    public func delete(_ key: Key, condition: Condition? = nil, fence: Fence? = nil) async throws(ClientError) {
        var request = Request(
            method: .DELETE,
            target: try target(key),
            isIdempotent: condition == nil,
            idempotencyKey: newIdempotencyKey()
        )
        request.add(condition, fence)
        _ = try await perform(request)
    }

    /// Deletes every key that begins with `prefix`, as one change, and answers how many there were.
    ///
    /// - Throws: `invalidArgument` for an empty prefix, which would be every key; ``deleteAll()`` says so.
    @discardableResult
    public func delete(prefix: Key, fence: Fence? = nil) async throws(ClientError) -> Int {
        guard !prefix.bytes.isEmpty else {
            throw ClientError(.invalidArgument, "an empty prefix names every key of the store; ask for that by name")
        }
        return try await delete("prefix=" + PercentEncoding.query(prefix.bytes), fence)
    }

    /// Deletes every key of the store, as one change, and answers how many there were.
    @discardableResult
    public func deleteAll() async throws(ClientError) -> Int { try await delete("prefix=&all=true", nil) }

    private func delete(_ parameters: String, _ fence: Fence?) async throws(ClientError) -> Int {
        var request = Request(
            method: .DELETE,
            target: "/kv?" + parameters,
            isIdempotent: true,
            idempotencyKey: newIdempotencyKey()
        )
        request.add(nil, fence)
        return try await perform(request).decoded(DeleteDocument.self).deleted
    }

    /// Adds `amount` to the decimal number that a key holds (0 where there is none), and answers the sum.
    ///
    /// - Throws: `refused` when the value is no such number or the sum does not fit into 64 bits.
    @discardableResult
    public func increment(_ key: Key, by amount: Int64 = 1, fence: Fence? = nil) async throws(ClientError) -> Int64 {
        var request = Request(
            method: .POST,
            target: try target(key, ["op=incr", "by=\(amount)"]),
            idempotencyKey: newIdempotencyKey()
        )
        request.add(nil, fence)
        return try await perform(request).decoded(IncrementDocument.self).value
    }

    /// Compares, and carries out the one or the other list of operations, as one change.
    ///
    /// - Parameter document: JSON as `POST /txn` takes it: `{"compare":[…],"success":[…],"failure":[…]}`.
    /// - Returns: whether the comparisons held, and the node's whole answer, JSON.
    public func transaction(
        _ document: [UInt8],
        fence: Fence? = nil
    ) async throws(ClientError) -> (succeeded: Bool, document: String) {
        var request = Request(
            method: .POST,
            target: "/txn",
            headers: [("Content-Type", "application/json")],
            body: document,
            idempotencyKey: newIdempotencyKey()
        )
        request.add(nil, fence)
        let response = try await perform(request)
        return (try response.decoded(TransactionDocument.self).succeeded, String(buffer: response.body))
    }

    /// Lists keys that begin with `prefix`, in order, a page at a time; an empty prefix means all.
    ///
    /// - Parameters:
    ///   - limit: the most items of the page; the node has an upper bound of its own.
    ///   - cursor: of the page before; it keeps to that page's revision.
    ///   - keysOnly: the items' values are left out.
    ///   - reverse: from the highest key down.
    ///   - delimiter: keys that hold it behind the prefix are grouped in ``Page/prefixes``.
    ///   - revision, minimumRevision, maximumStaleness: as for ``get(_:consistency:revision:minimumRevision:maximumStaleness:)``.
    public func list(
        prefix: Key = "",
        limit: Int? = nil,
        cursor: String? = nil,
        keysOnly: Bool = false,
        reverse: Bool = false,
        delimiter: String? = nil,
        consistency: Consistency = .strong,
        revision: UInt64? = nil,
        minimumRevision: UInt64? = nil,
        maximumStaleness: Duration? = nil
    ) async throws(ClientError) -> Page {
        var parameters = ["prefix=" + PercentEncoding.query(prefix.bytes)]
        parameters += Self.readParameters(consistency, revision, minimumRevision, maximumStaleness)
        if let limit { parameters.append("limit=\(limit)") }
        if let cursor { parameters.append("cursor=" + PercentEncoding.query(cursor.utf8)) }
        if let delimiter { parameters.append("delimiter=" + PercentEncoding.query(delimiter.utf8)) }
        if keysOnly { parameters.append("keys_only=true") }
        if reverse { parameters.append("reverse=true") }
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
        return Page(
            revision: document.revision,
            items: items,
            prefixes: document.prefixes?.map(\.key) ?? [],
            cursor: document.more ? document.cursor : nil
        )
    }

    /// How many keys begin with `prefix`.
    ///
    /// - Parameters: as for ``get(_:consistency:revision:minimumRevision:maximumStaleness:)``.
    public func count(
        prefix: Key = "",
        consistency: Consistency = .strong,
        revision: UInt64? = nil,
        minimumRevision: UInt64? = nil,
        maximumStaleness: Duration? = nil
    ) async throws(ClientError) -> Int {
        var parameters = ["prefix=" + PercentEncoding.query(prefix.bytes), "limit=0", "count=true"]
        parameters += Self.readParameters(consistency, revision, minimumRevision, maximumStaleness)
        let response = try await perform(Request(method: .GET, target: "/kv?" + parameters.joined(separator: "&")))
        return try response.decoded(ListDocument.self).count ?? 0
    }

    static func readParameters(
        _ consistency: Consistency,
        _ revision: UInt64?,
        _ minimumRevision: UInt64?,
        _ maximumStaleness: Duration?
    ) -> [String] {
        var parameters = ["consistency=\(consistency.rawValue)"]
        if let revision { parameters.append("rev=\(revision)") }
        if let minimumRevision { parameters.append("min_rev=\(minimumRevision)") }
        if let maximumStaleness { parameters.append("max_stale=\(Milliseconds(maximumStaleness))") }
        return parameters
    }

    func target(_ key: Key, _ parameters: [String] = []) throws(ClientError) -> String {
        guard !key.bytes.isEmpty else { throw ClientError(.invalidArgument, "a key has at least one byte") }
        var parameters = parameters
        var target = "/kv/" + PercentEncoding.path(key.bytes)
        if String(validating: key.bytes, as: UTF8.self) == nil {
            // URL libraries on the way lose a path whose bytes are no text.
            target = "/kv/"
            parameters.insert("key_b64=" + PercentEncoding.query(Data(key.bytes).base64EncodedString().utf8), at: 0)
        }
        return parameters.isEmpty ? target : target + "?" + parameters.joined(separator: "&")
    }
}

extension KontikiClient.Request {
    mutating func add(_ condition: Condition?, _ fence: Fence?) {
        switch condition {
        case .revision(let revision): headers.append(("If-Match", "\"\(revision)\""))
        case .absent: headers.append(("If-None-Match", "*"))
        case nil: break
        }
        if let fence { headers.append(("Kontiki-Fence", fence.description)) }
    }
}
