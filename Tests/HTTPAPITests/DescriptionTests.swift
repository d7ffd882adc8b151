import Foundation
import HTTPTypes
import KeyValueService
import NIOCore
import Testing

@testable import HTTPAPI

/// What the API says of itself, held against what it does.
@Suite("The description and the routes are one", .timeLimit(.minutes(5)))
struct DescriptionTests {
    /// A target of the operation at which nothing is, or nothing that matters.
    private func target(_ operation: OperationDescription, _ query: String) -> String {
        let path = operation.path.replacing("{key}", with: "no/key").replacing("{id}", with: "7")
            .replacing("{name}", with: "nobody")
        return path + "?" + query
    }

    private func method(_ operation: OperationDescription) -> String { operation.method.rawValue }

    /// The answer to one request, on a connection of its own: some answers have no end.
    private func ask(_ port: Int, _ method: String, _ target: String, _ body: String = "") async throws -> RawResponse {
        let connection = try await RawConnection(port: port)
        try await connection.send(
            "\(method) \(target) HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
        )
        guard let head = try await connection.response(toHead: true) else { throw NotReached() }
        // A problem has a length; a stream has none.
        guard head.status >= 400, method != "HEAD", let length = head.fields["content-length"].flatMap({ Int($0) })
        else {
            try await connection.close()
            return head
        }
        let response = RawResponse(
            status: head.status,
            fields: head.fields,
            body: try await connection.bytes(length)
        )
        try await connection.close()
        return response
    }

    @Test("Each documented parameter is taken by its route, and each that a route takes is documented")
    func parameters() async throws {
        for fastLane in [true, false] {
            try await withServer(fastLane: fastLane) { _, port in
                for operation in APIDescription.operations where operation.method != .head {
                    let stranger = try await ask(port, method(operation), target(operation, "zzz=1"))
                    #expect(stranger.status == 400, "\(operation.id)")
                    let known = Set(try stranger.json["known"] as? [String] ?? [])
                    #expect(known == Set(operation.parameters), "\(operation.id)")
                    for name in operation.parameters {
                        let query = query(name, operation)
                        let answer = try await ask(port, method(operation), target(operation, query))
                        let type = answer.body.isEmpty ? nil : try answer.json["type"] as? String
                        #expect(type?.hasSuffix(":unknown-parameter") != true, "\(operation.id)?\(query)")
                    }
                }
            }
        }
    }

    /// The parameter with a value that it may have, and with what it does not go without.
    private func query(_ name: String, _ operation: OperationDescription) -> String {
        switch name {
        case "max_stale": "consistency=bounded&max_stale=1m"
        // Nothing is to be waited for.
        case "min_rev", "rev": "\(name)=0"
        case "wait": "wait=1ms"
        // A watch that begins is all that is wanted of it.
        case "since", "prev": "watch&\(name)=1"
        case "by": "op=incr&by=1"
        default: "\(name)=\(ParameterDescription.named(name).example.text)"
        }
    }

    @Test("What is read can be as fresh as wanted at every route that reads")
    func freshness() async throws {
        try await withServer { fixture, port in
            _ = try await fixture.service.put(key: Array("a".utf8), value: .init(string: "1"))
            let routes = APIDescription.operations.filter { $0.method == .get && $0.parameters.contains("consistency") }
            #expect(routes.count >= 6)
            for operation in routes {
                for query in ["consistency=bounded&max_stale=1m", "min_rev=1", "consistency=stale&min_rev=1"] {
                    #expect(operation.parameters.contains("min_rev") && operation.parameters.contains("max_stale"))
                    let answer = try await ask(port, "GET", target(operation, query))
                    // There is no such key, lease or lock, and that is an answer.
                    #expect([200, 404].contains(answer.status), "\(operation.id)?\(query): \(answer.text)")
                }
            }
        }
    }

