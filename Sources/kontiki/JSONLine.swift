/// Reads a line that is one JSON object (RFC 8259) without others inside, in one pass: there may be millions.
struct JSONLine {
    enum Value: Hashable {
        /// UTF-8.
        case string([UInt8])
        /// Its text, digits and what may stand between them.
        case number(String)
        case bool(Bool)
        case null
    }

    struct Member {
        var name: String
        var value: Value
    }

    private let bytes: UnsafeBufferPointer<UInt8>
    private var index = 0

    /// The object's members in their order.
    static func members(of line: ArraySlice<UInt8>) throws(MalformedRecord) -> [Member] {
        let result = line.withUnsafeBufferPointer { bytes in
            Result { () throws(MalformedRecord) in
                var scanner = JSONLine(bytes: bytes)
                return try scanner.object()
            }
        }
        return try result.get()
    }

    private init(bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    private static let malformed = MalformedRecord(reason: "it is not a JSON object of UTF-8 text")

    private var next: UInt8? { index < bytes.count ? bytes[index] : nil }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x09 || byte == 0x0D { index += 1 }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard next == byte else { return false }
        index += 1
        return true
    }

    private mutating func object() throws(MalformedRecord) -> [Member] {
        var members: [Member] = []
        skipSpace()
        guard take(UInt8(ascii: "{")) else { throw Self.malformed }
        skipSpace()
        if !take(UInt8(ascii: "}")) {
            repeat {
                skipSpace()
                let name = String(decoding: try string(), as: UTF8.self)
                guard !members.contains(where: { $0.name == name }) else {
                    throw MalformedRecord(reason: "the member “\(name)” comes twice")
                }
                skipSpace()
                guard take(UInt8(ascii: ":")) else { throw Self.malformed }
                skipSpace()
                members.append(Member(name: name, value: try value()))
                skipSpace()
            } while take(UInt8(ascii: ","))
            guard take(UInt8(ascii: "}")) else { throw Self.malformed }
        }
        skipSpace()
        guard index == bytes.count else { throw Self.malformed }
        return members
    }

    private mutating func value() throws(MalformedRecord) -> Value {
        switch next {
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        default:
            let start = index
            while let byte = next, UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte || "+-.eE".utf8.contains(byte) {
                index += 1
            }
            guard index > start else { throw Self.malformed }
            return .number(String(decoding: bytes[start..<index], as: UTF8.self))
        }
    }

    private mutating func word(_ word: StaticString, _ value: Value) throws(MalformedRecord) -> Value {
        for offset in 0..<word.utf8CodeUnitCount {
            guard take(word.utf8Start[offset]) else { throw Self.malformed }
        }
        return value
    }

    private mutating func string() throws(MalformedRecord) -> [UInt8] {
        guard take(UInt8(ascii: "\"")) else { throw Self.malformed }
        var text: [UInt8] = []
        var isASCII = true
        while true {
            let start = index
            while let byte = next, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 {
                if byte >= 0x80 { isASCII = false }
                index += 1
            }
            text += bytes[start..<index]
            if take(UInt8(ascii: "\"")) { break }
            guard take(UInt8(ascii: "\\")) else { throw Self.malformed }
            try escape(into: &text)
        }
        guard isASCII || String(validating: text, as: UTF8.self) != nil else { throw Self.malformed }
        return text
    }

    private mutating func escape(into text: inout [UInt8]) throws(MalformedRecord) {
        guard let byte = next else { throw Self.malformed }
        index += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"):
            var unit = try hexadecimal()
            if (0xD800..<0xDC00).contains(unit) {
                guard take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) else { throw Self.malformed }
                let low = try hexadecimal()
                guard (0xDC00..<0xE000).contains(low) else { throw Self.malformed }
                unit = 0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00)
            }
            guard let scalar = Unicode.Scalar(unit) else { throw Self.malformed }
            text += Array(String(Character(scalar)).utf8)
        default: throw Self.malformed
        }
    }

    private mutating func hexadecimal() throws(MalformedRecord) -> UInt32 {
        var unit: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw Self.malformed
            }
            unit = unit << 4 | UInt32(digit)
            index += 1
        }
        return unit
    }
}
