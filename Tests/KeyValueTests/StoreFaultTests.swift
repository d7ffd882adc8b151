import Foundation
import Testing

@testable import KeyValue

@Suite struct StoreFaultTests {
    private func fill(_ store: Store, _ count: UInt64 = 10) throws {
        let first = store.mark.index
        for number in 1...count {
            let command = Command.put(key: "key\(number)".bytes, value: "value\(number)".bytes, contentType: "x/y")
            _ = try store.apply(
                index: first + number,
                term: 3,
                payload: command.encode(timestampMilliseconds: 100 + number)
            )
        }
    }

    private func code(_ body: () throws -> Void) -> StoreError.Code? {
        do {
            try body()
            return nil
        } catch {
            return (error as? StoreError)?.code
        }
    }

    @Test("An entry that is no command answers invalid, changes nothing but the position, and is replayed alike")
    func invalidEntry() throws {
        try withTemporaryDirectory { directory in
            let store = try Store.open(directory: directory + "/s", options: StoreFixture.options)
            try fill(store)
            let before = try store.checksum()
            #expect(try store.apply(index: 11, term: 4, payload: [0xde, 0xad]) == .invalid(.unknownVersion))
            #expect(try store.apply(index: 12, term: 4, payload: []) == .invalid(.malformed))
            let long = Command.put(key: [UInt8](repeating: 1, count: 481)[...], value: [])
            #expect(
                try store.apply(index: 13, term: 4, payload: long.encode(timestampMilliseconds: 9_999))
                    == .invalid(.keyTooLong)
            )
            #expect(try store.checksum().checksum == before.checksum)
            #expect(store.mark == StateMark(index: 13, term: 4, revision: 10, timestampMilliseconds: 110))
        }
    }

    @Test("The clock of the state never goes back, and survives a restart")
    func clock() throws {
        try withTemporaryDirectory { directory in
            var store = try Store.open(directory: directory + "/s", options: StoreFixture.options)
            let delete = Command.delete(key: "absent".bytes)
            _ = try store.apply(index: 1, term: 1, payload: delete.encode(timestampMilliseconds: 500))
            _ = try store.apply(index: 2, term: 2, payload: delete.encode(timestampMilliseconds: 400))
            #expect(store.mark.timestampMilliseconds == 500)
            try store.flush()
            try store.close()
            store = try Store.open(directory: directory + "/s", options: StoreFixture.options)
            #expect(store.mark == StateMark(index: 2, term: 2, revision: 0, timestampMilliseconds: 500))
        }
    }

    @Test("A changed byte anywhere in a record is an error of reads, scans, applies and snapshots, never a wrong value")
    func corruption() throws {
        try withTemporaryDirectory { directory in
            let store = try Store.open(directory: directory + "/s", options: StoreFixture.options)
            try fill(store)
            try store.flush()
            let length = 64 + "x/y".utf8.count + "value5".utf8.count
            let put = Command.put(key: "key5".bytes, value: [], returnsPrevious: true).encode(timestampMilliseconds: 0)
            for offset in 0..<length {
                try flip(store, offset)
                #expect(code { _ = try store.get("key5".bytes) } == .corrupt)
                #expect(code { _ = try store.range(RangeQuery(prefix: Array("key".utf8))) } == .corrupt)
                #expect(code { _ = try store.writeSnapshot { _ in } } == .corrupt)
                #expect(try store.get("key4".bytes).item?.value == "value4".bytes)
                try flip(store, offset)
            }
            try flip(store, length - 1)
            #expect(code { _ = try store.apply(index: 11, term: 3, payload: put) } == .corrupt)
        }
    }

    private func flip(_ store: Store, _ offset: Int) throws {
        try store.state.withLock { $0.backend }.testOnlyFlipByte(at: offset, ofRecordFor: Array("key5".utf8))
    }

    @Test("A record that was moved to another key is found out")
    func wrongKey() throws {
        let value: [UInt8] = [1, 2, 3]
        let key = Array("one".utf8)
        let record = key.withUnsafeBytes { key in
            value.withUnsafeBytes { value in
                let parts = StoredRecord.Parts(
                    key: key,
                    contentType: ContentTypes.none,
                    spelledContentType: UnsafeRawBufferPointer(start: nil, count: 0),
                    value: value,
                    metadata: ItemMetadata(createRevision: 1, modRevision: 2, version: 3)
                )
                var bytes = [UInt8](repeating: 0, count: StoredRecord.length(of: parts))
                bytes.withUnsafeMutableBytes { StoredRecord.encode(parts, into: $0) }
                return bytes
            }
        }
        func isReadable(as key: String) -> Bool {
            record.withUnsafeBytes { record in Array(key.utf8).withUnsafeBytes { StoredRecord(record, key: $0) != nil }
            }
        }
        #expect(isReadable(as: "one"))
        #expect(!isReadable(as: "two"))
    }

    @Test("A state of another format and a corrupt record of the state are refused")
    func stateRecord() throws {
        try withTemporaryDirectory { directory in
            let path = directory + "/s"
            let store = try Store.open(directory: path, options: StoreFixture.options)
            try fill(store)
            try store.flush()
            let record = store.state.withLock { $0.record }
            let backend = store.state.withLock { $0.backend }
            var bytes = record.encode()
            bytes[20] ^= 1
            try backend.testOnlyPutStateRecord(bytes)
            try store.close()
            #expect(code { _ = try Store.open(directory: path, options: StoreFixture.options) } == .corrupt)

            var unexamined = StoreFixture.options
            unexamined.verification = .testOnlyNone
            let direct = try Backend(path: path + "/state.1", options: unexamined)
            try direct.testOnlyPutStateRecord(record.encode(schema: StateRecord.schema + 1))
            try direct.close()
            #expect(code { _ = try Store.open(directory: path, options: StoreFixture.options) } == .newerFormat)
            #expect(try Store.examine(directory: path).isNewer)

            let old = try Backend(path: path + "/state.1", options: unexamined)
            try old.testOnlyPutStateRecord(record.encode(schema: 2))
            try old.close()
            #expect(code { _ = try Store.open(directory: path, options: StoreFixture.options) } == .olderFormat)
            #expect(try Store.examine(directory: path).damages.count == 1)

            let again = try Backend(path: path + "/state.1", options: unexamined)
            try again.testOnlyPutStateRecord(record.encode())
            try again.close()
            #expect(try Store.open(directory: path, options: StoreFixture.options).mark == record.mark)
        }
    }

    @Test("Any bytes for a record of the state are read or refused")
    func stateRecordFuzz() {
        var generator = SeededGenerator(seed: 5)
        var record = StateRecord()
        record.membership = [1, 2, 3]
        for _ in 0..<5_000 {
            var bytes = record.encode()
            bytes[Int.random(in: bytes.indices, using: &generator)] ^= UInt8.random(in: 1...255, using: &generator)
            bytes = Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &generator)))
            bytes.withUnsafeBytes { bytes in
                #expect(code { _ = try StateRecord(decoding: bytes, path: "") } == .corrupt)
            }
        }
    }

    @Test("A directory is opened once, and a missing or malformed pointer is not guessed")
    func directories() throws {
        try withTemporaryDirectory { directory in
            let path = directory + "/s"
            let store = try Store.open(directory: path, options: StoreFixture.options)
            #expect(throws: (any Error).self) { try Store.open(directory: path, options: StoreFixture.options) }
            try fill(store)
            try store.flush()
            try store.close()
            let pointer = path + "/CURRENT"
            for content in ["", "state.1", "state.x\n", "state.-1\n", "state.01\n", "state.7\n", "\u{0}\n"] {
                try Data(content.utf8).write(to: URL(fileURLWithPath: pointer))
                #expect(
                    code { _ = try Store.open(directory: path, options: StoreFixture.options) }
                        == .inconsistentDirectory,
                    "\(content)"
                )
            }
            try FileManager.default.removeItem(atPath: pointer)
            #expect(
                code { _ = try Store.open(directory: path, options: StoreFixture.options) } == .inconsistentDirectory
            )
            try Data("state.1\n".utf8).write(to: URL(fileURLWithPath: pointer))
            #expect(try Store.open(directory: path, options: StoreFixture.options).mark.index == 10)
        }
    }

    @Test("A first start that was cut off before its pointer was written starts anew")
    func interruptedFirstStart() throws {
        try withTemporaryDirectory { directory in
            let path = directory + "/s"
            try Store.open(directory: path, options: StoreFixture.options).close()
            try FileManager.default.removeItem(atPath: path + "/CURRENT")
            let store = try Store.open(directory: path, options: StoreFixture.options)
            try fill(store)
            #expect(try store.count(prefix: []).count == 10)
        }
    }
}
