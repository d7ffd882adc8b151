import Foundation
import KeyValue
import KeyValueService
import NIOCore
import Testing

@testable import HTTPAPI

@Suite("Watches", .timeLimit(.minutes(5)))
struct WatchTests {
    private func get(_ target: String, _ fields: String = "") -> String {
        "GET \(target) HTTP/1.1\r\nHost: x\r\n\(fields)\r\n"
    }

    @Test("Changes come in order, with what was there before, and nothing of other keys")
    func changes() async throws {
        try await withServer { _, port in
            let writer = try await RawConnection(port: port)
            let watcher = try await RawConnection(port: port)
            try await watcher.send(get("/kv?prefix=a/&watch&prev"))
            let head = try #require(try await watcher.streamHead())
            #expect(head.status == 200)
            #expect(head.fields["content-type"] == "text/event-stream")
            #expect(try await watcher.event() == .init(name: "progress", id: "0", data: #"{"revision":0}"#))
            _ = try await writer.call("PUT", "/kv/a/1", "one")
            _ = try await writer.call("PUT", "/kv/b", "other")
            _ = try await writer.call("PUT", "/kv/a/1", "two\nlines")
            _ = try await writer.call("DELETE", "/kv/a/1")
            let put = try #require(try await watcher.event())
            #expect(put.name == "put")
            #expect(put.id == "1")
            #expect(put.data == #"{"key":"a/1","value":"one","create_revision":1,"mod_revision":1,"version":1}"#)
            let second = try #require(try await watcher.event())
            #expect(second.id == "3")
            #expect(second.data.contains(#""value":"two\nlines""#))
            #expect(second.data.contains(#""previous":{"key":"a/1","value":"one""#))
            let deleted = try #require(try await watcher.event())
            #expect(deleted.name == "delete")
            #expect(deleted.id == "4")
            #expect(deleted.data.hasPrefix(#"{"key":"a/1","mod_revision":4,"previous":"#))
            for connection in [writer, watcher] { try await connection.close() }
        }
    }

    @Test("A watch goes on behind a revision, named in the target or by Last-Event-ID")
    func resume() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            for number in 1...5 { _ = try await connection.call("PUT", "/kv/k", "\(number)") }
            for (target, fields) in [("/kv/k?watch&since=3", ""), ("/kv/k?watch&since=1", "Last-Event-ID: 3\r\n")] {
                let watcher = try await RawConnection(port: port)
                try await watcher.send(get(target, fields))
                _ = try await watcher.streamHead()
                #expect(try await watcher.event()?.name == "progress")
                #expect(try await watcher.event()?.id == "4")
                #expect(try await watcher.event()?.id == "5")
                try await watcher.close()
            }
            for target in [
                "/kv/k?watch&since=x", "/kv/k?watch=maybe", "/kv/k?since=1", "/kv/k?watch&wait=1s", "/kv/k?watch&rev=1",
                "/kv?prefix=&watch&limit=1", "/locks/l?watch&since=", "/kv?since=1",
            ] {
                #expect(try await connection.request(get(target)).status == 400, "\(target)")
            }
            try await connection.close()
        }
    }

    @Test("A long poll answers with the key at the first change, or 304")
    func longPoll() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            _ = try await connection.call("PUT", "/kv/k", "1")
            // What has changed already is answered at once.
            #expect(try await connection.request(get("/kv/k?wait=60s&since=0")).text == "1")
            let waiting = try await RawConnection(port: port)
            try await waiting.send(get("/kv/k?wait=60s&since=1"))
            _ = try await connection.call("PUT", "/kv/other", "x")
            _ = try await connection.call("PUT", "/kv/k", "2")
            let answer = try #require(try await waiting.response())
            #expect(answer.text == "2")
            #expect(answer.fields["etag"] == "\"3\"")
            let unchanged = try await waiting.request(get("/kv/k?wait=20ms&since=3"))
            #expect(unchanged.status == 304)
            // The connection goes on behind it.
            try await waiting.send(get("/kv/k?wait=60s&since=3") + get("/livez"))
            _ = try await connection.call("DELETE", "/kv/k")
            #expect(try await waiting.response()?.status == 404)
            #expect(try await waiting.response()?.status == 200)
            for connection in [connection, waiting] { try await connection.close() }
        }
    }

    @Test("A lock's watch shows who holds it: an election observed")
    func lockWatch() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            let watcher = try await RawConnection(port: port)
            try await watcher.send(get("/locks/leader?watch"))
            _ = try await watcher.streamHead()
            _ = try await watcher.event()
            let held = try await connection.call("POST", "/locks/leader", #"{"ttl":"60s","value":"one"}"#).json
            let token = try #require(held["token"] as? Int)
            let elected = try #require(try await watcher.event())
            #expect(elected.name == "put")
            #expect(elected.data.contains(#""name":"leader","token":\#(token),"#))
            #expect(elected.data.contains(#""value":"one""#))
            #expect(try await connection.call("DELETE", "/locks/leader?token=\(token)").status == 204)
            #expect(try await watcher.event()?.name == "delete")
            for connection in [connection, watcher] { try await connection.close() }
        }
    }

    @Test("When the server stops, a stream ends with where to go on")
    func stopping() async throws {
        let fixture = try await NodeFixture()
        let watcher = try await fixture.serving { port in
            let connection = try await RawConnection(port: port)
            _ = try await connection.call("PUT", "/kv/k", "1")
            let watcher = try await RawConnection(port: port)
            try await watcher.send(get("/kv/k?watch&since=0"))
            _ = try await watcher.streamHead()
            _ = try await watcher.event()
            #expect(try await watcher.event()?.id == "1")
            return watcher
        }
        let end = try #require(try await watcher.event())
        #expect(end.name == "end")
        #expect(end.id == "1")
        #expect(end.data.contains(#""retryable":true"#))
        #expect(try await watcher.event() == nil)
        try await watcher.close()
        try await fixture.stop()
    }

    @Test("Watches of clients that are gone are gone, too")
    func gone() async throws {
        try await withServer { fixture, port in
            let watcher = try await RawConnection(port: port)
            try await watcher.send(get("/kv?watch&prefix="))
            _ = try await watcher.streamHead()
            let poll = try await RawConnection(port: port)
            try await poll.send(get("/kv/a?wait=60s"))
            try await eventually { fixture.service.watchCount == 2 }
            try await watcher.closeOutput()
            #expect(try await watcher.event()?.name == "progress")
            #expect(try await watcher.event() == nil)
            try await poll.close()
            try await eventually { fixture.service.watchCount == 0 }
            try await watcher.close()
        }
    }

    @Test("A client that reads nothing holds little of the node, and gets all once it reads")
    func slowReader() async throws {
        try await withServer { fixture, port in
            let writer = try await RawConnection(port: port)
            let watcher = try await RawConnection(port: port, receiveBuffer: 4096)
            try await watcher.send(get("/kv?prefix=s/&watch"))
            _ = try await watcher.streamHead()
            _ = try await watcher.event()
            let value = String(repeating: "v", count: 200_000)
            for number in 0..<40 { _ = try await writer.call("PUT", "/kv/s/\(number)", value) }
            for number in 0..<40 {
                let event = try #require(try await watcher.event())
                #expect(event.id == "\(number + 1)")
                #expect(event.data.utf8.count > 200_000)
            }
            for connection in [writer, watcher] { try await connection.close() }
        }
    }
}
