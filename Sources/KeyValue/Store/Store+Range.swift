extension Store {
    /// One page of keys with their items, from one consistent cut.
    ///
    /// Throws ``HistoryError`` for a revision whose past is gone, and for one that is still to come. `limit` and `maximumBytes` below 1 count as 1. The environment's reader is held for the page only.
    /// A page of the past also ends after some tens of thousands of keys that were looked at, so it may be empty though there is more.
    public func range(_ query: RangeQuery) throws -> Page { try range(query, maximumVisits: 50_000) }

    /// Calls `visit` with each item whose key begins with `prefix`, in the order of keys, all from one consistent cut, whose mark is answered.
    ///
    /// The environment's reader is held meanwhile, and the pages of the cut cannot be used again before: `visit` is to take what it gets to
    /// where it waits for nobody. An item is valid beyond the call, see ``Item``.
    public func forEach(prefix: [UInt8], _ visit: (Item) throws -> Void) throws -> StateMark {
        try scan(
            RangeQuery(prefix: prefix),
            visit: { item in
                try visit(try item.item(keysOnly: false))
                return .next
            }
        )
    }

    /// - Parameter maximumVisits: how many keys are looked at for a page of the past, about.
    func range(_ query: RangeQuery, maximumVisits: Int) throws -> Page {
        var builder = PageBuilder(query: query)
        var visits = 0
        var end: [UInt8]?
        let mark = try scan(
            query,
            pass: { key in
                visits += 1
                guard visits >= maximumVisits else { return true }
                let key = Array(key.dropFirst())
                // Behind a key that is the name of its group the next page would leave the group out.
                if key.withUnsafeBytes({ query.group(of: $0) }) == key { return true }
                end = key
                return false
            },
            visit: { try builder.visit($0) }
        )
        if let end { builder.end(behind: end) }
        return builder.page(mark: mark)
    }
}

extension RangeQuery {
    private var groupDelimiter: [UInt8]? { delimiter.flatMap { $0.isEmpty ? nil : $0 } }

    /// The group that a key belongs to: up to and with the first delimiter behind the prefix. Nil when it belongs to none.
    func group(of key: UnsafeRawBufferPointer) -> [UInt8]? {
        guard let delimiter = groupDelimiter, key.count >= prefix.count + delimiter.count else { return nil }
        return delimiter.withUnsafeBytes { delimiter in
            for start in prefix.count...(key.count - delimiter.count)
            where UnsafeRawBufferPointer(rebasing: key[start...]).hasPrefix(delimiter) {
                return Array(key[..<(start + delimiter.count)])
            }
            return nil
        }
    }

    private func isGroup(_ key: [UInt8]) -> Bool {
        key.starts(with: prefix) && key.withUnsafeBytes { group(of: $0) } == key
    }

    /// What is left to read, `after` taken into account.
    var bounds: KeyBounds {
        var bounds = KeyBounds(prefix: prefix)
        if let start { bounds.raise(toAtLeast: start) }
        bounds.lower(toBelow: end)
        guard let after else { return bounds }
        let group = isGroup(after) ? after : nil
        if reverse {
            bounds.lower(toBelow: group ?? after)
        } else if let group {
            guard let next = KeyBounds.successor(ofPrefix: group) else {
                bounds.makeEmpty()
                return bounds
            }
            bounds.raise(toAtLeast: next)
        } else {
            bounds.raise(toAtLeast: after + [0])
        }
        return bounds
    }
}

/// Fills a page from a scan.
private struct PageBuilder {
    let query: RangeQuery
    private var items: [Item] = []
    private var groups: [[UInt8]] = []
    private var last: [UInt8]?
    private var more = false
    private var bytes = 0

    init(query: RangeQuery) { self.query = query }

    private var isEmpty: Bool { items.isEmpty && groups.isEmpty }

    private mutating func admits(_ size: Int) -> Bool {
        let isFull = items.count + groups.count >= max(1, query.limit) || bytes + size > query.maximumBytes
        // One is answered whatever the bounds are, or reading on would never end.
        if isFull && !isEmpty {
            more = true
            return false
        }
        bytes += size
        return true
    }

    mutating func visit(_ scanned: ScannedItem) throws -> ScanStep {
        if let group = scanned.withUserKey({ query.group(of: $0) }) {
            guard admits(group.count) else { return .stop }
            groups.append(group)
            last = group
            if query.reverse { return .jump(Space.keys.raw(group)) }
            return KeyBounds.successor(ofPrefix: group).map { .jump(Space.keys.raw($0)) } ?? .stop
        }
        let size = scanned.withUserKey { $0.count } + (query.keysOnly ? 0 : scanned.valueLength)
        guard admits(size) else { return .stop }
        let item = try scanned.item(keysOnly: query.keysOnly)
        last = Array(item.key)
        items.append(item)
        return .next
    }

    /// Ends the page behind a key, though there may be more.
    mutating func end(behind key: [UInt8]) {
        last = key
        more = true
    }

    func page(mark: StateMark) -> Page { Page(items: items, groups: groups, more: more, last: last, mark: mark) }
}
