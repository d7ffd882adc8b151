internal import Checksum

/// What the state is, besides its items: written in the same transaction as the items that it counts (R7).
struct StateRecord: Hashable, Sendable {
    /// Raised with every change of the directory's format that older versions cannot read.
    static let schema: UInt32 = 2
    private static let magic: UInt32 = 0x564b_544b  // "KTKV"

    var mark = StateMark()
    var membership: [UInt8] = []
    var keyCount: UInt64 = 0
    /// Bytes of all keys and values.
    var contentBytes: UInt64 = 0
    /// The sum of the items' hashes, see ``ItemHash``.
    var hash: UInt128 = 0
    /// False for a record of schema 1, which had no hash: it has to be computed from the items.
    var isHashed = true

    /// Magic, schema, the fields (schema 1 had 8 bytes of nothing in place of the hash's 16), and a CRC-32C over all before it, which stays the last four bytes in every schema.
    func encode(schema: UInt32 = Self.schema) -> [UInt8] {
        var bytes = [UInt8](unsafeUninitializedCapacity: 80 + membership.count) { buffer, count in
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
        guard schema <= Self.schema else {
            throw StoreError(
                code: .newerFormat,
                path: path,
                message: "the state has format \(schema), and this version knows formats up to \(Self.schema): "
                    + "start the newer version that wrote it"
            )
        }
        guard let index = reader.read(UInt64.self), let term = reader.read(UInt64.self),
            let revision = reader.read(UInt64.self), let timestamp = reader.read(UInt64.self),
            let keyCount = reader.read(UInt64.self), let contentBytes = reader.read(UInt64.self),
            let hash = schema == 1 ? reader.read(UInt64.self).map({ _ in 0 }) : reader.read(UInt128.self),
            let length = reader.read(UInt32.self),
            let membership = reader.read(raw: Int(length)), reader.remaining == 0
        else { throw corrupt }
        mark = StateMark(index: index, term: term, revision: revision, timestampMilliseconds: timestamp)
        self.keyCount = keyCount
        self.contentBytes = contentBytes
        self.hash = hash
        isHashed = schema > 1
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

    static func corruptItem(_ key: UnsafeRawBufferPointer, path: String) -> StoreError {
        corrupt(path, "the record of key \"\(String(decoding: key, as: UTF8.self))\" is corrupt")
    }
}
