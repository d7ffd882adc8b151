/// Where the parts of an encoded command lie. Decoding copies nothing and never traps, whatever the bytes are.
///
/// The format, little-endian, 32 bytes and then the key, the spelled-out content type, the value and the tail:
///
/// | offset | bytes | |
/// |---|---|---|
/// | 0 | 1 | format version, 2 |
/// | 1 | 1 | operation |
/// | 2 | 2 | flags, see ``Flags`` |
/// | 4 | 8 | the cluster's time, stamped by the leader, milliseconds |
/// | 12 | 1 | kind of condition |
/// | 13 | 1 | content type, see ``ContentTypes`` |
/// | 14 | 2 | bytes of the content type when it is spelled out |
/// | 16 | 8 | the condition's revision |
/// | 24 | 4 | bytes of the key with its space's byte; 0 for operations that are not about one key |
/// | 28 | 4 | bytes of the value |
///
/// The key is a raw one, with the byte of ``Space/keys`` in front, so that it can stay where it is when it is stored. The value is an
/// operation's own: a put's value, an increment's number, or what ``Command/encodedBody`` makes. The tail holds what the flags tell of, in
/// their order: a lease's id or ttl (8), an idempotency key (length of 1 byte, key, fingerprint of 16), a fence (length of 1 byte,
/// name, token of 8).
///
/// Each command has one encoding only: fields that an operation does not use are 0.
struct CommandLayout {
    enum Operation: UInt8 {
        case put = 1
        case delete = 2
        case deletePrefix = 3
        case increment = 4
        case transaction = 5
        case grantLease = 6
        case keepLeasesAlive = 7
        case revokeLease = 8
        case expireLeases = 9
        case acquireLock = 10
        case releaseLock = 11

        /// Whether it is about one user key, or a prefix of such.
        var hasKey: Bool { rawValue <= Self.increment.rawValue }
    }

    struct Flags: OptionSet {
        var rawValue: UInt16

        static let returnsPrevious = Flags(rawValue: 1)
        static let leaseAttached = Flags(rawValue: 2)
        static let leaseTTL = Flags(rawValue: 4)
        static let idempotency = Flags(rawValue: 8)
        static let fence = Flags(rawValue: 16)
        static let all: Flags = [.returnsPrevious, .leaseAttached, .leaseTTL, .idempotency, .fence]
    }

    static let version: UInt8 = 2
    static let headerLength = 32
    static let timestampOffset = 4

    var operation: Operation
    var flags: Flags
    var timestampMilliseconds: UInt64
    var condition: Condition
    var contentType: UInt8
    var rawKeyLength: Int
    var contentTypeLength: Int
    var valueLength: Int

    var returnsPrevious: Bool { flags.contains(.returnsPrevious) }
    /// Whether the command is no more than a put or delete of keys.
    var isPlain: Bool {
        operation.rawValue <= Operation.deletePrefix.rawValue && flags.isSubset(of: .returnsPrevious)
    }
    /// Whether executing it may take long: what is none of these touches a few small records.
    var mayTakeLong: Bool {
        switch operation {
        case .deletePrefix, .transaction, .keepLeasesAlive, .revokeLease, .expireLeases: true
        default: returnsPrevious || valueLength > 1 << 20
        }
    }
    var hasOptions: Bool { !flags.isDisjoint(with: [.idempotency, .fence]) }
    var hasLease: Bool { !flags.isDisjoint(with: [.leaseAttached, .leaseTTL]) }

    var rawKey: Range<Int> { Self.headerLength..<Self.headerLength + rawKeyLength }
    /// For operations with a key.
    var key: Range<Int> { rawKey.lowerBound + 1..<rawKey.upperBound }
    var spelledContentType: Range<Int> { rawKey.upperBound..<rawKey.upperBound + contentTypeLength }
    var value: Range<Int> { spelledContentType.upperBound..<spelledContentType.upperBound + valueLength }

