internal import Checksum

/// The form of one change in the history: what the key was before it, so that the past is found from the present backwards.
///
/// It lies under the revision (8 bytes, big-endian) and the key. Little-endian, 24 bytes and then the key's ``StoredRecord`` as it
/// was before the change, if it was there:
///
/// | offset | bytes | |
/// |---|---|---|
/// | 0 | 1 | format version, 1 |
/// | 1 | 1 | kind of the change, see ``Event/Kind`` |
/// | 2 | 1 | 1 when the key was there before |
/// | 3 | 1 | 0 |
/// | 4 | 4 | CRC-32C of the revision and the key, bytes 0–3 and 8–23, and the head of the record before |
/// | 8 | 8 | the revision of the key's change before this one; 0 when none is known |
/// | 16 | 8 | a revision of an earlier change of the key, further back or the same; 0 when none is known |
///
/// The checksum covers the head of the record before, which has those of its content: they are proved without reading the value.
struct HistoryRecord {
    static let version: UInt8 = 1
    static let headerLength = 24
    /// The record of before begins with its metadata and its checksums.
    private static let coveredLength = headerLength + StoredRecord.headerLength

    let kind: Event.Kind
    let previous: UInt64
    let jump: UInt64
    /// The ``StoredRecord`` of before, not decoded; nil when the key was not there.
    let before: UnsafeRawBufferPointer?
    let checksum: UInt32

    /// Where a change lies in the history.
    static func key(_ revision: UInt64, _ key: UnsafeRawBufferPointer) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 8 + key.count) { buffer, count in
            let bytes = UnsafeMutableRawBufferPointer(buffer)
            bytes.storeBytes(of: revision.bigEndian, as: UInt64.self)
            UnsafeMutableRawBufferPointer(rebasing: bytes[8...]).copyMemory(from: key)
            count = 8 + key.count
        }
    }

    /// The revision and the key of a place in the history; nil when it is too short for both.
    static func split(_ key: UnsafeRawBufferPointer) -> (revision: UInt64, key: UnsafeRawBufferPointer)? {
        guard key.count > 8 else { return nil }
        let revision = UInt64(bigEndian: key.loadUnaligned(as: UInt64.self))
        return (revision, UnsafeRawBufferPointer(rebasing: key[8...]))
    }

    private static func checksum(_ key: UnsafeRawBufferPointer, _ bytes: UnsafeRawBufferPointer) -> UInt32 {
        var checksum = CRC32C()
        checksum.update(key)
        checksum.update(UnsafeRawBufferPointer(rebasing: bytes[..<4]))
        checksum.update(UnsafeRawBufferPointer(rebasing: bytes[8..<min(bytes.count, coveredLength)]))
        return checksum.value
    }

    /// Writes the record for the place `key` to `buffer`, which has ``headerLength`` bytes and those of `before`; answers its checksum.
    @discardableResult
    static func encode(
        key: UnsafeRawBufferPointer,
        kind: Event.Kind,
        previous: UInt64,
        jump: UInt64,
        before: UnsafeRawBufferPointer?,
        into buffer: UnsafeMutableRawBufferPointer
    ) -> UInt32 {
        var writer = BufferWriter(buffer)
        writer.write(version)
        writer.write(kind.rawValue)
        writer.write(UInt16(before == nil ? 0 : 1))
        writer.write(UInt32(0))
        writer.write(previous)
        writer.write(jump)
        if let before { writer.write(raw: before) }
        let checksum = checksum(key, UnsafeRawBufferPointer(buffer))
        buffer.storeBytes(of: checksum.littleEndian, toByteOffset: 4, as: UInt32.self)
        return checksum
    }

    /// Reads the record that lies at the place `key`; nil when it is corrupt. The value of before is not looked at.
    init?(_ bytes: UnsafeRawBufferPointer, key: UnsafeRawBufferPointer) {
        guard bytes.count >= Self.headerLength, bytes[0] == Self.version, bytes[3] == 0,
            let kind = Event.Kind(rawValue: bytes[1]), let (revision, rawKey) = Self.split(key)
        else { return nil }
        func load<Integer: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _: Integer.Type) -> Integer {
            Integer(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Integer.self))
        }
        checksum = load(4, UInt32.self)
        guard checksum == Self.checksum(key, bytes) else { return nil }
        (self.kind, previous, jump) = (kind, load(8, UInt64.self), load(16, UInt64.self))
        guard previous < revision, jump <= previous else { return nil }
        let rest = UnsafeRawBufferPointer(rebasing: bytes[Self.headerLength...])
        switch bytes[2] {
        case 0:
            guard rest.isEmpty else { return nil }
            before = nil
        case 1:
            guard let record = StoredRecord(rest, key: rawKey), record.metadata.modRevision == previous else {
                return nil
            }
            before = rest
        default: return nil
        }
    }

    /// Whether the record of before is what was written, its value included.
    func isIntact(key: UnsafeRawBufferPointer) -> Bool {
        guard let before, let (_, rawKey) = Self.split(key) else { return self.before == nil }
        return StoredRecord(before, key: rawKey)?.isValueIntact ?? false
    }
}

/// What is kept of a key that is not there any more while its delete is in the history: the delete's revision. Little-endian, 8 bytes, and the
/// CRC-32C of the key and them.
enum DeletionRecord {
    static let length = 12

    static func encode(_ revision: UInt64, key: UnsafeRawBufferPointer) -> [UInt8] {
        revision.littleEndianBytes + checksum(revision, key).littleEndianBytes
    }

    /// The revision; nil when the record is corrupt.
    static func decode(_ bytes: UnsafeRawBufferPointer, key: UnsafeRawBufferPointer) -> UInt64? {
        guard bytes.count == length else { return nil }
        let revision = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
        let stored = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
        return stored == checksum(revision, key) ? revision : nil
    }

    static func checksum(_ revision: UInt64, _ key: UnsafeRawBufferPointer) -> UInt32 {
        var checksum = CRC32C()
        checksum.update(key)
        checksum.update(revision)
        return checksum.value
    }
}
