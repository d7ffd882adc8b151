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
    public var compactRevision: UInt64 { state.withLock { $0.record.mark.revision } }

    /// A key's item as it stood at `revision` (nil: as it stands), and the mark of the cut that it was read from.
    ///
    /// Throws ``HistoryError`` for a revision whose past is gone, and for one that is still to come.
    public func item(
        forKey key: ArraySlice<UInt8>,
        at revision: UInt64? = nil
    ) throws -> (item: Item?, mark: StateMark) {
        let (item, mark) = try get(key)
        try check(revision, mark)
        return (item, mark)
    }

    /// How many keys a query names, whatever its limits, and at its revision. It takes a look at each.
    public func count(_ query: RangeQuery) throws -> (count: Int, mark: StateMark) {
        let view = try state.withLock { try $0.makeView() }
        try check(query.revision, view.mark)
        var count = 0
        try view.scan(query.bounds) { _ in
            count += 1
            return .next
        }
        return (count, view.mark)
    }

    /// The events after `revision` that `filter` names.
    ///
    /// A page ends where its bounds are reached, but not inside a revision, and after some tens of thousands of events that were
    /// looked at, so it may be empty while ``EventPage/through`` has moved on.
    ///
    /// - Parameters:
    ///   - revision: ``compactRevision`` or above, else it throws ``HistoryError/compacted(compactRevision:)``; beyond the present one it
    ///     throws ``HistoryError/future(revision:)``.
    ///   - maximumEvents: below 1 counts as 1.
    ///   - maximumBytes: of keys and values.
    public func events(
        after revision: UInt64,
        _ filter: EventFilter = EventFilter(),
        maximumEvents: Int = 1000,
        maximumBytes: Int = 1 << 20
    ) throws -> EventPage {
        let mark = mark
        try check(revision, mark)
        return EventPage(events: [], through: revision, mark: mark)
    }

    func check(_ revision: UInt64?, _ mark: StateMark) throws(HistoryError) {
        guard let revision, revision != mark.revision else { return }
        throw revision < mark.revision
            ? .compacted(compactRevision: mark.revision) : .future(revision: mark.revision)
    }

    /// Has `body` called with the last revision after each batch of entries that made events, on the thread that applied it and
    /// outside the store's lock; and after a restore, on the thread that restored. Set once, before anything is applied.
    public func onApplied(_ body: @escaping @Sendable (_ revision: UInt64) -> Void) {
        appliedHook.withLock { $0 = body }
    }

    /// Calls what ``onApplied(_:)`` was given when the revision has moved on.
    func didApply(from before: UInt64) {
        let revision = mark.revision
        guard revision != before else { return }
        appliedHook.withLock { $0 }?(revision)
    }
}
