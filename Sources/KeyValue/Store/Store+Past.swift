extension Store {
    /// A key's item as it stood at `revision` (nil: as it stands), and the mark of the cut that it was read from.
    ///
    /// Throws ``HistoryError`` for a revision whose past is gone, and for one that is still to come.
    public func item(
        forKey key: ArraySlice<UInt8>,
        at revision: UInt64? = nil
    ) throws -> (item: Item?, mark: StateMark) {
        guard let revision else { return try get(key) }
        let view = try state.withLock { try $0.makePastView() }
        try view.check(revision)
        guard Command.validate(keyLength: key.count) == nil else { return (nil, view.now.mark) }
        let item = try Space.keys.raw(key).withUnsafeBytes { key in
            try view.find(key, at: revision).item(key: key, view.now.backend)
        }
        return (item, view.now.mark)
    }

    /// How many keys there are between a query's bounds and at its revision, behind `after` where that is set. It takes a look at each, and
    /// holds the environment's reader meanwhile: who counts many goes on in slices, all at the first one's revision.
    ///
    /// Throws ``HistoryError`` as ``range(_:)`` does.
    ///
    /// - Parameter maximumVisits: it ends after so many keys that were looked at, about.
    public func count(_ query: RangeQuery, maximumVisits: Int = .max) throws -> KeyCount {
        var (count, visits) = (0, 0)
        var last: [UInt8]?
        let mark = try scan(
            query,
            pass: { key in
                visits += 1
                guard visits >= maximumVisits else { return true }
                last = Array(key.dropFirst())
                return false
            },
            visit: { item in
                count += 1
                guard count >= maximumVisits else { return .next }
                last = item.withUserKey { Array($0) }
                return .stop
            }
        )
        return KeyCount(count: count, last: last, mark: mark)
    }

    /// Calls `visit` for the items of a query of user keys, in its direction and at its revision. In the past it calls `pass` behind the
    /// keys, see ``PastView/scan(_:at:isReverse:pass:visit:)``.
    func scan(
        _ query: RangeQuery,
        pass: (UnsafeRawBufferPointer) -> Bool = { _ in true },
        visit: (ScannedItem) throws -> ScanStep
    ) throws -> StateMark {
        guard let revision = query.revision else {
            let view = try state.withLock { try $0.makeView() }
            try view.scan(query.bounds.raw(.keys), isReverse: query.reverse, visit: visit)
            return view.mark
        }
        let view = try state.withLock { try $0.makePastView() }
        try view.check(revision)
        try view.scan(
            query.bounds.raw(.keys),
            at: revision,
            isReverse: query.reverse,
            pass: pass,
            visit: visit
        )
        return view.now.mark
    }
}
