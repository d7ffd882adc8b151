import KeyValue
import KeyValueModel
import Testing

/// A store with the log that a node would keep beside it, and a model that keeps every event there ever was.
final class HistoryFixture {
    let directory: String
    let options: StoreOptions
    private(set) var store: Store
    private(set) var items: [ArraySlice<UInt8>: Item] = [:]
    private(set) var revision: UInt64 = 0
    /// With what was before, in order.
    private(set) var events: [Event] = []
    /// What a prefix that was deleted as a whole has cut off.
    private(set) var cut: UInt64 = 0
    private var log: [CommittedEntry] = []
    private var logBase: UInt64 = 0
    private var time: UInt64 = 0

    static var options: StoreOptions {
        var options = StoreOptions()
        options.mapSize = 1 << 30
        options.testOnlyNoSync = true
        options.maximumTombstones = 60
        return options
    }

    init(directory: String, options: StoreOptions = HistoryFixture.options) throws {
        self.directory = directory
        self.options = options
        store = try Store.open(directory: directory, options: options)
    }

    /// What was applied since the last installation.
    var entries: [CommittedEntry] { log }

    private var lastIndex: UInt64 { logBase + UInt64(log.count) }

    /// Lets the clock of the state go on.
    func pass(milliseconds: UInt64) { time += milliseconds }

    func append(_ commands: [Command]) throws {
        let entries = commands.enumerated().map { offset, command in
            CommittedEntry.command(
                index: lastIndex + 1 + UInt64(offset),
                term: 1,
                payload: command.encode(timestampMilliseconds: time)
            )
        }
        _ = try store.apply(entries)
        log += entries
        for command in commands { play(command) }
        #expect(store.mark.revision == revision)
    }

    private func play(_ command: Command) {
        switch command {
        case .put(let put):
            let (key, value, contentType) = (put.key, put.value, put.contentType)
            revision += 1
            let old = items[key]
            let metadata = ItemMetadata(
                createRevision: old?.createRevision ?? revision,
                modRevision: revision,
                version: (old?.version ?? 0) + 1
            )
            let new = Item(key: key, value: value, contentType: contentType, metadata: metadata)
            items[key] = new
            events.append(Event(revision: revision, kind: .put, item: new, previous: old))
        case .delete(let key, _, _): remove([key])
        case .deletePrefix(let prefix):
            let doomed = items.keys.filter { $0.starts(with: prefix) }
            remove(doomed.sorted { $0.lexicographicallyPrecedes($1) })
            if doomed.count > options.maximumTombstones { cut = revision }
        default: Issue.record("the model does not know \(command)")
        }
    }

    private func remove(_ keys: [ArraySlice<UInt8>]) {
        let gone = keys.compactMap { items.removeValue(forKey: $0) }
        guard !gone.isEmpty else { return }
        revision += 1
        for item in gone {
            let metadata = ItemMetadata(createRevision: 0, modRevision: revision, version: 0)
            let rest = Item(key: item.key, value: [], contentType: nil, metadata: metadata)
            events.append(Event(revision: revision, kind: .delete, item: rest, previous: item))
        }
    }

    /// A crash: what was not flushed is gone, and is applied again from the log.
    func crashAndReplay() throws {
        try store.close()
        store = try Store.open(directory: directory, options: options)
        _ = try store.apply(log.dropFirst(Int(store.durablePosition.index - logBase)))
    }

    /// Makes this a replica that was installed from another's snapshot.
    func install(_ other: HistoryFixture) throws {
        var bytes: [UInt8] = []
        let (index, term, membership) = try other.store.writeSnapshot(flushesFirst: true) { bytes += $0 }
        var source = PieceSource(bytes, pieceLength: 777)
        try store.restore(index: index, term: term, membership: membership) { _ in source.next() }
        (items, revision, events, cut) = (other.items, other.revision, other.events, other.cut)
        (log, logBase, time) = ([], index, other.time)
    }

    /// The items as they stood, in the order of their keys.
    func sorted(at revision: UInt64) -> [Item] {
        var items: [ArraySlice<UInt8>: Item] = [:]
        for event in events where event.revision <= revision {
            items[event.item.key] = event.kind == .put ? event.item : nil
        }
        return items.values.sorted { $0.key.lexicographicallyPrecedes($1.key) }
    }

    // MARK: Checks

    /// Everything that can be read of the past agrees with the model.
    func check(using generator: inout SeededGenerator, revisions: Int = 3) throws {
        let floor = store.compactRevision
        #expect(floor >= cut && floor <= revision)
        #expect(try store.statistics().historyEvents <= options.historyEvents)
        var chosen = (0..<revisions).map { _ in UInt64.random(in: floor...revision, using: &generator) }
        chosen += [floor, revision, max(floor, revision) - (revision > floor ? 1 : 0)]
        for revision in chosen { try check(at: revision, using: &generator) }
        for _ in 0..<4 { try checkEvents(after: chosen.randomElement(using: &generator)!, using: &generator) }
        try checkEvents(after: floor, using: &generator)
        if floor > 0 {
            let gone = UInt64.random(in: 0..<floor, using: &generator)
            expect(.compacted(compactRevision: floor), at: gone)
        }
        expect(.future(revision: revision), at: revision + 1)
    }

