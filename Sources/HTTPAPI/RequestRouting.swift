import HTTPTypes
import HummingbirdCore
import NIOCore

/// How a request target falls apart.
enum RequestRouting {
    /// What all key paths begin with.
    static let keyPrefix = Array("/kv/".utf8)

    /// Path and query of a target, both still encoded.
    static func split(_ target: String) -> (path: Substring, query: Substring?) {
        guard let mark = target.utf8.firstIndex(of: UInt8(ascii: "?")) else { return (target[...], nil) }
        return (target[..<mark], target[target.index(after: mark)...])
    }
}

/// A request of the router, read to its end.
struct APIRequest: Sendable {
    var method: HTTPRequest.Method
    var target: String
    /// The path's parts, percent-decoded; empty ones are left out.
    var segments: [String]
    var query: Query
    var fields: RequestFields
    var body: ByteBuffer
    /// What it came on.
    var channel: any Channel

    /// The value of `timeout`, or `fallback`.
    func timeout(_ fallback: TimeAmount, maximum: Int = 600_000) throws(Problem) -> TimeAmount {
        guard let parameter = query["timeout"] else { return fallback }
        return .milliseconds(Int64(try parameter.duration(maximum: maximum)))
    }

    func flag(_ name: String) throws(Problem) -> Bool { try query[name]?.flag() ?? false }

    /// Reads the request to its end and checks what holds for every route.
    init(_ request: Request, route: Route, server: ServerCore, channel: any Channel) async throws {
        self.channel = channel
        method = request.method
        target = request.head.path ?? "/"
        let (path, queryText) = RequestRouting.split(target)
        segments = try Self.segments(of: path)
        query = try Query(parsing: (queryText ?? "").utf8)
        try query.check(known: route.parameters)
        fields = RequestFields(request)
        do {
            body = try await request.body.collect(upTo: server.options.limits.valueBytes)
        } catch is NIOTooManyBytesError {
            throw Problem.bodyTooLarge(limit: server.options.limits.valueBytes)
        }
    }

    /// The parts of a path, percent-decoded; empty ones are left out.
    static func segments(of path: Substring) throws(Problem) -> [String] {
        var segments: [String] = []
        for part in path.utf8.split(separator: UInt8(ascii: "/")) {
            var bytes: [UInt8] = []
            do throws(TargetError) {
                try PercentDecoding.decode(part, plusIsSpace: false, into: &bytes)
            } catch {
                throw .malformedTarget(error)
            }
            // A name that is no text would be taken for another one.
            guard let text = String(validating: bytes, as: UTF8.self) else {
                throw Problem(400, .malformedRequest, "malformed path", "The path holds bytes that are not UTF-8.")
            }
            segments.append(text)
        }
        return segments
    }
}

extension RequestFields {
    init(_ request: Request) {
        for field in request.headers { take(field.name.rawName, field.value) }
    }
}

/// One route of the API. The table of them is what the router is built from, and what 405 answers from.
struct Route: Sendable {
    var method: HTTPRequest.Method
    /// `/members/{name}/promote`
    var pattern: String
    /// The query parameters it understands.
    var parameters: [String]
    var handler: @Sendable (APIRequest) async throws -> Answer

    /// One of those that ``APIDescription`` describes.
    init(
        method: HTTPRequest.Method,
        pattern: String,
        handler: @escaping @Sendable (APIRequest) async throws -> Answer
    ) {
        self.method = method
        self.pattern = pattern
        self.handler = handler
        parameters = APIDescription.operation(method, pattern).parameters
    }

    /// Whether the path is this route's, whatever the method.
    func matches(_ segments: [String]) -> Bool {
        let parts = pattern.split(separator: "/")
        return parts.count == segments.count
            && zip(parts, segments).allSatisfy { part, segment in part.hasPrefix("{") || part == segment }
    }
}
