import KeyValue
import NIOCore
import Testing

@testable import HTTPAPI

@Suite("Transactions and what goes with writes", .timeLimit(.minutes(5)))
struct TransactionTests {
    private func parse(_ text: String) throws -> Transaction {
        try TransactionBody.parse(ByteBuffer(string: text), KeyRequest.Limits())
    }

    @Test("Every comparison and operation is read")
    func reads() throws {
        let transaction = try parse(
            #"""
            {"compare":[{"key":"a","target":"value","op":"=","value":"x"},
              {"key_base64":"/w==","target":"value","op":"!=","value_base64":"AA=="},
              {"key":"a","target":"version","op":"<","value":3},
              {"key":"a","target":"create_revision","op":">","value":18446744073709551615},
              {"key":"a","target":"mod_revision","op":"=","value":0},
              {"key":"a","target":"exists","op":"=","value":false},
              {"key":"a","target":"lease","op":"=","value":"00ff"}],
             "success":[{"put":{"key":"a","value":"v","content_type":"text/plain","ttl":"30s"}},
              {"put":{"key":"a","value_base64":"AAE=","lease":"a7"}},
              {"delete":{"key":"a"}},{"delete":{"prefix":""}},{"get":{"key":"a"}},
              {"get":{"prefix":"p","limit":5}},{"get":{"prefix_base64":"/w=="}},
              {"incr":{"key":"n","by":-3}},{"incr":{"key":"n"}}]}
            """#
        )
        let a = Array("a".utf8)[...]
        #expect(
            transaction.compares == [
                .init(key: a, .equal, .value(Array("x".utf8))), .init(key: [0xFF], .notEqual, .value([0])),
                .init(key: a, .less, .version(3)), .init(key: a, .greater, .createRevision(.max)),
                .init(key: a, .equal, .modRevision(0)), .init(key: a, .equal, .exists(false)),
                .init(key: a, .equal, .lease(0xFF)),
            ]
        )
        let value = Array("v".utf8)[...]
        #expect(
            transaction.success == [
                .put(Put(key: a, value: value, contentType: "text/plain", lease: .ttl(milliseconds: 30_000))),
                .put(Put(key: a, value: [0, 1], lease: .attached(0xA7))), .delete(a), .deletePrefix([]), .get(a),
                .range(prefix: Array("p".utf8)[...], limit: 5), .range(prefix: [0xFF], limit: 1_000),
                .increment(key: Array("n".utf8)[...], by: -3), .increment(key: Array("n".utf8)[...], by: 1),
            ]
        )
        #expect(transaction.failure.isEmpty)
        #expect(try parse("{}") == Transaction())
    }

    @Test(
        "What is not understood is refused, and named",
        arguments: [
            ("{\"sucess\":[]}", "'sucess'"), ("[]", "no object"), ("{\"success\":{}}", "'success'"),
            (#"{"success":[{"put":{"key":"a","valu":"x"}}]}"#, "success[0].put.valu"),
            (#"{"success":[{"put":{"key":"a"}}]}"#, "success[0].put.value"),
            (#"{"success":[{"put":{"key":"","value":""}}]}"#, "success[0].put.key"),
            (#"{"success":[{"put":{"key":"a","value":"","ttl":"1ms"}}]}"#, "success[0].put.ttl"),
            (#"{"success":[{"put":{"key":"a","value":"","ttl":"30s","lease":"1"}}]}"#, "success[0].put.ttl"),
            (#"{"success":[{"put":{"key":"a","value":"","lease":"xyz"}}]}"#, "success[0].put.lease"),
            (#"{"success":[{"move":{}}]}"#, "success[0].move"), (#"{"success":[{}]}"#, "success[0]"),
            (#"{"success":[{"get":{"key":"a"},"delete":{"key":"a"}}]}"#, "success[0]"),
            (#"{"failure":[{"get":{"key":"a","limit":1}}]}"#, "failure[0].get.limit"),
            (#"{"failure":[{"get":{"prefix":"a","limit":0}}]}"#, "failure[0].get.limit"),
            (#"{"failure":[{"delete":{"prefix":"a","key":"a"}}]}"#, "failure[0].delete.prefix"),
            (#"{"failure":[{"incr":{"key":"a","by":1.5}}]}"#, "failure[0].incr.by"),
            (#"{"compare":[{"key":"a","target":"size","op":"=","value":1}]}"#, "compare[0].target"),
            (#"{"compare":[{"key":"a","target":"version","op":"==","value":1}]}"#, "compare[0].op"),
            (#"{"compare":[{"key":"a","target":"version","op":"=","value":"1"}]}"#, "compare[0].value"),
            (#"{"compare":[{"key":"a","target":"exists","op":"<","value":true}]}"#, "compare[0].op"),
            (#"{"compare":[{"key":"a","target":"exists","op":"=","value":1}]}"#, "compare[0].value"),
            (#"{"compare":[{"target":"exists","op":"=","value":true}]}"#, "compare[0].key"),
        ]
    )
    func refuses(_ text: String, _ place: String) {
        let problem = #expect(throws: Problem.self) { try parse(text) }
        #expect(problem?.status == 400)
        #expect(problem?.detail.contains(place) == true, "\(text): \(problem?.detail ?? "")")
    }

    @Test("Too many comparisons or operations are refused with the limit")
    func limits() {
        let operation = #"{"get":{"key":"a"}}"#
        let many = Array(repeating: operation, count: 129).joined(separator: ",")
        let problem = #expect(throws: Problem.self) { try parse("{\"success\":[\(many)]}") }
        #expect(problem?.limit == 128)
    }

    @Test("A transaction takes one of its branches, and says what it did")
    func executes() async throws {
        try await withServer { fixture, port in
            let connection = try await RawConnection(port: port)
            let text = #"""
                {"compare":[{"key":"a","target":"exists","op":"=","value":false}],
                 "success":[{"put":{"key":"a","value":"1"}},{"incr":{"key":"a","by":41}},{"get":{"key":"a"}},
                  {"get":{"prefix":"a"}},{"get":{"key":"none"}},{"delete":{"key":"none"}}],
                 "failure":[{"delete":{"prefix":""}}]}
                """#
            let first = try await connection.call("POST", "/txn", text)
            #expect(first.status == 200, "\(first.text)")
            let document = try first.json
            #expect(document["succeeded"] as? Bool == true)
            #expect(document["revision"] as? Int == 1)
            let results = try #require(document["results"] as? [[String: [String: Any]]])
            #expect(results.count == 6)
            #expect(results[0]["put"]?["created"] as? Bool == true)
            #expect(results[1]["incr"]?["value"] as? Int == 42)
            #expect((results[2]["get"]?["item"] as? [String: Any])?["value"] as? String == "42")
            #expect((results[3]["get"]?["items"] as? [Any])?.count == 1)
            #expect(results[4]["get"]?.keys.contains("item") == true)
            #expect(results[5]["delete"]?["deleted"] as? Int == 0)
            let second = try await connection.call("POST", "/txn", text).json
            #expect(second["succeeded"] as? Bool == false)
            #expect(second["revision"] as? Int == 2)
            #expect(fixture.store.mark.revision == 2)
            let failed = try await connection.call(
                "POST",
                "/txn",
                #"{"success":[{"put":{"key":"x","value":"no"}},{"incr":{"key":"x"}}]}"#
            )
            #expect(failed.status == 409)
            #expect(failed.text.contains("not-a-number"))
            #expect(try await connection.call("GET", "/kv/x").status == 404)
            try await connection.close()
        }
    }

    @Test("Increments count, with preconditions, and refuse what is no number")
    func increments() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            #expect(try await connection.call("POST", "/kv/n?op=incr").text == #"{"revision":1,"value":1}"#)
            #expect(try await connection.call("POST", "/kv/n?op=incr&by=-11").text == #"{"revision":2,"value":-10}"#)
            #expect(try await connection.call("GET", "/kv/n").text == "-10")
            #expect(try await connection.call("POST", "/kv/n?op=incr&cas=1").status == 412)
            #expect(try await connection.call("POST", "/kv/n?op=incr", "", "If-Match: \"2\"\r\n").status == 200)
            _ = try await connection.call("PUT", "/kv/text", "abc")
            let refused = try await connection.call("POST", "/kv/text?op=incr")
            #expect(refused.status == 409)
            #expect(refused.text.contains(#""outcome":"not_executed""#))
            _ = try await connection.call("PUT", "/kv/max", "9223372036854775807")
            #expect(try await connection.call("POST", "/kv/max?op=incr").status == 409)
            for target in ["/kv/n", "/kv/n?op=decr", "/kv/n?op=incr&by=x", "/kv/n?op=incr&by=99999999999999999999"] {
                #expect(try await connection.call("POST", target).status == 400, "\(target)")
            }
            try await connection.close()
        }
    }

    @Test("A request that is sent again under its idempotency key is answered as before, and done once")
    func idempotency() async throws {
        try await withServer { fixture, port in
            let connection = try await RawConnection(port: port)
            let key = "Idempotency-Key: k1\r\n"
            let first = try await connection.call("POST", "/kv/n?op=incr", "", key)
            #expect(first.fields["kontiki-replayed"] == nil)
            for target in ["/kv/n?op=incr", "/kv/n?op=incr&timeout=3s"] {
                let again = try await connection.call("POST", target, "", key)
                #expect(again.text == first.text)
                #expect(again.status == first.status)
                #expect(again.fields["kontiki-replayed"] == "true")
            }
            #expect(fixture.store.mark.revision == 1)
            for (method, target, body) in [
                ("POST", "/kv/n?op=incr&by=2", ""), ("PUT", "/kv/n", "1"), ("POST", "/txn", "{}"),
                ("POST", "/leases", #"{"ttl":"30s"}"#), ("DELETE", "/kv?prefix=n", ""),
            ] {
                let other = try await connection.call(method, target, body, key)
                #expect(other.status == 422, "\(method) \(target): \(other.text)")
                #expect(other.text.contains("idempotency-mismatch"))
            }
            #expect(fixture.store.mark.revision == 1)
            // What the request's own condition held back is answered again, too, whatever became of the key.
            let failing = "Idempotency-Key: k2\r\nIf-None-Match: *\r\n"
            #expect(try await connection.call("PUT", "/kv/n", "x", failing).status == 412)
            _ = try await connection.call("DELETE", "/kv/n")
            let again = try await connection.call("PUT", "/kv/n", "x", failing)
            #expect(again.status == 412)
            #expect(again.fields["kontiki-replayed"] == "true")
            for (target, body) in [("/txn", #"{"success":[{"incr":{"key":"t"}}]}"#), ("/leases", #"{"ttl":"30s"}"#)] {
                let fields = "Idempotency-Key: \(target)\r\n"
                let once = try await connection.call("POST", target, body, fields)
                #expect(once.status < 300, "\(once.text)")
                #expect(try await connection.call("POST", target, body, fields).text == once.text)
            }
            #expect(try await connection.call("PUT", "/kv/n", "x", "Idempotency-Key: \r\n").status == 400)
            try await connection.close()
        }
    }

    @Test("A fence lets writes through only while its lock is held with its token")
    func fences() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            let lock = try await connection.call("POST", "/locks/printer", #"{"ttl":"60s"}"#).json
            let token = try #require(lock["token"] as? Int)
            #expect(try await connection.call("PUT", "/kv/a", "1", "Kontiki-Fence: printer=\(token)\r\n").status == 201)
            for fence in ["printer=\(token + 1)", "other=\(token)"] {
                let refused = try await connection.call("PUT", "/kv/a", "2", "Kontiki-Fence: \(fence)\r\n")
                #expect(refused.status == 412)
                #expect(refused.text.contains("problem:fenced"))
                #expect(try await connection.call("DELETE", "/kv/a", "", "Kontiki-Fence: \(fence)\r\n").status == 412)
                let body = #"{"success":[{"put":{"key":"a","value":"2"}}]}"#
                #expect(try await connection.call("POST", "/txn", body, "Kontiki-Fence: \(fence)\r\n").status == 412)
            }
            #expect(try await connection.call("DELETE", "/locks/printer?token=\(token)").status == 204)
            #expect(try await connection.call("PUT", "/kv/a", "2", "Kontiki-Fence: printer=\(token)\r\n").status == 412)
            for fence in ["printer", "=1", "printer=x", "printer=-1"] {
                #expect(try await connection.call("PUT", "/kv/a", "2", "Kontiki-Fence: \(fence)\r\n").status == 400)
            }
            #expect(try await connection.call("GET", "/kv/a").text == "1")
            try await connection.close()
        }
    }
}
