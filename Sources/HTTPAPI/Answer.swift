import HTTPTypes
import NIOCore
import NIOHTTP1
import Raft

/// What a request is answered, the same for both lanes; how it becomes bytes is the lane's.
struct Answer: Sendable {
    enum Body: Sendable {
        case none
        case slice(ArraySlice<UInt8>)
        case buffer(ByteBuffer)

        var count: Int {
            switch self {
            case .none: 0
            case .slice(let bytes): bytes.count
            case .buffer(let buffer): buffer.readableBytes
            }
        }
    }

    var status: Int
    var contentType: String?
    /// The body is a client's bytes: browsers must neither guess its type nor run what is in it.
    var isRawValue = false
    /// The key's modify revision.
    var etag: UInt64?
    /// The store's revision the answer speaks of.
    var revision: UInt64?
    var createRevision: UInt64?
    var version: UInt64?
    var term: UInt64?
    var appliedIndex: UInt64?
    /// The leader's name.
    var leader: String?
    /// What was really given.
    var consistency: Consistency?
    var preferenceApplied = false
    /// The first answer to an idempotency key again.
    var isReplayed = false
    /// How old the state that was read may be, in milliseconds, where that is known.
    var stalenessMilliseconds: UInt64?
    var variesByAccept = false
    var location: String?
    var link: String?
    var allow: String?
    var retryAfterSeconds: Int?
    var body: Body
    /// In place of `body`, what is made while it is sent. Only answers of the router have it.
    var pieces: PagePieces?
    /// A body that is read from the disk while it is sent.
    var backup: BackupRoutes.Body?
    /// Says so to the client, and the connection is closed behind the answer.
    var closesConnection = false

    init(_ status: Int, contentType: String? = nil, body: Body = .none) {
        self.status = status
        self.contentType = contentType
        self.body = body
    }

    static func json(_ status: Int, _ buffer: ByteBuffer) -> Answer {
        Answer(status, contentType: "application/json", body: .buffer(buffer))
    }

    init(_ problem: Problem, leader: Member?) {
        self.init(
            problem.status,
            contentType: "application/problem+json",
            body: .buffer(problem.document(leader: leader))
        )
        retryAfterSeconds = problem.retryAfterSeconds
        allow = problem.allow
        revision = problem.revision
        if let current = problem.currentRevision, current > 0 { etag = current }
        isReplayed = problem.isReplayed
        closesConnection = problem.closesConnection
    }
}

/// How fresh a read is to be.
enum Consistency: String, Sendable, CaseIterable {
    case strong
    case bounded
    case stale

    var text: StaticString {
        switch self {
        case .strong: "strong"
        case .bounded: "bounded"
        case .stale: "stale"
        }
    }

    static let known = allCases.map(\.rawValue)
}

/// Takes header fields one by one. Generic, so that the bytes of the fast lane are written without values in between.
protocol FieldSink {
    mutating func field(_ name: StaticString, _ value: String)
    mutating func field(_ name: StaticString, _ value: StaticString)
    mutating func field(_ name: StaticString, _ value: UInt64)
    mutating func quotedField(_ name: StaticString, _ value: UInt64)
}

extension Answer {
    /// Whether the status allows a body and so a length (RFC 9110 §6.4.1).
    var mayHaveBody: Bool { status != 204 && status != 304 }

    /// All fields but the framing (`Content-Length`, `Connection`) and `Date`, which the lanes add.
    func writeFields(to sink: inout some FieldSink, servedBy: String) {
        if let contentType { sink.field("Content-Type", contentType) }
        if let etag { sink.quotedField("ETag", etag) }
        if let revision { sink.field("Kontiki-Revision", revision) }
        if let createRevision { sink.field("Kontiki-Create-Revision", createRevision) }
        if let version { sink.field("Kontiki-Version", version) }
        if let term { sink.field("Kontiki-Term", term) }
        if let appliedIndex { sink.field("Kontiki-Applied-Index", appliedIndex) }
        if let leader { sink.field("Kontiki-Leader", leader) }
        sink.field("Kontiki-Served-By", servedBy)
        if let consistency { sink.field("Kontiki-Consistency", consistency.text) }
        if let stalenessMilliseconds { sink.field("Kontiki-Staleness-Ms", stalenessMilliseconds) }
        if isReplayed { sink.field("Kontiki-Replayed", "true" as StaticString) }
        sink.field("X-Content-Type-Options", "nosniff")
        if isRawValue { sink.field("Content-Security-Policy", "sandbox; default-src 'none'" as StaticString) }
        if variesByAccept { sink.field("Vary", "Accept" as StaticString) }
        if preferenceApplied { sink.field("Preference-Applied", "return=representation" as StaticString) }
        if let location { sink.field("Location", location) }
        if let link { sink.field("Link", link) }
        if let allow { sink.field("Allow", allow) }
        if let retryAfterSeconds { sink.field("Retry-After", UInt64(retryAfterSeconds)) }
    }
}

