import KeyValue
import Testing

@testable import HTTPAPI

@Suite("One behaviour and two speeds", .timeLimit(.minutes(5)))
struct LaneTests {
    private func pick<Element>(_ elements: [Element], _ random: inout SplitMix) -> Element {
        elements[Int(random.next() % UInt64(elements.count))]
    }

    /// A request as clients send it, or as none should.
    private func request(_ random: inout SplitMix) -> (text: String, isHead: Bool) {
        let method = pick(["GET", "GET", "HEAD", "PUT", "PUT", "PUT", "DELETE", "POST", "PATCH"], &random)
        let key = pick(
            [
                "a", "b", "c/d", "c//d", "../a", "%61", "%00", "%FF", "a%2Fb", "%C3%BC", "", "%", "%4", "a+b", "a%20b",
                ".",
                String(repeating: "k", count: 480), String(repeating: "k", count: 481),
            ],
            &random
        )
        let query = pick(
            [
                "", "", "", "?", "?consistency=stale", "?consistency=strong", "?consistency=x", "?consistency=bounded",
                "?timeout=60s", "?timeout=x", "?cas=0", "?cas=1", "?cas=3", "?cas=x", "?ttl=1h", "?op=incr&by=2",
                "?min_rev=0", "?rev=1", "?rev=9999", "?redirect",
                "?foo=bar", "?key_b64=YQ", "?key_b64=!", "?a=%", "?consistency=stale&consistency=stale", "?op=incr",
            ],
            &random
        )
        var fields = pick(
            [
                "", "", "", "Accept: application/json\r\n", "Prefer: return=representation\r\n", "If-Match: *\r\n",
                "If-None-Match: *\r\n", "If-Match: \"1\"\r\n", "If-Match: \"2\"\r\n", "If-None-Match: \"3\"\r\n",
                "If-Match: 1\r\n", "Idempotency-Key: k\r\n", "Content-Type: text/plain\r\n",
                "If-Match: \"1\", \"2\"\r\n",
                "Content-Type: application/json\r\nAccept: */*\r\n",
            ],
            &random
        )
        var body = ""
        if method == "PUT" || method == "POST" || random.next() % 8 == 0 {
            body = pick(
                ["", "value", "another value", "{\"json\":true}", String(repeating: "long ", count: 999)],
                &random
            )
            if random.next() % 4 == 0 {
                fields += "Transfer-Encoding: chunked\r\n"
                body = body.isEmpty ? "0\r\n\r\n" : "\(String(body.utf8.count, radix: 16))\r\n\(body)\r\n0\r\n\r\n"
            } else {
                fields += "Content-Length: \(body.utf8.count)\r\n"
            }
        }
        let path = random.next() % 12 == 0 ? "/kv" : "/kv/" + key
        return ("\(method) \(path)\(query) HTTP/1.1\r\nHost: x\r\n\(fields)\r\n\(body)", method == "HEAD")
    }

    @Test("The same requests get the same answers on both lanes", arguments: [1, 2, 3] as [UInt64])
    func equalAnswers(_ seed: UInt64) async throws {
        try await withServer(fastLane: true) { fastNode, fastPort in
            try await withServer(fastLane: false) { slowNode, slowPort in
                let fast = try await RawConnection(port: fastPort)
                let slow = try await RawConnection(port: slowPort)
                var random = SplitMix(state: seed)
                for number in 0..<600 {
                    let (text, isHead) = request(&random)
                    var first = try await fast.request(text, toHead: isHead)
                    var second = try await slow.request(text, toHead: isHead)
                    for name in ["date", "kontiki-term", "kontiki-applied-index"] {
                        #expect((first.fields[name] == nil) == (second.fields[name] == nil), "\(name) \(text)")
                        first.fields[name] = nil
                        second.fields[name] = nil
                    }
                    first.fields["kontiki-staleness-ms"] = nil
                    second.fields["kontiki-staleness-ms"] = nil
                    if first.text.contains("addr") {
                        // Where the leader listens differs, perhaps in length: there are two nodes.
                        first.fields["content-length"] = nil
                        second.fields["content-length"] = nil
                    }
                    guard
                        first.status == second.status, first.fields == second.fields,
                        masked(first.text) == masked(second.text)
                    else {
                        Issue.record(
                            """
                            seed \(seed), request \(number): \(text.prefix(600))
                            fast: \(first.status) \(first.fields) \(first.text)
                            slow: \(second.status) \(second.fields) \(second.text)
                            """
                        )
                        return
                    }
                }
                #expect(fastNode.store.mark.revision == slowNode.store.mark.revision)
            }
        }
    }

    /// The text without the leader's peer address.
    private func masked(_ text: String) -> String {
        text.replacing(/"addr":"127\.0\.0\.1:\d+"/, with: "")
    }
}

/// A seeded generator (SplitMix64), so that a failure replays.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
