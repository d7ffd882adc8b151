import NIOCore

// The API's description is written as literals.

extension JSONValue: ExpressibleByStringLiteral {
    init(stringLiteral text: String) { self = .string(Array(text.utf8)) }
}

extension JSONValue: ExpressibleByIntegerLiteral {
    init(integerLiteral number: Int) { self = .number(String(number)) }
}

extension JSONValue: ExpressibleByBooleanLiteral {
    init(booleanLiteral flag: Bool) { self = .bool(flag) }
}

extension JSONValue: ExpressibleByArrayLiteral {
    init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
}

extension JSONValue: ExpressibleByDictionaryLiteral {
    init(dictionaryLiteral elements: (String, JSONValue)...) {
        self = .object(elements.map { Member(name: $0.0, value: $0.1) })
    }
}

extension JSONValue {
    static func text(_ text: String) -> JSONValue { .string(Array(text.utf8)) }

    /// The member of an object; nil for other values too.
    subscript(name: String) -> JSONValue? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.name == name }?.value
    }

    /// An object's members; none for other values.
    var members: [Member] {
        guard case .object(let members) = self else { return [] }
        return members
    }

    /// An object with one member more.
    func with(_ name: String, _ value: JSONValue?) -> JSONValue {
        guard let value else { return self }
        return .object(members + [Member(name: name, value: value)])
    }
}

extension JSONWriter {
    mutating func value(_ json: JSONValue) {
        switch json {
        case .null: null()
        case .bool(let flag): value(flag)
        case .number(let text): number(text)
        case .string(let bytes): bytes.withUnsafeBytes { value(utf8: $0) }
        case .array(let elements):
            beginArray()
            for element in elements { value(element) }
            endArray()
        case .object(let members):
            beginObject()
            for member in members {
                name(member.name)
                value(member.value)
            }
            endObject()
        }
    }
}
