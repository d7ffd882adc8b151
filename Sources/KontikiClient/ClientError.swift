/// Why a request failed, and what that says about its effect.
public struct ClientError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The kind of failure; more may be added.
    public struct Code: RawRepresentable, Hashable, Sendable {
        public var rawValue: String

        public init(rawValue: String) { self.rawValue = rawValue }

        /// The caller gave what cannot be sent: an endpoint that is no URL, an empty key.
        public static let invalidArgument = Code(rawValue: "invalid-argument")
        /// The node refused the request as malformed or not allowed (4xx).
        public static let refused = Code(rawValue: "refused")
        /// `If-Match` or `If-None-Match` did not hold (412).
        public static let preconditionFailed = Code(rawValue: "precondition-failed")
        /// What was asked for lies behind the past that the node still has (410); list anew.
        public static let compacted = Code(rawValue: "compacted")
        /// The value is beyond the node's bound (413).
        public static let tooLarge = Code(rawValue: "too-large")
        /// No node could take the request in time: none is reachable, there is no leader, or all are overloaded.
        public static let unavailable = Code(rawValue: "unavailable")
        /// The disk, or its quota, is full (507). Reads go on.
        public static let storageFull = Code(rawValue: "storage-full")
        /// The time was up.
        public static let timedOut = Code(rawValue: "timed-out")
        /// The connection was lost while the request was under way.
        public static let connectionLost = Code(rawValue: "connection-lost")
        /// The answer is not one of a Kontiki node.
        public static let badAnswer = Code(rawValue: "bad-answer")
        /// The caller's task was cancelled.
        public static let cancelled = Code(rawValue: "cancelled")
    }

    /// What became of the request's effect. A read has none and is always `notExecuted`.
    public enum Outcome: String, Hashable, Sendable, Codable {
        /// Nothing was changed by the request, and nothing will be.
        case notExecuted = "not_executed"
        /// It was carried out.
        case executed
        /// It may have been, or may yet be, carried out.
        case unknown
    }

    public var code: Code
    public var outcome: Outcome
    /// The HTTP status of the node's answer, where there was one.
    public var status: Int?
    /// The `type` of the node's problem document, where there was one.
    public var problemType: String?
    /// The node that was asked last, as a URL.
    public var endpoint: String?
    /// Where the leader takes clients, `host:port`, as far as the asked node knew.
    public var leader: String?
    /// What happened, in words, and what to do next.
    public var message: String

    public init(
        _ code: Code,
        outcome: Outcome = .notExecuted,
        status: Int? = nil,
        problemType: String? = nil,
        endpoint: String? = nil,
        leader: String? = nil,
        _ message: String
    ) {
        self.code = code
        self.outcome = outcome
        self.status = status
        self.problemType = problemType
        self.endpoint = endpoint
        self.leader = leader
        self.message = message
    }

    public var description: String {
        var text = message
        if let status { text += " (HTTP \(status)" + (endpoint.map { " from \($0))" } ?? ")") }
        switch outcome {
        case .notExecuted: break
        case .executed: text += "; the request was carried out"
        case .unknown: text += "; the request may or may not have been carried out"
        }
        return text
    }
}
