import KeyValue
import Testing

@testable import HTTPAPI

/// Every test runs on both lanes: there is one behaviour and two speeds.
@Suite("The key paths, on a real node", .timeLimit(.minutes(5)))
struct KeyPathTests {
    static let lanes = [true, false]

    private func exchange(
        _ connection: RawConnection,
        _ method: String,
        _ target: String,
        _ rest: String = ""
    )
        async throws -> RawResponse
    {
        try await connection.request(
            "\(method) \(target) HTTP/1.1\r\nHost: x\r\n\(rest.isEmpty ? "\r\n" : rest)",
            toHead: method == "HEAD"
        )
    }

    private func body(_ text: String, _ fields: String = "") -> String {
        "\(fields)Content-Length: \(text.utf8.count)\r\n\r\n\(text)"
    }

    @Test("Put, get, head, delete", arguments: lanes)
    func lifeOfAKey(_ fastLane: Bool) async throws {
        try await withServer(fastLane: fastLane) { _, port in
            let connection = try await RawConnection(port: port)
            let key = "/kv/users/john//profile"
            let created = try await exchange(
                connection,
                "PUT",
                key,
                body("distributed", "Content-Type: text/plain\r\n")
            )
            #expect(created.status == 201)
            #expect(created.text == #"{"revision":1,"version":1,"created":true}"#)
            #expect(created.fields["etag"] == "\"1\"")

            let replaced = try await exchange(
                connection,
                "PUT",
                key,
                body("again", "Prefer: return=representation\r\nContent-Type: text/html\r\n")
            )
            #expect(replaced.status == 200)
            #expect(replaced.fields["preference-applied"] == "return=representation")
            #expect(replaced.text.contains(#""previous":{"key":"users/john//profile","value":"distributed""#))

            let read = try await exchange(connection, "GET", key)
            #expect(read.status == 200)
            #expect(read.text == "again")
            #expect(read.fields["content-type"] == "text/html")
            #expect(read.fields["etag"] == "\"2\"")
            #expect(read.fields["kontiki-revision"] == "2")
            #expect(read.fields["kontiki-create-revision"] == "1")
            #expect(read.fields["kontiki-version"] == "2")
            #expect(read.fields["kontiki-consistency"] == "strong")
            #expect(read.fields["kontiki-served-by"] == "node1")
            #expect(read.fields["kontiki-leader"] == "node1")
            #expect(read.fields["kontiki-term"].flatMap { Int($0) } ?? 0 > 0)
            #expect(read.fields["kontiki-applied-index"].flatMap { Int($0) } ?? 0 > 1)
            #expect(read.fields["x-content-type-options"] == "nosniff")
            #expect(read.fields["content-security-policy"] == "sandbox; default-src 'none'")
            #expect(read.fields["date"] != nil)

            let head = try await exchange(connection, "HEAD", key + "?consistency=stale")
            #expect(head.status == 200)
            #expect(head.fields["content-length"] == "5")
            #expect(head.fields["kontiki-consistency"] == "stale")

            // Slashes are never collapsed.
            #expect(try await exchange(connection, "GET", "/kv/users/john/profile").status == 404)

            let envelope = try await exchange(connection, "GET", key, "Accept: application/json\r\n\r\n")
            #expect(envelope.fields["content-type"] == "application/json")
            #expect(
                envelope.text
                    == #"{"key":"users/john//profile","value":"again","content_type":"text/html","create_revision":1,"#
                    + #""mod_revision":2,"version":2}"#
            )

            let deleted = try await exchange(connection, "DELETE", key)
            #expect(deleted.status == 204)
            #expect(deleted.fields["kontiki-revision"] == "3")
            #expect(try await exchange(connection, "DELETE", key).status == 204)
            let gone = try await exchange(connection, "GET", key)
            #expect(gone.status == 404)
            #expect(gone.fields["kontiki-revision"] == "3")
            #expect(gone.fields["content-type"] == "application/problem+json")
            #expect(gone.text.contains(#""revision":3"#))
        }
    }

    @Test("Preconditions hold the write back, and say what is there", arguments: lanes)
    func preconditions(_ fastLane: Bool) async throws {
        try await withServer(fastLane: fastLane) { _, port in
            let connection = try await RawConnection(port: port)
            func put(_ fields: String, _ query: String = "") async throws -> RawResponse {
                try await exchange(connection, "PUT", "/kv/k\(query)", body("v", fields))
            }
            #expect(try await put("If-Match: *\r\n").status == 412)
            #expect(try await put("If-Match: \"1\"\r\n").status == 412)
            #expect(try await put("If-None-Match: *\r\n").status == 201)
            let refused = try await put("If-None-Match: *\r\n")
            #expect(refused.status == 412)
            #expect(refused.fields["etag"] == "\"1\"")
            #expect(refused.text.contains(#""outcome":"not_executed""#))
            #expect(try await put("", "?cas=0").status == 412)
            #expect(try await put("If-Match: \"1\"\r\n").status == 200)
            #expect(try await put("", "?cas=1").status == 412)
            #expect(try await put("", "?cas=2").status == 200)
            #expect(try await exchange(connection, "DELETE", "/kv/k?cas=2").status == 412)
            #expect(try await exchange(connection, "GET", "/kv/k", "If-None-Match: \"3\"\r\n\r\n").status == 304)
            #expect(try await exchange(connection, "GET", "/kv/k", "If-Match: \"2\"\r\n\r\n").status == 412)
            #expect(try await exchange(connection, "DELETE", "/kv/k", "If-Match: \"3\"\r\n\r\n").status == 204)
        }
    }

    @Test("Bad requests are refused with a problem, and change nothing", arguments: lanes)
    func badRequests(_ fastLane: Bool) async throws {
        try await withServer(fastLane: fastLane) { fixture, port in
            let connection = try await RawConnection(port: port)
            let cases: [(String, String, Int)] = [
                ("GET", "/kv/a?consistency=eventual", 400), ("GET", "/kv/a?consistency=bounded", 400),
                ("GET", "/kv/%zz", 400), ("GET", "/kv/%", 400), ("GET", "/kv/", 400),
                ("GET", "/kv/" + String(repeating: "x", count: 481), 400), ("GET", "/kv/a?foo=1", 400),
                ("GET", "/kv/a?watch=maybe", 400), ("DELETE", "/kv/a?timeout=never", 400), ("POST", "/kv/a", 400),
                ("POST", "/kv/a?op=decr", 400), ("PATCH", "/kv/a", 405), ("GET", "/nothing", 404),
                ("DELETE", "/status", 405), ("PUT", "/kv", 405), ("DELETE", "/kv", 400), ("DELETE", "/kv?prefix=", 400),
                ("GET", "/kv?limit=x", 400), ("GET", "/kv?cursor=x", 400), ("GET", "/kv?rev=3", 400),
                ("GET", "/members?x", 400), ("DELETE", "/members/none", 404), ("POST", "/members", 400),
            ]
            for (method, target, status) in cases {
                let response = try await exchange(connection, method, target, "Content-Length: 0\r\n\r\n")
                #expect(response.status == status, "\(method) \(target): \(response.text)")
                #expect(response.fields["content-type"] == "application/problem+json", "\(method) \(target)")
                #expect(response.text.contains(#""outcome":"not_executed""#), "\(method) \(target)")
                #expect((response.fields["allow"] != nil) == (status == 405), "\(method) \(target)")
            }
            let refused = try await exchange(connection, "PUT", "/kv/a", body("v", "Kontiki-Fence: lock\r\n"))
            #expect(refused.status == 400)
            #expect(refused.text.contains("NAME=TOKEN"))
            #expect(fixture.store.mark.revision == 0)
        }
    }

    @Test("Any byte makes a key, and values are kept as they are", arguments: lanes)
    func bytes(_ fastLane: Bool) async throws {
        try await withServer(fastLane: fastLane) { _, port in
            let connection = try await RawConnection(port: port)
            let value = Array(UInt8.min...UInt8.max)
            try await connection.send("PUT /kv/%00%ff%2f HTTP/1.1\r\nHost: x\r\nContent-Length: 256\r\n\r\n")
            try await connection.send(value)
            #expect(try await connection.response()?.status == 201)
            let read = try await exchange(connection, "GET", "/kv/?key_b64=AP8v")
            #expect(read.body == value)
            #expect(read.fields["content-type"] == "application/octet-stream")
            #expect(try await exchange(connection, "GET", "/kv?key_b64=AP8v").body == value)
            let list = try await exchange(connection, "GET", "/kv?prefix=%00&keys_only")
            #expect(list.text.contains(#""key_base64":"AP8v""#))
        }
    }

    @Test("Values up to the bound, and not one byte more; without reading it all", arguments: lanes)
    func tooLarge(_ fastLane: Bool) async throws {
        try await withServer({ $0.maximumValueBytes = 1 << 16 }, fastLane: fastLane) { fixture, port in
            let fits = [UInt8](repeating: 7, count: 1 << 16)
            var connection = try await RawConnection(port: port)
            try await connection.send("PUT /kv/fits HTTP/1.1\r\nHost: x\r\nContent-Length: \(1 << 16)\r\n\r\n")
            try await connection.send(fits)
            #expect(try await connection.response()?.status == 201)
            #expect(try await exchange(connection, "GET", "/kv/fits").body == fits)
            try await connection.close()
            guard fastLane else { return }

            // Announced: answered before the body is sent.
            connection = try await RawConnection(port: port)
            try await connection.send("PUT /kv/large HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
            var refused = try await connection.response()
            #expect(refused?.status == 413)
            #expect(refused?.fields["connection"] == "close")
            #expect(refused?.text.contains(#""limit":65536"#) == true)
            #expect(try await connection.isAtEnd())
            try await connection.close()

            // Of unknown length: answered in the middle, and the answer is not lost to a reset.
            connection = try await RawConnection(port: port)
            try await connection.send("PUT /kv/large HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in 0..<8 {
                await connection.sendAndForget(
                    Array("4000\r\n".utf8) + [UInt8](repeating: 1, count: 0x4000) + [13, 10]
                )
            }
            refused = try await connection.response()
            #expect(refused?.status == 413)
            try await connection.close()
            #expect(fixture.store.mark.revision == 1)
        }
    }
}
