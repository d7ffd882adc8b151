extension Command {
    /// The largest value that the format can carry, in bytes. The service's own limit is far below.
    public static let maximumValueLength = 1 << 30

    /// The encoded form, stamped with the leader's wall clock. A command that ``validate()`` refuses is encoded to bytes that
    /// are refused when they are applied.
    public func encode(timestampMilliseconds: UInt64) -> [UInt8] {
        switch self {
        case .put(let key, let value, let contentType, let condition, let returnsPrevious):
            key.withUnsafeBytes { key in
                value.withUnsafeBytes { value in
                    Self.encodePut(
                        key: key,
                        value: value,
                        contentType: contentType,
                        condition: condition,
                        returnsPrevious: returnsPrevious,
                        timestampMilliseconds: timestampMilliseconds
                    )
                }
            }
        case .delete(let key, let condition, let returnsPrevious):
            key.withUnsafeBytes { key in
                Self.encode(
                    .delete,
                    key: key,
                    condition: condition,
                    returnsPrevious: returnsPrevious,
                    timestampMilliseconds: timestampMilliseconds
                )
            }
        case .deletePrefix(let prefix):
            prefix.withUnsafeBytes { prefix in
                Self.encode(.deletePrefix, key: prefix, timestampMilliseconds: timestampMilliseconds)
            }
        }
    }

    /// Encodes a put straight from where its bytes lie: one allocation, one copy.
    public static func encodePut(
        key: UnsafeRawBufferPointer,
        value: UnsafeRawBufferPointer,
        contentType: String?,
        condition: Condition = .none,
        returnsPrevious: Bool = false,
        timestampMilliseconds: UInt64
    ) -> [UInt8] {
        encode(
            .put,
            key: key,
            value: value,
            contentType: contentType,
            condition: condition,
            returnsPrevious: returnsPrevious,
            timestampMilliseconds: timestampMilliseconds
        )
    }

    /// Puts the leader's wall clock into an encoded command that another node made. Does nothing to bytes that are no command.
    public static func stamp(_ payload: inout [UInt8], timestampMilliseconds: UInt64) {
        guard payload.count >= CommandLayout.headerLength, payload[0] == CommandLayout.version else { return }
        payload.withUnsafeMutableBytes {
            $0.storeBytes(
                of: timestampMilliseconds.littleEndian,
                toByteOffset: CommandLayout.timestampOffset,
                as: UInt64.self
            )
        }
    }

    /// The command in an entry's payload, as slices of it, and the wall clock of the leader that proposed it.
    public static func decode(
        _ payload: [UInt8]
    ) throws(InvalidCommand) -> (command: Command, timestampMilliseconds: UInt64) {
        let layout = try payload.withUnsafeBufferPointer { (bytes) throws(InvalidCommand) in
            try CommandLayout(decoding: UnsafeRawBufferPointer(bytes))
        }
        let key = payload[layout.key]
        let command: Command =
            switch layout.operation {
            case .put:
                .put(
                    key: key,
                    value: payload[layout.value],
                    contentType: layout.contentType == ContentTypes.spelledOut
                        ? String(decoding: payload[layout.spelledContentType], as: UTF8.self)
                        : ContentTypes.name(of: layout.contentType),
                    condition: layout.condition,
                    returnsPrevious: layout.returnsPrevious
                )
            case .delete: .delete(key: key, condition: layout.condition, returnsPrevious: layout.returnsPrevious)
            case .deletePrefix: .deletePrefix(key)
            }
        return (command, layout.timestampMilliseconds)
    }

    private static func encode(
        _ operation: CommandLayout.Operation,
        key: UnsafeRawBufferPointer,
        value: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0),
        contentType: String? = nil,
        condition: Condition = .none,
        returnsPrevious: Bool = false,
        timestampMilliseconds: UInt64
    ) -> [UInt8] {
        let typeIdentifier = ContentTypes.identifier(of: contentType)
        let spelled = typeIdentifier == ContentTypes.spelledOut ? contentType ?? "" : ""
        let (kind, revision) = condition.encoded
        let total = CommandLayout.headerLength + key.count + spelled.utf8.count + value.count
        return [UInt8](unsafeUninitializedCapacity: total) { buffer, count in
            var writer = BufferWriter(UnsafeMutableRawBufferPointer(buffer))
            writer.write(CommandLayout.version)
            writer.write(operation.rawValue)
            writer.write(returnsPrevious ? CommandLayout.returnsPreviousFlag : 0)
            writer.write(timestampMilliseconds)
            writer.write(kind)
            writer.write(typeIdentifier)
            // Too long to be counted is too long to be valid: the lengths then do not add up, and decoding refuses it.
            writer.write(UInt16(clamping: spelled.utf8.count))
            writer.write(revision)
            writer.write(UInt32(clamping: key.count))
            writer.write(UInt32(clamping: value.count))
            writer.write(raw: key)
            writer.write(raw: spelled)
            writer.write(raw: value)
            count = writer.offset
        }
    }
}

extension Condition {
    fileprivate var encoded: (kind: UInt8, revision: UInt64) {
        switch self {
        case .none: (0, 0)
        case .absent: (1, 0)
        case .exists: (2, 0)
        case .modRevision(let revision): (3, revision)
        }
    }
}
