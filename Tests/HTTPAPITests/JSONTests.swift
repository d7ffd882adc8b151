import NIOCore
import Testing

@testable import HTTPAPI

@Suite("JSON of requests")
struct JSONTests {
    private func parse(_ text: String) throws -> JSONValue {
        try JSONValue(parsing: ByteBuffer(string: text).readableBytesView)
    }

    @Test("Values keep what they say: digits of any length, escapes, the order of fields")
    func values() throws {
        #expect(
            try parse(" [1, -0.5e+7, 18446744073709551615] \n")
                == .array([
                    .number("1"), .number("-0.5e+7"), .number("18446744073709551615"),
                ])
        )
        #expect(try parse(#""a\"\\\/\b\f\n\r\t\u00fc\ud83d\ude00ü""#) == "a\"\\/\u{8}\u{C}\n\r\t\u{FC}\u{1F600}ü")
        #expect(
            try parse(#"{"b":null,"a":[true,false,{}],"":""}"#) == [
                "b": .null, "a": [true, false, [:]], "": "",
            ]
        )
    }

    @Test(
        "What is no JSON is refused",
        arguments: [
            "", " ", "{", "[", "[1,]", "{\"a\":1,}", "{\"a\" 1}", "{a:1}", "01", "1.", ".5", "-", "1e", "+1", "tru",
            "nul", "\"", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"\n\"", "1 2",
            "{\"a\":1,\"a\":2}", "[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]", "'a'", "NaN", "\u{FEFF}1", "[1 2]",
        ]
    )
    func malformed(_ text: String) {
        #expect(throws: JSONValue.Malformed.self) { try parse(text) }
    }

    @Test("A string that is no UTF-8 is refused")
    func rawBytes() {
        #expect(throws: JSONValue.Malformed.self) {
            try JSONValue(parsing: ByteBuffer(bytes: [0x22, 0xFF, 0x22]).readableBytesView)
        }
    }

    @Test("What is written is what was read")
    func roundTrip() throws {
        let text = #"{"a":[1,2.50,"x\n"],"b":{"c":null,"d":true}}"#
        var json = JSONWriter()
        json.value(try parse(text))
        #expect(String(buffer: json.buffer) == text)
    }

    @Test("Fields are taken by their types, and a wrong one is named with its place")
    func fields() throws {
        let known = ["n", "s", "f", "d", "key", "key_base64", "list"]
        func object(_ text: String) throws -> BodyObject { try BodyObject(parse(text), path: "a[0]", known: known) }
        #expect(try object(#"{"n":18446744073709551615}"#).unsigned("n") == .max)
        #expect(try object(#"{"n":-9223372036854775808}"#).signed("n") == .min)
        #expect(try object(#"{"n":7.0}"#).unsigned("n") == 7)
        #expect(try object(#"{"key_base64":"/wA="}"#).bytes("key") == [0xFF, 0])
        #expect(try object(#"{"key":"ü"}"#).bytes("key") == Array("ü".utf8))
        #expect(try object(#"{"d":"30s"}"#).duration("d", in: 1...60_000) == 30_000)
        #expect(try object("{}").bytes("key") == nil)
        #expect(try object(#"{"f":false,"list":[]}"#).flag("f") == false)

        func problem(_ text: String, _ take: (BodyObject) throws -> Void) -> Problem? {
            #expect(throws: Problem.self) { try take(try object(text)) }
        }
        #expect(problem(#"{"keyy":1}"#) { _ in }?.detail.contains("'a[0].keyy' is not known") == true)
        #expect(problem(#"{"n":-1}"#) { _ = try $0.unsigned("n") }?.detail.contains("'a[0].n'") == true)
        for (text, take) in [
            (#"{"n":"1"}"#, { _ = try $0.unsigned("n") }), (#"{"n":1.5}"#, { _ = try $0.unsigned("n") }),
            (#"{"n":1e3}"#, { _ = try $0.signed("n") }), (#"{"s":null}"#, { _ = try $0.text("s") }),
            (#"{"f":1}"#, { _ = try $0.flag("f") }), (#"{"d":"1"}"#, { _ = try $0.duration("d", in: 1...9) }),
            (#"{"d":"1h"}"#, { _ = try $0.duration("d", in: 1...9) }),
            (#"{"list":{}}"#, { _ = try $0.elements("list") }),
            (#"{"key":"a","key_base64":"YQ=="}"#, { _ = try $0.bytes("key") }),
            (#"{"key_base64":"!"}"#, { _ = try $0.bytes("key") }), ("{}", { _ = try $0.requiredBytes("key") }),
            ("[]", { _ in }),
        ] as [(String, (BodyObject) throws -> Void)] {
            let problem = problem(text, take)
            #expect(problem?.status == 400, "\(text)")
            #expect(problem?.outcome == .notExecuted)
        }
    }
}
