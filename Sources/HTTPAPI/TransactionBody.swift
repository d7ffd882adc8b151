import KeyValue
import NIOCore

/// `POST /txn`, read.
enum TransactionBody {
    private static let branches = ["compare", "success", "failure"]
    private static let key = ["key", "key_base64"]

    static func parse(_ buffer: ByteBuffer, _ limits: KeyRequest.Limits) throws(Problem) -> Transaction {
        let body = try BodyObject(buffer, known: branches)
        var transaction = Transaction()
        let compares = try body.elements("compare") ?? []
        try check(compares.count, "compare", maximum: KeyValueLimits.maximumCompares, body)
        for (index, element) in compares.enumerated() {
            transaction.compares.append(try compare(element, "compare[\(index)]", limits))
        }
        transaction.success = try operations("success", body, limits)
        transaction.failure = try operations("failure", body, limits)
        return transaction
    }

    private static func check(_ count: Int, _ name: String, maximum: Int, _ body: BodyObject) throws(Problem) {
        guard count <= maximum else {
            throw body.problem(name, "has \(count) elements; it may have \(maximum)").with { $0.limit = maximum }
        }
    }

    private static func key(_ object: BodyObject, _ limits: KeyRequest.Limits) throws(Problem) -> ArraySlice<UInt8> {
        let key = try object.requiredBytes("key")
        guard (1...limits.keyBytes).contains(key.count) else {
            throw object.problem("key", "has \(key.count) bytes; a key has 1 to \(limits.keyBytes)").with {
                $0.limit = limits.keyBytes
            }
        }
        return key[...]
    }

    // MARK: Comparisons

    static let targets = ["value", "version", "create_revision", "mod_revision", "exists", "lease"]
    static let relations: [(text: String, relation: Transaction.Compare.Relation)] = [
        ("=", .equal), ("!=", .notEqual), ("<", .less), (">", .greater),
    ]

    private static func compare(
        _ value: JSONValue,
        _ path: String,
        _ limits: KeyRequest.Limits
    ) throws(Problem) -> Transaction.Compare {
        let object = try BodyObject(value, path: path, known: key + ["target", "op", "value", "value_base64"])
        let name = try object.requiredText("op")
        guard let relation = relations.first(where: { $0.text == name })?.relation else {
            let known = relations.map(\.text)
            throw object.problem("op", "is one of \(known.joined(separator: ", "))", known: known)
        }
        func number() throws(Problem) -> UInt64 {
            guard let number = try object.unsigned("value") else { throw object.missing("value") }
            return number
        }
        let target: Transaction.Compare.Target
        let targetName = try object.requiredText("target")
        if targetName != "value", object.has("value_base64") {
            throw object.problem("value_base64", "stands with the target 'value' only")
        }
        switch targetName {
        case "value": target = .value(try object.requiredBytes("value"))
        case "version": target = .version(try number())
        case "create_revision": target = .createRevision(try number())
        case "mod_revision": target = .modRevision(try number())
        case "exists":
            guard relation == .equal || relation == .notEqual else {
                throw object.problem("op", "is = or != where existence is compared", known: ["=", "!="])
            }
            guard let flag = try object.flag("value") else { throw object.missing("value") }
            target = .exists(flag)
        case "lease":
            // No lease is 0: a key without one can be asked for.
            let text = try object.requiredText("value")
            guard let id = LeaseText.id(text.utf8) ?? (text.utf8.allSatisfy { $0 == 0x30 } && !text.isEmpty ? 0 : nil)
            else { throw object.problem("value", "is no lease; it has 1 to 16 hexadecimal digits") }
            target = .lease(id)
        default: throw object.problem("target", "is one of \(targets.joined(separator: ", "))", known: targets)
        }
        return Transaction.Compare(key: try key(object, limits), relation, target)
    }

    // MARK: Operations

    private static let kinds = ["put", "delete", "get", "incr"]

    private static func operations(
        _ name: String,
        _ body: BodyObject,
        _ limits: KeyRequest.Limits
    ) throws(Problem) -> [Transaction.Operation] {
        let elements = try body.elements(name) ?? []
        try check(elements.count, name, maximum: KeyValueLimits.maximumOperations, body)
        var operations: [Transaction.Operation] = []
        for (index, element) in elements.enumerated() {
            operations.append(try operation(element, "\(name)[\(index)]", limits))
        }
        return operations
    }

