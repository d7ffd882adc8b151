import KeyValue
import KeyValueModel
import Testing

/// A store with the log that a node would keep beside it, and the model that says what it must hold.
final class StoreFixture {
    let directory: String
    let options: StoreOptions
    private(set) var store: Store
    var model = ReferenceModel()
    /// Chooses the pieces that entries are applied in, and what happens in between; nil applies them at once.
    var pieces: SeededGenerator?
    /// How many commands were put off.
    private(set) var putOff = 0
    private var log: [(entry: CommittedEntry, outcome: Outcome?)] = []
    /// The last position that the log does not hold any more.
    private var logBase: UInt64 = 0

    static var options: StoreOptions {
        var options = StoreOptions()
        options.mapSize = 1 << 30
        options.testOnlyNoSync = true
        options.maximumTombstones = 5
        return options
    }

    init(directory: String, options: StoreOptions = StoreFixture.options) throws {
        self.directory = directory
        self.options = options
        store = try Store.open(directory: directory, options: options)
    }

    var lastIndex: UInt64 { logBase + UInt64(log.count) }

    func append(_ commands: [Command], timestamp: UInt64 = 0) throws {
        try append(commands.map { Request(command: $0, timestamp: timestamp) })
    }

    @discardableResult
    func append(_ requests: [Request]) throws -> [Outcome] {
        let entries = requests.enumerated().map { offset, request in
            CommittedEntry.command(
                index: lastIndex + 1 + UInt64(offset),
                term: 1,
                payload: request.command.encode(options: request.options, timestampMilliseconds: request.timestamp)
            )
        }
        let outcomes = try apply(entries)
        for (request, outcome) in zip(requests, outcomes) {
            let expected = model.apply(request)
            #expect(outcome == expected, "\(request)")
        }
        log += zip(entries, outcomes).map { ($0, $1) }
        return outcomes.compactMap { $0 }
    }

    func append(membership: [UInt8]?) throws {
        let entry = CommittedEntry.other(index: lastIndex + 1, term: 1, membership: membership)
        #expect(try store.apply([entry]) == [nil])
        log.append((entry, nil))
    }

    /// A crash: what was not flushed is gone, and is applied again from the log.
    func crashAndReplay() throws {
        try reopen()
        let durable = store.durablePosition.index
        let missing = log.dropFirst(Int(durable - logBase))
        #expect(try apply(missing.map(\.entry)) == missing.map(\.outcome))
    }

    private func apply(_ entries: [CommittedEntry]) throws -> [Outcome?] {
        guard var generator = pieces else { return try store.apply(entries) }
        defer { pieces = generator }
        var outcomes: [Outcome?] = []
        while outcomes.count < entries.count {
            let mark = store.mark
            let applied = try store.apply(entries[outcomes.count...]) { Bool.random(using: &generator) }
            #expect(store.mark.index == mark.index + UInt64(applied.outcomes.count))
            outcomes += applied.outcomes
            if applied.isFull { try store.flush() }
            guard let command = applied.longCommand else { continue }
            putOff += 1
            switch Int.random(in: 0..<8, using: &generator) {
            case 0: command.execute { true }
            case 1:
                try store.flush()
                command.execute { false }
            case 2:
                command.execute { false }
                try store.flush()
            case 3:
                // The hash is being recomputed.
                var slices = 0
                let found = try store.verifyHash(sliceBytes: 200) { _ in
                    slices += 1
                    if slices == 2 { command.execute { false } }
                    return slices < 4
                }
                if case .differs = found { Issue.record("the hash is not what the records make") }
            default: command.execute { false }
            }
        }
        return outcomes
    }

    /// Opens the directory again, as it is, without a flush before.
    func reopen() throws {
        try store.close()
        store = try Store.open(directory: directory, options: options)
    }

