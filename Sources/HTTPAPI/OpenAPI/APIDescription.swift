import HTTPTypes

/// What the API can do: the one list that the router's parameters, `GET /` and `/openapi.json` come from.
enum APIDescription {
    static let operations: [OperationDescription] =
        keys + lists + transactions + leases + locks + backups + cluster

    static func operation(_ method: HTTPRequest.Method, _ path: String) -> OperationDescription {
        guard let found = operations.first(where: { $0.method == method && $0.path == path }) else {
            preconditionFailure("\(method) \(path) is not described")
        }
        return found
    }

    private static let itemFields = ["ETag", "Kontiki-Revision", "Kontiki-Create-Revision", "Kontiki-Version"]
    private static let conditions = ["If-Match", "If-None-Match"]
    private static let options = ["Idempotency-Key", "Kontiki-Fence"]
    private static let reading = ReadDemand.parameters + ["timeout"]
    private static let moved = OperationDescription.Success(
        status: 307,
        description: "With redirect, where this node does not lead: the same at the leader.",
        fields: ["Location"]
    )

    // MARK: One key

    static let keys: [OperationDescription] = [
        OperationDescription(
            method: .get,
            path: "/kv/{key}",
            id: "getKey",
            kind: .read,
            summary: "Read a key",
            detail:
                "The raw value, with its Content-Type. With Accept: application/json an envelope with the metadata.",
            parameters: KeyRequest.readParameters,
            fields: ["If-Match", "If-None-Match", "Last-Event-ID"],
            successes: [
                .init(
                    status: 200,
                    description: "The value; with watch its changes, as Server-Sent Events.",
                    content: [("*/*", nil), ("application/json", nil), ("text/event-stream", nil)],
                    fields: itemFields
                ),
                .init(status: 304, description: "The key still has the ETag of If-None-Match.", fields: itemFields),
                moved,
            ],
            problems: [404, 410, 412]
        ),
        OperationDescription(
            method: .head,
            path: "/kv/{key}",
            id: "headKey",
            kind: .read,
            summary: "Read a key's metadata",
            parameters: KeyRequest.readParameters,
            fields: ["If-Match", "If-None-Match"],
            successes: [
                .init(status: 200, description: "The value's head.", fields: itemFields),
                .init(status: 304, description: "The key still has the ETag of If-None-Match.", fields: itemFields),
                moved,
            ],
            problems: [404, 410, 412]
        ),
        OperationDescription(
            method: .put,
            path: "/kv/{key}",
            id: "putKey",
            kind: .write,
            summary: "Write a key",
            detail: "The body is the value, its Content-Type is kept.",
            parameters: KeyRequest.putParameters,
            fields: conditions + ["Prefer"] + options,
            body: "",
            isBodyRequired: false,
            successes: [
                .json(200, "Written over what was there.", "Written", fields: itemFields),
                .json(201, "Created.", "Written", fields: itemFields), moved,
            ]
        ),
        OperationDescription(
            method: .delete,
            path: "/kv/{key}",
            id: "deleteKey",
            kind: .write,
            summary: "Delete a key, there or not",
            parameters: KeyRequest.deleteParameters,
            fields: conditions + ["Prefer"] + options,
            successes: [
                .json(200, "With Prefer: return=representation.", "Deleted", fields: ["Kontiki-Revision"]),
                .init(status: 204, description: "It is gone.", fields: ["Kontiki-Revision"]), moved,
            ]
        ),
        OperationDescription(
            method: .post,
            path: "/kv/{key}",
            id: "incrementKey",
            kind: .write,
            summary: "Add to the decimal number that a key holds",
            detail:
                "A key that is not there counts as 0. 409 when it holds no number of 64 bits, or the sum would be none.",
            parameters: KeyRequest.postParameters,
            required: ["op"],
            fields: conditions + options,
            successes: [.json(200, "The number that it holds now.", "Incremented", fields: itemFields), moved]
        ),
    ]

    // MARK: Many keys

    private static let lists: [OperationDescription] = [
        OperationDescription(
            method: .get,
            path: "/kv",
            id: "listKeys",
            kind: .read,
            summary: "List keys",
            detail: "In the order of their bytes. All pages of a listing are of the first one's revision.",
            parameters: ListRoutes.parameters,
            fields: ["Last-Event-ID"],
            successes: [
                .init(
                    status: 200,
                    description: "A page; with watch the changes of the keys, as Server-Sent Events.",
                    content: [("application/json", "Page"), ("text/event-stream", nil)],
                    fields: ["Kontiki-Revision", "Link"]
                ),
                moved,
            ],
            problems: [410]
        ),
        OperationDescription(
            method: .delete,
            path: "/kv",
            id: "deletePrefix",
            kind: .write,
            summary: "Delete every key that begins with a prefix, in one atomic write",
            parameters: ListRoutes.deleteParameters,
            required: ["prefix"],
            fields: options,
            successes: [.json(200, "How many there were.", "Deleted", fields: ["Kontiki-Revision"]), moved]
        ),
    ]

