import RaftNode

/// The JSON that the API takes and gives, as JSON Schema (OpenAPI 3.1).
enum Schemas {
    private static let revision: JSONValue = ["type": "integer", "format": "int64", "minimum": 0]
    private static let number: JSONValue = ["type": "integer", "format": "int64"]
    private static let count: JSONValue = ["type": "integer", "minimum": 0]
    private static let text: JSONValue = ["type": "string"]
    private static let flag: JSONValue = ["type": "boolean"]
    static let duration: JSONValue = [
        "type": "string", "pattern": .text("^[0-9]{1,\(Durations.maximumDigits)}(ms|s|m|h)$"),
    ]
    private static let leaseID: JSONValue = ["type": "string", "pattern": "^[0-9a-f]{16}$"]
    private static let base64: JSONValue = ["type": "string", "contentEncoding": "base64"]

    static func reference(_ name: String) -> JSONValue { ["$ref": .text("#/components/schemas/\(name)")] }

    private static func list(_ element: JSONValue) -> JSONValue { ["type": "array", "items": element] }

    private static func choice(_ values: [String]) -> JSONValue {
        ["type": "string", "enum": .array(values.map { .text($0) })]
    }

    /// An object with these fields; those in `required` must be there.
    private static func object(
        _ properties: JSONValue,
        required: [String] = [],
        isClosed: Bool = false,
        example: JSONValue? = nil
    ) -> JSONValue {
        var schema: JSONValue = ["type": "object", "properties": properties]
        if !required.isEmpty { schema = schema.with("required", .array(required.map { .text($0) })) }
        if isClosed { schema = schema.with("additionalProperties", false) }
        return schema.with("examples", example.map { [$0] })
    }

    /// All of them, by name.
    static let all: JSONValue = .object(keys.members + transactions.members + coordination.members + cluster.members)

    // MARK: Keys

    private static let itemExample: JSONValue = [
        "key": "hello", "value": "distributed", "content_type": "text/plain", "create_revision": 7,
        "mod_revision": 42, "version": 3,
    ]

    private static let keys: JSONValue = [
        "Item": object(
            [
                "key": text, "key_base64": base64, "value": text, "value_base64": base64, "content_type": text,
                "create_revision": revision, "mod_revision": revision, "version": revision, "lease": leaseID,
            ],
            required: ["create_revision", "mod_revision", "version"],
            example: itemExample
        ),
        "Page": object(
            [
                "revision": revision, "items": list(reference("Item")),
                "prefixes": list(["anyOf": [text, object(["key_base64": base64], required: ["key_base64"])]]),
                "count": count, "more": flag, "cursor": text,
            ],
            required: ["revision", "items", "more"],
            example: ["revision": 42, "items": [itemExample], "more": false]
        ),
        "Written": object(
            ["revision": revision, "version": revision, "created": flag, "previous": reference("Item")],
            required: ["revision", "version", "created"],
            example: ["revision": 42, "version": 3, "created": false]
        ),
        "Deleted": object(
            ["revision": revision, "deleted": count, "previous": reference("Item")],
            required: ["revision", "deleted"],
            example: ["revision": 43, "deleted": 2]
        ),
    ]

    // MARK: Transactions

    private static let named: JSONValue = ["key": text, "key_base64": base64]

    private static let transactions: JSONValue = [
        "Incremented": object(
            ["revision": revision, "value": number],
            required: ["revision", "value"],
            example: ["revision": 44, "value": 17]
        ),
        "Compare": object(
            .object(
                named.members
                    + ([
                        "target": choice(TransactionBody.targets),
                        "op": choice(TransactionBody.relations.map(\.text)),
                        "value": ["type": ["string", "integer", "boolean"]], "value_base64": base64,
                    ] as JSONValue).members
            ),
            required: ["target", "op"],
            isClosed: true,
            example: ["key": "hello", "target": "mod_revision", "op": "=", "value": 42]
        ),
        "Operation": [
            "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false,
            "properties": [
                "put": object(
                    .object(
                        named.members
                            + ([
                                "value": text, "value_base64": base64, "content_type": text, "ttl": duration,
                                "lease": ["type": "string", "pattern": "^[0-9a-f]{1,16}$"],
                            ] as JSONValue).members
                    ),
                    isClosed: true
                ),
                "delete": object(
                    .object(named.members + (["prefix": text, "prefix_base64": base64] as JSONValue).members),
                    isClosed: true
                ),
                "get": object(
                    .object(
                        named.members
                            + (["prefix": text, "prefix_base64": base64, "limit": count] as JSONValue).members
                    ),
                    isClosed: true
                ),
                "incr": object(.object(named.members + (["by": number] as JSONValue).members), isClosed: true),
            ],
        ],
        "Transaction": object(
            [
                "compare": list(reference("Compare")), "success": list(reference("Operation")),
                "failure": list(reference("Operation")),
            ],
            isClosed: true,
            example: [
                "compare": [["key": "hello", "target": "exists", "op": "=", "value": true]],
                "success": [["put": ["key": "hello", "value": "again"]], ["incr": ["key": "count", "by": 1]]],
                "failure": [["get": ["key": "hello"]]],
            ]
        ),
        "Result": [
            "type": "object", "minProperties": 1, "maxProperties": 1,
            "properties": [
                "put": object(["revision": revision, "version": revision, "created": flag]),
                "delete": object(["deleted": count], required: ["deleted"]),
                "get": object([
                    "item": ["anyOf": [reference("Item"), ["type": "null"]]], "items": list(reference("Item")),
                    "more": flag,
                ]),
                "incr": object(["value": number], required: ["value"]),
            ],
        ],
        "TransactionAnswer": object(
            ["succeeded": flag, "revision": revision, "results": list(reference("Result"))],
            required: ["succeeded", "revision", "results"],
            example: [
                "succeeded": true, "revision": 45,
                "results": [["put": ["revision": 45, "version": 4, "created": false]], ["incr": ["value": 18]]],
            ]
        ),
    ]

