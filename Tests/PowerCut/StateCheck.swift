internal import Glibc
internal import KeyValue
internal import KeyValueModel

/// Holds a real state against what it must be: keys, leases, locks, hash, and the past as far as it goes back.
struct StateCheck {
    private let end: Step
    private let store: Store

    /// - Parameter end: the step of the last entry that was applied.
    init(_ store: Store, against end: Step) { (self.store, self.end) = (store, end) }

    /// - Parameters:
    ///   - isThorough: all of it. Otherwise the past is left out mostly, and more often where it is long or there are only keys.
    ///   - random: chooses that, and which revisions of the past are read as a whole.
    /// - Throws: ``Violation``.
    func run(isThorough: Bool, _ random: inout SeededNumbers) throws {
        try checkKeys()
        try checkLeases()
        try checkLocks()
        let holdsOnlyKeys = end.state.leases.isEmpty && end.state.locks.isEmpty && end.state.answered.isEmpty
        let rarity = holdsOnlyKeys ? 12 : max(3, end.state.revision / 100)
        guard random.next() % rarity == 0 || isThorough else { return }
        try checkHash()
        try checkPast(isThorough, &random)
    }

    // MARK: The present

    private func checkKeys() throws {
        let mark = store.mark
        guard mark.revision == end.state.revision else {
            throw Violation("the revision is \(mark.revision), not \(end.state.revision)")
        }
        guard mark.timestampMilliseconds == end.state.now else {
            throw Violation("the cluster's time is \(mark.timestampMilliseconds), not \(end.state.now)")
        }
        try compare(try store.range(RangeQuery(limit: .max, maximumBytes: .max)).items, end.state)
    }

    private func compare(_ found: [Item], _ state: ReferenceModel) throws {
        for item in found {
            guard let expected = state.items[item.key] else { throw Violation("\(item.name) is there") }
            guard expected.isSame(as: item) else {
                throw Violation("\(item.name) is \(item.summary), not \(expected.summary)")
            }
        }
        guard found.count == state.items.count else {
            let names = Set(found.map(\.key))
            let missing = state.items.values.first { !names.contains($0.key) }
            throw Violation(
                "there are \(found.count) keys, not \(state.items.count): \(missing?.name ?? "") is missing"
            )
        }
    }

    private func checkLeases() throws {
        let state = end.state
        let expected = state.leases.keys.sorted().compactMap { state.status($0) }
        let found = try store.leases(limit: .max).leases
        guard found == expected else { throw Violation("the leases are \(found), not \(expected)") }
        let deadline = state.leases.values.map(\.deadline).min()
        guard store.nextLeaseDeadline == deadline else {
            throw Violation("the next lease ends at \(store.nextLeaseDeadline ?? 0), not at \(deadline ?? 0)")
        }
        for lease in expected where lease.keys > 0 {
            let keys = state.items.values.filter { $0.lease == lease.id }.map { Array($0.key) }
            let attached = try store.attachedKeys(of: lease.id, limit: .max).keys
            guard Set(attached) == Set(keys) else {
                throw Violation("the lease \(lease.id) has other keys: \(attached)")
            }
        }
    }

    private func checkLocks() throws {
        let found = try store.locks(limit: .max).locks
        guard found.count == end.state.locks.count, found.allSatisfy({ end.state.status($0.name) == $0 }) else {
            throw Violation("the locks are \(found), not \(end.state.locks)")
        }
    }

    /// The records make the hash that is kept, they are as many as they must be, and whoever stands here has the same hash.
    private func checkHash() throws {
        guard case .matches(let records, _) = try store.verifyHash() else {
            throw Violation("the records do not make the state's hash")
        }
        let state = end.state
        let attachedKeys = state.items.values.count { $0.lease != 0 }
        let attachedLocks = state.locks.values.reduce(0) { $0 + Set($1.tickets.map(\.lease)).count }
        let expected =
            state.items.count + state.leases.count + state.locks.count + attachedKeys + attachedLocks
            + 2 * state.answered.count
        guard records == UInt64(expected) else {
            throw Violation("there are \(records) records in all, not \(expected)")
        }
        guard end.accepts(hash: store.stateHash.hash) else {
            throw Violation("another state of the same entries has another hash")
        }
    }

    // MARK: The past

    private func checkPast(_ isThorough: Bool, _ random: inout SeededNumbers) throws {
        let floor = store.compactRevision
        // Newest first: the steps whose past must be there.
        var steps = [end]
        while let step = steps[steps.count - 1].previous, step.state.revision >= floor { steps.append(step) }
        guard let oldest = steps.last, oldest.state.revision == floor else {
            throw Violation("the history begins at \(floor), the state stands at \(end.state.revision)")
        }
        // What is younger than the bound of the history is there; its other bounds are out of reach.
        let age = StoreOptions().historyMilliseconds
        guard floor == 0 || oldest.state.now + age <= end.state.now else {
            throw Violation("the history begins at \(floor) already, which is not old enough")
        }
        // All events of some states, and of the others some pages from anywhere on.
        let from = isThorough || random.next() & 3 == 0 ? oldest : steps[Int(random.next() % UInt64(steps.count))]
        try checkEvents(steps.prefix { $0.state.revision > from.state.revision }, pages: from === oldest ? .max : 2)
        try checkLockEvents(steps)
        // The oldest one is always among them.
        for number in 0..<3 {
            let step = number == 0 ? oldest : steps[Int(random.next() % UInt64(steps.count))]
            try checkPast(at: step, &random)
        }
        try checkBounds(floor)
    }

