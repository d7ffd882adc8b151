internal import Crypto

/// The hash of one item. A state's hash is the sum of those of its items, modulo 2^128.
///
/// The sum does not depend on the order of the changes that led to the state, is kept up with every change by one subtraction and
/// one addition, and can be recomputed from what is stored. It guards against accidents (a changed byte, a bug, a replica that
/// applies otherwise), not against somebody who chooses items so that their sums agree.
///
/// The first 16 bytes, as a little-endian number, of the SHA-256 of: the form (1), the content type's code (1), bytes of the raw key
/// (2), of the spelled-out content type (4) and of the value (8); create revision, modify revision, version, lease (8 each); key,
/// spelled-out content type, value. Integers are little-endian.
///
/// A value is hashed once, when it is put: the hash is kept in the memtable and with the stored record.
enum ItemHash {
    static let form: UInt8 = 1

    static func of(_ parts: StoredRecord.Parts) -> UInt128 {
        var hasher = SHA256()
        let head = 48 + parts.key.count + parts.spelledContentType.count
        withUnsafeTemporaryAllocation(byteCount: head, alignment: 16) { buffer in
            var writer = BufferWriter(buffer)
            writer.write(form)
            writer.write(parts.contentType)
            writer.write(UInt16(truncatingIfNeeded: parts.key.count))
            writer.write(UInt32(truncatingIfNeeded: parts.spelledContentType.count))
            writer.write(UInt64(parts.value.count))
            writer.write(parts.metadata.createRevision)
            writer.write(parts.metadata.modRevision)
            writer.write(parts.metadata.version)
            writer.write(parts.metadata.lease)
            writer.write(raw: parts.key)
            writer.write(raw: parts.spelledContentType)
            hasher.update(bufferPointer: UnsafeRawBufferPointer(buffer))
        }
        if !parts.value.isEmpty { hasher.update(bufferPointer: parts.value) }
        return hasher.finalize().withUnsafeBytes {
            UInt128(littleEndian: $0.loadUnaligned(as: UInt128.self))
        }
    }
}
