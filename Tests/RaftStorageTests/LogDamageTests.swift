import Foundation
import Glibc
import LMDB
import Raft
import Testing

@testable import RaftStorage

@Suite("A damaged log")
struct LogDamageTests {
    private func damaged(
        _ change: @escaping (borrowing WriteTransaction, Database) throws -> Void
    ) throws -> StorageError? {
        let world = try LogWorld()
        try world.write([.of(append: commands(1...9))])
        try world.tamper(change)
        let error = #expect(throws: StorageError.self) { try world.open() }
        #expect(try world.storedKeys().last == 9, "nothing is ever cut off")
        return error
    }

    @Test("every changed byte of an entry is noticed, and the error names the entry")
    func everyByte() throws {
        let world = try LogWorld()
        try world.write([.of(append: [command(1), command(2, Array("some payload".utf8))])])
        var record: [UInt8] = []
        try world.tamper { record = try $0.get(UInt64(2), in: $1) ?? [] }
        #expect(record.count == 22 + 12)
        for offset in record.indices {
            for bit in 0..<8 {
                var changed = record
                changed[offset] ^= 1 << bit
                changed.withUnsafeBytes { bytes in
                    let error = #expect(throws: StorageError.self) { try EntryRecord(verifying: bytes, index: 2) }
                    #expect(error?.code == .corrupt)
                    #expect(error?.index == 2)
                }
            }
            // The same through the disk, once for each byte.
            var changed = record
            changed[offset] ^= 0x10
            try world.tamper { try $0.put(changed, forKey: UInt64(2), in: $1) }
            let error = #expect(throws: StorageError.self) { try world.open() }
            #expect(error?.index == 2)
            #expect(error?.message.contains("join as a new one") == true)
        }
        for count in 0..<record.count {
            record[..<count].withUnsafeBytes { bytes in
                _ = #expect(throws: StorageError.self) { try EntryRecord(verifying: bytes, index: 2) }
            }
        }
    }

    @Test("every changed byte of the record of identity is noticed")
    func metadata() throws {
        let identity = Identity.new(name: "n", peerAddress: "p")
        let record = MetadataRecord(identity: identity, hardState: HardState(term: 3), base: base(4, 2))
        let bytes = record.encode(transactionID: 7)
        #expect(try bytes.withUnsafeBytes { try MetadataRecord(verifying: $0) } == record)
        for offset in bytes.indices {
            var changed = bytes
            changed[offset] ^= 0x04
            changed.withUnsafeBytes { bytes in
                _ = #expect(throws: StorageError.self) { try MetadataRecord(verifying: bytes) }
            }
        }
    }

    @Test("an entry under another's key is noticed")
    func swapped() throws {
        let error = try damaged { transaction, database in
            let record = try transaction.get(UInt64(4), in: database) ?? []
            try transaction.put(record, forKey: UInt64(5), in: database)
        }
        #expect(error?.code == .corrupt)
        #expect(error?.index == 5)
    }

    @Test("a missing entry is noticed", arguments: [1, 5])
    func missing(index: LogIndex) throws {
        let error = try damaged { try $0.delete(index, in: $1) }
        #expect(error?.code == .corrupt)
        #expect(error?.index == index)
    }

    @Test("a lost record of identity is not taken for a new server's")
    func lostIdentity() throws {
        let world = try LogWorld()
        try world.write([.of(append: commands(1...9))])
        try world.tamper { try $0.delete(UInt64(0), in: $1) }
        #expect(throws: StorageError.self) { try world.open() }
        let error = #expect(throws: StorageError.self) {
            try LogStore.create(directory: world.log, identity: world.identity)
        }
        #expect(error?.code == .alreadyExists)
    }

    @Test("a record of a newer version is told from a damaged one")
    func newerFormat() throws {
        for index in [UInt64(0), 3] {
            let error = try damaged { transaction, database in
                var record = try transaction.get(index, in: database) ?? []
                record[0] = 3
                record.withUnsafeMutableBytes { bytes in
                    let body = UnsafeRawBufferPointer(rebasing: bytes[LogRecord.bodyOffset...])
                    let checksum = LogRecord.checksum(version: 3, key: index, body: body)
                    bytes.storeBytes(of: checksum.littleEndian, toByteOffset: 1, as: UInt32.self)
                }
                try transaction.put(record, forKey: index, in: database)
            }
            #expect(error?.code == .newerFormat)
            #expect(error?.index == index)
        }
    }

    @Test("damage that comes while the store is open is noticed by reads and by scrubbing")
    func whileOpen() throws {
        let world = try LogWorld()
        let (store, _) = try world.open()
        try store.write([.of(append: commands(1...9))])
        try store.environment.write { try $0.put([1, 2, 3], forKey: UInt64(6), in: store.database) }
        #expect(try store.read(from: 1, through: 5, maxBytes: .max).count == 5)
        #expect(#expect(throws: StorageError.self) { try store.read(from: 5, through: 7, maxBytes: .max) }?.index == 6)
        #expect(#expect(throws: StorageError.self) { try store.scrub(from: 0, limit: 100) }?.index == 6)
    }

    @Test("a full map is an error of its own; what was durable stays, and smaller writes go on")
    func mapFull() throws {
        var world = try LogWorld()
        world.options.environment.mapSize = 512 << 10
        let (store, _) = try world.open()
        try store.write([.of(append: commands(1...3))])
        let error = #expect(throws: StorageError.self) {
            try store.write([.of(2, append: commands(4...100, size: 8000))])
        }
        #expect(error?.code == .mapFull)
        #expect(store.lastPosition.index == 3)
        try store.write([.of(2, append: commands(4...4))])
        try store.close()
        #expect(try world.recover().entries.count == 4)
    }

    @Test("a full disk is an error of its own, what was durable stays, and writing goes on when there is room")
    func diskFull() throws {
        let world = try LogWorld()
        let (store, _) = try world.open()
        try store.write([.of(append: commands(1...4000, size: 8000))])
        let error = withFullDisk {
            #expect(throws: StorageError.self) {
                try store.write([.of(2, append: commands(4001...4100, size: 8000))])
            }
        }
        #expect(error?.code == .diskFull)
        #expect(store.lastPosition.index == 4000)
        #expect(try store.read(from: 4000, through: 4001, maxBytes: .max).count == 1)
        try store.write([.of(2, append: commands(4001...4100, size: 8000))])
        try store.close()
        #expect(try world.recover().entries.count == 4100)
    }
}
