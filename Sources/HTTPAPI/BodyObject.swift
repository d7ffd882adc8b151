import NIOCore

/// An object of a request's body, read strictly: a field that is not known is refused by name, because a misspelt one would otherwise be
/// passed over in silence.
struct BodyObject: Sendable {
    /// Where it stands in the body, for messages: empty for the body itself, else `success[0].put`.
    let path: String
    let known: [String]
    private let members: [JSONValue.Member]

    /// The body, which must be an object with no fields but `known`.
    init(_ buffer: ByteBuffer, known: [String]) throws(Problem) {
        let value: JSONValue
        do throws(JSONValue.Malformed) {
            value = try JSONValue(parsing: buffer.readableBytesView)
        } catch {
            throw Self.invalid(
                "Expected is \(Self.expectation(known)); it is no JSON: \(error.reason), at byte \(error.offset).",
                known
            )
        }
        try self.init(value, path: "", known: known)
    }

    init(_ value: JSONValue, path: String, known: [String]) throws(Problem) {
        self.path = path
        self.known = known
        guard case .object(let members) = value else {
            throw Self.invalid(
                "Expected \(path.isEmpty ? "is" : "at '\(path)' is") \(Self.expectation(known)); it is no object.",
                known
            )
        }
        self.members = members
        if let unknown = members.first(where: { !known.contains($0.name) }) {
            throw Problem(
                400,
                .invalidBody,
                "unknown field in the body",
                "'\(place(unknown.name))' is not known; expected is \(Self.expectation(known))."
            ).with { $0.known = known }
        }
    }

    private static func expectation(_ known: [String]) -> String {
        known.isEmpty
            ? "a JSON object without fields" : "a JSON object with the fields \(known.joined(separator: ", "))"
    }

    private static func invalid(_ detail: String, _ known: [String] = []) -> Problem {
        Problem(400, .invalidBody, "invalid body", detail).with { $0.known = known }
    }

    /// A problem with one field.
    func problem(_ name: String, _ what: String, known: [String] = []) -> Problem {
        Self.invalid("'\(place(name))' \(what).", known)
    }

    func missing(_ name: String) -> Problem {
        Self.invalid("Expected is \(Self.expectation(known)); '\(place(name))' is missing.", known)
    }

    func place(_ name: String) -> String { path.isEmpty ? name : "\(path).\(name)" }

    func has(_ name: String) -> Bool { members.contains { $0.name == name } }

    /// The fields that are there.
    var names: [String] { members.map(\.name) }

    subscript(name: String) -> JSONValue? { members.first { $0.name == name }?.value }

    // MARK: Fields by type; nil when the field is not there

    func text(_ name: String) throws(Problem) -> String? {
        guard let value = self[name] else { return nil }
        guard case .string(let bytes) = value else { throw problem(name, "must be a string", known: known) }
        return String(decoding: bytes, as: UTF8.self)
    }

    func requiredText(_ name: String) throws(Problem) -> String {
        guard let text = try text(name) else { throw missing(name) }
        return text
    }

    func flag(_ name: String) throws(Problem) -> Bool? {
        guard let value = self[name] else { return nil }
        guard case .bool(let flag) = value else { throw problem(name, "must be true or false", known: known) }
        return flag
    }

    func unsigned(_ name: String) throws(Problem) -> UInt64? {
        guard let digits = try digits(name) else { return nil }
        guard let number = UInt64(digits) else { throw problem(name, "must be a whole number from 0 to \(UInt64.max)") }
        return number
    }

    func signed(_ name: String) throws(Problem) -> Int64? {
        guard let digits = try digits(name) else { return nil }
        guard let number = Int64(digits) else {
            throw problem(name, "must be a whole number from \(Int64.min) to \(Int64.max)")
        }
        return number
    }

    /// The text of a number; `7.0` is the whole number 7 to JSON.
    private func digits(_ name: String) throws(Problem) -> Substring? {
        guard let value = self[name] else { return nil }
        guard case .number(let text) = value else { throw problem(name, "must be a whole number", known: known) }
        guard let point = text.firstIndex(of: ".") else { return text[...] }
        let fraction = text[text.index(after: point)...]
        return fraction.allSatisfy { $0 == "0" } ? text[..<point] : text[...]
    }

    /// Milliseconds of a duration such as `30s`.
    func duration(_ name: String, in range: ClosedRange<Int>) throws(Problem) -> Int? {
        guard let text = try text(name) else { return nil }
        guard let milliseconds = Durations.milliseconds(text.utf8) else {
            throw problem(name, "is no duration; write 500ms, 30s, 5m or 1h")
        }
        guard range.contains(milliseconds) else {
            let (low, high) = (range.lowerBound, range.upperBound)
            throw problem(
                name,
                "must lie between \(Durations.text(milliseconds: low)) and \(Durations.text(milliseconds: high))"
            )
        }
        return milliseconds
    }

    /// Bytes under `name` as text, or under `name_base64`.
    func bytes(_ name: String) throws(Problem) -> [UInt8]? {
        let encoded = name + "_base64"
        guard let text = try text(encoded) else {
            guard let value = self[name] else { return nil }
            guard case .string(let bytes) = value else { throw problem(name, "must be a string", known: known) }
            return bytes
        }
        guard !has(name) else { throw problem(name, "and '\(place(encoded))' say the same; give one of the two") }
        guard let bytes = Base64.decode(text.utf8) else { throw problem(encoded, "is no Base64 (RFC 4648)") }
        return bytes
    }

    func requiredBytes(_ name: String) throws(Problem) -> [UInt8] {
        guard let bytes = try bytes(name) else { throw missing(name) }
        return bytes
    }

    func elements(_ name: String) throws(Problem) -> [JSONValue]? {
        guard let value = self[name] else { return nil }
        guard case .array(let elements) = value else { throw problem(name, "must be an array", known: known) }
        return elements
    }
}
