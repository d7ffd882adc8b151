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

    /// What a watch of `target` brings behind the first event, which tells where it begins.
    private func events(
        _ port: Int,
        _ target: String,
        behind id: String? = nil,
        count: Int
    ) async throws -> (begin: RawConnection.StreamEvent, events: [RawConnection.StreamEvent]) {
        let watcher = try await RawConnection(port: port)
        try await watcher.send(get(target, id.map { "Last-Event-ID: \($0)\r\n" } ?? ""))
        _ = try await watcher.streamHead()
        let begin = try #require(try await watcher.event())
        var events: [RawConnection.StreamEvent] = []
        while events.count < count { events.append(try #require(try await watcher.event())) }
        try await watcher.close()
        return (begin, events)
    }

    private static func puts(_ keys: [String], _ value: String) -> String {
        let puts = keys.map { #"{"put":{"key":"\#($0)","value":"\#(value)"}}"# }
        return #"{"success":[\#(puts.joined(separator: ","))]}"#
    }

    @Test("A watch that broke between two events of one revision goes on exactly there", arguments: ["", "&prev"])
    func resumeInsideRevision(options: String) async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            _ = try await connection.call("PUT", "/kv/a/2", "zero")
            let live = try await RawConnection(port: port)
            try await live.send(get("/kv?prefix=a/&watch&since=0" + options))
            _ = try await live.streamHead()
            #expect(try await live.event()?.id == "0")
            let first = try #require(try await live.event())
            // Not in the order of the keys, and with one that nobody asked for.
            let body = Self.puts(["a/3", "b", "a/1", "a/2"], "one")
            #expect(try await connection.call("POST", "/txn", body).status == 200)
            _ = try await connection.call("DELETE", "/kv?prefix=a/")
            _ = try await connection.call("PUT", "/kv/a/4", "four")
            var seen = [first]
            while seen.count < 8 { seen.append(try #require(try await live.event())) }
            #expect(seen.map(\.id) == ["1", "2.1", "2.2", "2", "3.1", "3.2", "3", "4"])
            #expect(seen.map(\.name) == ["put", "put", "put", "put", "delete", "delete", "delete", "put"])
            for (number, event) in seen.dropFirst().enumerated() {
                #expect(event.data.contains(#""key":"a/\#(number % 3 + 1)""#) || number == 6, "\(event.data)")
                #expect(event.data.contains(#""mod_revision":\#(number / 3 + 2)"#), "\(event.data)")
            }
            #expect(seen[2].data.contains("previous") == !options.isEmpty)
            for (number, event) in seen.enumerated() {
                let id = try #require(event.id)
                let target = "/kv?prefix=a/&watch&since=0" + options
                let (begin, rest) = try await events(port, target, behind: id, count: seen.count - 1 - number)
                #expect(rest == Array(seen[(number + 1)...]), "behind \(id)")
                // A client that is cut off at once does not go back.
                #expect(begin.name == "progress")
                #expect(begin.id == id)
            }
            for connection in [connection, live] { try await connection.close() }
        }
    }

    @Test("The places inside a revision count what the watch shows of it")
    func placesOfFilter() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            let body = Self.puts(["a", "b/1", "b/2", "c"], "one")
            _ = try await connection.call("POST", "/txn", body)
            _ = try await connection.call("PUT", "/kv/b/2", "two")
            let key = try await events(port, "/kv/b%2F1?watch&since=0", count: 1)
            #expect(key.events.map(\.id) == ["1"])
            let prefix = try await events(port, "/kv?prefix=b/&watch&since=0", count: 3)
            #expect(prefix.events.map(\.id) == ["1.1", "1", "2"])
            let all = try await events(port, "/kv?prefix=&watch&since=0", count: 5)
            #expect(all.events.map(\.id) == ["1.1", "1.2", "1.3", "1", "2"])
            let resumed = try await events(port, "/kv?prefix=b/&watch", behind: "1.1", count: 2)
            #expect(resumed.events == Array(prefix.events[1...]))
            #expect(resumed.begin.data == #"{"revision":0}"#)
            // Of another target: there is no more of that revision than was counted.
            #expect(try await events(port, "/kv?prefix=b/&watch", behind: "1.3", count: 1).events.map(\.id) == ["2"])
            for id in ["", "x", "1.", ".1", "1.0", "0.1", "1.1.1", "+1", "1.+1", "-1", "1.99999999999999999999"] {
                let answer = try await connection.request(get("/kv?prefix=b/&watch", "Last-Event-ID: \(id)\r\n"))
                #expect(answer.status == 400, "'\(id)'")
            }
            try await connection.close()
        }
    }

    @Test("A watch that ends before it could go on inside a revision names the same place again")
    func endInsideRevision() async throws {
        let fixture = try await NodeFixture()
        let watcher = try await fixture.serving { port in
            let watcher = try await RawConnection(port: port)
            // Of what is to come: this node may be behind the one that the client was at.
            try await watcher.send(get("/kv?prefix=&watch", "Last-Event-ID: 7.2\r\n"))
            _ = try await watcher.streamHead()
            #expect(try await watcher.event()?.id == "7.2")
            return watcher
        }
        let end = try #require(try await watcher.event())
        #expect(end.name == "end")
        #expect(end.id == "7.2")
        try await watcher.close()
        try await fixture.stop()
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

    /// What a listing says, key by key.
    private func listing(_ connection: RawConnection, at revision: Int? = nil) async throws -> [String: String] {
        let target = "/kv?prefix=s/" + (revision.map { "&rev=\($0)" } ?? "")
        let answer = try await connection.request(get(target))
        #expect(answer.status == 200, "\(answer.text)")
        let items = try #require(try answer.json["items"] as? [[String: Any]])
        return Dictionary(
            uniqueKeysWithValues: items.map { ($0["key"] as? String ?? "", $0["value"] as? String ?? "") }
        )
    }

    @Test(
        "Where the past is gone, the answer and the ending name the revision to list and to go on from, without a gap"
    )
    func compacted() async throws {
        try await withServer(historyEvents: 10) { fixture, port in
            let writer = try await RawConnection(port: port)
            let watcher = try await RawConnection(port: port, receiveBuffer: 4096)
            try await watcher.send(get("/kv?prefix=s/&watch"))
            _ = try await watcher.streamHead()
            #expect(try await watcher.event()?.id == "0")
            try await watcher.reads(false)
            // It reads nothing while more is written than all buffers on its way take.
            let filler = String(repeating: "v", count: 500_000)
            for number in 0..<60 {
                _ = try await writer.call("PUT", "/kv/s/\(number % 7)", "\(number)" + filler)
                if number % 3 == 0 { _ = try await writer.call("DELETE", "/kv/s/\((number + 1) % 7)") }
            }
            try await watcher.reads(true)
            var (last, ending) = (0, nil as RawConnection.StreamEvent?)
            while ending == nil {
                let event = try #require(try await watcher.event())
                if event.name == "compacted" {
                    ending = event
                } else if event.name != "progress" {
                    let id = try #require(event.id.flatMap { Int($0) })
                    #expect(id == last + 1)
                    last = id
                }
            }
            #expect(ending?.id == nil)
            #expect(try await watcher.event() == nil)
            let problem = try JSONSerialization.jsonObject(with: Data((ending?.data ?? "").utf8)) as? [String: Any]
            #expect(problem?["type"] as? String == "urn:kontiki:problem:revision-gone", "\(ending?.data ?? "")")
            let told = try #require(problem?["compact_revision"] as? Int)
            #expect(told > last)
            // Who resumes is told the same.
            let refused = try await writer.request(get("/kv?prefix=s/&watch", "Last-Event-ID: \(last)\r\n"))
            #expect(refused.status == 410)
            let revision = try #require(try refused.json["compact_revision"] as? Int)
            #expect(revision >= told)
            #expect(UInt64(revision) < fixture.store.mark.revision)
            #expect(try await writer.request(get("/kv?prefix=s/&rev=\(revision - 1)")).status == 410)
            var state = try await listing(writer, at: revision)
            let present = try await listing(writer)
            let count = Int(fixture.store.mark.revision) - revision
            for event in try await events(port, "/kv?prefix=s/&watch&since=\(revision)", count: count).events {
                let item = try JSONSerialization.jsonObject(with: Data(event.data.utf8)) as? [String: Any]
                let key = try #require(item?["key"] as? String)
                state[key] = event.name == "put" ? item?["value"] as? String : nil
            }
            #expect(state == present)
            for connection in [writer, watcher] { try await connection.close() }
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
