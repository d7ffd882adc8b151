internal import LMDB

/// Some events in order, from one consistent cut of the state.
public struct EventPage: Hashable, Sendable {
    /// By revision, those of one revision in the order of their keys. A revision is never split over pages.
    public var events: [Event]
    /// Every event that was asked for up to and with this revision is in this page or was before it: ask for the next page after it.
    /// There is more to be had while it is below the revision of ``mark``.
    public var through: UInt64
    public var mark: StateMark

    public init(events: [Event], through: UInt64, mark: StateMark) {
        self.events = events
        self.through = through
        self.mark = mark
    }
}

extension Store {
    /// The newest revision whose past is gone: reads at it and above are possible, and events after it. It grows with the bounds
    /// of the history (see ``StoreOptions``), and only on this replica: it is no part of the replicated state.
    public var compactRevision: UInt64 { state.withLock { $0.history.floor.revision } }

    /// The events after `revision` that `filter` names.
    ///
    /// A page ends where its bounds are reached, but not inside a revision, and after some tens of thousands of changes that were
    /// looked at, so it may be empty while ``EventPage/through`` has moved on.
    ///
    /// - Parameters:
    ///   - revision: ``compactRevision`` or above, else it throws ``HistoryError/compacted(compactRevision:)``; beyond the present one it
    ///     throws ``HistoryError/future(revision:)``.
    ///   - maximumEvents: below 1 counts as 1.
    ///   - maximumBytes: of keys and values, previous ones included; the events of at least one revision are answered.
    ///   - wantsPrevious: says of a key whether ``Event/previous`` is wanted, in place of the filter; asked once for each event, in
    ///     their order, before the next one is read.
    public func events(
        after revision: UInt64,
        _ filter: EventFilter = EventFilter(),
        maximumEvents: Int = 1000,
        maximumBytes: Int = 1 << 20,
        wantsPrevious: ((_ key: ArraySlice<UInt8>) -> Bool)? = nil
    ) throws -> EventPage {
        let view = try state.withLock { try $0.makePastView() }
        try view.check(revision)
        var builder = EventPageBuilder(
            filter: StoredFilter(filter),
            maximumEvents: max(1, maximumEvents),
            maximumBytes: maximumBytes,
            wantsPrevious: wantsPrevious ?? { _ in filter.withPrevious }
        )
        return try view.page(after: revision, &builder)
    }

    /// Has `body` called with the last revision after each batch of entries that made events, on the thread that applied it and
    /// outside the store's lock; and after a restore, on the thread that restored. Said before anything is applied.
    public func onApplied(_ body: @escaping @Sendable (_ revision: UInt64) -> Void) {
        appliedHooks.withLock { $0.append(body) }
    }

    /// Calls what ``onApplied(_:)`` was given.
    func didApply(through revision: UInt64) {
        for hook in appliedHooks.withLock({ $0 }) { hook(revision) }
    }
}

/// A filter in terms of stored keys.
struct StoredFilter {
    private let key: [UInt8]
    private let isPrefix: Bool

    init(_ filter: EventFilter) {
        let space: Space = filter.space == .keys ? .keys : .locks
        switch filter.match {
        case .key(let key): (self.key, isPrefix) = (space.raw(key), false)
        case .prefix(let prefix): (key, isPrefix) = (space.raw(prefix), true)
        }
    }

    func matches(_ key: UnsafeRawBufferPointer) -> Bool {
        self.key.withUnsafeBytes { isPrefix ? key.hasPrefix($0) : key.compare(to: $0) == 0 }
    }
}

/// Collects the events of a page.
struct EventPageBuilder {
    /// How many changes are looked at for one page.
    private static let maximumVisits = 50_000

    let filter: StoredFilter
    let maximumEvents: Int
    let maximumBytes: Int
    let wantsPrevious: (ArraySlice<UInt8>) -> Bool
    private(set) var events: [Event] = []
    private var bytes = 0
    private var visits = 0
    /// The last revision that is in the page as a whole, when the page is full.
    private(set) var through: UInt64?

    init(
        filter: StoredFilter,
        maximumEvents: Int,
        maximumBytes: Int,
        wantsPrevious: @escaping (ArraySlice<UInt8>) -> Bool
    ) {
        self.filter = filter
        self.maximumEvents = maximumEvents
        self.maximumBytes = maximumBytes
        self.wantsPrevious = wantsPrevious
    }

    var isFull: Bool { through != nil }

    var hasVisitedEnough: Bool { visits >= Self.maximumVisits }

    mutating func visit() { visits += 1 }

    /// To be asked where a new revision begins: whether it has room.
    mutating func admits(_ revision: UInt64) -> Bool {
        guard through == nil else { return false }
        guard events.count >= maximumEvents || bytes >= maximumBytes else { return true }
        through = revision - 1
        return false
    }

    /// Ends the page behind `revision` when enough was looked at.
    mutating func endIfTired(through revision: UInt64) {
        if through == nil, hasVisitedEnough { through = revision }
    }

    mutating func append(_ event: Event) {
        bytes += 64 + event.item.key.count + event.item.value.count + (event.previous?.value.count ?? 0)
        events.append(event)
    }
}

/// A change that is stored, before its images are looked up.
private struct StoredChange {
    let revision: UInt64
    let key: [UInt8]
    let kind: Event.Kind
}

extension PastView {
    /// How many stored changes are collected before their images are looked up.
    private static let chunkCount = 128

