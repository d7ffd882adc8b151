internal import Checksum

/// What the state is, besides its items: written in the same transaction as the items that it counts (R7).
struct StateRecord: Hashable, Sendable {
    /// Raised with every change of the directory's format.
    static let schema: UInt32 = 3
    private static let magic: UInt32 = 0x564b_544b  // "KTKV"

    var mark = StateMark()
    var membership: [UInt8] = []
    /// User keys.
    var keyCount: UInt64 = 0
    /// Bytes of all user keys and their values.
    var contentBytes: UInt64 = 0
    /// The sum of all records' hashes, see ``ItemHash``.
    var hash: UInt128 = 0
    /// Records of every ``Space``.
    var recordCount: UInt64 = 0
    var lockCount: UInt64 = 0
    var leaseCount: UInt64 = 0
    var idempotencyCount: UInt64 = 0
    /// The last lease id that the state chose.
    var lastLease: UInt64 = 0

    /// Magic, schema, the fields, and a CRC-32C over all before it, which stays the last four bytes in every schema.
    func encode(schema: UInt32 = Self.schema) -> [UInt8] {
        var bytes = [UInt8](unsafeUninitializedCapacity: 128 + membership.count) { buffer, count in
            var writer = BufferWriter(UnsafeMutableRawBufferPointer(buffer))
            writer.write(Self.magic)
            writer.write(schema)
            writer.write(mark.index)
            writer.write(mark.term)
            writer.write(mark.revision)
            writer.write(mark.timestampMilliseconds)
            writer.write(keyCount)
            writer.write(contentBytes)
            writer.write(hash)
            for number in [recordCount, lockCount, leaseCount, idempotencyCount, lastLease] { writer.write(number) }
            writer.write(UInt32(membership.count))
            membership.withUnsafeBytes { writer.write(raw: $0) }
            count = writer.offset
        }
        withUnsafeBytes(of: CRC32C.checksum(bytes).littleEndian) { bytes.append(contentsOf: $0) }
        return bytes
    }

    init() {}

    init(decoding bytes: UnsafeRawBufferPointer, path: String) throws(StoreError) {
        let corrupt = StoreError.corrupt(path, "the record of the state is corrupt")
        guard bytes.count >= 12 else { throw corrupt }
        var reader = BufferReader(UnsafeRawBufferPointer(rebasing: bytes.dropLast(4)))
        let checksum = bytes.loadUnaligned(fromByteOffset: bytes.count - 4, as: UInt32.self)
        let covered = UnsafeRawBufferPointer(rebasing: bytes.dropLast(4))
        guard UInt32(littleEndian: checksum) == CRC32C.checksum(covered) else { throw corrupt }
        guard reader.read(UInt32.self) == Self.magic, let schema = reader.read(UInt32.self) else { throw corrupt }
        guard schema == Self.schema else { throw .otherFormat(schema, known: Self.schema, what: "state", path: path) }
        guard let index = reader.read(UInt64.self), let term = reader.read(UInt64.self),
            let revision = reader.read(UInt64.self), let timestamp = reader.read(UInt64.self),
            let keyCount = reader.read(UInt64.self), let contentBytes = reader.read(UInt64.self),
            let hash = reader.read(UInt128.self), let recordCount = reader.read(UInt64.self),
            let lockCount = reader.read(UInt64.self), let leaseCount = reader.read(UInt64.self),
            let idempotencyCount = reader.read(UInt64.self), let lastLease = reader.read(UInt64.self),
            let length = reader.read(UInt32.self),
            let membership = reader.read(raw: Int(length)), reader.isAtEnd
        else { throw corrupt }
        mark = StateMark(index: index, term: term, revision: revision, timestampMilliseconds: timestamp)
        (self.keyCount, self.contentBytes, self.hash) = (keyCount, contentBytes, hash)
        (self.recordCount, self.lockCount, self.leaseCount) = (recordCount, lockCount, leaseCount)
        (self.idempotencyCount, self.lastLease) = (idempotencyCount, lastLease)
        self.membership = [UInt8](membership)
    }
}

extension StoreError {
    static func corrupt(_ path: String, _ what: String) -> StoreError {
        StoreError(
            code: .corrupt,
            path: path,
            message: "\(what): the disk gave other bytes than were written. "
                + "Replace this server by a new one with an empty data directory"
        )
    }

    static func corruptItem(_ rawKey: UnsafeRawBufferPointer, path: String) -> StoreError {
        corrupt(path, "the record of \(Space.describe(rawKey: rawKey)) is corrupt")
    }

    /// What is read is of a format that this version does not know.
    static func otherFormat(_ format: UInt32, known: UInt32, what: String, path: String) -> StoreError {
        if format > known {
            return StoreError(
                code: .newerFormat,
                path: path,
                message: "the \(what) has format \(format), and this version knows format \(known): "
                    + "start the newer version that wrote it"
            )
        }
        return StoreError(
            code: .olderFormat,
            path: path,
            message: "the \(what) has format \(format), of a version before the first release, and this version "
                + "knows format \(known) only: begin with an empty data directory"
        )
    }
}