    func snapshot() throws -> (bytes: [UInt8], index: UInt64, term: UInt64, membership: [UInt8]) {
        var bytes: [UInt8] = []
        let (index, term, membership) = try store.writeSnapshot(flushesFirst: true) { bytes.append(contentsOf: $0) }
        return (bytes, index, term, membership)
    }

    /// Makes this a replica that was installed from another's snapshot.
    func install(_ other: StoreFixture) throws {
        let snapshot = try other.snapshot()
        var source = PieceSource(snapshot.bytes, pieceLength: 999)
        try store.restore(
            index: snapshot.index,
            term: snapshot.term,
            membership: snapshot.membership,
            from: { _ in source.next() }
        )
        model = other.model
        log = []
        logBase = snapshot.index
    }

    /// Everything that can be read agrees with the model.
    func check(using generator: inout SeededGenerator) throws {
        let page = try store.range(RangeQuery(limit: .max, maximumBytes: .max))
        let sorted = model.sorted
        #expect(page.items == sorted)
        #expect(!page.more)
        #expect(page.mark.revision == model.revision)
        #expect(page.mark.index == lastIndex)
        #expect(try store.count(prefix: []).count == model.items.count)
        let statistics = try store.statistics()
        #expect(statistics.keyCount == model.items.count)
        #expect(statistics.contentBytes == model.items.values.reduce(0) { $0 + $1.key.count + $1.value.count })
        for _ in 0..<20 {
            let key = Command.randomKey(using: &generator)[...]
            #expect(try store.get(key).item == model.items[key])
            let prefix = Command.randomPrefix(using: &generator)
            #expect(try store.count(prefix: prefix).count == model.count(prefix: prefix))
            #expect(try store.count(RangeQuery(prefix: prefix), inSlicesOf: 7) == model.count(prefix: prefix))
        }
        for _ in 0..<10 { try checkPages(of: .random(using: &generator), sorted) }
    }

    /// Reads a range page by page.
    private func checkPages(of query: RangeQuery, _ sorted: [Item]) throws {
        var query = query
        var pages = 0
        while true {
            let page = try store.range(query)
            let expected = model.page(query, of: sorted)
            #expect(page.items == expected.items, "\(query)")
            #expect(page.groups == expected.groups, "\(query)")
            #expect(page.more == expected.more, "\(query)")
            #expect(page.last == expected.last, "\(query)")
            guard page.more, pages < 50 else { break }
            query.after = page.last
            pages += 1
        }
    }
}

extension RangeQuery {
    static func random(using generator: inout SeededGenerator) -> RangeQuery {
        func maybe(_ generator: inout SeededGenerator, _ make: (inout SeededGenerator) -> [UInt8]) -> [UInt8]? {
            Int.random(in: 0..<4, using: &generator) == 0 ? make(&generator) : nil
        }
        return RangeQuery(
            prefix: maybe(&generator, Command.randomPrefix) ?? [],
            start: maybe(&generator, Command.randomKey),
            end: maybe(&generator, Command.randomKey),
            after: maybe(&generator, Command.randomKey),
            limit: Int.random(in: 0..<20, using: &generator),
            maximumBytes: Bool.random(using: &generator) ? 1 << 20 : 100,
            keysOnly: Bool.random(using: &generator),
            reverse: Bool.random(using: &generator),
            delimiter: [nil, [], [0x2f], [0x2f, 0x62]].randomElement(using: &generator)!
        )
    }
}

/// Gives bytes in pieces, and nil at the end.
struct PieceSource {
    private var rest: ArraySlice<UInt8>
    private let pieceLength: Int

    init(_ bytes: [UInt8], pieceLength: Int = 4096) {
        rest = bytes[...]
        self.pieceLength = pieceLength
    }

    mutating func next() -> [UInt8]? {
        guard !rest.isEmpty else { return nil }
        defer { rest = rest.dropFirst(pieceLength) }
        return Array(rest.prefix(pieceLength))
    }
}

extension String {
    var bytes: ArraySlice<UInt8> { Array(utf8)[...] }
}