// MARK: - To bytes

/// Writes fields as they stand on the wire.
struct WireSink: FieldSink {
    var buffer: ByteBuffer

    mutating func field(_ name: StaticString, _ value: String) {
        buffer.writeStaticString(name)
        buffer.writeStaticString(": ")
        buffer.writeString(value)
        buffer.writeStaticString("\r\n")
    }

    mutating func field(_ name: StaticString, _ value: StaticString) {
        buffer.writeStaticString(name)
        buffer.writeStaticString(": ")
        buffer.writeStaticString(value)
        buffer.writeStaticString("\r\n")
    }

    mutating func field(_ name: StaticString, _ value: UInt64) {
        buffer.writeStaticString(name)
        buffer.writeStaticString(": ")
        buffer.writeDecimal(value)
        buffer.writeStaticString("\r\n")
    }

    mutating func quotedField(_ name: StaticString, _ value: UInt64) {
        buffer.writeStaticString(name)
        buffer.writeStaticString(": \"")
        buffer.writeDecimal(value)
        buffer.writeStaticString("\"\r\n")
    }
}

extension Answer {
    /// The whole response, head and body, in one buffer and with one copy of the body.
    func wire(servedBy: String, date: StringOfBytes, toHead: Bool, allocator: ByteBufferAllocator) -> ByteBuffer {
        precondition(pieces == nil && backup == nil, "only the router sends a body in pieces")
        var sink = WireSink(buffer: allocator.buffer(capacity: 512 + (toHead ? 0 : body.count)))
        sink.buffer.writeStatusLine(status)
        writeFields(to: &sink, servedBy: servedBy)
        sink.buffer.writeBytes(date.bytes)
        if mayHaveBody { sink.field("Content-Length", UInt64(body.count)) }
        if closesConnection { sink.field("Connection", "close" as StaticString) }
        sink.buffer.writeStaticString("\r\n")
        guard mayHaveBody, !toHead else { return sink.buffer }
        switch body {
        case .none: break
        case .slice(let bytes): sink.buffer.writeBytes(bytes)
        case .buffer(let buffer): sink.buffer.writeImmutableBuffer(buffer)
        }
        return sink.buffer
    }
}

/// Bytes that were formatted once, to be written often.
struct StringOfBytes: Sendable {
    var bytes: [UInt8]
}

extension ByteBuffer {
    mutating func writeDecimal(_ value: UInt64) {
        if value < 10 {
            writeInteger(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: value))
            return
        }
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 20) { digits in
            var rest = value
            var start = 20
            repeat {
                start -= 1
                digits[start] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
                rest /= 10
            } while rest > 0
            writeBytes(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(digits)[start...]))
        }
    }

    mutating func writeStatusLine(_ status: Int) {
        switch status {
        case 200: writeStaticString("HTTP/1.1 200 OK\r\n")
        case 201: writeStaticString("HTTP/1.1 201 Created\r\n")
        case 204: writeStaticString("HTTP/1.1 204 No Content\r\n")
        case 404: writeStaticString("HTTP/1.1 404 Not Found\r\n")
        default:
            writeStaticString("HTTP/1.1 ")
            writeDecimal(UInt64(status))
            writeStaticString(" ")
            writeString(HTTPResponseStatus(statusCode: status).reasonPhrase)
            writeStaticString("\r\n")
        }
    }
}

// MARK: - To Hummingbird

/// Collects fields for a response of the router.
struct HTTPFieldsSink: FieldSink {
    var fields = HTTPFields()

    private mutating func append(_ name: StaticString, _ value: String) {
        guard let name = HTTPField.Name(name.description) else {
            preconditionFailure("\(name) is no field name")
        }
        fields.append(HTTPField(name: name, value: value))
    }

    mutating func field(_ name: StaticString, _ value: String) { append(name, value) }
    mutating func field(_ name: StaticString, _ value: StaticString) { append(name, value.description) }
    mutating func field(_ name: StaticString, _ value: UInt64) { append(name, String(value)) }
    mutating func quotedField(_ name: StaticString, _ value: UInt64) { append(name, "\"\(value)\"") }
}
