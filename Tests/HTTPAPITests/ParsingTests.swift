import KeyValue
import Testing

@testable import HTTPAPI

@Suite("What requests say")
struct ParsingTests {
    private func decode(_ text: String, plusIsSpace: Bool = false) throws -> [UInt8] {
        var bytes: [UInt8] = []
        try PercentDecoding.decode(text.utf8, plusIsSpace: plusIsSpace, into: &bytes)
        return bytes
    }

    @Test(
        "Percent-decoding is done once, and touches neither slashes nor dots",
        arguments: [
            ("plain", "plain"), ("a//b", "a//b"), ("../x/./y", "../x/./y"), ("%2F", "/"), ("%2f%2F", "//"),
            ("%2520", "%20"), ("a+b", "a+b"), ("ü", "ü"), ("%C3%BC", "ü"), ("", ""), ("%41%42", "AB"),
        ]
    )
    func decodesOnce(_ text: String, _ expected: String) throws {
        #expect(try decode(text) == Array(expected.utf8))
    }

    @Test("Any byte can be written with percent-encoding")
    func decodesAnyByte() throws {
        for byte in UInt8.min...UInt8.max {
            let digits = String(byte, radix: 16)
            #expect(try decode("%" + (digits.utf8.count == 1 ? "0" : "") + digits) == [byte])
        }
    }

    @Test(
        "Malformed percent-encoding is refused",
        arguments: [("%", 0), ("a%", 1), ("%4", 0), ("ab%4g", 2), ("%zz", 0), ("%%41", 0), ("%+1", 0), ("%C3%", 3)]
    )
    func refusesMalformed(_ text: String, _ at: Int) {
        #expect(throws: TargetError.malformedPercentEncoding(at: at)) { try decode(text) }
    }

    @Test("What the parser in front replaced, and what no target may hold, is refused")
    func refusesForbidden() {
        #expect(throws: TargetError.rawBytes) { try decode("a\u{FFFD}b") }
        #expect(throws: TargetError.forbiddenByte(0x23)) { try decode("a#b") }
        #expect(throws: TargetError.forbiddenByte(0x20)) { try decode("a b") }
        #expect(throws: TargetError.forbiddenByte(0)) { try decode("a\0b") }
        #expect(throws: Never.self) { try decode("%EF%BF%BD") }
    }

    @Test("Encoding for links and decoding are inverse")
    func encodesForLinks() throws {
        let bytes = Array(UInt8.min...UInt8.max)
        #expect(try decode(PercentDecoding.encode(bytes), plusIsSpace: true) == bytes)
    }

    @Test("Base64 of both alphabets round-trips, and one value has one text")
    func base64() {
        var bytes: [UInt8] = []
        for length in 0..<70 {
            #expect(Base64.decode(Base64.encode(bytes)) == bytes)
            #expect(Base64.decode(Base64.encode(bytes, forURL: true)) == bytes)
            bytes.append(UInt8(truncatingIfNeeded: length &* 97 &+ 251))
        }
        #expect(String(decoding: Base64.encode(Array("foobar".utf8)), as: UTF8.self) == "Zm9vYmFy")
        #expect(String(decoding: Base64.encode([0xFB, 0xFF]), as: UTF8.self) == "+/8=")
        #expect(String(decoding: Base64.encode([0xFB, 0xFF], forURL: true), as: UTF8.self) == "-_8")
        for text in ["A", "AB", "Zm9v!", "=", "Zg=a", "Zg===", "Zh", "Zm9vY"] where text != "AB" {
            #expect(Base64.decode(text.utf8) == nil, "\(text)")
        }
        // Bits behind the last byte must be zero.
        #expect(Base64.decode("AB".utf8) == nil)
        #expect(Base64.decode("AA".utf8) == [0])
    }