    init(decoding bytes: UnsafeRawBufferPointer) throws(InvalidCommand) {
        guard let version = bytes.first else { throw .malformed }
        guard version == Self.version else { throw .unknownVersion }
        guard bytes.count >= Self.headerLength, bytes.count <= Int(UInt32.max) else { throw .malformed }
        guard let operation = Operation(rawValue: bytes[1]) else { throw .unknownOperation }
        flags = Flags(rawValue: UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self)))
        guard flags.isSubset(of: .all) else { throw .unknownFlag }
        self.operation = operation
        timestampMilliseconds = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt64.self))
        contentType = bytes[13]
        contentTypeLength = Int(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 14, as: UInt16.self)))
        rawKeyLength = Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 24, as: UInt32.self)))
        valueLength = Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 28, as: UInt32.self)))
        let revision = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
        guard let condition = Condition(kind: bytes[12], revision: revision) else { throw .malformed }
        self.condition = condition
        let head = Self.headerLength + rawKeyLength + contentTypeLength + valueLength
        let tailFlags: Flags = [.leaseAttached, .leaseTTL, .idempotency, .fence]
        guard flags.isDisjoint(with: tailFlags) ? head == bytes.count : head < bytes.count else { throw .malformed }
        try validate(bytes)
    }

    private func validate(_ bytes: UnsafeRawBufferPointer) throws(InvalidCommand) {
        if operation.hasKey {
            guard rawKeyLength > 0, bytes[Self.headerLength] == Space.keys.rawValue else { throw .malformed }
            if operation != .deletePrefix || rawKeyLength > 1 {
                if let reason = Command.validate(keyLength: rawKeyLength - 1) { throw reason }
            }
        } else {
            guard rawKeyLength == 0, condition == .none else { throw .malformed }
        }
        if operation != .put {
            guard contentType == ContentTypes.none, contentTypeLength == 0, !hasLease else { throw .malformed }
        }
        switch operation {
        case .put: break
        case .delete: guard valueLength == 0 else { throw .malformed }
        case .increment: guard valueLength == 8, !returnsPrevious else { throw .malformed }
        case .deletePrefix:
            guard condition == .none, !returnsPrevious, valueLength == 0 else { throw .malformed }
        default: guard !returnsPrevious else { throw .malformed }
        }
        if contentType == ContentTypes.spelledOut {
            guard contentTypeLength <= KeyValueLimits.maximumContentTypeLength else { throw .contentTypeTooLong }
            guard String(validating: bytes[spelledContentType], as: UTF8.self) != nil else { throw .malformed }
        } else {
            guard contentTypeLength == 0 else { throw .malformed }
            guard contentType == ContentTypes.none || ContentTypes.isInterned(contentType) else { throw .malformed }
        }
    }

    /// What the flags tell of. `bytes` are those that the layout was decoded from.
    func decodeTail(
        _ bytes: UnsafeRawBufferPointer
    ) throws(InvalidCommand) -> (lease: LeaseChoice, options: CommandOptions) {
        var reader = BufferReader(UnsafeRawBufferPointer(rebasing: bytes[value.upperBound...]))
        var lease = LeaseChoice.none
        var options = CommandOptions()
        if hasLease {
            guard !flags.isSuperset(of: [.leaseAttached, .leaseTTL]), let number = reader.read(UInt64.self) else {
                throw .malformed
            }
            lease = flags.contains(.leaseTTL) ? .ttl(milliseconds: number) : .attached(number)
        }
        if flags.contains(.idempotency) {
            guard let length = reader.read(UInt8.self), let key = reader.read(raw: Int(length)),
                let fingerprint = reader.read(UInt128.self)
            else { throw .malformed }
            options.idempotency = IdempotencyKey(key: Array(key), fingerprint: fingerprint)
        }
        if flags.contains(.fence) {
            guard let length = reader.read(UInt8.self), let name = reader.read(raw: Int(length)),
                let token = reader.read(UInt64.self)
            else { throw .malformed }
            options.fence = Fence(lock: Array(name), token: token)
        }
        guard reader.isAtEnd else { throw .malformed }
        if let reason = lease.validate() ?? options.validate() { throw reason }
        return (lease, options)
    }
}

extension Condition {
    var encoded: (kind: UInt8, revision: UInt64) {
        switch self {
        case .none: (0, 0)
        case .absent: (1, 0)
        case .exists: (2, 0)
        case .modRevision(let revision): (3, revision)
        }
    }

    init?(kind: UInt8, revision: UInt64) {
        switch (kind, revision) {
        case (0, 0): self = .none
        case (1, 0): self = .absent
        case (2, 0): self = .exists
        case (3, _): self = .modRevision(revision)
        default: return nil
        }
    }
}
