import NIOCore
import Testing

@testable import HTTPAPI

@Suite("What is answered")
struct AnswerTests {
    private let date = StringOfBytes(bytes: Array("Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n".utf8))

    private func wire(_ answer: Answer, toHead: Bool = false) -> String {
        String(
            buffer: answer.wire(servedBy: "node1", date: date, toHead: toHead, allocator: ByteBufferAllocator())
        )
    }

    @Test("A value goes out with its metadata, and browsers must not run it")
    func value() {
        var answer = Answer(200, contentType: "text/plain", body: .slice(Array("distributed".utf8)[...]))
        answer.isRawValue = true
        answer.etag = 12
        answer.revision = 345
        answer.createRevision = 7
        answer.version = 2
        answer.term = 3
        answer.appliedIndex = 400
        answer.leader = "node2"
        answer.consistency = .strong
        #expect(
            wire(answer)
                == "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"12\"\r\nKontiki-Revision: 345\r\n"
                + "Kontiki-Create-Revision: 7\r\nKontiki-Version: 2\r\nKontiki-Term: 3\r\nKontiki-Applied-Index: 400\r\n"
                + "Kontiki-Leader: node2\r\nKontiki-Served-By: node1\r\nKontiki-Consistency: strong\r\n"
                + "X-Content-Type-Options: nosniff\r\nContent-Security-Policy: sandbox; default-src 'none'\r\n"
                + "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 11\r\n\r\ndistributed"
        )
    }

    @Test("HEAD gets the length and no body; 204 and 304 get neither")
    func framing() {
        let answer = Answer(200, body: .slice([1, 2, 3]))
        #expect(wire(answer, toHead: true).hasSuffix("Content-Length: 3\r\n\r\n"))
        #expect(!wire(Answer(204)).contains("Content-Length"))
        #expect(!wire(Answer(304)).contains("Content-Length"))
        #expect(wire(Answer(204)).hasPrefix("HTTP/1.1 204 No Content\r\n"))
        #expect(wire(Answer(412)).hasPrefix("HTTP/1.1 412 Precondition Failed\r\n"))
        #expect(wire(Answer(412)).hasSuffix("Content-Length: 0\r\n\r\n"))
        var closing = Answer(503)
        closing.closesConnection = true
        #expect(wire(closing).contains("\r\nConnection: close\r\n"))
    }

    @Test("Numbers are written in full", arguments: [0, 9, 10, 99, 100, 12_345, UInt64.max])
    func numbers(_ number: UInt64) {
        var buffer = ByteBuffer()
        buffer.writeDecimal(number)
        #expect(String(buffer: buffer) == String(number))
    }

    @Test(
        "Dates",
        arguments: [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"), (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"), (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"), (-1, "Wed, 31 Dec 1969 23:59:59 GMT"),
        ]
    )
    func dates(_ second: Int, _ expected: String) {
        #expect(DateField.text(second: second) == expected)
    }

    @Test("JSON: commas, escapes, and bytes that are no text")
    func json() {
        var json = JSONWriter()
        json.beginObject()
        json.member("a", "quote \" back \\ line \n bell \u{7} ü")
        json.name("list")
        json.beginArray()
        json.value(1)
        json.value(UInt64.max)
        json.beginObject()
        json.endObject()
        json.null()
        json.value(true)
        json.endArray()
        json.bytes([0xFF, 0], text: "key", base64: "key_base64")
        json.bytes(Array("k".utf8), text: "value", base64: "value_base64")
        json.endObject()
        #expect(
            String(buffer: json.buffer)
                == #"{"a":"quote \" back \\ line \n bell \u0007 ü","list":[1,18446744073709551615,{},null,true],"#
                + #""key_base64":"/wA=","value":"k"}"#
        )
    }

    @Test("A problem says what became of the request")
    func problems() {
        let document = String(
            buffer: Problem.preconditionFailed(revision: 9, current: 4).document(leader: nil)
        )
        #expect(document.contains(#""type":"urn:kontiki:problem:precondition-failed""#))
        #expect(document.contains(#""status":412"#))
        #expect(document.contains(#""outcome":"not_executed""#))
        #expect(document.contains(#""revision":9,"current_revision":4"#))
        let answer = Answer(.preconditionFailed(revision: 9, current: 4), leader: nil)
        #expect(answer.etag == 4)
        #expect(answer.contentType == "application/problem+json")
    }

    @Test("A cursor survives its text; others are refused")
    func cursors() {
        for key in [[], [0], Array("a/b".utf8), [UInt8](repeating: 0xFF, count: 480)] as [[UInt8]] {
            let cursor = Cursor(after: key, revision: .max - 7)
            #expect(Cursor(Array(cursor.text.utf8)) == cursor)
        }
        #expect(Cursor(Array("!!!".utf8)) == nil)
        #expect(Cursor([]) == nil)
        #expect(Cursor(Base64.encode([9, 1])) == nil)
    }

    @Test("Bodies with unknown or missing fields are refused, naming the known ones")
    func bodies() throws {
        func decode(_ text: String) throws -> RequestBodies.NewMember {
            try RequestBodies.decode(RequestBodies.NewMember.self, from: ByteBuffer(string: text))
        }
        #expect(try decode(#"{"name":"n","addr":"h:1"}"#).addr == "h:1")
        #expect(try decode(#"{"addr":"h:1"}"#).name == nil)
        for text in ["", "{", "[]", "1", "{}", #"{"addr":1}"#, #"{"addr":"h:1","adr":2}"#, #"{"name":"n"}"#] {
            let problem = #expect(throws: Problem.self) { try decode(text) }
            #expect(problem?.status == 400, "\(text)")
            #expect(problem?.known == ["name", "addr"], "\(text)")
        }
    }
}