    private static let transactions: [OperationDescription] = [
        OperationDescription(
            method: .post,
            path: "/txn",
            id: "executeTransaction",
            kind: .write,
            summary: "Compare, and execute one of two lists of operations, in one atomic step",
            detail:
                "success is executed when all comparisons hold, else failure. Operations are executed in order, and later ones see "
                + "what earlier ones did. At most 128 comparisons and 128 operations in each list. All gets together answer at most "
                + "10,000 keys and 8 MiB, in which each key counts with its value and 64 bytes; all deletes of prefixes together delete "
                + "at most 10,000 keys. What would be beyond is refused with 413, and nothing is done.",
            parameters: ["timeout", "redirect"],
            fields: options,
            body: "Transaction",
            successes: [
                .json(200, "What was done, whichever list it was.", "TransactionAnswer", fields: ["Kontiki-Revision"]),
                moved,
            ],
            problems: [404]
        )
    ]

    // MARK: Leases and locks

    private static let leases: [OperationDescription] = [
        OperationDescription(
            method: .post,
            path: "/leases",
            id: "grantLease",
            kind: .write,
            summary: "Make a lease: keys that are put with it end with it",
            parameters: ["timeout"],
            fields: options,
            body: "NewLease",
            successes: [.json(201, "The lease.", "Lease", fields: ["Location"])]
        ),
        OperationDescription(
            method: .get,
            path: "/leases",
            id: "listLeases",
            kind: .read,
            summary: "List the leases",
            parameters: ["limit", "after"] + reading,
            successes: [.json(200, "A page.", "Leases", fields: ["Kontiki-Revision"])]
        ),
        OperationDescription(
            method: .get,
            path: "/leases/{id}",
            id: "getLease",
            kind: .read,
            summary: "How a lease stands, with its keys",
            parameters: reading,
            successes: [.json(200, "The lease.", "Lease", fields: ["Kontiki-Revision"])],
            problems: [404]
        ),
        OperationDescription(
            method: .put,
            path: "/leases/{id}",
            id: "keepLeaseAlive",
            kind: .write,
            summary: "Begin a lease's time anew",
            parameters: ["timeout"],
            fields: options,
            successes: [.json(200, "The lease.", "Lease")],
            problems: [404]
        ),
        OperationDescription(
            method: .delete,
            path: "/leases/{id}",
            id: "revokeLease",
            kind: .write,
            summary: "End a lease now, with its keys",
            parameters: ["timeout"],
            fields: options,
            successes: [.init(status: 204, description: "It has ended.", fields: ["Kontiki-Revision"])],
            problems: [404]
        ),
    ]

    private static let locks: [OperationDescription] = [
        OperationDescription(
            method: .get,
            path: "/locks",
            id: "listLocks",
            kind: .read,
            summary: "List the locks that are held",
            parameters: ["prefix", "limit", "after"] + reading,
            successes: [.json(200, "A page.", "Locks", fields: ["Kontiki-Revision"])]
        ),
        OperationDescription(
            method: .get,
            path: "/locks/{name}",
            id: "getLock",
            kind: .read,
            summary: "Who holds a lock",
            detail: "404 when nobody does.",
            parameters: LockRoutes.parameters,
            fields: ["Last-Event-ID"],
            successes: [
                .init(
                    status: 200,
                    description: "The lock; with watch its changes: how an election is observed.",
                    content: [("application/json", "Lock"), ("text/event-stream", nil)],
                    fields: ["Kontiki-Revision"]
                )
            ],
            problems: [404, 410]
        ),
        OperationDescription(
            method: .post,
            path: "/locks/{name}",
            id: "acquireLock",
            kind: .write,
            summary: "Take a lock, or wait for it",
            detail:
                "The token of the answer fences off earlier holders: send it with writes as Kontiki-Fence. 409 when another holds the "
                + "lock, and when wait is over. The lease is kept alive with PUT /leases/{id}; while a request waits, the node does it. "
                + "With lease in place of ttl, the ticket lives with that lease, which has one place in the queue: after a lost answer ask "
                + "again, any node, and it is the same place with the same token, and with the value that was given first. When wait is over "
                + "and the answer is 409, the place is given up; when the client goes away or gets any other error, it stays.",
            parameters: ["timeout"],
            fields: options,
            body: "NewLock",
            successes: [.json(200, "It is held now.", "Lock", fields: ["Kontiki-Revision"])],
            problems: [404]
        ),
        OperationDescription(
            method: .delete,
            path: "/locks/{name}",
            id: "releaseLock",
            kind: .write,
            summary: "Give back a lock, or a place in its queue",
            parameters: ["token", "timeout"],
            required: ["token"],
            fields: options,
            successes: [.init(status: 204, description: "It is given back.", fields: ["Kontiki-Revision"])],
            problems: [404]
        ),
    ]