    private static func operation(
        _ value: JSONValue,
        _ path: String,
        _ limits: KeyRequest.Limits
    ) throws(Problem) -> Transaction.Operation {
        let object = try BodyObject(value, path: path, known: kinds)
        guard object.names.count == 1, let kind = object.names.first, let content = object[kind] else {
            throw Problem(
                400,
                .invalidBody,
                "invalid body",
                "'\(path)' must have exactly one field, which names the operation: \(kinds.joined(separator: ", "))."
            ).with { $0.known = kinds }
        }
        let inner = object.place(kind)
        switch kind {
        case "put": return .put(try put(content, inner, limits))
        case "delete": return try delete(content, inner, limits)
        case "get": return try get(content, inner, limits)
        default:
            let object = try BodyObject(content, path: inner, known: key + ["by"])
            return .increment(key: try key(object, limits), by: try object.signed("by") ?? 1)
        }
    }

    private static func put(
        _ value: JSONValue,
        _ path: String,
        _ limits: KeyRequest.Limits
    ) throws(Problem) -> Put {
        let object = try BodyObject(
            value,
            path: path,
            known: key + ["value", "value_base64", "content_type", "ttl", "lease"]
        )
        let bytes = try object.requiredBytes("value")
        guard bytes.count <= limits.valueBytes else {
            throw Problem(
                413,
                .valueTooLarge,
                "value too large",
                "'\(path).value' may have at most \(limits.valueBytes) bytes."
            )
            .with { $0.limit = limits.valueBytes }
        }
        let contentType = try object.text("content_type")
        if let contentType {
            guard (1...limits.contentTypeBytes).contains(contentType.utf8.count),
                contentType.utf8.allSatisfy({ (0x20...0x7E).contains($0) })
            else {
                throw object.problem("content_type", "must be printable ASCII of 1 to \(limits.contentTypeBytes) bytes")
            }
        }
        return Put(
            key: try key(object, limits),
            value: bytes[...],
            contentType: contentType,
            lease: try object.leaseChoice()
        )
    }

    /// The prefix, when the object names one in place of a key.
    private static func prefix(_ object: BodyObject, _ limits: KeyRequest.Limits) throws(Problem) -> ArraySlice<UInt8>?
    {
        guard let prefix = try object.bytes("prefix") else { return nil }
        guard !object.has("key"), !object.has("key_base64") else {
            throw object.problem("prefix", "and 'key' exclude each other; give one of the two")
        }
        guard prefix.count <= limits.keyBytes else {
            throw object.problem("prefix", "has more than \(limits.keyBytes) bytes, as no key has").with {
                $0.limit = limits.keyBytes
            }
        }
        return prefix[...]
    }

    private static func delete(
        _ value: JSONValue,
        _ path: String,
        _ limits: KeyRequest.Limits
    ) throws(Problem) -> Transaction.Operation {
        let object = try BodyObject(value, path: path, known: key + ["prefix", "prefix_base64"])
        if let prefix = try prefix(object, limits) { return .deletePrefix(prefix) }
        return .delete(try key(object, limits))
    }

    private static func get(
        _ value: JSONValue,
        _ path: String,
        _ limits: KeyRequest.Limits
    ) throws(Problem) -> Transaction.Operation {
        let object = try BodyObject(value, path: path, known: key + ["prefix", "prefix_base64", "limit"])
        let limit = try object.unsigned("limit")
        guard let prefix = try prefix(object, limits) else {
            guard limit == nil else { throw object.problem("limit", "stands with 'prefix' only") }
            return .get(try key(object, limits))
        }
        let maximum = KeyValueLimits.maximumRangeLimit
        guard let count = Int(exactly: limit ?? 1_000), (1...maximum).contains(count) else {
            throw object.problem("limit", "must lie between 1 and \(maximum)").with { $0.limit = maximum }
        }
        return .range(prefix: prefix, limit: count)
    }
}
