/// The query of a request: names and values, percent-decoded, in the order of the request.
struct Query: Sendable {
    struct Parameter: Sendable {
        var name: String
        /// Bytes, since keys, prefixes and cursors need not be UTF-8.
        var value: [UInt8]

        /// The value as text, for messages and for parameters that are text.
        var text: String { String(decoding: value, as: UTF8.self) }
    }

    var parameters: [Parameter] = []

    init() {}

    /// - Parameter bytes: what stands behind `?`.
    init(parsing bytes: some Collection<UInt8>) throws(Problem) {
        for part in bytes.split(separator: UInt8(ascii: "&")) {
            let equals = part.firstIndex(of: UInt8(ascii: "="))
            var name: [UInt8] = []
            var value: [UInt8] = []
            do throws(TargetError) {
                try PercentDecoding.decode(part[..<(equals ?? part.endIndex)], plusIsSpace: true, into: &name)
                if let equals {
                    try PercentDecoding.decode(part[part.index(after: equals)...], plusIsSpace: true, into: &value)
                }
            } catch {
                throw .malformedTarget(error)
            }
            let text = String(decoding: name, as: UTF8.self)
            guard !parameters.contains(where: { $0.name == text }) else {
                throw .invalidParameter(text, "is given twice.")
            }
            parameters.append(Parameter(name: text, value: value))
        }
    }

    subscript(name: String) -> Parameter? { parameters.first { $0.name == name } }

    /// Refuses every name that is not in `known`.
    func check(known: [String]) throws(Problem) {
        for parameter in parameters where !known.contains(parameter.name) {
            throw .unknownParameter(parameter.name, known: known)
        }
    }
}

extension Query.Parameter {
    /// A flag: bare, or `true`/`1`, or `false`/`0`.
    func flag() throws(Problem) -> Bool {
        switch text {
        case "", "true", "1": return true
        case "false", "0": return false
        default:
            throw .invalidParameter(
                name,
                "'\(text)' is no flag; write ?\(name), ?\(name)=true or ?\(name)=false.",
                known: ["true", "false"]
            )
        }
    }

    /// A decimal number without sign.
    func number() throws(Problem) -> UInt64 {
        guard !value.isEmpty, value.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            let number = UInt64(text)
        else { throw .invalidParameter(name, "'\(text)' is no number from 0 to \(UInt64.max).") }
        return number
    }

    /// Milliseconds between 1 and `maximum`.
    func duration(maximum: Int) throws(Problem) -> Int {
        guard let milliseconds = Durations.milliseconds(value) else {
            throw .invalidParameter(name, "'\(text)' is no duration; write 500ms, 30s, 5m or 1h.")
        }
        guard (1...maximum).contains(milliseconds) else {
            throw .invalidParameter(name, "must lie between 1ms and \(Durations.text(milliseconds: maximum)).")
        }
        return milliseconds
    }

    /// Milliseconds of a duration inside `range`.
    func duration(in range: ClosedRange<Int>) throws(Problem) -> Int {
        let milliseconds = try duration(maximum: range.upperBound)
        guard milliseconds >= range.lowerBound else {
            throw .invalidParameter(name, "must be at least \(Durations.text(milliseconds: range.lowerBound)).")
        }
        return milliseconds
    }

    func consistency() throws(Problem) -> Consistency {
        if let consistency = Consistency(rawValue: text) { return consistency }
        throw .invalidParameter(
            name,
            "'\(text)' is no consistency; known are: \(Consistency.known.joined(separator: ", ")).",
            known: Consistency.known
        )
    }

    /// A lease's identity, in hexadecimal.
    func leaseID() throws(Problem) -> UInt64 {
        guard let id = LeaseText.id(value) else {
            throw .invalidParameter(name, "'\(text)' is no lease; it has 1 to 16 hexadecimal digits.")
        }
        return id
    }

    /// A decimal number with or without sign.
    func signedNumber() throws(Problem) -> Int64 {
        let digits = value.first == UInt8(ascii: "-") ? value[1...] : value[...]
        guard !digits.isEmpty, digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            let number = Int64(text)
        else { throw .invalidParameter(name, "'\(text)' is no number from \(Int64.min) to \(Int64.max).") }
        return number
    }

