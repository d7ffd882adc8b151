import LMDB

@testable import KeyValue

extension Backend {
    private struct NotThere: Error {}

    /// Changes a value with everything that belongs to its record but, with `keepsHash`, the item's hash.
    func testOnlyReplaceValue(of key: [UInt8], by value: [UInt8], keepsHash: Bool) throws {
        let key = Space.keys.raw(key)
        try environment.write { transaction in
            guard let old = try transaction.get(key, in: items) else { throw NotThere() }
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
}