    /// The events of the steps, newest first, that reach up to the end.
    private func checkEvents(_ steps: ArraySlice<Step>, pages: Int) throws {
        var expected = steps.reversed().lazy.flatMap(\.changes).makeIterator()
        var after = steps.last?.previous?.state.revision ?? end.state.revision
        var pages = pages
        while after < end.state.revision, pages > 0 {
            let page = try store.events(after: after, EventFilter(withPrevious: true), maximumEvents: 50)
            for event in page.events {
                guard let change = expected.next() else { throw Violation("too many events: \(event.summary)") }
                guard change.isSame(as: event) else {
                    throw Violation("the event \(event.summary) is not \(change.summary)")
                }
            }
            guard page.through > after else { throw Violation("the events do not go on behind \(after)") }
            after = page.through
            pages -= 1
        }
        if after == end.state.revision, let missing = expected.next() {
            throw Violation("the event \(missing.summary) is missing")
        }
    }

    private func checkLockEvents(_ steps: [Step]) throws {
        let expected = steps.reversed().dropFirst().flatMap { step in
            step.lockChanges.map { (revision: step.state.revision, change: $0) }
        }
        let filter = EventFilter(space: .locks)
        let found = try store.events(after: store.compactRevision, filter, maximumEvents: .max, maximumBytes: .max)
        let isSame = found.events.elementsEqual(expected) { event, expected in
            event.revision == expected.revision && event.kind == expected.change.kind
                && event.item.key.elementsEqual(expected.change.name)
                && (event.kind == .put ? LockStatus(event.item) : nil) == expected.change.lock
        }
        guard isSame else {
            throw Violation("the events of locks are \(found.events.map(\.summary)), not \(expected)")
        }
    }

    /// Everything as it stood at a revision, and some keys by themselves.
    private func checkPast(at step: Step, _ random: inout SeededNumbers) throws {
        let revision = step.state.revision
        do {
            let page = try store.range(RangeQuery(limit: .max, maximumBytes: .max, revision: revision))
            try compare(page.items, step.state)
        } catch let violation as Violation {
            throw Violation("at revision \(revision): \(violation)")
        }
        for _ in 0..<3 {
            // What changed since then is what lies in the history.
            var later = end
            for _ in 0..<random.next() % 32 { later = later.previous ?? later }
            guard let key = (later.changes.first?.item ?? step.state.items.values.first)?.key else { continue }
            let found = try store.item(forKey: key, at: revision).item
            let expected = step.state.items[key]
            guard found.map({ expected?.isSame(as: $0) ?? false }) ?? (expected == nil) else {
                throw Violation(
                    "at revision \(revision) \(String(decoding: key, as: UTF8.self)) is "
                        + "\(found?.summary ?? "missing"), not \(expected?.summary ?? "missing")"
                )
            }
        }
    }

    /// Beyond its bounds the past is refused, not invented.
    private func checkBounds(_ floor: UInt64) throws {
        if floor > 0 {
            try expect(.compacted(compactRevision: floor)) {
                _ = try store.range(RangeQuery(limit: 1, revision: floor - 1))
            }
            try expect(.compacted(compactRevision: floor)) { _ = try store.events(after: floor - 1) }
        }
        let revision = end.state.revision
        try expect(.future(revision: revision)) { _ = try store.range(RangeQuery(limit: 1, revision: revision + 1)) }
    }

    private func expect(_ expected: HistoryError, _ body: () throws -> Void) throws {
        do {
            try body()
        } catch let error as HistoryError {
            guard error == expected else { throw Violation("\(error), not \(expected)") }
            return
        }
        throw Violation("what is not there is answered, not: \(expected)")
    }
}

extension Item {
    fileprivate var name: String { String(decoding: key, as: UTF8.self) }

    fileprivate var summary: String {
        "\(String(decoding: value.prefix(24), as: UTF8.self)) (\(value.count) bytes, \(metadata))"
    }

    /// Values as a whole, because tests run without optimization.
    fileprivate func isSame(as other: Item) -> Bool {
        metadata == other.metadata && contentType == other.contentType && key.isSame(as: other.key)
            && value.isSame(as: other.value)
    }
}

extension ArraySlice<UInt8> {
    fileprivate func isSame(as other: Self) -> Bool {
        withUnsafeBytes { bytes in
            other.withUnsafeBytes { other in
                bytes.count == other.count
                    && (bytes.isEmpty || memcmp(bytes.baseAddress!, other.baseAddress!, bytes.count) == 0)
            }
        }
    }
}

extension Event {
    fileprivate var summary: String {
        "\(revision) \(kind) \(item.name) \(item.summary) over \(previous?.summary ?? "nothing")"
    }

    fileprivate func isSame(as other: Event) -> Bool {
        guard revision == other.revision, kind == other.kind, item.isSame(as: other.item) else { return false }
        guard let previous, let before = other.previous else { return previous == nil && other.previous == nil }
        return previous.isSame(as: before)
    }
}
