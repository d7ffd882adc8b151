import HTTPTypes

/// What the API can do: the one list that the router's parameters, `GET /` and `/openapi.json` come from.
enum APIDescription {
    static let operations: [OperationDescription] = keys + lists + cluster

    static func operation(_ method: HTTPRequest.Method, _ path: String) -> OperationDescription {
        guard let found = operations.first(where: { $0.method == method && $0.path == path }) else {
            preconditionFailure("\(method) \(path) is not described")
        }
        return found
    }

    private static let itemFields = ["ETag", "Kontiki-Revision", "Kontiki-Create-Revision", "Kontiki-Version"]
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
            fields: ["If-Match", "If-None-Match"],
            successes: [
                .init(
                    status: 200,
                    description: "The value.",
                    content: [("*/*", nil), ("application/json", nil)],
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
            parameters: KeyRequest.writeParameters,
            fields: ["If-Match", "If-None-Match", "Prefer"],
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
            parameters: KeyRequest.writeParameters,
            fields: ["If-Match", "If-None-Match", "Prefer"],
            successes: [
                .json(200, "With Prefer: return=representation.", "Deleted", fields: ["Kontiki-Revision"]),
                .init(status: 204, description: "It is gone.", fields: ["Kontiki-Revision"]), moved,
            ]
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
            parameters: [
                "prefix", "delimiter", "limit", "cursor", "keys_only", "count", "reverse", "rev", "consistency",
                "timeout",
                "redirect",
            ],
            successes: [.json(200, "A page.", "Page", fields: ["Kontiki-Revision", "Link"]), moved],
            problems: [410]
        ),
        OperationDescription(
            method: .delete,
            path: "/kv",
            id: "deletePrefix",
            kind: .write,
            summary: "Delete every key that begins with a prefix, in one atomic write",
            parameters: ["prefix", "all", "timeout", "redirect"],
            successes: [.json(200, "How many there were.", "Deleted", fields: ["Kontiki-Revision"]), moved]
        ),
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
            summary: "Whether requests should be sent here",
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