    // MARK: Everything

    private static let backups: [OperationDescription] = [
        OperationDescription(
            method: .get,
            path: "/snapshot",
            id: "backup",
            kind: .read,
            summary: "All keys, or those with a prefix, at one revision: a backup",
            detail:
                "A line of JSON for each key: key or key_base64, value or value_base64, content_type where there is one, as kontiki import "
                + "reads them. The last line is {\"end\":true,\"revision\",\"records\",\"crc32c\"}: how many lines there are before it, and the "
                + "CRC-32C of all of them with their line feeds, in hexadecimal; without it something is missing. It is made when it is asked "
                + "for, on the disk of this node, and then sent as fast as it is read; 503 when as many are being read as may be, 507 when the disk "
                + "has no room. Leases, locks and the past are not in it.",
            parameters: BackupRoutes.parameters,
            successes: [
                .init(
                    status: 200,
                    description: "The lines.",
                    content: [("application/x-ndjson", nil)],
                    fields: ["Kontiki-Revision"]
                )
            ],
            problems: [507]
        )
    ]

    // MARK: The node and its cluster

    private static let cluster: [OperationDescription] = [
        OperationDescription(
            method: .get,
            path: "/",
            id: "welcome",
            kind: .local,
            summary: "What there is",
            successes: [.json(200, "This list.", "Welcome")]
        ),
        OperationDescription(
            method: .get,
            path: "/openapi.json",
            id: "describe",
            kind: .local,
            summary: "This document",
            successes: [
                .init(
                    status: 200,
                    description: "OpenAPI 3.1.",
                    content: [("application/vnd.oai.openapi+json;version=3.1", nil), ("application/json", nil)]
                )
            ]
        ),
        OperationDescription(
            method: .get,
            path: "/status",
            id: "status",
            kind: .local,
            summary: "This node and what it knows of the cluster",
            successes: [.json(200, "How it stands.", "Status", fields: ["Kontiki-Revision"])]
        ),
        OperationDescription(
            method: .get,
            path: "/health",
            id: "health",
            kind: .local,
            summary: "The same as /readyz",
            parameters: ["verbose"],
            successes: [
                .json(200, "Ready.", "Ready"),
                .json(503, "Not ready; checks says why.", "Ready", fields: ["Retry-After"]),
            ]
        ),
        OperationDescription(
            method: .get,
            path: "/livez",
            id: "live",
            kind: .local,
            summary: "Whether the process should live on",
            parameters: ["verbose"],
            successes: [.json(200, "Alive.", "Alive"), .json(503, "It has a fault.", "Alive", fields: ["Retry-After"])]
        ),
        OperationDescription(
            method: .get,
            path: "/readyz",
            id: "ready",
            kind: .local,
            summary: "Whether requests should be sent here, and other nodes may be stopped",
            parameters: ["verbose"],
            successes: [
                .json(200, "Ready.", "Ready"),
                .json(503, "Not ready; checks says why.", "Ready", fields: ["Retry-After"]),
            ]
        ),
        OperationDescription(
            method: .get,
            path: "/metrics",
            id: "metrics",
            kind: .local,
            summary: "Metrics in the text format of Prometheus",
            successes: [.init(status: 200, description: "The metrics.", content: [("text/plain", nil)])]
        ),
        OperationDescription(
            method: .get,
            path: "/members",
            id: "listMembers",
            kind: .local,
            summary: "The cluster's members",
            successes: [.json(200, "The members.", "Members")]
        ),
        OperationDescription(
            method: .post,
            path: "/members",
            id: "addMember",
            kind: .administration,
            summary: "Add a member",
            parameters: ["timeout"],
            body: "NewMember",
            successes: [.json(201, "It is a learner now, and votes once it has caught up.", "Member")]
        ),
        OperationDescription(
            method: .delete,
            path: "/members/{name}",
            id: "removeMember",
            kind: .administration,
            summary: "Remove a member",
            parameters: ["timeout"],
            successes: [.init(status: 204, description: "It is gone.")]
        ),
        OperationDescription(
            method: .post,
            path: "/members/{name}/promote",
            id: "promoteMember",
            kind: .administration,
            summary: "Let a learner vote",
            parameters: ["timeout"],
            successes: [.json(200, "It votes.", "Member")]
        ),
        OperationDescription(
            method: .post,
            path: "/members/{name}/replace",
            id: "replaceMember",
            kind: .administration,
            summary: "Put a new member in the place of a lost one",
            parameters: ["timeout"],
            body: "NewMember",
            successes: [.json(200, "The new member.", "Member")]
        ),
        OperationDescription(
            method: .post,
            path: "/leader/transfer",
            id: "transferLeadership",
            kind: .administration,
            summary: "Let another member lead",
            parameters: ["timeout"],
            body: "Transfer",
            isBodyRequired: false,
            successes: [.json(200, "Who leads.", "Leadership")]
        ),
    ]
}
