import Checksum
import LMDB

/// Makes a node's log look as if a later version of the program had written it.
enum NewerFormat {
    /// Changes the format version of the record of identity and hard state: byte 0 is the version, bytes 1–4 a CRC-32C over it, the
    /// record's key and the rest. Every later version keeps these bytes.
    static func mark(_ directory: String, version: UInt8 = 3) throws {
        let environment = try Environment(path: directory + "/log")
        let database = try environment.openDatabase(hasIntegerKeys: true)
        try environment.write { transaction in
            guard var record = try transaction.get(UInt64(0), in: database), record.count > 5 else {
                throw SetupError("there is no record of identity in \(directory)/log")
            }
            // The last eight bytes tell the transaction that wrote it.
            withUnsafeBytes(of: UInt64(transaction.transactionID).littleEndian) {
                record.replaceSubrange(record.count - 8..<record.count, with: $0)
            }
            var checksum = CRC32C()
            checksum.update(version)
            checksum.update(UInt64(0))
            checksum.update(Array(record[5...]))
            record[0] = version
            withUnsafeBytes(of: checksum.value.littleEndian) { record.replaceSubrange(1..<5, with: $0) }
            try transaction.put(record, forKey: UInt64(0), in: database)
        }
        try environment.close()
    }
}
