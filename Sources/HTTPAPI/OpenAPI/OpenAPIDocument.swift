import HTTPTypes
import NIOCore

/// `GET /openapi.json`: the API's description of itself, OpenAPI 3.1.
enum OpenAPIDocument {
    private static let problems: [(status: Int, description: String)] = [
        (400, "The request is malformed, or names what is not known. Nothing was done."),
        (404, "There is no such thing."),
        (405, "The method does not apply here; Allow names those that do."),
        (408, "The request did not arrive in time. Nothing was done."),
        (409, "It conflicts with what is there, or the same Idempotency-Key is in flight."),
        (410, "The history of that revision is gone; compact_revision is the oldest that can be read."),
        (412, "A precondition does not hold. Nothing was done."),
        (413, "The value or body is too large. Nothing was done."),
        (422, "The Idempotency-Key was used for another request, or the value is no number. Nothing was done."),
        (431, "The header fields are too large."),
        (500, "This node has a fault; ask another one."),
        (503, "No leader, overloaded, or stopping; see outcome and retryable."),
        (
            504,
            "The time was up; outcome says whether a write may have taken place. A read with min_rev: that revision was not reached."
        ),
        (507, "The disk or its quota is full. Reads go on."),
    ]

    static func json(version: String) -> JSONValue {
        [
            "openapi": "3.1.0",
            "info": [
                "title": "Kontiki", "version": .text(version),
                "summary": "A durable, replicated key-value store.",
                "description":
                    "Values travel as raw bytes, everything else is JSON. Errors are problem documents (RFC 9457) whose outcome says whether the request took place.",
                "license": ["name": "Apache-2.0", "identifier": "Apache-2.0"],
            ],
            "servers": [["url": "/"]],
            "paths": paths,
            "components": [
                "schemas": Schemas.all,
                "parameters": .object(
                    ParameterDescription.all.map { .init(name: $0.name, value: $0.json) }
                        + FieldDescription.ofRequests.map { .init(name: $0.name, value: $0.requestJSON) }
                ),
                "headers": .object(FieldDescription.ofAnswers.map { .init(name: $0.name, value: $0.answerJSON) }),
                "responses": .object(
                    problems.map { .init(name: String($0.status), value: problem($0.description, $0.status)) }
                ),
            ],
        ]
    }

    private static func problem(_ description: String, _ status: Int) -> JSONValue {
        var problem: JSONValue = ["description": .text(description)]
        if [503, 507].contains(status) {
            problem = problem.with("headers", ["Retry-After": ["$ref": "#/components/headers/Retry-After"]])
        }
        return problem.with("content", ["application/problem+json": ["schema": Schemas.reference("Problem")]])
    }

    /// Operations of one path stand together, in the order in which they are described.
    private static var paths: JSONValue {
        var paths: [JSONValue.Member] = []
        for operation in APIDescription.operations {
            let member = JSONValue.Member(name: operation.method.rawValue.lowercased(), value: operation.json)
            if let place = paths.firstIndex(where: { $0.name == operation.path }) {
                paths[place].value = paths[place].value.with(member.name, member.value)
            } else {
                paths.append(.init(name: operation.path, value: .object([member])))
            }
        }
        return .object(paths)
    }

    /// The document as it is sent.
    static func bytes(version: String) -> ByteBuffer {
        var json = JSONWriter(capacity: 1 << 16)
        json.value(Self.json(version: version))
        return json.buffer
    }
}
