/// A query parameter, as the API describes it.
struct ParameterDescription: Sendable {
    var name: String
    var schema: JSONValue
    var description: String
    var example: JSONValue
    /// A flag may be given bare.
    var isFlag = false

    private static func flag(_ name: String, _ description: String) -> ParameterDescription {
        ParameterDescription(
            name: name,
            schema: ["type": "boolean"],
            description: description,
            example: true,
            isFlag: true
        )
    }

    private static let revision: JSONValue = ["type": "integer", "format": "int64", "minimum": 0]
    private static let text: JSONValue = ["type": "string"]
    private static let consistencies: JSONValue = .array(Consistency.known.map { .text($0) })

    /// All of them. One name means the same wherever it is taken.
    static let all: [ParameterDescription] = [
        .init(
            name: "consistency",
            schema: ["type": "string", "enum": consistencies, "default": "strong"],
            description:
                "How fresh the answer is to be. strong: no older than the request, confirmed with a majority. bounded: "
                + "proven to be no older than max_stale. stale: what this node has, with or without a leader.",
            example: "strong"
        ),
        .init(
            name: "max_stale",
            schema: Schemas.duration,
            description:
                "With consistency=bounded: how old the state that is read may be when the request arrives. What was confirmed after that "
                + "is always new enough, as for a strong read, however long the way to the leader is.",
            example: "500ms"
        ),
        .init(
            name: "min_rev",
            schema: revision,
            description:
                "Wait until this node has applied this revision: reads your own writes on any node. 504 when it has not within timeout.",
            example: 42
        ),
        .init(
            name: "timeout",
            schema: Schemas.duration,
            description: "How long the request may take.",
            example: "5s"
        ),
        flag("redirect", "Answer 307 with the leader's address instead of doing the work from here."),
        .init(
            name: "key_b64",
            schema: ["type": "string", "pattern": "^[A-Za-z0-9_-]+$"],
            description: "The key as URL-safe Base64, in place of the path: names any bytes.",
            example: "AP8"
        ),
        .init(
            name: "rev",
            schema: revision,
            description: "Read the state as it was at this revision. 410 when its history is gone.",
            example: 42
        ),
        .init(
            name: "cas",
            schema: revision,
            description: "Write only if the key was last modified by this revision; 0 means that it must not exist.",
            example: 42
        ),
        .init(
            name: "ttl",
            schema: Schemas.duration,
            description: "The key expires this long after the write, unless it is written again.",
            example: "30s"
        ),
        .init(
            name: "lease",
            schema: ["type": "string", "pattern": "^[0-9a-f]{1,16}$"],
            description: "The key expires with this lease.",
            example: "00000000000000a7"
        ),
        .init(name: "op", schema: ["type": "string", "enum": ["incr"]], description: "What to do.", example: "incr"),
        .init(
            name: "by",
            schema: ["type": "integer", "format": "int64", "default": 1],
            description: "What to add.",
            example: 1
        ),
        .init(
            name: "prefix",
            schema: text,
            description: "The keys, or names, that begin with this.",
            example: "users/"
        ),
        .init(
            name: "delimiter",
            schema: ["type": "string", "minLength": 1],
            description: "Keys that hold this behind the prefix are listed once for each group, under prefixes.",
            example: "/"
        ),
        .init(
            name: "limit",
            schema: ["type": "integer", "minimum": 0, "maximum": 10_000, "default": 1_000],
            description: "The most items and prefixes of a page. 0 makes sense with count.",
            example: 100
        ),
        .init(
            name: "cursor",
            schema: text,
            description:
                "Where the page before ended. It holds the revision of the first page, so that pages do not shift.",
            example: "AgAAAAAAAAAqYS8x"
        ),
        flag("keys_only", "Leave the values out."),
        flag("count", "Say how many keys there are in all."),
        flag("reverse", "From the highest key down."),
        flag("all", "Confirms that an empty prefix means every key."),
        flag("watch", "Stream the changes as Server-Sent Events."),
        .init(
            name: "since",
            schema: revision,
            description: "Watch and wait: only changes behind this revision. Last-Event-ID goes before it.",
            example: 42
        ),
        flag("prev", "Watch: say what was there before each change."),
        .init(
            name: "wait",
            schema: Schemas.duration,
            description: "Long poll: answer when there is a change behind since, or when this time is over.",
            example: "30s"
        ),
        .init(
            name: "token",
            schema: ["type": "integer", "format": "int64", "minimum": 1],
            description: "The fencing token that the lock was granted with.",
            example: 42
        ),
        flag("verbose", "Say how every check stands, also of those that are well."),
        .init(name: "after", schema: text, description: "The last of the page before.", example: "00000000000000a7"),
    ]

    static func named(_ name: String) -> ParameterDescription {
        guard let found = all.first(where: { $0.name == name }) else {
            preconditionFailure("the query parameter '\(name)' is not described")
        }
        return found
    }

