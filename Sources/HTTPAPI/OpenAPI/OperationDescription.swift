import HTTPTypes

/// One method of one path, as the API describes it. The router takes the query parameters of its routes from here, so that what is
/// described is what is understood.
struct OperationDescription: Sendable {
    /// What goes wrong with it beyond what may with every request.
    enum Kind: Sendable {
        /// Answers from this node alone.
        case local
        /// Reads the store.
        case read
        /// Changes the store.
        case write
        /// Changes the cluster.
        case administration
    }

    struct Success: Sendable {
        var status: Int
        var description: String
        /// Media type and the name of a schema, or nil for any bytes.
        var content: [(type: String, schema: String?)] = []
        var fields: [String] = []

        static func json(_ status: Int, _ description: String, _ schema: String, fields: [String] = []) -> Success {
            Success(status: status, description: description, content: [("application/json", schema)], fields: fields)
        }
    }

    var method: HTTPRequest.Method
    var path: String
    /// The name that generated clients give it.
    var id: String
    var kind: Kind
    var summary: String
    /// More about it.
    var detail: String?
    var parameters: [String] = []
    /// Those without which it is refused.
    var required: [String] = []
    /// Header fields that it looks at.
    var fields: [String] = []
    /// The schema of the JSON body; "" for raw bytes.
    var body: String?
    var isBodyRequired = true
    var successes: [Success]
    /// Problems of its own.
    var problems: [Int] = []

    /// The line of `GET /`.
    var line: String {
        let query = parameters.filter { $0 != "timeout" && $0 != "redirect" && $0 != "key_b64" }
        let body = body.map { $0.isEmpty ? " <bytes>" : " <\($0)>" } ?? ""
        return "\(method.rawValue) \(path)" + (query.isEmpty ? "" : "?" + query.joined(separator: "&")) + body
    }

    /// All statuses of problem documents that it may answer.
    var problemStatuses: [Int] {
        // Every request may be malformed, too slow, too large, or come to a node that stops or has a fault.
        var statuses: Set<Int> = [400, 405, 408, 413, 431, 500, 503]
        switch kind {
        case .local: break
        case .read: statuses.insert(504)
        case .write: statuses.formUnion([404, 409, 412, 422, 504, 507])
        case .administration: statuses.formUnion([404, 409, 504])
        }
        return statuses.union(problems).sorted()
    }

    // MARK: As OpenAPI

    /// The names in braces in the path.
    private var pathParameters: [JSONValue] {
        path.split(separator: "/").filter { $0.hasPrefix("{") }.map { part in
            let name = String(part.dropFirst().dropLast())
            let (description, example): (String, JSONValue) =
                switch (name, path) {
                case ("key", _):
                    (
                        "The key, percent-encoded once: 1 to 480 bytes. Slashes are part of it and need not be encoded.",
                        "hello"
                    )
                case ("id", _): ("The lease's identity, in hexadecimal.", "00000000000000a7")
                case (_, "/locks/{name}"): ("The lock's name: 1 to 255 bytes of UTF-8.", "printer")
                default: ("The member's name or identity.", "node2")
                }
            return [
                "name": .text(name), "in": "path", "required": true, "description": .text(description),
                "schema": ["type": "string", "minLength": 1], "example": example,
            ]
        }
    }

    var json: JSONValue {
        var operation: JSONValue = ["operationId": .text(id), "summary": .text(summary)]
        operation = operation.with("description", detail.map { .text($0) })
        let parameters =
            pathParameters
            + parameters.map { name in
                required.contains(name)
                    ? ParameterDescription.named(name).json.with("required", true)
                    : ["$ref": .text("#/components/parameters/\(name)")] as JSONValue
            }
            + fields.map { ["$ref": .text("#/components/parameters/\($0)")] as JSONValue }
        if !parameters.isEmpty { operation = operation.with("parameters", .array(parameters)) }
        if let body {
            let content: JSONValue =
                body.isEmpty
                ? ["application/octet-stream": [:], "*/*": [:]]
                : ["application/json": ["schema": Schemas.reference(body)]]
            operation = operation.with("requestBody", ["required": .bool(isBodyRequired), "content": content])
        }
        return operation.with("responses", responses)
    }

    private var responses: JSONValue {
        var responses: [JSONValue.Member] = successes.map { success in
            var response: JSONValue = ["description": .text(success.description)]
            let fields = success.fields + Self.fieldsOfAll(kind)
            response = response.with(
                "headers",
                .object(
                    fields.map { .init(name: $0, value: ["$ref": .text("#/components/headers/\($0)")]) }
                )
            )
            if !success.content.isEmpty {
                let content = success.content.map { type, schema in
                    JSONValue.Member(name: type, value: schema.map { ["schema": Schemas.reference($0)] } ?? [:])
                }
                response = response.with("content", .object(content))
            }
            return .init(name: String(success.status), value: response)
        }
        responses += problemStatuses.filter { status in !successes.contains { $0.status == status } }.map {
            .init(name: String($0), value: ["$ref": .text("#/components/responses/\($0)")])
        }
        return .object(responses)
    }

    private static func fieldsOfAll(_ kind: Kind) -> [String] {
        ["Kontiki-Term", "Kontiki-Applied-Index", "Kontiki-Leader", "Kontiki-Served-By"]
            + (kind == .read ? ["Kontiki-Consistency", "Kontiki-Staleness-Ms"] : [])
            + (kind == .write ? ["Kontiki-Replayed"] : [])
    }
}