    @Test(
        "Durations",
        arguments: [
            ("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0), ("5", nil), ("s", nil),
            ("", nil), ("1.5s", nil), ("-1s", nil), ("5 s", nil), ("5sm", nil), ("5msx", nil), ("999999999999s", nil),
            ("31622399999ms", 31_622_399_999),
        ]
    )
    func durations(_ text: String, _ expected: Int?) {
        #expect(Durations.milliseconds(text.utf8) == expected)
    }

    @Test("Queries: pairs, flags, plus for space, doubles refused")
    func queries() throws {
        let query = try Query(parsing: "prefix=a%2Fb+c&keys_only&limit=7&&x=".utf8)
        #expect(query["prefix"]?.text == "a/b c")
        #expect(query["keys_only"]?.value == [])
        #expect(try query["keys_only"]?.flag() == true)
        #expect(try query["limit"]?.number() == 7)
        #expect(query["x"]?.value == [])
        #expect(query["none"] == nil)
        #expect(throws: Problem.self) { try Query(parsing: "a=1&a=2".utf8) }
        #expect(throws: Problem.self) { try Query(parsing: "a=%2".utf8) }
    }

    @Test("Unknown parameters are refused naming the known ones")
    func unknownParameters() throws {
        let known = ["consistency", "timeout"]
        let unknown = #expect(throws: Problem.self) { try Query(parsing: "consistancy=x".utf8).check(known: known) }
        #expect(unknown?.status == 400)
        #expect(unknown?.known == known)
        #expect(unknown?.outcome == .notExecuted)
    }

    @Test(
        "Who names JSON gets the envelope; who takes anything gets the value as it is",
        arguments: [
            ("application/json", true), ("text/html, application/json;q=0.9", true), ("APPLICATION/JSON", true),
            ("*/*", false), ("application/*", false), ("application/json;q=0", false),
            ("application/json; q=0.0", false), ("application/problem+json", false),
        ]
    )
    func envelope(_ accept: String, _ expected: Bool) {
        var fields = RequestFields()
        fields.take("Accept", accept)
        #expect(fields.acceptsEnvelope == expected)
    }

    @Test("A list in several fields is one list; names are compared without case")
    func fields() {
        var fields = RequestFields()
        fields.take("PREFER", "wait=5")
        fields.take("prefer", "return=Representation; x=y")
        #expect(fields.prefersRepresentation)
        fields.take("Connection", "keep-alive, Close")
        #expect(RequestFields.list(fields.connection, contains: "close"))
        #expect(!RequestFields.list(fields.connection, contains: "upgrade"))
    }
}

@Suite("Requests for a key")
struct KeyRequestTests {
    private func parse(
        _ target: String,
        _ method: KeyRequest.Method = .get,
        _ fields: [(String, String)] = []
    ) throws -> KeyRequest {
        var taken = RequestFields()
        for (name, value) in fields { taken.take(name, value) }
        let (path, query) = RequestRouting.split(target)
        return try KeyRequest(
            method: method,
            path: path.dropFirst(4).utf8,
            query: query?.utf8,
            fields: taken,
            limits: KeyRequest.Limits()
        )
    }

    private func problem(
        _ target: String,
        _ method: KeyRequest.Method = .get,
        _ fields: [(String, String)] = []
    ) -> Problem? {
        #expect(throws: Problem.self) { try parse(target, method, fields) }
    }

    @Test("The key is everything behind /kv/")
    func keys() throws {
        #expect(try parse("/kv/a").key == Array("a".utf8))
        #expect(try parse("/kv//").key == Array("/".utf8))
        #expect(try parse("/kv/a//b/../c").key == Array("a//b/../c".utf8))
        #expect(try parse("/kv/%00%FF").key == [0, 0xFF])
        #expect(try parse("/kv/?key_b64=AP8").key == [0, 0xFF])
        #expect(try parse("/kv/a+b").key == Array("a+b".utf8))
    }

    @Test("Keys have 1 to 480 bytes, counted after decoding")
    func keyLengths() throws {
        #expect(try parse("/kv/" + String(repeating: "x", count: 480)).key.count == 480)
        #expect(try parse("/kv/" + String(repeating: "%41", count: 480)).key.count == 480)
        for target in [
            "/kv/", "/kv/?key_b64=", "/kv/" + String(repeating: "x", count: 481),
            "/kv/" + String(repeating: "%41", count: 481), "/kv/" + String(repeating: "y", count: 100_000),
        ] {
            let problem = problem(target)
            #expect(problem?.status == 400)
            #expect(problem?.limit == 480)
            #expect(problem?.outcome == .notExecuted)
        }
        #expect(problem("/kv/a?key_b64=AA")?.status == 400)
    }

