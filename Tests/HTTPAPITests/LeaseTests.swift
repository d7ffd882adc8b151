import KeyValue
import RaftNode
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

    @Test("What keeps many leases alive goes to the log in few commands, unless it has an idempotency key")
    func keepingManyAlive() async throws {
        let (clients, times) = (32, 40)
        try await withServer { fixture, port in
            let ids = try await withThrowingTaskGroup(of: String.self) { group in
                for _ in 0..<clients {
                    group.addTask {
                        let connection = try await RawConnection(port: port)
                        let granted = try await connection.call("POST", "/leases", #"{"ttl":"1h"}"#).json
                        try await connection.close()
                        return try #require(granted["id"] as? String)
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            // The state's own account: what the node tells of itself may be a step behind.
            let before = fixture.store.mark.index
            let begin = ContinuousClock.now
            try await withThrowingTaskGroup { group in
                for id in ids {
                    group.addTask {
                        let connection = try await RawConnection(port: port)
                        for _ in 0..<times {
                            let kept = try await connection.call("PUT", "/leases/\(id)")
                            #expect(kept.status == 200, "\(kept.text)")
                            #expect(try kept.json["id"] as? String == id)
                        }
                        try await connection.close()
                    }
                }
                try await group.waitForAll()
            }
            // As many as intervals have passed, on the slowest machine, with what a leader adds while there are leases.
            let milliseconds = Int((ContinuousClock.now - begin) / .milliseconds(1))
            let commands = Int(fixture.store.mark.index - before)
            #expect(commands <= milliseconds / 10 + milliseconds / 1_000 + 3)
            #expect(commands >= times)
            let connection = try await RawConnection(port: port)
            for attempt in 0..<2 {
                let kept = try await connection.call("PUT", "/leases/\(ids[0])", "", "Idempotency-Key: k\r\n")
                #expect(kept.status == 200)
                #expect(kept.fields["kontiki-replayed"] == (attempt == 0 ? nil : "true"))
            }
            #expect(try await connection.call("PUT", "/leases/ffff").status == 404)
            try await connection.close()
        }
    }

    @Test("A key with a ttl of its own goes when the time is over")
    func ttl() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            #expect(try await connection.call("PUT", "/kv/a?ttl=1s", "v").status == 201)
            try await eventually { try await connection.call("GET", "/kv/a").status == 404 }
            // One that is written without a time stays. On a slow machine its time may be over before it is.
            var (time, isKept) = (1, false)
            while !isKept, time < 100 {
                #expect(try await connection.call("PUT", "/kv/b\(time)?ttl=\(time)s", "v").status == 201)
                #expect(try await connection.call("PUT", "/kv/last?ttl=\(time)s", "v").status < 300)
                isKept = try await connection.call("PUT", "/kv/b\(time)", "w").status == 200
                if !isKept { time *= 4 }
            }
            #expect(isKept)
            try await eventually { try await connection.call("GET", "/kv/last").status == 404 }
            #expect(try await connection.call("GET", "/kv/b\(time)").text == "w")
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

    private static let waiting = #"{"ttl":"60s","wait":"60s"}"#

    private func ask(_ connection: RawConnection, _ fields: String = "") async throws {
        try await connection.send(
            "POST /locks/l HTTP/1.1\r\nHost: x\r\n\(fields)Content-Length: \(Self.waiting.utf8.count)\r\n\r\n\(Self.waiting)"
        )
    }

    @Test("Who goes away while it waits leaves the queue, and the next gets the lock", arguments: [true, false])
    func departure(isHalf: Bool) async throws {
        try await withServer { fixture, port in
            let name = Array("l".utf8)
            let holder = try await RawConnection(port: port)
            let token = try #require(
                try await holder.call("POST", "/locks/l", #"{"ttl":"60s"}"#).json["token"] as? Int
            )
            let (first, second) = (try await RawConnection(port: port), try await RawConnection(port: port))
            try await ask(first)
            try await eventually { try fixture.store.lock(name: name).lock?.waiters.count == 1 }
            try await ask(second)
            try await eventually { try fixture.store.lock(name: name).lock?.waiters.count == 2 }
            if isHalf {
                try await first.closeOutput()
                #expect(try await first.response()?.status == 409)
                #expect(try await first.isAtEnd())
            }
            try await first.close()
            try await eventually { try fixture.store.lock(name: name).lock?.waiters.count == 1 }
            #expect(try await holder.call("DELETE", "/locks/l?token=\(token)").status == 204)
            let granted = try #require(try await second.response())
            #expect(granted.status == 200, "\(granted.text)")
            let next = try #require(try granted.json["token"] as? Int)
            #expect(try await holder.call("DELETE", "/locks/l?token=\(next)").status == 204)
            #expect(try fixture.store.lock(name: name).lock == nil)
            #expect(fixture.store.leaseCount == 0)
            for connection in [holder, second] { try await connection.close() }
        }
    }

    @Test("Who goes away with an idempotency key keeps its place, and goes on with the same request")
    func comingBack() async throws {
        try await withServer { fixture, port in
            let name = Array("l".utf8)
            let holder = try await RawConnection(port: port)
            let token = try #require(
                try await holder.call("POST", "/locks/l", #"{"ttl":"60s"}"#).json["token"] as? Int
            )
            let (first, second) = (try await RawConnection(port: port), try await RawConnection(port: port))
            try await ask(first, "Idempotency-Key: one\r\n")
            try await eventually { try fixture.store.lock(name: name).lock?.waiters.count == 1 }
            let ticket = try #require(try fixture.store.lock(name: name).lock?.waiters.first?.token)
            try await first.closeOutput()
            #expect(try await first.response()?.status == 409)
            try await first.close()
            try await ask(second, "Idempotency-Key: one\r\n")
            #expect(try await holder.call("DELETE", "/locks/l?token=\(token)").status == 204)
            let granted = try #require(try await second.response())
            #expect(granted.status == 200, "\(granted.text)")
            #expect(try granted.json["token"] as? Int == Int(ticket))
            for connection in [holder, second] { try await connection.close() }
        }
    }

    @Test("A lease has one place in the queue: who asks again with it has the same token")
    func sharedLease() async throws {
        try await withServer { fixture, port in
            let name = Array("l".utf8)
            let connection = try await RawConnection(port: port)
            let lease = try #require(
                try await connection.call("POST", "/leases", #"{"ttl":"60s"}"#).json["id"] as? String
            )
            let holder = try await connection.call("POST", "/locks/l", #"{"ttl":"60s"}"#).json
            let body = #"{"lease":"\#(lease)","wait":"60s"}"#
            let message = "POST /locks/l HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
            let (first, second) = (try await RawConnection(port: port), try await RawConnection(port: port))
            try await first.send(message)
            try await eventually { try fixture.store.lock(name: name).lock?.waiters.count == 1 }
            let ticket = try #require(try fixture.store.lock(name: name).lock?.waiters.first?.token)
            try await first.closeOutput()
            _ = try await first.response()
            try await first.close()
            #expect(try await connection.call("POST", "/locks/l", #"{"lease":"\#(lease)"}"#).status == 409)
            try await second.send(message)
            let token = try #require(holder["token"] as? Int)
            #expect(try await connection.call("DELETE", "/locks/l?token=\(token)").status == 204)
            let granted = try #require(try await second.response())
            #expect(granted.status == 200, "\(granted.text)")
            #expect(try granted.json["token"] as? Int == Int(ticket))
            let again = try await connection.call("POST", "/locks/l", #"{"lease":"\#(lease)","value":"late"}"#)
            #expect(again.status == 200, "\(again.text)")
            #expect(try again.json["token"] as? Int == Int(ticket) && again.json["value"] == nil)
            #expect(try await connection.call("DELETE", "/locks/l?token=\(ticket)").status == 204)
            #expect(try fixture.store.lock(name: name).lock == nil)
            for connection in [connection, second] { try await connection.close() }
        }
    }

    @Test("Who waits too long leaves the queue")
    func waitingEnds() async throws {
        try await withServer { fixture, port in
            let connection = try await RawConnection(port: port)
            let held = try await connection.call("POST", "/locks/l", #"{"ttl":"60s"}"#).json
            let token = try #require(held["token"] as? Int)
            // On a slow machine the time may be over before the place is had, which is another answer.
            var late: RawResponse?
            for seconds in [3, 12, 48] where late?.status != 409 {
                late = try await connection.call("POST", "/locks/l", #"{"ttl":"60s","wait":"\#(seconds)s"}"#)
            }
            #expect(late?.status == 409)
            #expect(late?.text.contains(#""outcome":"not_executed""#) == true)
            try await eventually { try await connection.call("GET", "/locks/l").json["waiting"] as? Int == 0 }
            #expect(try await connection.call("DELETE", "/locks/l?token=\(token)").status == 204)
            #expect(try fixture.store.lock(name: Array("l".utf8)).lock == nil)
            try await connection.close()
        }
    }
}
