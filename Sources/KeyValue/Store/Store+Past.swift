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

    /// How many keys there are between a query's bounds and at its revision, on whatever page. It takes a look at each.
    public func count(_ query: RangeQuery) throws -> (count: Int, mark: StateMark) {
        var (query, count) = (query, 0)
        query.after = nil
        let mark = try scan(query) { _ in
            count += 1
            return .next
        }
        return (count, mark)
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
