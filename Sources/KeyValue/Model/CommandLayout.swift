/// Where the parts of an encoded command lie. Decoding copies nothing and never traps, whatever the bytes are.
///
/// The format, little-endian, 32 bytes and then the key, the spelled-out content type and the value:
///
/// | offset | bytes | |
/// |---|---|---|
/// | 0 | 1 | format version, 1 |
/// | 1 | 1 | operation |
/// | 2 | 2 | flags; bit 0: return the previous item. The others are for leases, idempotency keys and the like |
/// | 4 | 8 | the leader's wall clock, milliseconds since 1970 |
/// | 12 | 1 | kind of condition |
/// | 13 | 1 | content type, see ``ContentTypes`` |
/// | 14 | 2 | bytes of the content type when it is spelled out |
/// | 16 | 8 | the condition's revision |
/// | 24 | 4 | bytes of the key |
/// | 28 | 4 | bytes of the value |
///
/// Each command has one encoding only: fields that an operation does not use are 0.
struct CommandLayout {
    enum Operation: UInt8 {
        case put = 1
        case delete = 2
        case deletePrefix = 3
    }

    static let version: UInt8 = 1
    static let headerLength = 32
    static let timestampOffset = 4
    static let returnsPreviousFlag: UInt16 = 1

    var operation: Operation
    var returnsPrevious: Bool
    var timestampMilliseconds: UInt64
    var condition: Condition
    var contentType: UInt8
    var keyLength: Int
    var contentTypeLength: Int
    var valueLength: Int

    var key: Range<Int> { Self.headerLength..<Self.headerLength + keyLength }
    var spelledContentType: Range<Int> { key.upperBound..<key.upperBound + contentTypeLength }
    var value: Range<Int> { spelledContentType.upperBound..<spelledContentType.upperBound + valueLength }

    init(decoding bytes: UnsafeRawBufferPointer) throws(InvalidCommand) {
        guard let version = bytes.first else { throw .malformed }
        guard version == Self.version else { throw .unknownVersion }
        guard bytes.count >= Self.headerLength, bytes.count <= Int(UInt32.max) else { throw .malformed }
        guard let operation = Operation(rawValue: bytes[1]) else { throw .unknownOperation }
        let flags = UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
        guard flags & ~Self.returnsPreviousFlag == 0 else { throw .unknownFlag }
        self.operation = operation
        returnsPrevious = flags & Self.returnsPreviousFlag != 0
        timestampMilliseconds = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt64.self))
        contentType = bytes[13]
        contentTypeLength = Int(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 14, as: UInt16.self)))
        keyLength = Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 24, as: UInt32.self)))
        valueLength = Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 28, as: UInt32.self)))
        let revision = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
        switch (bytes[12], revision) {
        case (0, 0): condition = .none
        case (1, 0): condition = .absent
        case (2, 0): condition = .exists
        case (3, _): condition = .modRevision(revision)
        default: throw .malformed
        }
        guard Self.headerLength + keyLength + contentTypeLength + valueLength == bytes.count else { throw .malformed }
        try validate(bytes)
    }

    private func validate(_ bytes: UnsafeRawBufferPointer) throws(InvalidCommand) {
        if operation != .deletePrefix || keyLength > 0 {
            if let reason = Command.validate(keyLength: keyLength) { throw reason }
        }
        if operation != .put {
            guard valueLength == 0, contentType == ContentTypes.none, contentTypeLength == 0 else { throw .malformed }
        }
        if operation == .deletePrefix {
            guard condition == .none, !returnsPrevious else { throw .malformed }
        }
        if contentType == ContentTypes.spelledOut {
            guard contentTypeLength <= KeyValueLimits.maximumContentTypeLength else { throw .contentTypeTooLong }
            guard String(validating: bytes[spelledContentType], as: UTF8.self) != nil else { throw .malformed }
        } else {
            guard contentTypeLength == 0 else { throw .malformed }
            guard contentType == ContentTypes.none || ContentTypes.isInterned(contentType) else { throw .malformed }
        }
    }
}
