import Foundation
import Testing

@testable import HTTPAPI

@Suite("Long listings", .timeLimit(.minutes(5)))
struct ListingTests {
    private func put(_ key: String, _ value: String) -> String {
        "PUT /kv/\(key) HTTP/1.1\r\nHost: x\r\nContent-Length: \(value.utf8.count)\r\n\r\n\(value)"
    }

    private func get(_ target: String) -> String { "GET \(target) HTTP/1.1\r\nHost: x\r\n\r\n" }

    @Test("A long page goes out in chunks, and is whole")
    func chunked() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            // Every byte of these becomes six in JSON.
            let value = String(repeating: "\u{1}", count: 30_000)
            for number in 10..<30 { #expect(try await connection.request(put("l/\(number)", value)).status == 201) }
            let response = try await connection.request(get("/kv?prefix=l/&count&delimiter=x"))
            #expect(response.fields["transfer-encoding"] == "chunked")
            let page = try #require(try JSONSerialization.jsonObject(with: Data(response.body)) as? [String: Any])
            let items = try #require(page["items"] as? [[String: Any]])
            #expect(items.compactMap { $0["key"] as? String } == (10..<30).map { "l/\($0)" })
            #expect(items.allSatisfy { $0["value"] as? String == value })
            #expect(page["count"] as? Int == 20)
            #expect(page["more"] as? Bool == false)
            #expect(page["prefixes"] as? [String] == [])
            // The connection goes on behind it.
            #expect(try await connection.request(get("/livez")).status == 200)
            try await connection.close()
        }
    }

    @Test("A page that grows exactly to its pieces' ends is whole, whatever its length")
    func pieces() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            for number in 100..<200 {
                let value = String(repeating: "v", count: 2_000)
                #expect(try await connection.request(put("n/\(number)", value)).status == 201)
            }
            for limit in [1, 29, 30, 31, 32, 33, 60, 64, 65, 66, 99, 100] {
                let response = try await connection.request(get("/kv?prefix=n/&limit=\(limit)"))
                let page = try #require(try JSONSerialization.jsonObject(with: Data(response.body)) as? [String: Any])
                #expect((page["items"] as? [Any])?.count == limit)
                #expect(page["more"] as? Bool == (limit < 100))
            }
            try await connection.close()
        }
    }

    @Test("A count over many slices is that of the page's revision")
    func count() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            let total = 2 * ListRoutes.countedAtOnce + 1
            for first in stride(from: 0, to: total, by: 120) {
                let puts = (first..<min(first + 120, total)).map { #"{"put":{"key":"c/\#($0)","value":""}}"# }
                let body = #"{"compare":[],"success":[\#(puts.joined(separator: ","))],"failure":[]}"#
                let request = "POST /txn HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
                #expect(try await connection.request(request).status == 200)
            }
            let revision = try #require(try await connection.request(put("other", "")).fields["kontiki-revision"])
            for target in ["/kv?prefix=c/&count&limit=0", "/kv?prefix=c/&count&limit=0&rev=\(revision)"] {
                let response = try await connection.request(get(target))
                let page = try #require(try JSONSerialization.jsonObject(with: Data(response.body)) as? [String: Any])
                #expect(page["count"] as? Int == total)
                // What comes behind it does not change what is counted at its revision.
                #expect([200, 201].contains(try await connection.request(put("c/more", "")).status))
            }
            try await connection.close()
        }
    }
}
