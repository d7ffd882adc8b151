import KeyValue

/// A request for one key, parsed and checked; the same for both lanes.
struct KeyRequest: Sendable {
    enum Method: Sendable {
        case get
        case head
        case put
        case delete
        /// Only the router takes it.
        case post
    }

    /// What requests may ask for at most.
    struct Limits: Sendable {
        var keyBytes = 480
        var valueBytes = 1 << 20
        var contentTypeBytes = 255
        var timeoutMilliseconds = 600_000
    }

    static let allow = "GET, HEAD, PUT, DELETE, POST"

    var method: Method
    var key: [UInt8]
    var demand = ReadDemand()
    var precondition = WritePrecondition.none
    var readPrecondition: ReadPrecondition?
    /// The client wants the value that was there before.
    var wantsPrevious = false
    /// nil: the service's default.
    var timeoutMilliseconds: Int?
    /// Answer 307 with the leader's address and this target instead of doing it from here.
    var redirectTarget: String?
    var wantsEnvelope = false
    /// Read the key as it stood at this revision; nil for the present.
    var revision: UInt64?
    var contentType: String?
    /// Changes are asked for in place of the value. Only the fast lane serves these.
    var watch: WatchOptions?
    /// What a put lives with.
    var lease = LeaseChoice.none
    /// What `POST ?op=incr` adds.
    var increment: Int64 = 1
    var idempotencyKey: [UInt8]?
    var fence: Fence?

    /// - Parameters:
    ///   - path: the bytes of the target's path behind `/kv/`, still encoded.
    ///   - query: the bytes behind `?`, nil when there is none.
    init(
        method: Method,
        path: some Collection<UInt8>,
        query: (some Collection<UInt8>)?,
        fields: RequestFields,
        limits: Limits
    ) throws(Problem) {
        self.method = method
        key = []
        // Three times the bound is the longest text that can decode to it; longer ones are not worth decoding.
        guard path.count <= limits.keyBytes * 3 else { throw Self.invalidKey(length: path.count, limits) }
        do throws(TargetError) {
            try PercentDecoding.decode(path, plusIsSpace: false, into: &key)
        } catch {
            throw .malformedTarget(error)
        }
        if let query {
            try take(try Query(parsing: query), fields: fields, limits: limits)
            if redirectTarget != nil {
                redirectTarget =
                    "/kv/" + String(decoding: path, as: UTF8.self) + "?" + String(decoding: query, as: UTF8.self)
            }
        } else {
            try take(Query(), fields: fields, limits: limits)
        }
        guard (1...limits.keyBytes).contains(key.count) else { throw Self.invalidKey(length: key.count, limits) }
    }

    private mutating func take(_ query: Query, fields: RequestFields, limits: Limits) throws(Problem) {
        let isRead = method == .get || method == .head
        if !query.parameters.isEmpty {
            try query.check(known: Self.parameters(of: method))
        }
        for parameter in query.parameters {
            switch parameter.name {
            case "ttl", "lease":
                guard lease == .none else {
                    throw .invalidParameter("lease", "and ttl are two ways to expire; give one of the two.")
                }
                lease =
                    parameter.name == "lease"
                    ? .attached(try parameter.leaseID())
                    : .ttl(milliseconds: UInt64(try parameter.duration(in: LeaseText.ttlMilliseconds)))
            case "by": increment = try parameter.signedNumber()
            case "op":
                guard parameter.text == "incr" else {
                    throw .invalidParameter(
                        "op",
                        "'\(parameter.text)' is no operation; known is: incr.",
                        known: ["incr"]
                    )
                }
            case "rev": revision = try parameter.number()
            case "timeout":
                timeoutMilliseconds = try parameter.duration(maximum: limits.timeoutMilliseconds)
            case "redirect": redirectTarget = try parameter.flag() ? "" : nil
            case "key_b64":
                guard key.isEmpty else {
                    throw .invalidParameter("key_b64", "the path names a key already; give one of the two.")
                }
                key = try parameter.base64()
            default: break
            }
        }
        if isRead {
            readPrecondition = try Preconditions.forRead(fields)
            wantsEnvelope = fields.acceptsEnvelope
            if !query.parameters.isEmpty { demand = try ReadDemand(query) }
            watch = try WatchOptions(query, fields)
            if watch != nil, method == .head || revision != nil || redirectTarget != nil {
                throw .invalidParameter("watch", "and wait go with GET, without rev and redirect.")
            }
            // Changes are told as this node applies them; nothing is confirmed or waited for beyond that.
            for name in ReadDemand.parameters where watch != nil && query[name] != nil {
                throw .invalidParameter(
                    name,
                    "does not go with watch or wait, which go on from since."
                )
            }
        } else {
            precondition = try Preconditions.forWrite(fields, cas: query["cas"])
            wantsPrevious = fields.prefersRepresentation
            idempotencyKey = try WriteOptions.idempotencyKey(fields)
            fence = try WriteOptions.fence(fields)
        }
        if method == .post, query["op"] == nil {
            throw .invalidParameter("op", "is missing; POST on a key takes op=incr.", known: ["incr"])
        }
        if method == .put { contentType = try Self.contentType(fields, limits) }
    }

    static let readParameters =
        ReadDemand.parameters + ["rev", "timeout", "redirect", "key_b64"] + WatchOptions.parameters
    static let putParameters = ["cas", "ttl", "lease", "timeout", "redirect", "key_b64"]
    static let deleteParameters = ["cas", "timeout", "redirect", "key_b64"]
    static let postParameters = ["op", "by", "cas", "timeout", "redirect", "key_b64"]

    private static func parameters(of method: Method) -> [String] {
        switch method {
        case .get, .head: readParameters
        case .put: putParameters
        case .delete: deleteParameters
        case .post: postParameters
        }
    }

    private static func invalidKey(length: Int, _ limits: Limits) -> Problem {
        if length == 0 {
            return Problem(
                400,
                .invalidKey,
                "empty key",
                "A key has 1 to \(limits.keyBytes) bytes; list keys with GET /kv?prefix="
            ).with { $0.limit = limits.keyBytes }
        }
        return Problem(
            400,
            .invalidKey,
            "key too long",
            "A key has 1 to \(limits.keyBytes) bytes after percent-decoding; this one has more."
        ).with { $0.limit = limits.keyBytes }
    }

    /// Kept and given back with the value, so it must be printable and short.
    private static func contentType(_ fields: RequestFields, _ limits: Limits) throws(Problem) -> String? {
        guard let type = fields.contentType, !type.isEmpty else { return nil }
        guard type.utf8.count <= limits.contentTypeBytes, type.utf8.allSatisfy({ (0x20...0x7E).contains($0) }) else {
            throw .invalidParameter(
                "Content-Type",
                "must be printable ASCII of at most \(limits.contentTypeBytes) bytes."
            )
        }
        return type
    }
}