    // MARK: Leases and locks

    private static let leaseExample: JSONValue = ["id": "00000000000000a7", "ttl": "30s", "remaining": "29871ms"]
    private static let lockExample: JSONValue = [
        "name": "printer", "token": 42, "lease": "00000000000000a7", "revision": 42,
    ]

    private static let lockFields: JSONValue = [
        "name": text, "token": revision, "lease": leaseID, "revision": revision, "value": text,
        "value_base64": base64, "waiting": count,
    ]

    private static let coordination: JSONValue = [
        "NewLease": object(["ttl": duration], required: ["ttl"], isClosed: true, example: ["ttl": "30s"]),
        "Lease": object(
            ["id": leaseID, "ttl": duration, "remaining": duration, "keys": list(reference("Name"))],
            required: ["id", "ttl", "remaining"],
            example: leaseExample
        ),
        "Name": ["anyOf": [text, object(["key_base64": base64], required: ["key_base64"])]],
        "Leases": object(
            ["leases": list(reference("Lease")), "more": flag, "after": leaseID],
            required: ["leases", "more"],
            example: ["leases": [leaseExample], "more": false]
        ),
        "NewLock": object(
            [
                "ttl": duration, "lease": ["type": "string", "pattern": "^[0-9a-f]{1,16}$"], "wait": duration,
                "value": text, "value_base64": base64,
            ],
            isClosed: true,
            example: ["ttl": "30s", "wait": "10s", "value": "worker 1"]
        ),
        "Lock": object(lockFields, required: ["name", "token", "lease", "revision"], example: lockExample),
        "Locks": object(
            ["revision": revision, "locks": list(reference("Lock")), "more": flag],
            required: ["revision", "locks", "more"],
            example: ["revision": 42, "locks": [lockExample], "more": false]
        ),
    ]

    // MARK: The cluster

    private static let nullableNumber: JSONValue = ["type": ["integer", "null"]]

    private static let member: JSONValue = [
        "id": text, "server_id": text, "addr": text, "http": text,
        "suffrage": ["type": "string", "enum": ["voter", "learner"]], "leader": flag,
        "match_index": nullableNumber, "last_contact_ms": nullableNumber, "healthy": flag,
        "receiving_snapshot": flag,
    ]

    private static let checks: JSONValue = list(
        object(["name": text, "ok": flag, "detail": text], required: ["name", "ok"])
    )

    private static let cluster: JSONValue = [
        "Welcome": object(
            ["name": text, "version": text, "node": text, "description": text, "openapi": text, "try": list(text)],
            required: ["name", "version", "node", "try"]
        ),
        "Leader": object(["id": text, "addr": text, "http": text], required: ["id", "addr", "http"]),
        "Status": object(
            [
                "id": text, "server_id": text, "cluster_id": text, "version": text,
                "role": choice(NodeStatus.Role.allCases.map(\.rawValue)),
                "term": count, "leader": ["anyOf": [reference("Leader"), ["type": "null"]]], "first_index": count,
                "last_index": count, "commit_index": count, "applied_index": count, "durable_index": count,
                "snapshot_index": count, "leader_last_index": nullableNumber,
                "leader_commit_index": nullableNumber, "lag": nullableNumber, "ready": flag, "revision": revision,
                "uptime": text, "connections": count,
                "pending_requests": count, "storage": ["type": "object"], "quarantine": text,
                "replicas_differ": text, "fault": text, "peers": list(reference("Member")),
            ],
            required: ["id", "server_id", "cluster_id", "version", "role", "term", "leader", "revision", "peers"]
        ),
        "Member": object(member, required: ["id", "server_id", "addr", "http"]),
        "Members": object(["members": list(reference("Member"))], required: ["members"]),
        "NewMember": object(
            ["name": text, "addr": text],
            required: ["addr"],
            isClosed: true,
            example: ["name": "node4", "addr": "10.0.0.4:7001"]
        ),
        "Transfer": object(["to": text], isClosed: true, example: ["to": "node2"]),
        "Leadership": object(
            ["leader": ["anyOf": [reference("Leader"), ["type": "null"]]], "term": count],
            required: ["leader", "term"]
        ),
        "Alive": object(["alive": flag, "checks": checks], required: ["alive", "checks"]),
        "Ready": object(["ready": flag, "checks": checks], required: ["ready", "checks"]),
        "Problem": object(
            [
                "type": choice(Problem.Code.allCases.map(\.type)),
                "title": text, "status": ["type": "integer", "minimum": 400, "maximum": 599], "detail": text,
                "outcome": choice(Problem.Outcome.allCases.map(\.rawValue)), "retryable": flag,
                "leader": reference("Leader"), "revision": revision, "current_revision": revision,
                "compact_revision": revision, "limit": count, "known": list(text),
            ],
            required: ["type", "title", "status", "detail", "outcome", "retryable"],
            example: [
                "type": "urn:kontiki:problem:no-such-key", "title": "no such key", "status": 404,
                "detail": "There is no such key at revision 42.", "outcome": "not_executed", "retryable": false,
                "revision": 42,
            ]
        ),
    ]
}

extension Problem.Code {
    /// As it stands in a problem document.
    var type: String { "urn:kontiki:problem:" + rawValue }
}
