import KeyValue
import Testing

@testable import HTTPAPI

@Suite("Leases and locks", .timeLimit(.minutes(5)))
struct LeaseTests {
    @Test("A lease is granted, kept alive, looked at and revoked, and takes its keys with it")
    func leases() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            let granted = try await connection.call("POST", "/leases", #"{"ttl":"60s"}"#)
            #expect(granted.status == 201, "\(granted.text)")
            let id = try #require(try granted.json["id"] as? String)
            #expect(id.utf8.count == 16)
            #expect(try granted.json["ttl"] as? String == "1m")
            #expect(granted.fields["location"] == "/leases/\(id)")
            #expect(try await connection.call("PUT", "/kv/a?lease=\(id)", "v").status == 201)
            #expect(try await connection.call("PUT", "/kv/b?lease=\(id)", "v").status == 201)
            let looked = try await connection.call("GET", "/leases/\(id)")
            #expect(try looked.json["keys"] as? [String] == ["a", "b"])
            #expect(looked.fields["kontiki-consistency"] == "strong")
            let item = try await connection.call("GET", "/kv/a", "", "Accept: application/json\r\n").json
            #expect(item["lease"] as? String == id)
            #expect(try await connection.call("PUT", "/leases/\(id)").status == 200)
            let list = try await connection.call("GET", "/leases").json
            #expect((list["leases"] as? [[String: Any]])?.first?["id"] as? String == id)
            #expect(list["more"] as? Bool == false)
            #expect(try await connection.call("DELETE", "/leases/\(id)").status == 204)
            #expect(try await connection.call("GET", "/kv/a").status == 404)
            for method in ["GET", "PUT", "DELETE"] {
                #expect(try await connection.call(method, "/leases/\(id)").status == 404)
            }
            #expect(try await connection.call("PUT", "/kv/a?lease=\(id)", "v").status == 404)
            try await connection.close()
        }
    }

    @Test("A key with a ttl of its own goes when the time is over")
    func ttl() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            #expect(try await connection.call("PUT", "/kv/a?ttl=1s", "v").status == 201)
            #expect(try await connection.call("PUT", "/kv/b?ttl=1s", "v").status == 201)
            #expect(try await connection.call("PUT", "/kv/b", "w").status == 200)
            try await eventually { try await connection.call("GET", "/kv/a").status == 404 }
            #expect(try await connection.call("GET", "/kv/b").text == "w")
            try await connection.close()
        }
    }

    @Test(
        "What is no lease is refused",
        arguments: [
            ("POST", "/leases", #"{"ttl":"30"}"#), ("POST", "/leases", #"{"ttl":"1ms"}"#), ("POST", "/leases", "{}"),
            ("POST", "/leases", #"{"ttl":"30s","keys":[]}"#), ("POST", "/leases", ""), ("GET", "/leases/xyz", ""),
            ("GET", "/leases/0", ""), ("GET", "/leases?limit=0", ""), ("PUT", "/kv/a?ttl=1s&lease=1", "v"),
            ("PUT", "/kv/a?ttl=1ms", "v"), ("PUT", "/kv/a?lease=", "v"), ("POST", "/locks/a", "{}"),
            ("POST", "/locks/a", #"{"ttl":"30s","wait":"x"}"#), ("DELETE", "/locks/a", ""),
            ("DELETE", "/locks/a?token=x", ""), ("GET", "/locks/%FF", ""), ("GET", "/locks?limit=x", ""),
        ]
    )
    func refused(_ method: String, _ target: String, _ body: String) async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            let response = try await connection.call(method, target, body)
            #expect(response.status == 400, "\(method) \(target) \(body): \(response.text)")
            try await connection.close()
        }
    }

    @Test("A lock goes to one, then to the next, with growing tokens")
    func locks() async throws {
        try await withServer { fixture, port in
            let first = try await RawConnection(port: port)
            let held = try await first.call("POST", "/locks/a%2Fb", #"{"ttl":"60s","value":"one"}"#)
            #expect(held.status == 200, "\(held.text)")
            let token = try #require(try held.json["token"] as? Int)
            #expect(try held.json["name"] as? String == "a/b")
            let refused = try await first.call("POST", "/locks/a%2Fb", #"{"ttl":"60s"}"#)
            #expect(refused.status == 409)
            #expect(refused.text.contains("lock-held"))
            let second = try await RawConnection(port: port)
            let body = #"{"ttl":"60s","wait":"60s","value":"two"}"#
            try await second.send(
                "POST /locks/a%2Fb HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
            )
            try await eventually { try await first.call("GET", "/locks/a%2Fb").json["waiting"] as? Int == 1 }
            #expect(try await first.call("DELETE", "/locks/a%2Fb?token=\(token)").status == 204)
            let next = try #require(try await second.response())
            #expect(next.status == 200, "\(next.text)")
            let nextToken = try #require(try next.json["token"] as? Int)
            #expect(nextToken > token)
            let list = try await first.call("GET", "/locks?prefix=a").json
            #expect((list["locks"] as? [[String: Any]])?.first?["value"] as? String == "two")
            #expect(try await first.call("DELETE", "/locks/a%2Fb?token=\(token)").status == 404)
            #expect(try await first.call("DELETE", "/locks/a%2Fb?token=\(nextToken)").status == 204)
            #expect(try await first.call("GET", "/locks/a%2Fb").status == 404)
            for connection in [first, second] { try await connection.close() }
        }
    }

    @Test("Who waits too long leaves the queue")
    func waitingEnds() async throws {
        try await withServer { fixture, port in
            let connection = try await RawConnection(port: port)
            let held = try await connection.call("POST", "/locks/l", #"{"ttl":"60s"}"#).json
            let token = try #require(held["token"] as? Int)
            let late = try await connection.call("POST", "/locks/l", #"{"ttl":"60s","wait":"3s"}"#)
            #expect(late.status == 409)
            #expect(late.text.contains(#""outcome":"not_executed""#))
            #expect(try await connection.call("GET", "/locks/l").json["waiting"] as? Int == 0)
            #expect(try await connection.call("DELETE", "/locks/l?token=\(token)").status == 204)
            #expect(try fixture.store.lock(name: Array("l".utf8)).lock == nil)
            try await connection.close()
        }
    }
}
