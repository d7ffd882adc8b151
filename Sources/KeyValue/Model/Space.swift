/// What a stored record is of. The space is the first byte of its key in the table: a "raw" key.
///
/// Everything that is replicated lies in one sorted table, so that flushes, snapshots, hashes and examinations need not tell kinds
/// apart. The numbers are a part of the disk and log formats.
enum Space: UInt8, CaseIterable {
    /// What users put, by their keys.
    case keys = 1
    /// By their names; see ``LockRecord``.
    case locks = 2
    /// By their ids, 8 bytes in big-endian order; see ``LeaseRecord``.
    case leases = 3
    /// What ends with a lease: its id (8, big-endian) and the raw key of the key or lock. No value.
    case attachments = 4
    /// By the client's key; see ``IdempotencyRecord``.
    case idempotency = 5
    /// Idempotency keys in the order of their time: the cluster's time (8, big-endian) and the key. No value.
    case idempotencyTimes = 6

    /// The longest key that is stored, an attachment's.
    static let maximumRawKeyLength = 1 + 8 + 1 + KeyValueLimits.maximumKeyLength

    /// Whether changes are events, with a revision, that the history keeps.
    var hasHistory: Bool { self == .keys || self == .locks }

    init?(of rawKey: UnsafeRawBufferPointer) {
        guard let first = rawKey.first else { return nil }
        self.init(rawValue: first)
    }

    func raw(_ key: some Sequence<UInt8>) -> [UInt8] { [rawValue] + key }

    /// The number in big-endian order, then `key`.
    func raw(_ number: UInt64, _ key: some Sequence<UInt8> = []) -> [UInt8] {
        var bytes = [rawValue]
        bytes.reserveCapacity(24)
        bytes.append(contentsOf: number.bigEndianBytes)
        bytes.append(contentsOf: key)
        return bytes
    }

    /// Why a raw key cannot be one.
    static func isValid(rawKey: UnsafeRawBufferPointer) -> Bool {
        guard let space = Space(of: rawKey) else { return false }
        let length = rawKey.count - 1
        switch space {
        case .keys: return (1...KeyValueLimits.maximumKeyLength).contains(length)
        case .locks: return (1...KeyValueLimits.maximumLockNameLength).contains(length)
        case .leases: return length == 8
        case .attachments: return (10...9 + KeyValueLimits.maximumKeyLength).contains(length)
        case .idempotency: return (1...KeyValueLimits.maximumIdempotencyKeyLength).contains(length)
        case .idempotencyTimes: return (9...8 + KeyValueLimits.maximumIdempotencyKeyLength).contains(length)
        }
    }

    /// A raw key as people should see it.
    static func describe(rawKey: UnsafeRawBufferPointer) -> String {
        let rest = String(decoding: rawKey.dropFirst(), as: UTF8.self)
        switch Space(of: rawKey) {
        case .keys: return "key “\(rest)”"
        case .locks: return "lock “\(rest)”"
        case .leases: return "a lease"
        case .attachments: return "a key of a lease"
        case .idempotency, .idempotencyTimes: return "an idempotency key"
        case nil: return "a record of no known kind"
        }
    }
}

extension FixedWidthInteger {
    var littleEndianBytes: [UInt8] { withUnsafeBytes(of: littleEndian) { Array($0) } }
    var bigEndianBytes: [UInt8] { withUnsafeBytes(of: bigEndian) { Array($0) } }
}

extension UInt64 {
    /// From 8 bytes in big-endian order.
    init?(bigEndianBytes bytes: some Collection<UInt8>) {
        guard bytes.count == 8 else { return nil }
        self = bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }
}
