import Glibc
import KeyValueModel
import Synchronization
import Testing

@testable import KeyValue

@Suite struct HistoryConcurrencyTests {
    /// What a state was made of: a sum over the items, for each revision.
    private static func digest(_ items: some Sequence<Item>) -> UInt64 {
        items.reduce(0) { $0 &+ ($1.modRevision &* 31 &+ $1.version &+ UInt64($1.value.count) &* 7) &* 2_654_435_761 }
    }

    @Test(
        "Past reads and events are right while one thread applies and another flushes and takes the past away",
        arguments: 0..<2
    )
    func readersOfThePast(seed: UInt64) throws {
        try withTemporaryDirectory { directory in
            var generator = SeededGenerator(seed: 70 + seed)
            // The same commands in a store of their own tell what to expect.
            let expected = try HistoryFixture(directory: directory + "/model", options: Self.options(events: 1 << 30))
            try expected.append((0..<3_000).map { _ in Command.randomChange(using: &generator) })
            let (events, last, sums) = (expected.events, expected.revision, Self.digests(expected.events))
            let store = try Store.open(directory: directory + "/s", options: Self.options(events: 800))
            let entries = expected.entries
            let isDone = Atomic(false)
            let reads = Atomic(0)
            concurrently(
                {
                    for entry in entries {
                        _ = try store.apply([entry])
                        // Readers get their share of it.
                        while reads.load(ordering: .acquiring) * 10 < store.mark.index / 2,
                            !isDone.load(ordering: .acquiring)
                        {
                            sched_yield()
                        }
                    }
                    isDone.store(true, ordering: .releasing)
                },
                { while !isDone.load(ordering: .acquiring) { try store.flush() } },
                {
                    var generator = SeededGenerator(seed: 1)
                    while !isDone.load(ordering: .acquiring) {
                        let (floor, now) = (store.compactRevision, store.mark.revision)
                        let revision = UInt64.random(in: floor...now, using: &generator)
                        let query = RangeQuery(
                            limit: .max,
                            maximumBytes: .max,
                            reverse: Bool.random(using: &generator),
                            revision: revision
                        )
                        try Self.unlessCompacted(revision, store) {
                            let page = try store.range(query)
                            #expect(Self.digest(page.items) == sums[Int(revision)])
                        }
                        reads.add(1, ordering: .releasing)
                    }
                },
                {
                    var (after, next) = (UInt64(0), 0)
                    while after < last {
                        try Self.unlessCompacted(after, store) {
                            let page = try store.events(
                                after: after,
                                EventFilter(withPrevious: true),
                                maximumEvents: 50
                            )
                            let expected = events[next...].prefix(page.events.count)
                            #expect(page.events == Array(expected))
                            next += page.events.count
                            after = page.through
                        }
                        let floor = store.compactRevision
                        if floor > after { after = floor }
                        while next < events.count, events[next].revision <= after { next += 1 }
                        reads.add(1, ordering: .releasing)
                        if isDone.load(ordering: .acquiring), store.mark.revision < last { return }
                    }
                    #expect(next == events.count)
                }
            )
        }
    }

    /// The digest of the state at each revision.
    private static func digests(_ events: [Event]) -> [UInt64] {
        var digests: [UInt64] = [0]
        for event in events {
            while digests.count <= event.revision { digests.append(digests[digests.count - 1]) }
            if let previous = event.previous { digests[Int(event.revision)] &-= digest([previous]) }
            if event.kind == .put { digests[Int(event.revision)] &+= digest([event.item]) }
        }
        return digests
    }

    private static func options(events: Int) -> StoreOptions {
        var options = HistoryFixture.options
        options.historyEvents = events
        options.maximumTombstones = 10_000
        return options
    }

    /// What was there a moment ago may be gone now, and only then.
    private static func unlessCompacted(_ revision: UInt64, _ store: Store, _ body: () throws -> Void) throws {
        do {
            try body()
        } catch let error as HistoryError {
            guard case .compacted(let floor) = error else { throw error }
            #expect(floor > revision)
        }
    }
}