    func base64() throws(Problem) -> [UInt8] {
        guard let bytes = Base64.decode(value) else {
            throw .invalidParameter(name, "is no Base64; use the URL-safe alphabet of RFC 4648 §5.")
        }
        return bytes
    }
}

/// The fields of a request that mean something to the API, picked in one pass over all of them.
struct RequestFields: Sendable {
    var accept: String?
    var prefer: String?
    var expect: String?
    var ifMatch: String?
    var ifNoneMatch: String?
    var connection: String?
    var contentType: String?
    var contentLength: String?
    var transferEncoding: String?
    var idempotencyKey: String?
    /// `Kontiki-Fence`
    var fence: String?
    var lastEventID: String?

    /// Takes the field when it is one of these. A list that comes in several fields is one list (RFC 9110 §5.3).
    mutating func take(_ name: String, _ value: String) {
        func join(_ present: String?) -> String { present.map { $0 + ", " + value } ?? value }
        // The lengths tell all but three of the names apart, so most fields cost one comparison.
        switch name.utf8.count {
        case 6:
            if Self.same(name, "accept") {
                accept = join(accept)
            } else if Self.same(name, "prefer") {
                prefer = join(prefer)
            } else if Self.same(name, "expect") {
                expect = join(expect)
            }
        case 8: if Self.same(name, "if-match") { ifMatch = join(ifMatch) }
        case 10: if Self.same(name, "connection") { connection = join(connection) }
        case 12: if Self.same(name, "content-type") { contentType = value }
        case 13:
            if Self.same(name, "if-none-match") {
                ifNoneMatch = join(ifNoneMatch)
            } else if Self.same(name, "kontiki-fence") {
                fence = join(fence)
            } else if Self.same(name, "last-event-id") {
                lastEventID = value
            }
        case 14: if Self.same(name, "content-length") { contentLength = value }
        case 15: if Self.same(name, "idempotency-key") { idempotencyKey = value }
        case 17: if Self.same(name, "transfer-encoding") { transferEncoding = join(transferEncoding) }
        default: break
        }
    }

    /// Compares ASCII without case. `lowercase` must be in lower case.
    static func same(_ name: some StringProtocol, _ lowercase: StaticString) -> Bool {
        guard name.utf8.count == lowercase.utf8CodeUnitCount else { return false }
        var other = lowercase.utf8Start
        for byte in name.utf8 {
            let lower = (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
            guard lower == other.pointee else { return false }
            other += 1
        }
        return true
    }

    /// Whether a comma-separated list holds `token`, without case.
    static func list(_ list: String?, contains token: StaticString) -> Bool {
        guard let list else { return false }
        return list.split(separator: ",").contains { same(trim($0), token) }
    }

    static func trim(_ text: Substring) -> Substring {
        var text = text
        while let first = text.utf8.first, first == 0x20 || first == 0x09 { text = text.dropFirst() }
        while let last = text.utf8.last, last == 0x20 || last == 0x09 { text = text.dropLast() }
        return text
    }

    /// Whether the client names `application/json` as acceptable. `*/*` does not: who takes anything gets the value as it is.
    var acceptsEnvelope: Bool {
        guard let accept else { return false }
        return accept.split(separator: ",").contains { range in
            let parts = range.split(separator: ";")
            guard let type = parts.first, Self.same(Self.trim(type), "application/json") else { return false }
            return !parts.dropFirst().contains { parameter in
                let parameter = Self.trim(parameter)
                return parameter.hasPrefix("q=0") && Double(parameter.dropFirst(2)) == 0
            }
        }
    }

    /// `Prefer: return=representation` (RFC 7240 §4.2).
    var prefersRepresentation: Bool {
        guard let prefer else { return false }
        return prefer.split(separator: ",").contains {
            let preference = $0.split(separator: ";").first ?? ""
            return Self.same(Self.trim(preference), "return=representation")
                || Self.same(Self.trim(preference), "return=\"representation\"")
        }
    }
}
