import Foundation
import KeyValue
import KeyValueService
import NIOCore
import Testing

@testable import HTTPAPI

@Suite("GET /snapshot", .timeLimit(.minutes(5)))
struct BackupTests {
    private static let value = String(repeating: "v", count: 20_000)

    private func put(_ fixture: NodeFixture, _ key: String, _ value: String, type: String? = nil) async throws {
        _ = try await fixture.service.put(key: Array(key.utf8), value: .init(string: value), contentType: type)
    }

    private func lines(_ body: [UInt8]) throws -> [[String: Any]] {
        try body.split(separator: 0x0A).map {
            try #require(try JSONSerialization.jsonObject(with: Data($0)) as? [String: Any])
        }
    }

    @Test("It holds every key with its value and type, and ends with what makes sure of that")
    func content() async throws {
        try await withServer { fixture, port in
            try await put(fixture, "a/1", "one", type: "text/plain")
            try await put(fixture, "b", "line\nfeed")
            _ = try await fixture.service.put(key: [0xFF, 0], value: .init(bytes: [0, 0xFE]))
            let connection = try await RawConnection(port: port)
            let answer = try await connection.call("GET", "/snapshot")
            #expect(answer.status == 200 && answer.fields["content-type"] == "application/x-ndjson")
            #expect(answer.fields["kontiki-consistency"] == "strong")
            let lines = try lines(answer.body)
            #expect(lines.count == 4)
            #expect(lines[0] as? [String: String] == ["key": "a/1", "value": "one", "content_type": "text/plain"])
            #expect(lines[1] as? [String: String] == ["key": "b", "value": "line\nfeed"])
            #expect(lines[2] as? [String: String] == ["key_base64": "/wA=", "value_base64": "AP4="])
            #expect(lines[3]["end"] as? Bool == true && lines[3]["records"] as? Int == 3)
            #expect((lines[3]["revision"] as? Int).map { "\($0)" } == answer.fields["kontiki-revision"])
            let some = try await connection.call("GET", "/snapshot?prefix=a/")
            #expect(try self.lines(some.body).count == 2)
            // The connection goes on behind it, and its head costs nothing.
            #expect(try await connection.call("HEAD", "/snapshot").status == 200)
            #expect(
                try await connection.call("GET", "/snapshot?prefix=\(String(repeating: "p", count: 500))").status == 400
            )
            try await connection.close()
        }
    }

    @Test("However slowly it is read, it is that of one revision, and no past is needed for it")
    func slowReader() async throws {
        try await withServer(historyEvents: 5) { fixture, port in
            for number in 100..<500 { try await put(fixture, "k/\(number)", Self.value) }
            let revision = fixture.store.mark.revision
            let reader = try await RawConnection(port: port, receiveBuffer: 16 << 10)
            try await reader.send("GET /snapshot HTTP/1.1\r\nHost: x\r\n\r\n")
            let head = try #require(try await reader.response(toHead: true))
            #expect(head.fields["kontiki-revision"] == "\(revision)")
            try await reader.reads(false)
            // Everything is changed, and the past of it is gone.
            for number in 100..<500 { try await put(fixture, "k/\(number)", "changed") }
            #expect(fixture.store.compactRevision > revision)
            try await reader.reads(true)
            let length = try #require(head.fields["content-length"].flatMap { Int($0) })
            let lines = try lines(try await reader.bytes(length))
            #expect(lines.count == 401)
            #expect(lines.dropLast().compactMap { $0["key"] as? String } == (100..<500).map { "k/\($0)" })
            #expect(lines.dropLast().allSatisfy { $0["value"] as? String == Self.value })
            #expect(lines.last?["revision"] as? Int == Int(revision))
            try await reader.close()
        }
    }

    @Test("No more are read at a time than may be, and one that a client leaves makes room for another")
    func bound() async throws {
        try await withServer { fixture, port in
            for number in 100..<500 { try await put(fixture, "k/\(number)", Self.value) }
            var readers: [RawConnection] = []
            for _ in 0..<fixture.service.options.maximumBackups {
                let reader = try await RawConnection(port: port, receiveBuffer: 16 << 10)
                try await reader.send("GET /snapshot HTTP/1.1\r\nHost: x\r\n\r\n")
                #expect(try await reader.response(toHead: true)?.status == 200)
                try await reader.reads(false)
                readers.append(reader)
            }
            let other = try await RawConnection(port: port)
            let refused = try await other.call("GET", "/snapshot")
            #expect(refused.status == 503 && refused.fields["retry-after"] != nil)
            #expect(refused.text.contains("backups are being read"))
            try await readers[0].close()
            try await eventually { try await other.call("GET", "/snapshot").status == 200 }
            for reader in readers { try await reader.close() }
            try await other.close()
        }
    }
}
