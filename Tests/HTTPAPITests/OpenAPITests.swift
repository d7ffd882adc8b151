import HTTPTypes
import Testing

@testable import HTTPAPI

@Suite("The API's description of itself")
struct OpenAPITests {
    @Test("Every route is described, and every description has a route")
    func routes() async throws {
        try await withServer { fixture, _ in
            let server = ServerCore(service: fixture.service, name: "node1", options: HTTPServer.Options())
            let routes = API.routes(server).map { "\($0.method) \($0.pattern)" }
            let described = APIDescription.operations.map { "\($0.method) \($0.path)" }
            #expect(Set(routes).count == routes.count)
            #expect(Set(described).count == described.count)
            #expect(Set(APIDescription.operations.map(\.id)).count == described.count)
            let keys = APIDescription.keys.map { "\($0.method) \($0.path)" }
            #expect(Set(routes).union(keys) == Set(described))
            #expect(Set(routes).isDisjoint(with: keys))
        }
    }

    @Test("Every parameter and field is described once, and used")
    func parameters() {
        let names = ParameterDescription.all.map(\.name)
        #expect(Set(names).count == names.count)
        let used = Set(APIDescription.operations.flatMap(\.parameters))
        #expect(used.isSubset(of: names), "\(used.subtracting(names))")
        let fields = Set(APIDescription.operations.flatMap(\.fields))
        #expect(fields.isSubset(of: FieldDescription.ofRequests.map(\.name)))
        let answered = Set(APIDescription.operations.flatMap { $0.successes.flatMap(\.fields) })
        #expect(answered.isSubset(of: FieldDescription.ofAnswers.map(\.name)))
    }

    /// All values of members called `name`, anywhere in `json`.
    private func all(_ name: String, in json: JSONValue) -> [JSONValue] {
        switch json {
        case .object(let members):
            members.flatMap { ($0.name == name ? [$0.value] : []) + all(name, in: $0.value) }
        case .array(let elements): elements.flatMap { all(name, in: $0) }
        default: []
        }
    }

    @Test("Every reference in the document leads somewhere, and every schema is used")
    func references() {
        let document = OpenAPIDocument.json(version: "1")
        var referenced: Set<String> = []
        for case .string(let bytes) in all("$ref", in: document) {
            let text = String(decoding: bytes, as: UTF8.self)
            referenced.insert(text)
            var place: JSONValue? = document
            for part in text.split(separator: "/").dropFirst() { place = place?[String(part)] }
            #expect(place != nil, "\(text)")
        }
        for schema in Schemas.all.members {
            #expect(referenced.contains("#/components/schemas/\(schema.name)"), "\(schema.name)")
        }
    }

    @Test("The document is served, and GET / names every operation")
    func served() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            let response = try await connection.request("GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(response.status == 200)
            #expect(response.fields["content-type"] == "application/json")
            #expect(response.text.hasPrefix(#"{"openapi":"3.1.0","#))
            let welcome = try await connection.request("GET / HTTP/1.1\r\nHost: x\r\n\r\n").text
            for operation in APIDescription.operations {
                #expect(welcome.contains("\"\(operation.method) \(operation.path)"), "\(operation.id)")
                #expect(response.text.contains("\"operationId\":\"\(operation.id)\""))
            }
            try await connection.close()
        }
    }
}
