import KeyValueModel
import Synchronization
import Testing

@testable import KeyValue

@Suite struct StoreConcurrencyTests {
    /// What tells a state apart: the number of keys and a sum over them.
    private struct Digest: Equatable {
        var keys = 0
        var sum: UInt64 = 0

        init(_ items: some Sequence<Item>) {
            for item in items {
                keys += 1
                sum &+= item.modRevision &* 31 &+ item.version &+ UInt64(item.value.count) &* 7
            }
        }
    }

    @Test("Every read during applies and flushes sees exactly one state of the sequence", arguments: 0..<3)
    func readersDuringFlush(seed: UInt64) throws {
        try withTemporaryDirectory { directory in
            var generator = SeededGenerator(seed: seed)
            var model = ReferenceModel()
            var digests = [Digest([])]
            var payloads: [[UInt8]] = []
            for _ in 0..<3_000 {
                let command = Command.random(using: &generator, latestRevision: model.revision)
                _ = model.apply(Request(command: command))
                payloads.append(command.encode(timestampMilliseconds: 0))
                digests.append(Digest(model.items.values))
            }
            let store = try Store.open(directory: directory + "/s", options: StoreFixture.options)
            let isDone = Atomic(false)
            let reads = Atomic(0)
            let (expected, log) = (digests, payloads)
            concurrently(
                {
                    for (offset, payload) in log.enumerated() {
                        _ = try store.apply(index: UInt64(offset + 1), term: 1, payload: payload)
                    }
                    isDone.store(true, ordering: .releasing)
                },
                // It ends while entries are still being applied, so that the last flush has some beside it.
                { while store.mark.index < log.count / 2 { try store.flush() } },
                {
                    repeat {
                        let reverse = reads.add(1, ordering: .relaxed).newValue.isMultiple(of: 2)
                        let page = try store.range(
                            RangeQuery(limit: .max, maximumBytes: .max, reverse: reverse)
                        )
                        #expect(Digest(page.items) == expected[Int(page.mark.index)])
                    } while !isDone.load(ordering: .acquiring)
                },
                {
                    var last = StateMark()
                    var generator = SeededGenerator(seed: 99)
                    repeat {
                        let (item, mark) = try store.get(Command.randomKey(using: &generator)[...])
                        #expect(mark.index >= last.index && mark.revision >= last.revision)
                        #expect((item?.modRevision ?? 0) <= mark.revision)
                        last = mark
                    } while !isDone.load(ordering: .acquiring)
                }
            )
            // A crash: the disk holds exactly the state of the position that it names, however much was applied beside it.
            let durable = store.durablePosition.index
            try store.close()
            let again = try Store.open(directory: directory + "/s", options: StoreFixture.options)
            #expect(again.mark.index == durable)
            let everything = RangeQuery(limit: .max, maximumBytes: .max)
            #expect(Digest(try again.range(everything).items) == expected[Int(durable)])
            for index in Int(durable)..<log.count {
                _ = try again.apply(index: UInt64(index + 1), term: 1, payload: log[index])
            }
            #expect(try again.range(everything).items == model.sorted)
        }
    }

    @Test("Readers during restores see a whole old or a whole new state")
    func readersDuringRestore() throws {
        try withTemporaryDirectory { directory in
            var snapshots: [(bytes: [UInt8], index: UInt64, digest: Digest)] = []
            for number in 1...2 {
                let source = try StoreFixture(directory: directory + "/source\(number)")
                try source.append(
                    (0..<200 * number).map { .put(key: "key\($0)".bytes, value: "of \(number)".bytes) }
                )
                let snapshot = try source.snapshot()
                snapshots.append((snapshot.bytes, snapshot.index, Digest(source.model.items.values)))
            }
            let store = try Store.open(directory: directory + "/s", options: StoreFixture.options)
            let sources = snapshots
            let isDone = Atomic(false)
            concurrently(
                {
                    for round in 0..<20 {
                        let (bytes, index, _) = sources[round % 2]
                        var source = PieceSource(bytes)
                        try store.restore(index: index, term: 1, membership: []) { _ in source.next() }
                    }
                    isDone.store(true, ordering: .releasing)
                },
                {
                    let known = [Digest([])] + sources.map(\.digest)
                    repeat {
                        let page = try store.range(RangeQuery(limit: .max))
                        #expect(known.contains(Digest(page.items)))
                        #expect(UInt64(page.items.count) == page.mark.index)
                        let (item, mark) = try store.get("key7".bytes)
                        #expect((item == nil) == (mark.index == 0))
                    } while !isDone.load(ordering: .acquiring)
                }
            )
        }
    }
}
