internal import Checksum

/// The form of an item in the environment: the value of its key there.
///
/// Little-endian, 48 bytes, then the spelled-out content type and the value:
///
/// | offset | bytes | |
/// |---|---|---|
/// | 0 | 1 | format version, 1 |
/// | 1 | 1 | content type, see ``ContentTypes`` |
/// | 2 | 2 | bytes of the content type when it is spelled out |
/// | 4 | 4 | CRC-32C of the key, bytes 0–3, bytes 8–47 and the spelled-out content type |
/// | 8 | 32 | create revision, modify revision, version, lease |
/// | 40 | 4 | bytes of the value |
/// | 44 | 4 | CRC-32C of the value |
///
/// There are two checksums, so that the metadata is proved without reading the value, which may fill many pages.
struct StoredRecord {
    struct Parts {
        var key: UnsafeRawBufferPointer
        var contentType: UInt8
        var spelledContentType: UnsafeRawBufferPointer
        var value: UnsafeRawBufferPointer
        var metadata: ItemMetadata
    }

    static let version: UInt8 = 1
    static let headerLength = 48

    let metadata: ItemMetadata
    let valueLength: Int
    private let contentType: UInt8
    private let spelledLength: Int
    private let valueChecksum: UInt32
    private let bytes: UnsafeRawBufferPointer

    static func length(of parts: Parts) -> Int {
        headerLength + parts.spelledContentType.count + parts.value.count
    }

    /// Writes the record to `buffer`, which is as long as ``length(of:)`` says.
    static func encode(_ parts: Parts, into buffer: UnsafeMutableRawBufferPointer) {
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
        writer.write(raw: parts.spelledContentType)
        writer.write(raw: parts.value)
        let checksum = headerChecksum(
            key: parts.key,
            UnsafeRawBufferPointer(buffer),
            spelledLength: parts.spelledContentType.count
        )
        buffer.storeBytes(of: checksum.littleEndian, toByteOffset: 4, as: UInt32.self)
    }

    private static func headerChecksum(
        key: UnsafeRawBufferPointer,
        _ bytes: UnsafeRawBufferPointer,
        spelledLength: Int
    ) -> UInt32 {
        var checksum = CRC32C()
        checksum.update(key)
        checksum.update(UnsafeRawBufferPointer(rebasing: bytes[0..<4]))
        checksum.update(UnsafeRawBufferPointer(rebasing: bytes[8..<headerLength + spelledLength]))
        return checksum.value
    }

    /// Reads a record in place; nil when it is corrupt. The value is not looked at before it is asked for.
    init?(_ bytes: UnsafeRawBufferPointer, key: UnsafeRawBufferPointer) {
        guard bytes.count >= Self.headerLength, bytes[0] == Self.version else { return nil }
        func load<Integer: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _: Integer.Type) -> Integer {
            Integer(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Integer.self))
        }
        contentType = bytes[1]
        spelledLength = Int(load(2, UInt16.self))
        valueLength = Int(load(40, UInt32.self))
        valueChecksum = load(44, UInt32.self)
        guard bytes.count == Self.headerLength + spelledLength + valueLength,
            Self.headerChecksum(key: key, bytes, spelledLength: spelledLength) == load(4, UInt32.self)
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

    /// Whether the value is the one that was written.
    var isValueIntact: Bool { CRC32C.checksum(valueBytes) == valueChecksum }

    /// The item, in one buffer of its own; nil when the value is corrupt.
    func item(key: UnsafeRawBufferPointer, keysOnly: Bool = false) -> Item? {
        guard keysOnly || isValueIntact else { return nil }
        let spelled = bytes[Self.headerLength..<Self.headerLength + spelledLength]
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
                ? String(decoding: spelled, as: UTF8.self) : ContentTypes.name(of: contentType),
            metadata: metadata
        )
    }
}
