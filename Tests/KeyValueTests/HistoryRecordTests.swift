import Testing

@testable import KeyValue

@Suite struct HistoryRecordTests {
    private func stored(_ key: [UInt8], _ value: [UInt8], modRevision: UInt64) -> [UInt8] {
        key.withUnsafeBytes { key in
            value.withUnsafeBytes { value in
                let parts = StoredRecord.Parts(
                    key: key,
                    contentType: ContentTypes.none,
                    spelledContentType: UnsafeRawBufferPointer(start: nil, count: 0),
                    value: value,
                    metadata: ItemMetadata(createRevision: 1, modRevision: modRevision, version: 2)
                )
                var bytes = [UInt8](repeating: 0, count: StoredRecord.length(of: parts))
                bytes.withUnsafeMutableBytes { StoredRecord.encode(parts, into: $0) }
                return bytes
            }
        }
    }

    private func encode(_ place: [UInt8], _ kind: Event.Kind, _ previous: UInt64, _ before: [UInt8]?) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: HistoryRecord.headerLength + (before?.count ?? 0))
        place.withUnsafeBytes { place in
            bytes.withUnsafeMutableBytes { bytes in
                func write(_ before: UnsafeRawBufferPointer?) {
                    HistoryRecord.encode(
                        key: place,
                        kind: kind,
                        previous: previous,
                        jump: previous / 2,
                        before: before,
                        into: bytes
                    )
                }
                if let before { before.withUnsafeBytes { write($0) } } else { write(nil) }
            }
        }
        return bytes
    }

    private func isRead(_ bytes: [UInt8], _ place: [UInt8]) -> Bool {
        place.withUnsafeBytes { place in
            bytes.withUnsafeBytes { HistoryRecord($0, key: place)?.isIntact(key: place) ?? false }
        }
    }

    @Test("A record is read as it was written; any other bytes, length, key or revision is refused")
    func fuzz() throws {
        var generator = SeededGenerator(seed: 3)
        for round in 0..<60 {
            let key = Command.randomKey(using: &generator)
            let revision = UInt64.random(in: 100...1 << 50, using: &generator)
            let place = key.withUnsafeBytes { HistoryRecord.key(revision, $0) }
            let value = (0..<Int.random(in: 0..<100, using: &generator)).map { UInt8($0) }
            let before = round % 3 == 0 ? nil : stored(key, value, modRevision: 77)
            let bytes = encode(place, round % 2 == 0 ? .put : .expire, 77, before)
            place.withUnsafeBytes { place in
                bytes.withUnsafeBytes { bytes in
                    let record = HistoryRecord(bytes, key: place)
                    #expect(record?.kind == (round % 2 == 0 ? .put : .expire))
                    #expect(record?.previous == 77 && record?.jump == 38)
                    #expect(record?.before.map { Array($0) } == before)
                }
            }
            #expect(isRead(bytes, place))
            for offset in bytes.indices {
                var changed = bytes
                changed[offset] ^= UInt8.random(in: 1...255, using: &generator)
                #expect(!isRead(changed, place), "changed at \(offset)")
                #expect(!isRead(Array(bytes[..<offset]), place), "cut at \(offset)")
            }
            #expect(!isRead(bytes + [0], place))
            #expect(!isRead(bytes, key.withUnsafeBytes { HistoryRecord.key(revision + 1, $0) }))
            #expect(!isRead(bytes, place + [0]))
            #expect(!isRead(bytes, Array(place[..<Int.random(in: 0..<place.count, using: &generator)])))
            let random = (0..<Int.random(in: 0..<120, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            #expect(!isRead(random, place))
        }
    }

    @Test("What is kept of a deleted key, and of the history itself, is read as written and refused when changed")
    func smallRecords() {
        let key = Array("key".utf8)
        var generator = SeededGenerator(seed: 4)
        key.withUnsafeBytes { key in
            let bytes = DeletionRecord.encode(987_654, key: key)
            #expect(bytes.withUnsafeBytes { DeletionRecord.decode($0, key: key) } == 987_654)
            for offset in bytes.indices {
                var changed = bytes
                changed[offset] ^= UInt8.random(in: 1...255, using: &generator)
                #expect(changed.withUnsafeBytes { DeletionRecord.decode($0, key: key) } == nil)
                #expect(bytes[..<offset].withUnsafeBytes { DeletionRecord.decode($0, key: key) } == nil)
            }
        }
        var options = StoreOptions()
        (options.historyEvents, options.historyMilliseconds) = (64, 6_400)
        let bounds = HistoryState.Bounds(options)
        var state = HistoryState()
        for revision in 1...UInt64(300) {
            state.note(revision: revision, time: revision * 30, bytes: 100, bounds)
            state.enforce(bounds, now: revision * 30)
        }
        let extent = HistoryExtent(records: 1, deletions: 2, sum: 3)
        let bytes = state.encode(extent)
        let read = bytes.withUnsafeBytes { HistoryState.decode($0) }
        #expect(read?.state == state && read?.extent == extent)
        #expect(state.events == 64 && state.floor.revision == 236)
        for offset in bytes.indices {
            var changed = bytes
            changed[offset] ^= UInt8.random(in: 1...255, using: &generator)
            #expect(changed.withUnsafeBytes { HistoryState.decode($0) } == nil)
            #expect(bytes[..<offset].withUnsafeBytes { HistoryState.decode($0) } == nil)
        }
    }

    @Test("The history is cut by age when time passes without changes, by bytes, and never inside a revision")
    func bounds() {
        var options = StoreOptions()
        (options.historyMilliseconds, options.historyBytes) = (1_000, 6_400)
        let bounds = HistoryState.Bounds(options)
        var state = HistoryState()
        for _ in 0..<50 { state.note(revision: 1, time: 5_000, bytes: 200, bounds) }
        state.enforce(bounds, now: 5_000)
        #expect(state.floor.revision == 1)
        for revision in 2...UInt64(20) { state.note(revision: revision, time: 5_500, bytes: 100, bounds) }
        state.enforce(bounds, now: 6_499)
        #expect(state.floor.revision == 1 && state.events == 19)
        state.enforce(bounds, now: 6_500)
        #expect(state.floor.revision == 20 && state.events == 0)
        state.forget(upTo: 30)
        #expect(state.floor.revision == 30 && state.bytes == 0)
    }
}
