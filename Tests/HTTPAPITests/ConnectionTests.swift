import KeyValue
import NIOCore
import Testing

@testable import HTTPAPI

@Suite("Connections", .timeLimit(.minutes(5)))
struct ConnectionTests {
    private func put(_ key: String, _ value: String, _ fields: String = "") -> String {
        "PUT /kv/\(key) HTTP/1.1\r\nHost: x\r\n\(fields)Content-Length: \(value.utf8.count)\r\n\r\n\(value)"
    }

    private func get(_ target: String, _ fields: String = "") -> String {
        "GET \(target) HTTP/1.1\r\nHost: x\r\n\(fields)\r\n"
    }

    @Test("Requests sent ahead are answered in order, across both lanes")
    func pipelining() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            var text = ""
            for round in 0..<50 {
                text +=
                    put("p\(round)", "value \(round)") + get("/kv/p\(round)") + get("/kv?prefix=p\(round)&keys_only")
                text += "HEAD /kv/p\(round)?consistency=stale HTTP/1.1\r\nHost: x\r\n\r\n" + get("/livez")
                text += get("/kv/%zz") + "POST /kv/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
            }
            try await connection.send(text)
            for round in 0..<50 {
                #expect(try await connection.response()?.status == 201)
                #expect(try await connection.response()?.text == "value \(round)")
                #expect(try await connection.response()?.text.contains(#""key":"p\#(round)""#) == true)
                #expect(try await connection.response(toHead: true)?.status == 200)
                #expect(try await connection.response()?.text.contains("alive") == true)
                #expect(try await connection.response()?.status == 400)
                #expect(try await connection.response()?.status == 400)
            }
            try await connection.close()
        }
    }

    @Test("A body comes in any pieces, counted or chunked")
    func pieces() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            for byte in put("a", "piecemeal").utf8 { try await connection.send([byte]) }
            #expect(try await connection.response()?.status == 201)
            for piece in [
                "PUT /kv/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n",
                "2;x=y\r\nde\r\n",
                "0\r\n", "\r\n",
            ] {
                try await connection.send(piece)
            }
            #expect(try await connection.response()?.status == 201)
            #expect(try await connection.request(get("/kv/a")).text == "piecemeal")
            #expect(try await connection.request(get("/kv/b")).text == "abcde")
            try await connection.close()
        }
    }

    @Test("Expect: 100-continue is answered before the body; a refusal instead of it")
    func expectContinue() async throws {
        try await withServer({ $0.maximumValueBytes = 100 }) { _, port in
            var connection = try await RawConnection(port: port)
            for target in ["/kv/a", "/leader/transfer"] {
                let method = target == "/kv/a" ? "PUT" : "POST"
                try await connection.send(
                    "\(method) \(target) HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
                )
                #expect(try await connection.response()?.status == 100)
                try await connection.send("hello")
                #expect(try await connection.response()?.status == (method == "PUT" ? 201 : 400))
            }
            try await connection.close()
            for (target, length, status) in [("/kv/a", 101, 413), ("/kv/a?foo", 5, 400), ("/members", 101, 413)] {
                connection = try await RawConnection(port: port)
                let method = target == "/members" ? "POST" : "PUT"
                let refused = try await connection.request(
                    "\(method) \(target) HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: \(length)\r\n\r\n"
                )
                #expect(refused.status == status)
                #expect(refused.fields["connection"] == "close")
                #expect(try await connection.isAtEnd())
                try await connection.close()
            }
        }
    }

    @Test("Connection: close and HTTP/1.0 end the connection behind the answer, on both lanes")
    func closing() async throws {
        try await withServer { _, port in
            for target in ["/kv/none", "/livez"] {
                for text in [get(target, "Connection: close\r\n"), "GET \(target) HTTP/1.0\r\n\r\n"] {
                    let connection = try await RawConnection(port: port)
                    let answer = try await connection.request(text)
                    #expect(answer.status == (target == "/livez" ? 200 : 404))
                    #expect(answer.fields["connection"] == "close")
                    #expect(try await connection.isAtEnd())
                    try await connection.close()
                }
            }
        }
    }

    @Test("Who closes its side behind the requests gets all answers")
    func halfClosed() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            try await connection.send(put("h", "1") + get("/kv/h") + get("/livez") + get("/kv/h"))
            try await connection.closeOutput()
            #expect(try await connection.response()?.status == 201)
            #expect(try await connection.response()?.text == "1")
            #expect(try await connection.response()?.status == 200)
            #expect(try await connection.response()?.text == "1")
            #expect(try await connection.isAtEnd())
            try await connection.close()
        }
    }

    @Test("Half a request and then the end is refused, and changes nothing")
    func cutOff() async throws {
        try await withServer { fixture, port in
            let connection = try await RawConnection(port: port)
            try await connection.send("PUT /kv/cut HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
            try await connection.closeOutput()
            #expect(try await connection.response()?.status == 400)
            #expect(try await connection.isAtEnd())
            #expect(fixture.store.mark.revision == 0)
            try await connection.close()
        }
    }

    @Test(
        "What is no HTTP gets a 400 and the end, behind the answers due",
        arguments: ["\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n"]
    )
    func garbage(_ text: String) async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            try await connection.send(get("/kv/none") + text)
            #expect(try await connection.response()?.status == 404)
            let answer = try await connection.response()
            #expect(answer?.status == 400)
            #expect(answer?.text.contains(#""outcome":"not_executed""#) == true)
            #expect(try await connection.isAtEnd())
            try await connection.close()
        }
    }

    @Test("Header fields without end get a 431")
    func headerOverflow() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            await connection.sendAndForget(
                Array(("GET /kv/a HTTP/1.1\r\nHost: x\r\nX-Long: " + String(repeating: "x", count: 200_000)).utf8)
            )
            #expect(try await connection.response()?.status == 431)
            try await connection.close()
        }
    }

    @Test("A request that does not arrive gets a 408, or the end")
    func slowRequests() async throws {
        try await withServer({ $0.requestTimeout = .milliseconds(100) }) { _, port in
            var slow = try await RawConnection(port: port)
            // A head that comes later than that gets the end.
            try await eventually {
                try await slow.close()
                slow = try await RawConnection(port: port)
                await slow.sendAndForget(Array("PUT /kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf".utf8))
                return try await slow.response()?.status == 408
            }
            #expect(try await slow.isAtEnd())
            try await slow.close()
        }
    }

    @Test(
        "A wish for another protocol is not granted, and the connection ends behind the answer",
        arguments: ["/kv/a", "/livez"]
    )
    func upgrades(_ target: String) async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            let answer = try await connection.request(
                "GET \(target) HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                    + "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
            )
            #expect(answer.status == (target == "/livez" ? 200 : 404))
            #expect(answer.fields["connection"] == "close")
            #expect(try await connection.isAtEnd())
            try await connection.close()
        }
    }

    @Test("A head that stalls half-way gets a 408, also behind another request", arguments: ["", "/kv/a", "/livez"])
    func slowHeads(_ first: String) async throws {
        try await withServer({ $0.requestTimeout = .milliseconds(200) }) { _, port in
            let slow = try await RawConnection(port: port)
            if !first.isEmpty {
                // The empty line belongs to no request.
                let answer = try await slow.request("GET \(first) HTTP/1.1\r\nHost: x\r\n\r\n\r\n")
                #expect(answer.status == (first == "/livez" ? 200 : 404))
            }
            await slow.sendAndForget(Array("GET /kv/a HTTP/1.1\r\nHo".utf8))
            // Drop by drop is too slow as well.
            let drops = Task {
                while !Task.isCancelled {
                    await slow.sendAndForget(Array("x".utf8))
                    try await Task.sleep(for: .milliseconds(10))
                }
            }
            defer { drops.cancel() }
            let answer = try #require(try await slow.response())
            #expect(answer.status == 408)
            #expect(answer.fields["content-type"] == "application/problem+json")
            #expect(answer.fields["connection"] == "close")
            #expect(answer.text.contains(#""outcome":"not_executed""#))
            #expect(try await slow.isAtEnd())
            try await slow.close()
        }
    }

    @Test("A body without a length that does not end gets a 408, on both lanes", arguments: ["PUT /kv/a", "POST /txn"])
    func slowChunks(_ request: String) async throws {
        try await withServer({ $0.requestTimeout = .milliseconds(100) }) { fixture, port in
            var slow = try await RawConnection(port: port)
            try await eventually {
                try await slow.close()
                slow = try await RawConnection(port: port)
                await slow.sendAndForget(
                    Array("\(request) HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".utf8)
                )
                // Drop by drop is too slow as well.
                let drops = Task { [slow] in
                    while !Task.isCancelled {
                        await slow.sendAndForget(Array("1\r\n \r\n".utf8))
                        try await Task.sleep(for: .milliseconds(10))
                    }
                }
                defer { drops.cancel() }
                guard let answer = try await slow.response() else { return false }
                #expect(answer.status == 408)
                #expect(answer.text.contains(#""outcome":"not_executed""#))
                #expect(answer.fields["connection"] == "close")
                return true
            }
            #expect(try await slow.isAtEnd())
            #expect(fixture.store.mark.revision == 0)
            try await slow.close()
        }
    }

    @Test(
        "A body without a length that is too long gets a 413 and the end, on both lanes",
        arguments: ["PUT /kv/a", "POST /txn"]
    )
    func endlessChunks(_ request: String) async throws {
        try await withServer({ $0.maximumValueBytes = 1_000 }) { fixture, port in
            let connection = try await RawConnection(port: port)
            try await connection.send("\(request) HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            let endless = Task {
                while !Task.isCancelled {
                    await connection.sendAndForget(Array("40\r\n\(String(repeating: " ", count: 64))\r\n".utf8))
                    try await Task.sleep(for: .milliseconds(1))
                }
            }
            let answer = try await connection.response()
            #expect(answer?.status == 413)
            #expect(answer?.text.contains(#""outcome":"not_executed""#) == true)
            #expect(try await connection.isAtEnd())
            endless.cancel()
            #expect(fixture.store.mark.revision == 0)
            try await connection.close()
        }
    }

    @Test("An idle connection is closed without an answer, also behind a request and an empty line")
    func idleConnections() async throws {
        try await withServer({ $0.idleTimeout = .milliseconds(100) }) { _, port in
            let idle = try await RawConnection(port: port)
            #expect(try await idle.isAtEnd())
            try await idle.close()
            // It may be idle for too long before the request is on its way.
            try await eventually {
                let used = try await RawConnection(port: port)
                guard let answer = try? await used.request(get("/livez") + "\r\n") else {
                    try await used.close()
                    return false
                }
                #expect(answer.status == 200)
                #expect(try await used.isAtEnd())
                try await used.close()
                return true
            }
        }
    }

    @Test("Connections beyond the bound are told so")
    func tooManyConnections() async throws {
        try await withServer({ $0.maximumConnections = 2 }) { _, port in
            let first = try await RawConnection(port: port)
            let second = try await RawConnection(port: port)
            #expect(try await first.request(get("/livez")).status == 200)
            #expect(try await second.request(get("/kv/none")).status == 404)
            let third = try await RawConnection(port: port)
            let refused = try await third.request(get("/livez"))
            #expect(refused.status == 503)
            #expect(refused.fields["retry-after"] == "1")
            #expect(try await third.isAtEnd())
            try await first.close()
            // Its place is free once the server has noticed.
            try await eventually {
                let connection = try await RawConnection(port: port)
                defer { Task { try await connection.close() } }
                return (try? await connection.request(get("/livez")))?.status == 200
            }
            for connection in [second, third] { try await connection.close() }
        }
    }

    @Test("Large bodies that arrive at once are bounded together, and their room is given back")
    func arrivingBodies() async throws {
        try await withServer({ $0.maximumArrivingBytes = 1_500_000 }) { _, port in
            let body = [UInt8](repeating: 7, count: 1 << 20)
            let head = "PUT /kv/large HTTP/1.1\r\nHost: x\r\nContent-Length: \(1 << 20)\r\n\r\n"
            var first = try await RawConnection(port: port)
            // Which of the two takes the room is for the server's reads to decide: until it is the first, the second is refused for it, and
            // the first is served all the same.
            try await eventually {
                try await first.close()
                first = try await RawConnection(port: port)
                await first.sendAndForget(Array(head.utf8) + body.dropLast(1))
                let second = try await RawConnection(port: port)
                await second.sendAndForget(Array(head.utf8) + body)
                let status = try await second.response()?.status
                try await second.close()
                guard status == 503 else { return false }
                await first.sendAndForget([7])
                return try await first.response().map { [200, 201].contains($0.status) } ?? false
            }
            for _ in 0..<3 {
                try await first.send(head)
                try await first.send(body)
                #expect(try await first.response()?.status == 200)
            }
            try await first.close()
        }
    }

    @Test("Who does not read its answers gets no further ones made")
    func backPressure() async throws {
        try await withServer { fixture, port in
            let value = String(repeating: "v", count: 1 << 20)
            let writer = try await RawConnection(port: port)
            #expect(try await writer.request(put("big", value)).status == 201)
            let reader = try await RawConnection(port: port, receiveBuffer: 4096)
            let count = 16
            try await reader.send(String(repeating: get("/kv/big?consistency=stale"), count: count))
            // Closing its side meanwhile, or asking for the end, costs it nothing of them.
            try await reader.closeOutput()
            for _ in 0..<count { #expect(try await reader.response()?.body.count == 1 << 20) }
            #expect(try await reader.isAtEnd())
            let last = try await RawConnection(port: port, receiveBuffer: 4096)
            try await last.send(get("/kv/big", "Connection: close\r\n"))
            #expect(try await last.response()?.body.count == 1 << 20)
            for connection in [writer, reader, last] { try await connection.close() }
        }
    }

    @Test("A graceful stop finishes what has begun, refuses what comes, and closes")
    func gracefulStop() async throws {
        let fixture = try await NodeFixture()
        let (begun, idle) = try await fixture.serving({ $0.drainGrace = .seconds(20) }) { port in
            let idle = try await RawConnection(port: port)
            #expect(try await idle.request(get("/livez")).status == 200)
            let begun = try await RawConnection(port: port)
            #expect(try await begun.request(get("/livez")).status == 200)
            try await begun.send("PUT /kv/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            #expect(try await begun.response()?.status == 100)
            return (begun, idle)
        } whileStopping: { port, connections in
            let (begun, idle) = connections
            try await eventually {
                let refused = try? await RawConnection(port: port)
                try await refused?.close()
                return refused == nil
            }
            try await begun.send("hello")
            let finished = try await begun.response()
            #expect(finished?.status == 201)
            #expect(finished?.fields["connection"] == "close")
            let refused = try await idle.request(put("b", "x"))
            #expect(refused.status == 503)
            #expect(refused.fields["connection"] == "close")
            #expect(refused.text.contains(#""outcome":"not_executed","retryable":true"#))
        }
        #expect(try await begun.isAtEnd())
        #expect(try await idle.isAtEnd())
        #expect(fixture.store.mark.revision == 1)
        for connection in [begun, idle] { try await connection.close() }
        try await fixture.stop()
    }

    @Test("A port in use is said so")
    func portInUse() async throws {
        try await withServer { fixture, port in
            let second = HTTPServer(
                service: fixture.service,
                name: "node1",
                host: "127.0.0.1",
                port: port,
                group: fixture.group
            )
            let error = await #expect(throws: HTTPServerError.self) { try await second.run() }
            #expect(error?.code == .addressInUse)
            #expect(error?.description.contains("\(port) is in use") == true)
            #expect(await second.boundPort() == nil)
        }
    }
}