    @Test("Parameters are taken where they apply")
    func parameters() throws {
        #expect(try parse("/kv/a").demand.consistency == .strong)
        #expect(try parse("/kv/a?consistency=stale").demand.consistency == .stale)
        #expect(try parse("/kv/a?timeout=250ms").timeoutMilliseconds == 250)
        #expect(try parse("/kv/a%2F?redirect&timeout=1s").redirectTarget == "/kv/a%2F?redirect&timeout=1s")
        #expect(try parse("/kv/a?redirect=false").redirectTarget == nil)
        #expect(problem("/kv/a?consistency=eventual")?.known == ["strong", "bounded", "stale"])
        #expect(try parse("/kv/a?consistency=bounded&max_stale=1s&min_rev=7").demand.maximumStaleness == 1_000)
        #expect(try parse("/kv/a?min_rev=7").demand.minimumRevision == 7)
        #expect(try parse("/kv/a?rev=7").revision == 7)
        for query in ["consistency=bounded", "max_stale=1s", "consistency=bounded&max_stale=0s", "min_rev=x", "rev=-1"]
        {
            #expect(problem("/kv/a?\(query)")?.code == .invalidParameter, "\(query)")
        }
        // A change is told as it is applied: what asks for more than that is refused, and not ignored.
        for demand in ["min_rev=7", "consistency=strong", "consistency=bounded&max_stale=1s"] {
            for watch in ["watch", "wait=1s"] {
                #expect(problem("/kv/a?\(watch)&\(demand)")?.code == .invalidParameter, "\(watch) \(demand)")
            }
        }
        #expect(problem("/kv/a?timeout=0s")?.status == 400)
        #expect(problem("/kv/a?timeout=1000h")?.status == 400)
        #expect(problem("/kv/a?cas=1")?.code == .unknownParameter)
        #expect(problem("/kv/a?consistency=stale", .put)?.code == .unknownParameter)
        #expect(try parse("/kv/a?ttl=30s", .put).lease == .ttl(milliseconds: 30_000))
        #expect(try parse("/kv/a?lease=A7", .put).lease == .attached(0xA7))
        #expect(problem("/kv/a?ttl=30s")?.code == .unknownParameter)
        #expect(try parse("/kv/a", .put, [("Idempotency-Key", "k")]).idempotencyKey == Array("k".utf8))
        #expect(try parse("/kv/a", .put, [("Kontiki-Fence", "a%3D=b=7")]).fence?.lock == Array("a==b".utf8))
        #expect(try parse("/kv/a?op=incr&by=-2", .post).increment == -2)
    }

    @Test("Write preconditions")
    func writePreconditions() throws {
        func write(_ target: String, _ fields: [(String, String)] = []) throws -> WritePrecondition {
            try parse(target, .put, fields).precondition
        }
        #expect(try write("/kv/a") == .none)
        #expect(try write("/kv/a?cas=0") == .mustNotExist)
        #expect(try write("/kv/a?cas=17") == .revision(17))
        #expect(try write("/kv/a", [("If-Match", "\"17\"")]) == .revision(17))
        #expect(try write("/kv/a", [("If-Match", "*")]) == .mustExist)
        #expect(try write("/kv/a", [("If-None-Match", " * ")]) == .mustNotExist)
        // Tags that this server never gave cannot match.
        #expect(try write("/kv/a", [("If-Match", "\"abc\"")]) == .revision(.max))
        #expect(try write("/kv/a", [("If-Match", "W/\"17\"")]) == .revision(.max))
        for fields in [
            [("If-Match", "17")], [("If-Match", "\"1\", \"2\"")], [("If-None-Match", "\"1\"")],
            [("If-Match", "\"1\""), ("If-None-Match", "*")], [("If-Match", "")],
        ] {
            #expect(problem("/kv/a", .put, fields)?.status == 400, "\(fields)")
        }
        #expect(problem("/kv/a?cas=1", .delete, [("If-Match", "\"1\"")])?.status == 400)
        #expect(problem("/kv/a?cas=-1", .put)?.status == 400)
        #expect(problem("/kv/a?cas=99999999999999999999", .put)?.status == 400)
    }

    @Test("Read preconditions compare weakly where RFC 9110 says so")
    func readPreconditions() throws {
        let request = try parse("/kv/a", .get, [("If-None-Match", "W/\"3\", \"x\", \"4\"")])
        #expect(request.readPrecondition?.ifNoneMatch == .revisions([3, 4]))
        #expect(try parse("/kv/a", .get, [("If-Match", "W/\"3\"")]).readPrecondition?.ifMatch == .revisions([]))
        #expect(try parse("/kv/a").readPrecondition == nil)
        #expect(ReadPrecondition.Validators.any.match(1))
        #expect(!ReadPrecondition.Validators.any.match(nil))
    }

    @Test("A content type must be printable and short")
    func contentTypes() throws {
        #expect(try parse("/kv/a", .put, [("Content-Type", "text/plain")]).contentType == "text/plain")
        #expect(try parse("/kv/a", .put).contentType == nil)
        #expect(problem("/kv/a", .put, [("Content-Type", String(repeating: "x", count: 256))])?.status == 400)
        #expect(problem("/kv/a", .put, [("Content-Type", "text/ü")])?.status == 400)
    }
}
