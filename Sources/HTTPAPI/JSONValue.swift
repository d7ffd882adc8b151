import NIOCore

/// A JSON text (RFC 8259), read as it stands: numbers keep their digits, so that revisions of 64 bits are not rounded, and a name that
/// comes twice in one object is refused, because readers differ in which of the two they take.
enum JSONValue: Hashable, Sendable {
    struct Member: Hashable, Sendable {
        var name: String
        var value: JSONValue
    }

    case null
    case bool(Bool)
    /// Its text, which fits the grammar.
    case number(String)
    /// Valid UTF-8.
    case string([UInt8])
    case array([JSONValue])
    case object([Member])

    /// What is wrong with a text, and where.
    struct Malformed: Error, Equatable {
        /// Counts bytes from the start.
        var offset: Int
        var reason: String
    }

    /// The value that `bytes` are, with white space around it and nothing else.
    init(parsing bytes: ByteBufferView) throws(Malformed) {
        var parser = JSONParser(bytes: bytes)
        self = try parser.text()
    }
}

/// Recursive descent, with a bound in depth.
private struct JSONParser {
    /// The deepest that the API's bodies go is 5.
    static let maximumDepth = 16

    let bytes: ByteBufferView
    var index: Int

    init(bytes: ByteBufferView) {
        self.bytes = bytes
        index = bytes.startIndex
    }

    private var next: UInt8? { index < bytes.endIndex ? bytes[index] : nil }

    private func malformed(_ reason: String) -> JSONValue.Malformed {
        JSONValue.Malformed(offset: index - bytes.startIndex, reason: reason)
    }

    mutating func text() throws(JSONValue.Malformed) -> JSONValue {
        let value = try value(depth: 0)
        skipSpace()
        guard next == nil else { throw malformed("something follows the value") }
        return value
    }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { index += 1 }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard next == byte else { return false }
        index += 1
        return true
    }

    private mutating func value(depth: Int) throws(JSONValue.Malformed) -> JSONValue {
        skipSpace()
        guard let byte = next else { throw malformed("a value is missing") }
        switch byte {
        case UInt8(ascii: "{"): return try object(depth: depth)
        case UInt8(ascii: "["): return try array(depth: depth)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
        default: throw malformed("no value begins like this")
        }
    }

    private mutating func word(_ word: String, _ value: JSONValue) throws(JSONValue.Malformed) -> JSONValue {
        guard bytes[index...].starts(with: word.utf8) else { throw malformed("no value begins like this") }
        index += word.utf8.count
        return value
    }

    private mutating func object(depth: Int) throws(JSONValue.Malformed) -> JSONValue {
        guard depth < Self.maximumDepth else { throw malformed("it is nested too deeply") }
        index += 1
        var members: [JSONValue.Member] = []
        var names: Set<String> = []
        skipSpace()
        if take(UInt8(ascii: "}")) { return .object([]) }
        repeat {
            skipSpace()
            guard next == UInt8(ascii: "\"") else { throw malformed("the name of a field is missing") }
            let name = String(decoding: try string(), as: UTF8.self)
            guard names.insert(name).inserted else { throw malformed("the field '\(name)' comes twice") }
            skipSpace()
            guard take(UInt8(ascii: ":")) else { throw malformed("a colon is missing") }
            members.append(.init(name: name, value: try value(depth: depth + 1)))
            skipSpace()
        } while take(UInt8(ascii: ","))
        guard take(UInt8(ascii: "}")) else { throw malformed("a comma or a closing brace is missing") }
        return .object(members)
    }

    private mutating func array(depth: Int) throws(JSONValue.Malformed) -> JSONValue {
        guard depth < Self.maximumDepth else { throw malformed("it is nested too deeply") }
        index += 1
        var elements: [JSONValue] = []
        skipSpace()
        if take(UInt8(ascii: "]")) { return .array([]) }
        repeat {
            elements.append(try value(depth: depth + 1))
            skipSpace()
        } while take(UInt8(ascii: ","))
        guard take(UInt8(ascii: "]")) else { throw malformed("a comma or a closing bracket is missing") }
        return .array(elements)
    }

    // MARK: Numbers

    private mutating func digits() throws(JSONValue.Malformed) {
        let start = index
        while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { index += 1 }
        guard index > start else { throw malformed("a digit is missing") }
    }

    private mutating func number() throws(JSONValue.Malformed) -> JSONValue {
        let start = index
        _ = take(UInt8(ascii: "-"))
        if !take(UInt8(ascii: "0")) { try digits() }
        if take(UInt8(ascii: ".")) { try digits() }
        if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
            if !take(UInt8(ascii: "-")) { _ = take(UInt8(ascii: "+")) }
            try digits()
        }
        return .number(String(decoding: bytes[start..<index], as: UTF8.self))
    }

    // MARK: Strings

    private mutating func string() throws(JSONValue.Malformed) -> [UInt8] {
        index += 1
        var text: [UInt8] = []
        let start = index
        while true {
            let run = bytes[index...].prefix { $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") && $0 >= 0x20 }
            text.append(contentsOf: run)
            index = run.endIndex
            guard let byte = next else { throw malformed("a string does not end") }
            index += 1
            if byte == UInt8(ascii: "\"") { break }
            guard byte == UInt8(ascii: "\\") else { throw malformed("a control character must be escaped") }
            try escape(into: &text)
        }
        // Checked as a whole, since a client may mean bytes that are no text: those travel as Base64.
        guard String(validating: text, as: UTF8.self) != nil else {
            index = start
            throw malformed("a string is not UTF-8; write other bytes as Base64")
        }
        return text
    }

    private mutating func escape(into text: inout [UInt8]) throws(JSONValue.Malformed) {
        guard let byte = next else { throw malformed("a string does not end") }
        index += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"):
            var unit = UInt32(try hexadecimal())
            if (0xD800..<0xDC00).contains(unit) {
                guard take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) else {
                    throw malformed("half of a surrogate pair stands alone")
                }
                let low = UInt32(try hexadecimal())
                guard (0xDC00..<0xE000).contains(low) else { throw malformed("half of a surrogate pair stands alone") }
                unit = 0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00)
            }
            guard let scalar = Unicode.Scalar(unit) else { throw malformed("half of a surrogate pair stands alone") }
            text.append(contentsOf: String(Character(scalar)).utf8)
        default: throw malformed("there is no such escape")
        }
    }

    private mutating func hexadecimal() throws(JSONValue.Malformed) -> UInt16 {
        var unit: UInt16 = 0
        for _ in 0..<4 {
            guard let byte = next, let digit = PercentDecoding.hexDigit(byte) else {
                throw malformed("four hexadecimal digits are missing")
            }
            unit = unit << 4 | UInt16(digit)
            index += 1
        }
        return unit
    }
}
