import LMDB
import Testing

@testable import KeyValue

@Suite struct HistoryFaultTests {
    private func code(_ body: () throws -> Void) -> StoreError.Code? {
        do {
            try body()
            return nil
        } catch {
            return (error as? StoreError)?.code
        }
    }

    private func flip(_ backend: Backend, _ database: Database, _ key: [UInt8], at offset: Int) throws {
        try backend.environment.write { transaction in
            guard var bytes = try transaction.get(key, in: database) else { return }
            bytes[offset] ^= 1
            try transaction.put(bytes, forKey: key, in: database)
            let stamp = Backend.stamp(UInt64(transaction.transactionID))
            try transaction.put(stamp, forKey: Backend.commitKey, in: backend.meta)
        }
    }

    @Test(
        "A changed byte anywhere in the history is an error of reads of the past and of the examination, never a wrong answer"
    )
    func corruption() throws {
        try withTemporaryDirectory { directory in
            let fixture = try HistoryFixture(directory: directory + "/s")
            try fixture.append([
                .put(key: "a".bytes, value: "one".bytes), .put(key: "b".bytes, value: "one".bytes),
                .put(key: "a".bytes, value: "two".bytes), .delete(key: "b".bytes),
            ])
            try fixture.store.flush()
            let store = fixture.store
            let backend = store.state.withLock { $0.backend }
            let place = Space.keys.raw("a".utf8).withUnsafeBytes { HistoryRecord.key(3, $0) }
            for offset in 0..<HistoryRecord.headerLength + StoredRecord.headerLength + 3 {
                try flip(backend, backend.history, place, at: offset)
                #expect(code { _ = try store.item(forKey: "a".bytes, at: 2) } == .corrupt)
                #expect(code { _ = try store.range(RangeQuery(revision: 1)) } == .corrupt)
                #expect(code { _ = try store.events(after: 0, EventFilter(withPrevious: true)) } == .corrupt)
                #expect(code { _ = try store.writeSnapshot { _ in } } == .corrupt)
                #expect(code { try scrub(store) } == .corrupt)
                #expect(try store.item(forKey: "a".bytes).item?.value == "two".bytes)
                try flip(backend, backend.history, place, at: offset)
            }
            for offset in 0..<DeletionRecord.length {
                try flip(backend, backend.deletions, Space.keys.raw("b".utf8), at: offset)
                #expect(code { _ = try store.item(forKey: "b".bytes, at: 2) } == .corrupt)
                #expect(code { try scrub(store) } == .corrupt)
                try flip(backend, backend.deletions, Space.keys.raw("b".utf8), at: offset)
            }
            try scrub(store)
            try flip(backend, backend.history, place, at: 9)
            try store.close()
            #expect(try Store.examine(directory: fixture.directory).damages.count == 1)
            #expect(code { _ = try Store.open(directory: fixture.directory, options: fixture.options) } == .corrupt)
        }
    }

    private func scrub(_ store: Store) throws {
        var place: [UInt8]?
        while case .more(let next) = try store.scrub(behind: place, milliseconds: 1) { place = next }
    }

    @Test("A record that is missing from the history, or is an older one, is found by the examination")
    func missing() throws {
        try withTemporaryDirectory { directory in
            for number in 0..<2 {
                let fixture = try HistoryFixture(directory: directory + "/\(number)")
                try fixture.append((0..<20).map { .put(key: "a".bytes, value: "\($0)".bytes) })
                try fixture.store.flush()
                let backend = fixture.store.state.withLock { $0.backend }
                let places = (9...10).map { revision in
                    Space.keys.raw("a".utf8).withUnsafeBytes { HistoryRecord.key(UInt64(revision), $0) }
                }
                try backend.environment.write { transaction in
                    if number == 0 { try transaction.delete(places[0], in: backend.history) }
                    if number == 1 {
                        // Sound by itself, but of another store.
                        var other = [UInt8](repeating: 0, count: HistoryRecord.headerLength)
                        places[0].withUnsafeBytes { place in
                            other.withUnsafeMutableBytes { bytes in
                                _ = HistoryRecord.encode(
                                    key: place,
                                    kind: .put,
                                    previous: 0,
                                    jump: 0,
                                    before: nil,
                                    into: bytes
                                )
                            }
                        }
                        try transaction.put(other, forKey: places[0], in: backend.history)
                    }
                    let stamp = Backend.stamp(UInt64(transaction.transactionID))
                    try transaction.put(stamp, forKey: Backend.commitKey, in: backend.meta)
                }
                if number == 0 { #expect(code { _ = try fixture.store.item(forKey: "a".bytes, at: 8) } == .corrupt) }
                try fixture.store.close()
                #expect(try Store.examine(directory: fixture.directory).damages.count == 1)
            }
        }
    }
    @Test("Without the record of the history nobody knows the past: it is damage, and never a past that is complete")
    func missingRecord() throws {
        try withTemporaryDirectory { directory in
            let fixture = try HistoryFixture(directory: directory + "/s")
            try fixture.append([.put(key: "a".bytes, value: "1".bytes), .put(key: "a".bytes, value: "2".bytes)])
            try fixture.store.flush()
            let backend = fixture.store.state.withLock { $0.backend }
            try backend.environment.write { transaction in
                try transaction.deleteAll(in: backend.history)
                _ = try transaction.delete(Backend.historyKey, in: backend.meta)
                let stamp = Backend.stamp(UInt64(transaction.transactionID))
                try transaction.put(stamp, forKey: Backend.commitKey, in: backend.meta)
            }
            let found = try backend.environment.read { try backend.readHistory(in: $0).state }
            #expect(found.floor.revision == 2)
            try fixture.store.close()
            let damages = try Store.examine(directory: fixture.directory).damages
            #expect(damages.contains { $0.contains("record of the history is missing") })
            #expect(code { _ = try Store.open(directory: fixture.directory, options: fixture.options) } == .corrupt)
        }
    }
}
