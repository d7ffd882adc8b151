import Foundation
import KeyValue
import Testing

@testable import HTTPAPI

@Suite("The other routes, on a real node", .timeLimit(.minutes(5)))
struct RouteTests {
    private func call(
        _ connection: RawConnection,
        _ method: String,
        _ target: String,
        _ body: String = ""
    ) async throws -> RawResponse {
        try await connection.request(
            "\(method) \(target) HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)",
            toHead: method == "HEAD"
        )
    }

    private func json(_ response: RawResponse) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(response.body)) as? [String: Any])
    }

    @Test("Listing: prefix, delimiter, limit, count, reverse, keys only")
    func listing() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            for key in ["a/1", "a/2", "a/b/1", "a/b/2", "a/c", "b"] {
                #expect(try await call(connection, "PUT", "/kv/\(key)", "v \(key)").status == 201)
            }
            func list(_ query: String) async throws -> [String: Any] {
                let response = try await call(connection, "GET", "/kv?\(query)")
                #expect(response.status == 200, "\(query): \(response.text)")
                #expect(response.fields["kontiki-revision"] == "6")
                return try json(response)
            }
            func keys(_ list: [String: Any]) -> [String] {
                (list["items"] as? [[String: Any]] ?? []).compactMap { $0["key"] as? String }
            }
            var page = try await list("")
            #expect(keys(page) == ["a/1", "a/2", "a/b/1", "a/b/2", "a/c", "b"])
            #expect(page["more"] as? Bool == false)
            #expect(page["revision"] as? Int == 6)
            #expect((page["items"] as? [[String: Any]])?.first?["value"] as? String == "v a/1")
            #expect(keys(try await list("prefix=a/b")) == ["a/b/1", "a/b/2"])
            page = try await list("prefix=a/&delimiter=/")
            #expect(keys(page) == ["a/1", "a/2", "a/c"])
            #expect(page["prefixes"] as? [String] == ["a/b/"])
            #expect(keys(try await list("prefix=a&reverse&limit=2")) == ["a/c", "a/b/2"])
            page = try await list("prefix=a&keys_only&count&limit=1&consistency=stale")
            #expect(page["count"] as? Int == 5)
            #expect(keys(page) == ["a/1"])
            #expect((page["items"] as? [[String: Any]])?.first?["value"] == nil)
            page = try await list("prefix=a&count&limit=0")
            #expect(page["count"] as? Int == 5)
            #expect(keys(page) == [])
            #expect(try await call(connection, "HEAD", "/kv?prefix=a").status == 200)
        }
    }

    @Test("Pages follow each other by their links, forward and in reverse, and miss nothing")
    func pages() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            let names = (0..<57).map { "p/\($0 < 10 ? "0" : "")\($0) ü&=+" }
            for name in names {
                let target = "/kv/" + PercentDecoding.encode(name.utf8)
                #expect(try await call(connection, "PUT", target, "v").status == 201)
            }
            for (options, expected) in [("", names), ("&reverse=true", Array(names.reversed()))] {
                var target: String? = "/kv?prefix=p%2F&limit=10\(options)&keys_only"
                var seen: [String] = []
                var pages = 0
                while let next = target {
                    let response = try await call(connection, "GET", next)
                    let page = try json(response)
                    seen += (page["items"] as? [[String: Any]] ?? []).compactMap { $0["key"] as? String }
                    pages += 1
                    #expect((page["cursor"] != nil) == (page["more"] as? Bool))
                    target = response.fields["link"].map { link in
                        #expect(link.hasSuffix(">; rel=\"next\""))
                        return String(link.dropFirst().prefix { $0 != ">" })
                    }
                }
                #expect(seen == expected)
                #expect(pages == 6)
            }
        }
    }

    @Test("Deleting a prefix is one write; everything only when that is said")
    func deletingPrefixes() async throws {
        try await withServer { fixture, port in
            let connection = try await RawConnection(port: port)
            for key in ["a/1", "a/2", "b"] { _ = try await call(connection, "PUT", "/kv/\(key)", "v") }
            #expect(try await call(connection, "DELETE", "/kv?prefix=").status == 400)
            #expect(try await call(connection, "DELETE", "/kv").status == 400)
            #expect(fixture.store.mark.revision == 3)
            let deleted = try await call(connection, "DELETE", "/kv?prefix=a/")
            #expect(deleted.text == #"{"revision":4,"deleted":2}"#)
            #expect(try await call(connection, "DELETE", "/kv?prefix=&all=true").text == #"{"revision":5,"deleted":1}"#)
            #expect(try await call(connection, "DELETE", "/kv?prefix=x").text == #"{"revision":5,"deleted":0}"#)
        }
    }

    @Test("Status, health and members speak of the node")
    func observation() async throws {
        try await withServer { fixture, port in
            let connection = try await RawConnection(port: port)
            _ = try await call(connection, "PUT", "/kv/k", "v")
            let status = try json(try await call(connection, "GET", "/status"))
            #expect(status["id"] as? String == "node1")
            #expect(status["role"] as? String == "leader")
            #expect(status["revision"] as? Int == 1)
            #expect((status["server_id"] as? String)?.count == 16)
            #expect((status["leader"] as? [String: Any])?["id"] as? String == "node1")
            #expect((status["storage"] as? [String: Any])?["keys"] as? Int == 1)
            #expect(status["peers"] != nil)

            let members = try json(try await call(connection, "GET", "/members"))["members"] as? [[String: Any]]
            #expect(members?.count == 1)
            #expect(members?.first?["suffrage"] as? String == "voter")
            #expect(members?.first?["leader"] as? Bool == true)

            try await eventually { try await call(connection, "GET", "/readyz").status == 200 }
            let ready = try json(try await call(connection, "GET", "/readyz?verbose"))
            #expect(ready["ready"] as? Bool == true)
            let checks = try #require(ready["checks"] as? [[String: Any]])
            #expect(
                checks.compactMap { $0["name"] as? String } == [
                    "storage", "accepting", "member", "leader", "read-index", "snapshot", "applied",
                    "replica-comparison",
                ]
            )
            #expect(checks.allSatisfy { $0["ok"] as? Bool == true && $0["detail"] != nil })
            #expect(try await call(connection, "GET", "/health").status == 200)
            #expect(try await call(connection, "GET", "/livez").status == 200)
            let welcome = try json(try await call(connection, "GET", "/"))
            #expect(welcome["name"] as? String == "kontiki")
        }
    }

    @Test("Operations on members and leadership that cannot be are refused, and say why")
    func operations() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            let cases: [(String, String, String, Int)] = [
                ("DELETE", "/members/node9", "", 404), ("POST", "/members/node9/promote", "", 404),
                ("POST", "/members/node9/replace", #"{"addr":"h:1"}"#, 404),
                ("POST", "/members", #"{"addr":"nowhere"}"#, 400), ("POST", "/members", #"{"adr":"h:1"}"#, 400),
                ("POST", "/members", #"{"addr":"h:99999"}"#, 400), ("POST", "/members", "{", 400),
                ("POST", "/members", #"{"name":"a/b","addr":"h:1"}"#, 400),
                ("POST", "/leader/transfer", #"{"to":"node9"}"#, 404), ("POST", "/leader/transfer", #"{"too":1}"#, 400),
                ("DELETE", "/members/node1?timeout=x", "", 400), ("GET", "/members/node1", "", 405),
                ("GET", "/leader/transfer", "", 405),
            ]
            for (method, target, body, status) in cases {
                let response = try await call(connection, method, target, body)
                #expect(response.status == status, "\(method) \(target) \(body): \(response.text)")
                #expect(response.fields["content-type"] == "application/problem+json")
                #expect(response.text.contains(#""outcome":"not_executed""#), "\(method) \(target) \(body)")
            }
            // The last voter cannot leave, and there is nobody to lead instead.
            #expect(try await call(connection, "DELETE", "/members/node1").status == 409)
            #expect(try await call(connection, "POST", "/leader/transfer", "").status >= 400)
            // Nobody listens there.
            let unreachable = try await call(connection, "POST", "/members?timeout=2s", #"{"addr":"127.0.0.1:1"}"#)
            #expect([503, 504].contains(unreachable.status), "\(unreachable.text)")
        }
    }

    @Test("A read of a revision that is not reached in time says so, and that it may be tried again")
    func unreachedRevision() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            for target in ["/kv/none", "/leases"] {
                let late = try await connection.request(
                    "GET \(target)?min_rev=1000&timeout=20ms HTTP/1.1\r\nHost: x\r\n\r\n"
                )
                #expect(late.status == 504)
                #expect(late.text.contains(#""outcome":"not_executed","retryable":true"#))
            }
            try await connection.close()
        }
    }

    @Test("?redirect does the work here when this node leads")
    func redirect() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            #expect(try await call(connection, "PUT", "/kv/r?redirect", "v").status == 201)
            #expect(try await call(connection, "GET", "/kv/r?redirect=1").text == "v")
            #expect(try await call(connection, "GET", "/kv?redirect").status == 200)
        }
    }
}
