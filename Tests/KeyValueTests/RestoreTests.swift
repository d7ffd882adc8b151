import Foundation
import Testing

@testable import KeyValue

@Suite struct RestoreTests {
    private struct SourceFailed: Error {}

    private func makeSnapshot(_ directory: String) throws -> (bytes: [UInt8], index: UInt64, checksum: UInt32) {
        let fixture = try StoreFixture(directory: directory + "/source")
        var generator = SeededGenerator(seed: 11)
        try fixture.append((0..<300).map { _ in Command.random(using: &generator, latestRevision: 50) })
        try fixture.append(membership: [9, 9, 9])
        let snapshot = try fixture.snapshot()
        return (snapshot.bytes, snapshot.index, try fixture.store.checksum().checksum)
    }

    private func restore(_ store: Store, _ bytes: [UInt8], index: UInt64) throws {
        var source = PieceSource(bytes)
        try store.restore(index: index, term: 1, membership: [9, 9, 9]) { _ in source.next() }
    }

    /// What the examination of a snapshot says, which must be what an installation does.
    private func verify(_ bytes: [UInt8], index: UInt64) throws {
        var source = PieceSource(bytes)
        try Store.verifySnapshot(index: index, term: 1) { _ in source.next() }
    }

    private func names(_ path: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: path).sorted()
    }

    @Test("A snapshot that is cut off, changed or of another position leaves the old state untouched")
    func badSnapshots() throws {
        try withTemporaryDirectory { directory in
            let (bytes, index, checksum) = try makeSnapshot(directory)
            let path = directory + "/target"
            let fixture = try StoreFixture(directory: path)
            try fixture.append([.put(key: "old".bytes, value: "state".bytes)])
            try fixture.store.flush()
            try fixture.append([.put(key: "old2".bytes, value: "unflushed".bytes)])
            let before = try fixture.store.checksum()
            func refuse(_ bytes: [UInt8], index: UInt64, _ what: String) throws {
                let refusal = #expect(throws: StoreError.self, "\(what)") {
                    try restore(fixture.store, bytes, index: index)
                }
                #expect(
                    refusal?.code == .badSnapshot || refusal?.message.contains("format") == true,
                    "\(what): \(refusal as Any)"
                )
                let found = #expect(throws: StoreError.self, "\(what)") { try verify(bytes, index: index) }
                #expect(found?.code == refusal?.code)
                #expect(try fixture.store.checksum() == before)
                #expect(try names(path) == ["CURRENT", "state.1"])
            }
            var generator = SeededGenerator(seed: 12)
            for _ in 0..<40 {
                let cut = Int.random(in: 0..<bytes.count, using: &generator)
                try refuse(Array(bytes[..<cut]), index: index, "cut at \(cut)")
                var changed = bytes
                let offset = Int.random(in: 0..<bytes.count, using: &generator)
                changed[offset] ^= UInt8.random(in: 1...255, using: &generator)
                try refuse(changed, index: index, "changed at \(offset)")
            }
            try refuse(bytes + [0], index: index, "longer")
            try refuse(bytes, index: index + 1, "another position")
            #expect(throws: SourceFailed.self) {
                var source = PieceSource(bytes)
                try fixture.store.restore(index: index, term: 1, membership: []) { _ in
                    if Bool.random(using: &generator) { throw SourceFailed() }
                    return source.next()
                }
            }
            #expect(try fixture.store.checksum() == before)

            try verify(bytes, index: index)
            try restore(fixture.store, bytes, index: index)
            #expect(try fixture.store.checksum().checksum == checksum)
            #expect(try names(path) == ["CURRENT", "state.2"])
            #expect(fixture.store.pendingBytes == 0)
            try fixture.reopen()
            #expect(try fixture.store.checksum().checksum == checksum)
            #expect(fixture.store.durablePosition.index == index)
            #expect(fixture.store.durableMembership == [9, 9, 9])
        }
    }

    @Test("What an interrupted restore leaves behind is swept at the next start and does not disturb the next restore")
    func leftovers() throws {
        try withTemporaryDirectory { directory in
            let (bytes, index, checksum) = try makeSnapshot(directory)
            let path = directory + "/target"
            let fixture = try StoreFixture(directory: path)
            try fixture.append([.put(key: "old".bytes, value: "state".bytes)])
            try fixture.store.flush()
            let before = try fixture.store.checksum()
            // As a crash in the middle of a restore leaves it.
            let half = try Backend(path: path + "/state.2", options: StoreFixture.options)
            try half.close()
            try Data("state.2\n".utf8).write(to: URL(fileURLWithPath: path + "/CURRENT.new"))
            try fixture.reopen()
            #expect(try fixture.store.checksum() == before)
            #expect(try names(path) == ["CURRENT", "state.1"])

            let other = try Backend(path: path + "/state.2", options: StoreFixture.options)
            try other.close()
            try restore(fixture.store, bytes, index: index)
            #expect(try fixture.store.checksum().checksum == checksum)
        }
    }

    @Test(
        "A snapshot that is whole but whose record was changed, its checksums with it, is refused before anything is written"
    )
    func unsoundRecord() throws {
        try withTemporaryDirectory { directory in
            let fixture = try StoreFixture(directory: directory + "/source")
            try fixture.append([.put(key: "a".bytes, value: "one".bytes), .put(key: "b".bytes, value: "two".bytes)])
            try fixture.store.flush()
            for keepsHash in [true, false] {
                let backend = fixture.store.state.withLock { $0.backend }
                try backend.testOnlyReplaceValue(of: Array("a".utf8), by: Array("BAD".utf8), keepsHash: keepsHash)
                var bytes: [UInt8] = []
                let (index, term, _) = try backend.writeSnapshot(isChecked: false) { bytes += $0 }
                var source = PieceSource(bytes)
                let error = #expect(throws: StoreError.self) {
                    try Store.verifySnapshot(index: index, term: term) { _ in source.next() }
                }
                #expect(error?.code == .badSnapshot)
            }
        }
    }

    @Test("A snapshot of another format is refused as such")
    func otherSnapshot() throws {
        try withTemporaryDirectory { directory in
            var (bytes, index, _) = try makeSnapshot(directory)
            let store = try Store.open(directory: directory + "/target", options: StoreFixture.options)
            for (format, code) in [(1, StoreError.Code.olderFormat), (99, .newerFormat)] {
                bytes[8] = UInt8(format)
                let error = #expect(throws: StoreError.self) { try restore(store, bytes, index: index) }
                #expect(error?.code == code)
            }
        }
    }
}
