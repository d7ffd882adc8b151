/// Reads a line from left to right.
struct Scanner {
    private var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

    var isAtEnd: Bool { rest.isEmpty }
    var next: UInt8? { rest.first }

    /// Spaces and tabs; in EDN commas as well.
    mutating func skipSpace(andCommas: Bool = false) {
        rest = rest.drop {
            $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") || (andCommas && $0 == UInt8(ascii: ","))
        }
    }

    mutating func take(_ literal: StaticString) -> Bool {
        literal.withUTF8Buffer { bytes in
            guard rest.starts(with: bytes) else { return false }
            rest = rest.dropFirst(bytes.count)
            return true
        }
    }

    mutating func expect(_ literal: StaticString) throws(MalformedLine) {
        guard take(literal) else { throw MalformedLine("“\(literal)” is expected\(here)") }
    }

    /// Where the scanner stands, in words.
    var here: String {
        rest.isEmpty ? " where the line ends" : " at “\(String(decoding: rest.prefix(20), as: UTF8.self))”"
    }

    /// Letters and hyphens.
    mutating func word() -> String {
        let word = rest.prefix {
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0 | 0x20) || $0 == UInt8(ascii: "-")
        }
        rest = rest.dropFirst(word.count)
        return String(decoding: word, as: UTF8.self)
    }

    /// A decimal number, perhaps negative, within 64 bits.
    mutating func integer() throws(MalformedLine) -> Int64 {
        let digits = rest.dropFirst(rest.first == UInt8(ascii: "-") ? 1 : 0)
            .prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        let text = String(decoding: rest[rest.startIndex..<digits.endIndex], as: UTF8.self)
        guard !digits.isEmpty else { throw MalformedLine("a number is expected\(here)") }
        guard let number = Int64(text) else { throw MalformedLine("the number \(text) does not fit into 64 bits") }
        rest = rest[digits.endIndex...]
        if let next = rest.first, next == UInt8(ascii: ".") || next | 0x20 == UInt8(ascii: "e") {
            throw MalformedLine("a whole number is expected; \(text) is followed by a fraction or an exponent")
        }
        return number
    }

    /// The number of a process: from 0.
    mutating func process() throws(MalformedLine) -> Int {
        let number = try integer()
        guard number >= 0 else { throw MalformedLine("the process \(number) is negative") }
        return Int(number)
    }

    /// Text between quotation marks with the escapes of JSON, which EDN has as well.
    mutating func quoted() throws(MalformedLine) -> [UInt8] {
        guard take("\"") else { throw MalformedLine("text in quotation marks is expected\(here)") }
        var text: [UInt8] = []
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "\""):
                guard String(validating: text, as: UTF8.self) != nil else {
                    throw MalformedLine("there is text that is not UTF-8")
                }
                return text
            case UInt8(ascii: "\\"): try unescape(into: &text)
            case 0..<0x20: throw MalformedLine("there is a control character in text; it must be escaped")
            default: text.append(byte)
            }
        }
        throw MalformedLine("the quotation mark that ends a text is missing")
    }

    private mutating func unescape(into text: inout [UInt8]) throws(MalformedLine) {
        switch rest.popFirst() {
        case UInt8(ascii: "\""): text.append(UInt8(ascii: "\""))
        case UInt8(ascii: "\\"): text.append(UInt8(ascii: "\\"))
        case UInt8(ascii: "/"): text.append(UInt8(ascii: "/"))
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"):
            var code = try hexadecimal()
            if (0xD800..<0xDC00).contains(code) {
                guard take("\\u") else { throw MalformedLine("half a surrogate pair is escaped in text") }
                let low = try hexadecimal()
                guard (0xDC00..<0xE000).contains(low) else {
                    throw MalformedLine("half a surrogate pair is escaped in text")
                }
                code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
            }
            guard let scalar = Unicode.Scalar(code) else {
                throw MalformedLine("half a surrogate pair is escaped in text")
            }
            text.append(contentsOf: String(Character(scalar)).utf8)
        default: throw MalformedLine(#"in text \ is followed by none of " \ / b f n r t u"#)
        }
    }

    private mutating func hexadecimal() throws(MalformedLine) -> UInt32 {
        let digits = rest.prefix(4)
        let areDigits = digits.allSatisfy { Character(Unicode.Scalar($0)).isHexDigit }
        guard digits.count == 4, areDigits, let code = UInt32(String(decoding: digits, as: UTF8.self), radix: 16) else {
            throw MalformedLine(#"in text \u is not followed by four hexadecimal digits"#)
        }
        rest = rest.dropFirst(4)
        return code
    }
}
