/// A JSON object without objects or arrays in it: all that a line of a history needs.
struct JSONObject {
    enum Value {
        case text([UInt8])
        case integer(Int64)
        case boolean(Bool)
        case null
    }

    private(set) var members: [String: Value] = [:]

    init(_ line: ArraySlice<UInt8>) throws(MalformedLine) {
        var scanner = Scanner(line)
        scanner.skipSpace()
        try scanner.expect("{")
        scanner.skipSpace()
        var isFirst = true
        while !scanner.take("}") {
            if !isFirst {
                try scanner.expect(",")
                scanner.skipSpace()
            }
            isFirst = false
            let name = String(decoding: try scanner.quoted(), as: UTF8.self)
            guard members[name] == nil else { throw MalformedLine("the member “\(name)” is there twice") }
            scanner.skipSpace()
            try scanner.expect(":")
            scanner.skipSpace()
            members[name] = try Self.value(&scanner)
            scanner.skipSpace()
        }
        scanner.skipSpace()
        guard scanner.isAtEnd else { throw MalformedLine("something is left over\(scanner.here)") }
    }

    private static func value(_ scanner: inout Scanner) throws(MalformedLine) -> Value {
        if scanner.next == UInt8(ascii: "\"") { return .text(try scanner.quoted()) }
        if scanner.take("true") { return .boolean(true) }
        if scanner.take("false") { return .boolean(false) }
        if scanner.take("null") { return .null }
        if scanner.next == UInt8(ascii: "{") || scanner.next == UInt8(ascii: "[") {
            throw MalformedLine("objects and arrays are not known in an event")
        }
        return .integer(try scanner.integer())
    }

    /// - Returns: nil where the member is missing or `null`.
    func text(_ name: String) throws(MalformedLine) -> [UInt8]? {
        switch members[name] {
        case .text(let text): return text
        case nil, .null: return nil
        default: throw MalformedLine("the member “\(name)” is not a text")
        }
    }

    func integer(_ name: String) throws(MalformedLine) -> Int64? {
        switch members[name] {
        case .integer(let integer): return integer
        case nil, .null: return nil
        default: throw MalformedLine("the member “\(name)” is not a whole number")
        }
    }

    /// - Returns: nil where the member is missing or `null`; never negative.
    func natural(_ name: String) throws(MalformedLine) -> UInt64? {
        guard let integer = try integer(name) else { return nil }
        guard let natural = UInt64(exactly: integer) else { throw MalformedLine("the member “\(name)” is negative") }
        return natural
    }

    func boolean(_ name: String) throws(MalformedLine) -> Bool? {
        switch members[name] {
        case .boolean(let boolean): return boolean
        case nil, .null: return nil
        default: throw MalformedLine("the member “\(name)” is neither true nor false")
        }
    }

    func has(_ name: String) -> Bool { members[name] != nil }
}