    private func expect(_ error: HistoryError, at revision: UInt64) {
        #expect(throws: error) { try self.store.events(after: revision) }
        #expect(throws: error) { try self.store.item(forKey: "a".bytes, at: revision) }
        #expect(throws: error) { try self.store.range(RangeQuery(revision: revision)) }
        #expect(throws: error) { try self.store.count(RangeQuery(revision: revision)) }
    }

    private func check(at revision: UInt64, using generator: inout SeededGenerator) throws {
        let expected = sorted(at: revision)
        let page = try store.range(RangeQuery(limit: .max, maximumBytes: .max, revision: revision))
        #expect(page.items == expected, "at \(revision)")
        #expect(page.mark.revision == self.revision)
        for _ in 0..<6 {
            let key =
                (Bool.random(using: &generator) ? events.randomElement(using: &generator)?.item.key : nil)
                ?? Command.randomKey(using: &generator)[...]
            #expect(try store.item(forKey: key, at: revision).item == expected.first { $0.key == key })
            var query = RangeQuery.random(using: &generator)
            query.revision = revision
            var all = query
            (all.limit, all.maximumBytes, all.delimiter, all.after) = (.max, .max, nil, nil)
            let maximumVisits = Int.random(in: 1...12, using: &generator)
            #expect(try store.count(all).count == store.range(all).items.count)
            #expect(try store.count(all, inSlicesOf: maximumVisits) == store.range(all).items.count)
            try checkPages(query, expected)
        }
    }

    private func checkPages(_ query: RangeQuery, _ expected: [Item]) throws {
        var query = query
        for _ in 0..<40 {
            let page = try store.range(query)
            let (items, groups, more, last) = ReferenceModel().page(query, of: expected)
            #expect(page.items == items, "\(query)")
            #expect(page.groups == groups, "\(query)")
            #expect(page.more == more && page.last == last, "\(query)")
            guard page.more else { return }
            query.after = page.last
        }
    }

    /// Reads the events page by page.
    func checkEvents(after revision: UInt64, using generator: inout SeededGenerator) throws {
        let match: EventFilter.Match =
            switch Int.random(in: 0..<4, using: &generator) {
            case 0: .prefix(Command.randomPrefix(using: &generator))
            case 1: .key(Array(events.randomElement(using: &generator)?.item.key ?? [1]))
            default: .prefix([])
            }
        let filter = EventFilter(match, withPrevious: Bool.random(using: &generator))
        // What was there before may be wanted of some keys only.
        let isPartial = Bool.random(using: &generator)
        func wantsPrevious(_ key: ArraySlice<UInt8>) -> Bool {
            isPartial ? key.count % 2 == 0 : filter.withPrevious
        }
        var asked: [ArraySlice<UInt8>] = []
        let limit = Int.random(in: 0..<40, using: &generator)
        let bytes = Bool.random(using: &generator) ? 1 << 20 : 300
        var (seen, after) = ([Event](), revision)
        while after < self.revision {
            let page = try store.events(
                after: after,
                filter,
                maximumEvents: limit,
                maximumBytes: bytes,
                wantsPrevious: isPartial
                    ? {
                        asked.append($0); return wantsPrevious($0)
                    } : nil
            )
            #expect(page.through > after)
            #expect(page.events.allSatisfy { $0.revision > after && $0.revision <= page.through })
            if let last = page.events.last?.revision {
                #expect(page.events.count { $0.revision < last } < max(1, limit))
            }
            seen += page.events
            guard page.through > after else { return }
            after = page.through
        }
        #expect(seen == expectedEvents(after: revision, filter, wantsPrevious), "after \(revision), \(filter)")
        if isPartial { #expect(asked == seen.map(\.item.key)) }
    }

    private func expectedEvents(
        after revision: UInt64,
        _ filter: EventFilter,
        _ wantsPrevious: (ArraySlice<UInt8>) -> Bool
    ) -> [Event] {
        events.filter { event in
            guard event.revision > revision else { return false }
            switch filter.match {
            case .key(let key): return event.item.key.elementsEqual(key)
            case .prefix(let prefix): return event.item.key.starts(with: prefix)
            }
        }.map { event in
            var event = event
            if !wantsPrevious(event.item.key) { event.previous = nil }
            return event
        }
    }
}

extension Command {
    /// A random change without conditions.
    static func randomChange(using generator: inout SeededGenerator, hot: Bool = false) -> Command {
        let key = hot ? "hot".bytes : randomKey(using: &generator)[...]
        switch Int.random(in: 0..<100, using: &generator) {
        case 0..<70:
            let length =
                Int.random(in: 0..<20, using: &generator) == 0 ? 5_000 : Int.random(in: 0..<40, using: &generator)
            let value = (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
            let type = [nil, "text/plain", "x/y"].randomElement(using: &generator)!
            return .put(key: key, value: value[...], contentType: type)
        case 70..<97: return .delete(key: key)
        default: return .deletePrefix(randomPrefix(using: &generator)[...])
        }
    }
}

extension Store {
    /// Counts as many as there are, a few at once.
    func count(_ query: RangeQuery, inSlicesOf maximumVisits: Int) throws -> Int {
        var (query, count) = (query, 0)
        while true {
            let slice = try self.count(query, maximumVisits: maximumVisits)
            #expect(slice.count <= maximumVisits)
            count += slice.count
            guard let last = slice.last else { return count }
            query.after = last
        }
    }
}
