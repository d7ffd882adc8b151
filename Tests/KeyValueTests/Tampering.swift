import Checksum
import LMDB

@testable import KeyValue

extension Backend {
    /// Changes a value with everything that belongs to its record but, with `keepsHash`, the item's hash.
    func testOnlyReplaceValue(of key: [UInt8], by value: [UInt8], keepsHash: Bool) throws {
        try environment.write { transaction in
            guard let old = try transaction.get(key, in: items) else { return }
            let new = key.withUnsafeBytes { key in
                old.withUnsafeBytes { old in
                    value.withUnsafeBytes { value in
                        guard let record = StoredRecord(old, key: key) else { return [UInt8]() }
                        let parts = StoredRecord.Parts(
                            key: key,
                            contentType: ContentTypes.none,
                            spelledContentType: UnsafeRawBufferPointer(start: nil, count: 0),
                            value: value,
                            metadata: record.metadata
                        )
                        var bytes = [UInt8](repeating: 0, count: StoredRecord.length(of: parts))
                        bytes.withUnsafeMutableBytes {
                            StoredRecord.encode(parts, hash: keepsHash ? record.storedHash : nil, into: $0)
                        }
                        return bytes
                    }
                }
            }
            try transaction.put(new, forKey: key, in: items)
            // As every commit does: the number of the transaction tells of writers that know nothing of it.
            let stamp = Self.stamp(UInt64(transaction.transactionID))
            try transaction.put(stamp, forKey: Self.commitKey, in: meta)
        }
    }

    /// Makes of everything what the version before the hash would have written.
    func testOnlyRewriteInFirstFormat() throws {
        let record = try readStateRecord()
        try environment.write { transaction in
            var items: [(key: [UInt8], record: [UInt8])] = []
            try transaction.withCursor(in: self.items) { cursor in
                var item = try cursor.first()
                while let current = item {
                    items.append((Array(current.key), Array(current.value)))
                    item = try cursor.next()
                }
            }
            for (key, record) in items {
                try transaction.put(Self.inFirstFormat(record, key: key), forKey: key, in: self.items)
            }
        }
        // The 16 bytes of the hash were 8, which stood for nothing.
        var bytes = Array(record.encode(schema: 1).dropLast(4))
        bytes.replaceSubrange(56..<72, with: [UInt8](repeating: 0, count: 8))
        bytes += CRC32C.checksum(bytes).littleEndianBytes
        try testOnlyPutStateRecord(bytes)
    }

    private static func inFirstFormat(_ record: [UInt8], key: [UInt8]) -> [UInt8] {
        var bytes = [1] + record[1..<48] + record[64...]
        let spelledLength = Int(bytes[2]) | Int(bytes[3]) << 8
        var checksum = CRC32C()
        checksum.update(key)
        checksum.update(bytes[0..<4])
        checksum.update(bytes[8..<48 + spelledLength])
        bytes.replaceSubrange(4..<8, with: checksum.value.littleEndianBytes)
        return bytes
    }
}