    @Test("The fields of bodies, and the words in them, are those that are documented")
    func bodies() async throws {
        let schemas = Schemas.all
        func properties(_ path: String...) -> Set<String> {
            var place: JSONValue? = schemas
            for part in path { place = place?[part] }
            return Set(place?["properties"]?.members.map(\.name) ?? [])
        }
        let operations = properties("Operation")
        var cases: [(method: String, target: String, body: String, expected: Set<String>)] = [
            ("POST", "/leases", #"{"zzz":1}"#, properties("NewLease")),
            ("POST", "/locks/a", #"{"zzz":1}"#, properties("NewLock")),
            ("POST", "/members", #"{"zzz":1}"#, properties("NewMember")),
            ("POST", "/leader/transfer", #"{"zzz":1}"#, properties("Transfer")),
            ("POST", "/txn", #"{"zzz":1}"#, properties("Transaction")),
            ("POST", "/txn", #"{"compare":[{"zzz":1}]}"#, properties("Compare")),
            ("POST", "/txn", #"{"success":[{"zzz":1}]}"#, operations),
            (
                "POST", "/txn", #"{"compare":[{"key":"a","target":"zzz","op":"=","value":1}]}"#,
                Set(TransactionBody.targets)
            ),
            (
                "POST", "/txn", #"{"compare":[{"key":"a","target":"version","op":"zzz","value":1}]}"#,
                Set(TransactionBody.relations.map(\.text))
            ),
        ]
        for name in operations {
            let body = #"{"failure":[{"\#(name)":{"zzz":1}}]}"#
            cases.append(("POST", "/txn", body, properties("Operation", "properties", name)))
        }
        try await withServer { _, port in
            for one in cases {
                let answer = try await ask(port, one.method, one.target, one.body)
                #expect(answer.status == 400, "\(one.body): \(answer.text)")
                #expect(Set(try answer.json["known"] as? [String] ?? []) == one.expected, "\(one.body): \(answer.text)")
            }
        }
        let answered = Set(Schemas.all["Result"]?["properties"]?.members.map(\.name) ?? [])
        #expect(answered == operations, "each operation has its result")
    }

    @Test("Answers have no field that is not documented")
    func answers() async throws {
        try await withServer { fixture, port in
            _ = try await fixture.service.put(key: Array("a".utf8), value: .init(string: "1"))
            let connection = try await RawConnection(port: port)
            #expect(try await connection.call("POST", "/leases", #"{"ttl":"1h"}"#).status == 201)
            #expect(try await connection.call("POST", "/locks/l", #"{"ttl":"1h","value":"me"}"#).status == 200)
            for (path, schema) in [
                ("/", "Welcome"), ("/status", "Status"), ("/readyz?verbose", "Ready"), ("/livez?verbose", "Alive"),
                ("/members", "Members"), ("/kv?prefix=&count&delimiter=/", "Page"), ("/leases", "Leases"),
                ("/locks", "Locks"), ("/locks/l", "Lock"), ("/kv/none", "Problem"),
            ] {
                let answer = try await connection.call("GET", path)
                var json = try JSONValue(parsing: .init(ByteBuffer(bytes: answer.body)))
                if path == "/kv/none" { json = json.without("instance") }
                for stranger in strangers(json, Schemas.reference(schema)) { Issue.record("\(path): \(stranger)") }
            }
            try await connection.close()
        }
    }

    /// The places in `json` that the schema does not name.
    private func strangers(_ json: JSONValue, _ schema: JSONValue?, _ path: String = "") -> [String] {
        guard let schema else { return [path] }
        if case .string(let reference)? = schema["$ref"] {
            let name = String(decoding: reference, as: UTF8.self).split(separator: "/").last.map(String.init) ?? ""
            return strangers(json, Schemas.all[name], path)
        }
        if case .array(let choices)? = schema["anyOf"] {
            return choices.map { strangers(json, $0, path) }.min { $0.count < $1.count } ?? []
        }
        switch json {
        case .object(let members):
            guard let properties = schema["properties"] else { return [] }
            return members.flatMap { strangers($0.value, properties[$0.name], path + "." + $0.name) }
        case .array(let elements): return elements.flatMap { strangers($0, schema["items"], path + "[]") }
        default: return []
        }
    }

    @Test("The README tells of every operation and of metrics that there are")
    func readme() async throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let text = try String(contentsOf: root.appendingPathComponent("README.md"), encoding: .utf8)
        let section = try #require(text.components(separatedBy: "## The HTTP interface in short").last)
        let table = section.components(separatedBy: "\n").filter { $0.hasPrefix("|") }
        for operation in APIDescription.operations where operation.path != "/" {
            let path = operation.path.replacing("{key}", with: "KEY").replacing("{id}", with: "ID")
                .replacing("{name}", with: "NAME")
            let rows = table.filter { $0.contains(path) && $0.contains(operation.method.rawValue) }
            #expect(!rows.isEmpty, "\(operation.method) \(path)")
        }
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            let metrics = try await connection.call("GET", "/metrics").text
            for match in text.matches(of: /`(kontiki_[a-z_]+)`/) where !match.1.hasPrefix("kontiki_raft_peer") {
                #expect(metrics.contains("# TYPE \(match.1) "), "\(match.1)")
            }
            try await connection.close()
        }
    }
}

extension JSONValue {
    /// The members of an object.
    fileprivate var members: [Member] { if case .object(let members) = self { members } else { [] } }

    fileprivate func without(_ name: String) -> JSONValue { .object(members.filter { $0.name != name }) }

    /// A scalar as it stands in a query.
    fileprivate var text: String {
        switch self {
        case .string(let bytes): String(decoding: bytes, as: UTF8.self)
        case .number(let text): text
        case .bool(let flag): "\(flag)"
        case .null, .array, .object: ""
        }
    }
}
