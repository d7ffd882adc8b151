internal import Checksum

/// The form of an item in the environment: the value of its key there.
///
/// Little-endian, 64 bytes, then the spelled-out content type and the value:
///
/// | offset | bytes | |
/// |---|---|---|
/// | 0 | 1 | format version, 2 |
/// | 1 | 1 | content type, see ``ContentTypes`` |
/// | 2 | 2 | bytes of the content type when it is spelled out |
/// | 4 | 4 | CRC-32C of the raw key, bytes 0–3, bytes 8–63 and the spelled-out content type |
/// | 8 | 32 | create revision, modify revision, version, lease |
/// | 40 | 4 | bytes of the value |
/// | 44 | 4 | CRC-32C of the value |
/// | 48 | 16 | the item's hash, see ``ItemHash`` |
///
/// There are two checksums, so that the metadata is proved without reading the value, which may fill many pages.
struct StoredRecord {
    struct Parts {
        /// Raw, as everywhere here; see ``Space``.
        var key: UnsafeRawBufferPointer
        var contentType: UInt8
        var spelledContentType: UnsafeRawBufferPointer
        var value: UnsafeRawBufferPointer
        var metadata: ItemMetadata
    }

    static let version: UInt8 = 2
    static let headerLength = 64

    let metadata: ItemMetadata
    let valueLength: Int
    private let contentType: UInt8
    private let spelledLength: Int
    private let valueChecksum: UInt32
    /// As it was stored with the item.
    let storedHash: UInt128
    private let bytes: UnsafeRawBufferPointer

    static func length(of parts: Parts) -> Int {
        headerLength + parts.spelledContentType.count + parts.value.count
    }

    /// Writes the record to `buffer`, which is as long as ``length(of:)`` says. `hash` is the item's, where it is known.
    static func encode(_ parts: Parts, hash: UInt128? = nil, into buffer: UnsafeMutableRawBufferPointer) {
        var writer = BufferWriter(buffer)
        writer.write(version)
        writer.write(parts.contentType)
        writer.write(UInt16(parts.spelledContentType.count))
        writer.write(UInt32(0))
        writer.write(parts.metadata.createRevision)
        writer.write(parts.metadata.modRevision)
        writer.write(parts.metadata.version)
        writer.write(parts.metadata.lease)
        writer.write(UInt32(parts.value.count))
        writer.write(CRC32C.checksum(parts.value))
        writer.write(hash ?? ItemHash.of(parts))
        writer.write(raw: parts.spelledContentType)
        writer.write(raw: parts.value)
        let checksum = headerChecksum(
            key: parts.key,
            UnsafeRawBufferPointer(buffer),
            length: headerLength + parts.spelledContentType.count
        )
        buffer.storeBytes(of: checksum.littleEndian, toByteOffset: 4, as: UInt32.self)
    }

    private static func headerChecksum(
        key: UnsafeRawBufferPointer,
        _ bytes: UnsafeRawBufferPointer,
        length: Int
    ) -> UInt32 {
        var checksum = CRC32C()
        checksum.update(key)
        checksum.update(UnsafeRawBufferPointer(rebasing: bytes[0..<4]))
        checksum.update(UnsafeRawBufferPointer(rebasing: bytes[8..<length]))
        return checksum.value
    }

    /// Reads a record in place; nil when it is corrupt. The value is not looked at before it is asked for.
    init?(_ bytes: UnsafeRawBufferPointer, key: UnsafeRawBufferPointer) {
        guard bytes.first == Self.version, bytes.count >= Self.headerLength else { return nil }
        let headerLength = Self.headerLength
        func load<Integer: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _: Integer.Type) -> Integer {
            Integer(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Integer.self))
        }
        contentType = bytes[1]
        spelledLength = Int(load(2, UInt16.self))
        valueLength = Int(load(40, UInt32.self))
        valueChecksum = load(44, UInt32.self)
        storedHash = load(48, UInt128.self)
        guard bytes.count == headerLength + spelledLength + valueLength,
            Self.headerChecksum(key: key, bytes, length: headerLength + spelledLength) == load(4, UInt32.self)
        else { return nil }
        metadata = ItemMetadata(
            createRevision: load(8, UInt64.self),
            modRevision: load(16, UInt64.self),
            version: load(24, UInt64.self),
            lease: load(32, UInt64.self)
        )
        self.bytes = bytes
    }

    private var valueBytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: bytes[(Self.headerLength + spelledLength)...])
    }

    private var spelledBytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: bytes[Self.headerLength..<Self.headerLength + spelledLength])
    }

    /// Whether the value is the one that was written.
    var isValueIntact: Bool { CRC32C.checksum(valueBytes) == valueChecksum }

    /// The item's hash as its content makes it; nil when the value is corrupt. Looks at the whole value.
    func recomputedHash(key: UnsafeRawBufferPointer) -> UInt128? {
        guard isValueIntact else { return nil }
        return ItemHash.of(
            Parts(
                key: key,
                contentType: contentType,
                spelledContentType: spelledBytes,
                value: valueBytes,
                metadata: metadata
            )
        )
    }

    /// The item, with its key as users know it, in one buffer of its own; nil when the value is corrupt.
    func item(key: UnsafeRawBufferPointer, keysOnly: Bool = false) -> Item? {
        guard keysOnly || isValueIntact else { return nil }
        let key = UnsafeRawBufferPointer(rebasing: key.dropFirst())
        let value = keysOnly ? UnsafeRawBufferPointer(start: nil, count: 0) : valueBytes
        let buffer = [UInt8](unsafeUninitializedCapacity: key.count + value.count) { buffer, count in
            var writer = BufferWriter(UnsafeMutableRawBufferPointer(buffer))
            writer.write(raw: key)
            writer.write(raw: value)
            count = writer.offset
        }
        return Item(
            key: buffer[..<key.count],
            value: buffer[key.count...],
            contentType: contentType == ContentTypes.spelledOut
                ? String(decoding: spelledBytes, as: UTF8.self) : ContentTypes.name(of: contentType),
            metadata: metadata
        )
    }
}
