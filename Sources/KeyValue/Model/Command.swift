/// A change of the replicated state. Its encoded form is the payload of a log entry.
public enum Command: Hashable, Sendable {
    /// Sets a key. `returnsPrevious` asks for what it held before in the outcome, which costs a read of that value.
    case put(
        key: ArraySlice<UInt8>,
        value: ArraySlice<UInt8>,
        contentType: String? = nil,
        condition: Condition = .none,
        returnsPrevious: Bool = false
    )
    /// Removes a key, there or not.
    case delete(key: ArraySlice<UInt8>, condition: Condition = .none, returnsPrevious: Bool = false)
    /// Removes every key that begins with `prefix`, which may be empty, as one change with one revision.
    case deletePrefix(ArraySlice<UInt8>)
}

extension Command {
    /// Why the command would be refused when it is applied; nil when it would not. For the service to ask before proposing.
    public func validate() -> InvalidCommand? {
        switch self {
        case .put(let key, let value, let contentType, _, _):
            if let reason = Self.validate(keyLength: key.count) { return reason }
            if (contentType?.utf8.count ?? 0) > KeyValueLimits.maximumContentTypeLength { return .contentTypeTooLong }
            return value.count > Self.maximumValueLength ? .valueTooLarge : nil
        case .delete(let key, _, _): return Self.validate(keyLength: key.count)
        case .deletePrefix(let prefix): return prefix.isEmpty ? nil : Self.validate(keyLength: prefix.count)
        }
    }

    /// Why a key of `keyLength` bytes would be refused; nil when it would not.
    public static func validate(keyLength: Int) -> InvalidCommand? {
        if keyLength == 0 { return .keyEmpty }
        return keyLength > KeyValueLimits.maximumKeyLength ? .keyTooLong : nil
    }
}
