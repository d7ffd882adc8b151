import Testing

@testable import KeyValue

@Suite struct FlushBesideSnapshotTests {
    @Test(
        "What is applied while a snapshot is written is flushed beside it, and the snapshot is of the moment it began"
    )
    func flushes() throws {
        try withTemporaryDirectory { directory in
            var options = StoreFixture.options
            options.memtableBytes = 64 << 10
            let fixture = try StoreFixture(directory: directory + "/1", options: options)
            let value = [UInt8](repeating: 7, count: 2_000)[...]
            for part in 0..<10 {
                try fixture.append((0..<200).map { Command.put(key: "key\(part)/\($0)".bytes, value: value) })
            }
            try fixture.store.flush()
            let (before, mark) = fixture.store.stateHash
            var bytes: [UInt8] = []
            var mostPending = 0
            let written = try fixture.store.writeSnapshot { piece in
                bytes += piece
                mostPending = max(mostPending, fixture.store.pendingBytes)
                try fixture.append((0..<40).map { Command.put(key: "key1/\($0)".bytes, value: "new".bytes) })
            }
            #expect(written.index == mark.index)
            #expect(fixture.store.durablePosition.index > mark.index)
            #expect(mostPending < 4 * options.memtableBytes)
            let other = try StoreFixture(directory: directory + "/2")
            var source = PieceSource(bytes)
            try other.store.restore(index: mark.index, term: mark.term, membership: [], from: { _ in source.next() })
            #expect(other.store.stateHash.hash == before)
            try fixture.crashAndReplay()
            var generator = SeededGenerator(seed: 1)
            try fixture.check(using: &generator)
        }
    }
}
