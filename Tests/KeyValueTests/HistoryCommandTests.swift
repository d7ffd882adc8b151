import KeyValueModel
import Testing

@testable import KeyValue

@Suite struct HistoryCommandTests {
    /// What happened to the user keys in one revision, in the order of the keys.
    private func events(
        from before: ReferenceModel,
        to after: ReferenceModel,
        _ command: Command
    ) -> [Event] {
        var isExpiry = false
        if case .expireLeases = command { isExpiry = true }
        let keys = Set(before.items.keys).union(after.items.keys).sorted { $0.lexicographicallyPrecedes($1) }
        return keys.compactMap { key in
            let (old, new) = (before.items[key], after.items[key])
            guard old?.modRevision != new?.modRevision else { return nil }
            let metadata = ItemMetadata(createRevision: 0, modRevision: after.revision, version: 0)
            return Event(
                revision: after.revision,
                kind: new != nil ? .put : isExpiry ? .expire : .delete,
                item: new ?? Item(key: key, value: [], contentType: nil, metadata: metadata),
                previous: old
            )
        }
    }

    @Test(
        "The events of all kinds of commands are what they changed, one for each key, across flushes and crashes",
        arguments: 0..<3
    )
    func allCommands(seed: UInt64) throws {
        try withTemporaryDirectory { directory in
            var generator = SeededGenerator(seed: 400 + seed)
            var options = StoreFixture.options
            options.maximumTombstones = 10_000
            options.historyMilliseconds = .max
            let fixture = try StoreFixture(directory: directory + "/s", options: options)
            var expected: [Event] = []
            for step in 1...900 {
                let before = fixture.model
                let request = Request.random(using: &generator, before)
                try fixture.append([request])
                expected += events(from: before, to: fixture.model, request.command)
                if step % 97 == 0 { try fixture.store.flush() }
                if step % 150 == 0 { try fixture.crashAndReplay() }
            }
            #expect(fixture.store.compactRevision == 0)
            #expect(expected.contains { $0.kind == .expire })
            var (after, seen) = (UInt64(0), [Event]())
            while after < fixture.model.revision {
                let page = try fixture.store.events(after: after, EventFilter(withPrevious: true), maximumEvents: 64)
                seen += page.events
                after = page.through
            }
            #expect(seen.count == expected.count)
            for (left, right) in zip(seen, expected) { #expect(left == right) }
        }
    }

    @Test("Locks have a history of their own: who held them is seen in events and in their order")
    func locks() throws {
        try withTemporaryDirectory { directory in
            let fixture = try StoreFixture(directory: directory + "/s")
            let name = Array("lock".utf8)
            let request = LockRequest(name: name, lease: .ttl(milliseconds: 5_000), waits: true)
            try fixture.append([
                .put(key: "lock".bytes, value: "a key of the same name".bytes), .acquireLock(request),
                .acquireLock(request),
            ])
            try fixture.store.flush()
            try fixture.append([.releaseLock(name: name, token: 2), .releaseLock(name: name, token: 3)])
            let filter = EventFilter(.key(name), space: .locks)
            let page = try fixture.store.events(after: 0, filter)
            #expect(page.events.map(\.revision) == [2, 3, 4, 5])
            #expect(page.events.map(\.kind) == [.put, .put, .put, .delete])
            #expect(page.events.allSatisfy { $0.item.key.elementsEqual(name) })
            #expect(try fixture.store.events(after: 0).events.map(\.revision) == [1])
        }
    }
}