    fileprivate func page(after revision: UInt64, _ builder: inout EventPageBuilder) throws -> EventPage {
        let stored = frozenLog?.base ?? activeLog.base
        var next = revision
        while next < stored, !builder.isFull { next = try readStored(after: next, through: stored, &builder) }
        if let frozenLog, !builder.isFull { try read(frozenLog, after: revision, above: .frozen, &builder) }
        if !builder.isFull { try read(activeLog, after: revision, above: .active, &builder) }
        return EventPage(events: builder.events, through: builder.through ?? now.mark.revision, mark: now.mark)
    }

    // MARK: In memory

    private func read(
        _ log: EventLog,
        after revision: UInt64,
        above level: Level,
        _ builder: inout EventPageBuilder
    ) throws {
        var last: UInt64 = 0
        for index in log.index(after: max(revision, floor))..<log.count {
            let change = log[index]
            if change.revision != last {
                guard builder.admits(change.revision) else { return }
                last = change.revision
            }
            try change.entry.withKey { key in
                guard builder.filter.matches(key) else { return }
                var event = Event(
                    revision: change.revision,
                    kind: change.kind,
                    item: change.kind == .put ? change.entry.item() : .deleted(key, in: change.revision)
                )
                if builder.wantsPrevious(event.item.key) {
                    event.previous = try previous(of: change, key, log, level).item(key: key, now.backend)
                }
                builder.append(event)
            }
        }
    }

    /// What a change in a log found of its key.
    private func previous(
        of change: EventLog.Entry,
        _ key: UnsafeRawBufferPointer,
        _ log: EventLog,
        _ level: Level
    ) throws -> PastItem {
        if let place = log.find(key, in: change.previous) {
            let entry = log[place].entry
            return entry.isTombstone ? .absent : .memory(entry)
        }
        let table = level == .active ? now.active : now.frozen
        guard table?.deletedPrefix(of: key) == nil else { return .absent }
        return try find(key, at: change.revision - 1, from: level == .active ? .frozen : .stored)
    }

    // MARK: Stored

    /// Reads some stored changes; answers the revision through which it has come.
    private func readStored(
        after revision: UInt64,
        through end: UInt64,
        _ builder: inout EventPageBuilder
    ) throws -> UInt64 {
        let (changes, through) = try collect(after: revision, through: end, &builder)
        // A key's image behind a change is the one before its next change, here or anywhere.
        var following = [Int?](repeating: nil, count: changes.count)
        var newest: [[UInt8]: Int] = [:]
        for index in changes.indices.reversed() {
            following[index] = newest[changes[index].key]
            newest[changes[index].key] = index
        }
        var last: UInt64 = 0
        for (index, change) in changes.enumerated() {
            if change.revision != last {
                guard builder.admits(change.revision) else { return through }
                last = change.revision
            }
            builder.append(try event(change, following[index].map { changes[$0].revision }, builder.wantsPrevious))
        }
        builder.endIfTired(through: through)
        return through
    }

    private func collect(
        after revision: UInt64,
        through end: UInt64,
        _ builder: inout EventPageBuilder
    ) throws -> (changes: [StoredChange], through: UInt64) {
        var changes: [StoredChange] = []
        var through = end
        let room = max(1, min(Self.chunkCount, builder.maximumEvents - builder.events.count))
        try now.backend.withCursor(in: now.backend.history, now.transaction) { cursor in
            var last: UInt64 = 0
            var item = try cursor.seek(atLeast: (revision + 1).bigEndianBytes)
            while let current = item {
                guard let (revision, key) = HistoryRecord.split(current.key) else {
                    throw now.backend.corruptHistory(current.key)
                }
                guard revision <= end else { return }
                if revision != last {
                    guard changes.count < room, !builder.hasVisitedEnough else {
                        through = revision - 1
                        return
                    }
                    last = revision
                }
                builder.visit()
                if builder.filter.matches(key) {
                    let record = try now.backend.decodeHistory(current.value, place: current.key)
                    changes.append(StoredChange(revision: revision, key: Array(key), kind: record.kind))
                }
                item = try cursor.next()
            }
        }
        return (changes, through)
    }

    /// - Parameter next: the revision of the key's next change, where it is known.
    private func event(
        _ change: StoredChange,
        _ next: UInt64?,
        _ wantsPrevious: (ArraySlice<UInt8>) -> Bool
    ) throws -> Event {
        try change.key.withUnsafeBytes { key in
            var event = Event(
                revision: change.revision,
                kind: change.kind,
                item: .deleted(key, in: change.revision)
            )
            if change.kind == .put {
                let image = try next.map { try before(key, $0) } ?? find(key, at: change.revision)
                guard let item = try image.item(key: key, now.backend), item.modRevision == change.revision else {
                    throw now.backend.corruptHistory(UnsafeRawBufferPointer(start: nil, count: 0))
                }
                event.item = item
            }
            if wantsPrevious(event.item.key) {
                event.previous = try before(key, change.revision).item(key: key, now.backend)
            }
            return event
        }
    }

    /// What the stored change in `revision` found of `key`.
    private func before(_ key: UnsafeRawBufferPointer, _ revision: UInt64) throws -> PastItem {
        let change = try now.backend.change(of: key, in: revision, now.transaction)
        return try change.before.map { .stored(try now.backend.decode($0, key: key)) } ?? .absent
    }
}

extension Item {
    /// What an event tells of a key that went.
    fileprivate static func deleted(_ key: UnsafeRawBufferPointer, in revision: UInt64) -> Item {
        Item(
            key: Array(key.dropFirst())[...],
            value: [],
            contentType: nil,
            metadata: ItemMetadata(createRevision: 0, modRevision: revision, version: 0)
        )
    }
}
