import NIOCore
import Raft

/// An error as the API answers it: a problem document (RFC 9457), `application/problem+json`.
struct Problem: Error, Sendable {
    /// What became of the request's effect. It is what a client decides by whether it may try again.
    enum Outcome: String, Sendable, CaseIterable {
        /// Nothing was changed by this request, and nothing will be.
        case notExecuted = "not_executed"
        /// It was carried out.
        case executed
        /// It may have been, or may yet be, carried out.
        case unknown
    }

    /// Stable names, the last part of `type`.
    enum Code: String, Sendable, CaseIterable {
        case malformedRequest = "malformed-request"
        case unknownParameter = "unknown-parameter"
        case invalidParameter = "invalid-parameter"
        case notSupported = "not-supported"
        case invalidKey = "invalid-key"
        case invalidBody = "invalid-body"
        case noSuchKey = "no-such-key"
        case noSuchRoute = "no-such-route"
        case noSuchMember = "no-such-member"
        case noSuchLease = "no-such-lease"
        case noSuchLock = "no-such-lock"
        case lockHeld = "lock-held"
        case fenced
        case tooSlow = "too-slow"
        case notANumber = "not-a-number"
        case limitExceeded = "limit-exceeded"
        case idempotencyMismatch = "idempotency-mismatch"
        case methodNotAllowed = "method-not-allowed"
        case conflict
        case preconditionFailed = "precondition-failed"
        case valueTooLarge = "value-too-large"
        case bodyTooLarge = "body-too-large"
        case headersTooLarge = "headers-too-large"
        case requestTimeout = "request-timeout"
        case revisionGone = "revision-gone"
        case noLeader = "no-leader"
        case leadershipChanging = "leadership-changing"
        case overloaded
        case shuttingDown = "shutting-down"
        case storageFull = "storage-full"
        case timedOut = "timed-out"
        case outcomeUnknown = "outcome-unknown"
        case nodeFault = "node-fault"
        case quarantined
    }

    var status: Int
    var code: Code
    var title: String
    var detail: String
    var outcome: Outcome = .notExecuted
    var retryable = false
    /// Whole seconds; sent as `Retry-After`.
    var retryAfterSeconds: Int?
    /// The methods of the route, for 405.
    var allow: String?
    /// The store's revision at which the answer holds.
    var revision: UInt64?
    /// The key's present modify revision, for 412; 0 when the key does not exist.
    var currentRevision: UInt64?
    /// The oldest revision that can be read, for 410.
    var compactRevision: UInt64?
    /// The bound that was passed, in bytes or in units of the parameter.
    var limit: Int?
    /// The names or values that would have been understood.
    var known: [String] = []
    /// It is the first answer to an idempotency key again.
    var isReplayed = false
    /// The connection cannot go on: what follows on it cannot be told apart from this request.
    var closesConnection = false

    init(_ status: Int, _ code: Code, _ title: String, _ detail: String) {
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
    }

    func with(_ change: (inout Problem) -> Void) -> Problem {
        var copy = self
        change(&copy)
        return copy
    }
}

extension Problem {
    /// The document. `leader` is where the problem may be better placed, where it is known.
    func document(leader: Member?) -> ByteBuffer {
        var json = JSONWriter(capacity: 384)
        json.beginObject()
        json.member("type", code.type)
        json.member("title", title)
        json.member("status", status)
        json.member("detail", detail)
        json.member("outcome", outcome.rawValue)
        json.member("retryable", retryable)
        if let leader {
            json.name("leader")
            json.leader(leader)
        }
        if let revision { json.member("revision", revision) }
        if let currentRevision { json.member("current_revision", currentRevision) }
        if let compactRevision { json.member("compact_revision", compactRevision) }
        if let limit { json.member("limit", limit) }
        if !known.isEmpty {
            json.name("known")
            json.beginArray()
            for name in known { json.value(name) }
            json.endArray()
        }
        json.endObject()
        return json.buffer
    }
}

// MARK: - The problems of requests

extension Problem {
    static func malformedTarget(_ error: TargetError) -> Problem {
        switch error {
        case .malformedPercentEncoding(let offset):
            Problem(
                400,
                .malformedRequest,
                "malformed percent-encoding",
                "A % at byte \(offset) is not followed by two hexadecimal digits; write a percent sign as %25."
            )
        case .rawBytes:
            Problem(
                400,
                .malformedRequest,
                "raw bytes in the request target",
                "The target holds bytes that are not UTF-8; percent-encode them, or name the key with key_b64."
            )
        case .forbiddenByte(let byte):
            Problem(
                400,
                .malformedRequest,
                "forbidden character in the request target",
                "Byte \(byte) may not stand in a request target; percent-encode it."
            )
        }
    }

    static func unknownParameter(_ name: String, known: [String]) -> Problem {
        Problem(
            400,
            .unknownParameter,
            "unknown query parameter",
            "'\(name)' is not a parameter of this request; known are: \(known.joined(separator: ", "))."
        ).with { $0.known = known }
    }

    static func notSupported(_ what: String) -> Problem {
        Problem(
            400,
            .notSupported,
            "not supported by this version",
            "\(what) is not supported by this version; nothing was done."
        )
    }

    static func invalidParameter(_ name: String, _ detail: String, known: [String] = []) -> Problem {
        Problem(400, .invalidParameter, "invalid parameter value", "\(name): \(detail)").with { $0.known = known }
    }

    static func methodNotAllowed(_ method: String, allow: String) -> Problem {
        Problem(
            405,
            .methodNotAllowed,
            "method not allowed",
            "\(method) does not apply here; allowed are \(allow)."
        ).with { $0.allow = allow }
    }

    static func valueTooLarge(limit: Int) -> Problem {
        Problem(
            413,
            .valueTooLarge,
            "value too large",
            "A value may have at most \(limit) bytes; store larger data elsewhere and a reference to it here."
        ).with {
            $0.limit = limit
            $0.closesConnection = true
        }
    }

    static func bodyTooLarge(limit: Int) -> Problem {
        Problem(413, .bodyTooLarge, "body too large", "This request's body may have at most \(limit) bytes.").with {
            $0.limit = limit
            $0.closesConnection = true
        }
    }

    static var shuttingDown: Problem {
        Problem(
            503,
            .shuttingDown,
            "shutting down",
            "This node is stopping; ask another one."
        ).with {
            $0.retryable = true
            $0.retryAfterSeconds = 1
            $0.closesConnection = true
        }
    }
}
