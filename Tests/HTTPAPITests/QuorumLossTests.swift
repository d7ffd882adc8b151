import KeyValue
import Raft
import RaftNode
import Testing

@testable import HTTPAPI

@Suite("A node without its peers", .timeLimit(.minutes(5)))
struct QuorumLossTests {
    /// A follower takes writes and strong reads as well.
    private func asksTheFollower(_ second: NodeFixture) async throws {
        try await second.serving { port in
            let other = try await RawConnection(port: port)
            try await eventually {
                let put = try await other.request(
                    "PUT /kv/other HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
                )
                return [200, 201].contains(put.status)
            }
            try await eventually {
                try await other.request("GET /kv/k HTTP/1.1\r\nHost: x\r\n\r\n").text == "before"
            }
            try await eventually {
                let redirected = try await other.request("GET /kv/a%2Fb?redirect HTTP/1.1\r\nHost: x\r\n\r\n")
                // Should leadership have gone to this one, there is nobody to send to.
                guard redirected.status == 307 else { return second.node.status.role == .leader }
                return redirected.fields["location"] == "http://127.0.0.1:1/kv/a%2Fb?redirect"
            }
            try await other.close()
        }
    }

    @Test("Strong requests fail with the right outcome, stale reads are answered at once")
    func lostQuorum() async throws {
        // Elections must not come from a busy machine.
        let first = try await NodeFixture(tickMilliseconds: 50)
        try await first.serving { port in
            let second = try await NodeFixture(
                name: "node2",
                .join([first.node.peerAddress], replacing: nil),
                tickMilliseconds: 50
            )
            try await eventually {
                let configuration = first.node.status.configuration
                return configuration.voters.count == 2 && !configuration.isJoint
            }
            let connection = try await RawConnection(port: port)
            func call(_ request: String, _ body: String = "") async throws -> RawResponse {
                try await connection.request(
                    "\(request) HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
                )
            }
            // Written twice, should the first answer come too late.
            try await eventually { try await [200, 201].contains(call("PUT /kv/k", "before").status) }
            try await asksTheFollower(second)
            await second.node.shutdown()

            let write = try await call("PUT /kv/k?timeout=300ms", "during")
            #expect([503, 504].contains(write.status), "\(write.text)")
            #expect(write.text.contains(write.status == 504 ? #""outcome":"unknown""# : #""outcome":"not_executed""#))
            try await eventually { first.node.status.role != .leader }
            // With so little time that a busy node has none left to learn that there is no leader, it does not know what became of it.
            var refused = try await call("PUT /kv/never?timeout=100ms", "never")
            try await eventually {
                if refused.status == 504 { refused = try await call("PUT /kv/never?timeout=1s", "never") }
                return refused.status == 503
            }
            #expect(refused.fields["retry-after"] == "1")
            #expect(refused.text.contains(#""outcome":"not_executed","retryable":true"#))
            let strong = try await call("GET /kv/k?timeout=100ms")
            #expect([503, 504].contains(strong.status))
            #expect(strong.text.contains(#""outcome":"not_executed""#))
            #expect(try await [503, 504].contains(call("GET /kv?timeout=100ms").status))
            let stale = try await call("GET /kv/k?consistency=stale")
            #expect(stale.status == 200)
            #expect(stale.text == "before")
            #expect(stale.fields["kontiki-leader"] == nil)
            let ready = try await call("GET /readyz")
            #expect(ready.status == 503)
            #expect(ready.text.contains(#"{"name":"leader","ok":false"#))
            #expect(try await call("GET /livez").status == 200)
            #expect(first.store.mark.revision >= 2)
            try await connection.close()
            try await second.stop(nodeIsDown: true)
        }
        try await first.stop()
    }
}