    var json: JSONValue {
        ([
            "name": .text(name), "in": "query", "description": .text(description),
            "schema": schema, "example": example,
        ] as JSONValue).with("allowEmptyValue", isFlag ? true : nil)
    }
}

/// A header field of requests, as the API describes it.
struct FieldDescription: Sendable {
    var name: String
    var schema: JSONValue
    var description: String
    var example: JSONValue

    /// Of requests.
    static let ofRequests: [FieldDescription] = [
        .init(
            name: "If-Match",
            schema: ["type": "string"],
            description:
                "On a write: the key's ETag, or * for any; the write is done only if it is still this. On a read: 412 if it is not.",
            example: "\"42\""
        ),
        .init(
            name: "If-None-Match",
            schema: ["type": "string"],
            description:
                "On a write: * for a key that must not exist. On a read: 304 if the key still has one of these ETags.",
            example: "*"
        ),
        .init(
            name: "Prefer",
            schema: ["type": "string"],
            description: "return=representation: answer with what was there before.",
            example: "return=representation"
        ),
        .init(
            name: "Idempotency-Key",
            schema: ["type": "string", "minLength": 1, "maxLength": 255],
            description:
                "Makes a retry safe: the same key with the same request gives the first answer again, for an hour.",
            example: "8e03978e-40d5-43e8-bc93-6894a57f9324"
        ),
        .init(
            name: "Kontiki-Fence",
            schema: ["type": "string", "pattern": "^.+=[0-9]+$"],
            description: "NAME=TOKEN: do this only while the lock NAME is held with TOKEN.",
            example: "printer=42"
        ),
        .init(
            name: "Last-Event-ID",
            schema: ["type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?$"],
            description:
                "The id of the last event that came: a watch of the same target goes on behind it, without a gap and without a duplicate. "
                + "42 is behind all events of revision 42, 42.3 behind the third one that the watch shows of it.",
            example: "42"
        ),
    ]

    /// Of answers.
    static let ofAnswers: [FieldDescription] = [
        .init(
            name: "ETag",
            schema: ["type": "string"],
            description: "The key's modify revision, in quotes.",
            example: "\"42\""
        ),
        .init(
            name: "Kontiki-Revision",
            schema: ["type": "integer"],
            description: "The revision of the store that the answer speaks of.",
            example: 42
        ),
        .init(
            name: "Kontiki-Create-Revision",
            schema: ["type": "integer"],
            description: "The revision that created the key.",
            example: 7
        ),
        .init(
            name: "Kontiki-Version",
            schema: ["type": "integer"],
            description: "How often the key was written since it was created.",
            example: 3
        ),
        .init(name: "Kontiki-Term", schema: ["type": "integer"], description: "The Raft term.", example: 2),
        .init(
            name: "Kontiki-Applied-Index",
            schema: ["type": "integer"],
            description: "The log index that this node has applied.",
            example: 1234
        ),
        .init(name: "Kontiki-Leader", schema: ["type": "string"], description: "The leader's name.", example: "node1"),
        .init(
            name: "Kontiki-Served-By",
            schema: ["type": "string"],
            description: "The node that answered.",
            example: "node2"
        ),
        .init(
            name: "Kontiki-Consistency",
            schema: ["type": "string", "enum": .array(Consistency.known.map { .text($0) })],
            description: "What the read was really given.",
            example: "strong"
        ),
        .init(
            name: "Kontiki-Staleness-Ms",
            schema: ["type": "integer"],
            description:
                "An upper bound of the age of what was read at the time of the answer, where one is known. It may be beyond max_stale "
                + "where the state was confirmed after the request had come and the way to the leader is long.",
            example: 12
        ),
        .init(
            name: "Kontiki-Replayed",
            schema: ["type": "string", "enum": ["true"]],
            description: "This is the first answer to this Idempotency-Key again; nothing was done now.",
            example: "true"
        ),
        .init(
            name: "Retry-After",
            schema: ["type": "integer"],
            description: "Seconds after which another try makes sense.",
            example: 1
        ),
        .init(
            name: "Link",
            schema: ["type": "string"],
            description: "The next page.",
            example: "</kv?prefix=a&cursor=AgAAAAAAAAAqYS8x>; rel=\"next\""
        ),
        .init(
            name: "Location",
            schema: ["type": "string"],
            description: "The same at the leader.",
            example: "http://node1:8001/kv/hello"
        ),
    ]

    static func ofRequests(_ name: String) -> FieldDescription {
        guard let found = ofRequests.first(where: { $0.name == name }) else {
            preconditionFailure("the header field \(name) is not described")
        }
        return found
    }

    var requestJSON: JSONValue {
        [
            "name": .text(name), "in": "header", "description": .text(description), "schema": schema,
            "example": example,
        ]
    }

    var answerJSON: JSONValue { ["description": .text(description), "schema": schema, "example": example] }
}
