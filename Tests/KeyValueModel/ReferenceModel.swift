package import KeyValue

/// A command with what goes with it.
package struct Request: Sendable {
    package var command: Command
    package var options: CommandOptions
    package var timestamp: UInt64

    package init(command: Command, options: CommandOptions = .none, timestamp: UInt64 = 0) {
        (self.command, self.options, self.timestamp) = (command, options, timestamp)
    }
}

/// What the store must do, said as plainly as possible.
package struct ReferenceModel: Sendable {
    package struct Lease: Sendable {
        package var ttl: UInt64
        package var deadline: UInt64
        package var owner: LeaseStatus.Owner
    }

    package struct Lock: Sendable {
        package var tickets: [LockTicket]
        package var createRevision: UInt64
        package var modRevision: UInt64
    }

    package struct Answered: Sendable {
        package var fingerprint: UInt128
        package var time: UInt64
        package var outcome: Outcome
    }

    package var items: [ArraySlice<UInt8>: Item] = [:]
    package var leases: [UInt64: Lease] = [:]
    package var locks: [[UInt8]: Lock] = [:]
    package var answered: [[UInt8]: Answered] = [:]
    package var revision: UInt64 = 0
    package var now: UInt64 = 0
    package var lastLease: UInt64 = 0
    /// Whether the present command has taken its revision.
    var hasRevision = false
    /// How many outcomes are kept.
    package var maximumAnswered = Int.max

    package init() {}

    package var sorted: [Item] { items.values.sorted { $0.key.lexicographicallyPrecedes($1.key) } }

    package func count(prefix: [UInt8]) -> Int { items.keys.count { $0.starts(with: prefix) } }

    /// One page, by brute force over ``sorted``.
    package func page(
        _ query: RangeQuery,
        of sorted: [Item]
    ) -> (items: [Item], groups: [[UInt8]], more: Bool, last: [UInt8]?) {
        var keys = sorted.filter { $0.key.starts(with: query.prefix) }
        if query.reverse { keys.reverse() }
        var (page, groups, last) = ([Item](), [[UInt8]](), [UInt8]?.none)
        var bytes = 0
        let seenGroup = query.after.flatMap { $0 == group(of: $0[...], query) ? $0 : nil }
        for item in keys {
            if let start = query.start, item.key.lexicographicallyPrecedes(start) { continue }
            if let end = query.end, !item.key.lexicographicallyPrecedes(end) { continue }
            let group = group(of: item.key, query)
            if let after = query.after {
                if let group, group == seenGroup { continue }
                let isBehind =
                    query.reverse
                    ? item.key.lexicographicallyPrecedes(after) : after.lexicographicallyPrecedes(item.key)
                guard isBehind else { continue }
            }
            if let group, group == groups.last { continue }
            let size = group?.count ?? item.key.count + (query.keysOnly ? 0 : item.value.count)
            let isFull = page.count + groups.count >= max(1, query.limit) || bytes + size > query.maximumBytes
            if isFull, last != nil { return (page, groups, true, last) }
            bytes += size
            if let group {
                groups.append(group)
            } else {
                var item = item
                if query.keysOnly { item.value = [] }
                page.append(item)
            }
            last = group ?? Array(item.key)
        }
        return (page, groups, false, last)
    }

    private func group(of key: ArraySlice<UInt8>, _ query: RangeQuery) -> [UInt8]? {
        guard let delimiter = query.delimiter, !delimiter.isEmpty, key.starts(with: query.prefix) else { return nil }
        var rest = key.dropFirst(query.prefix.count)
        while rest.count >= delimiter.count {
            if rest.starts(with: delimiter) { return Array(key[..<(rest.startIndex + delimiter.count)]) }
            rest = rest.dropFirst()
        }
        return nil
    }
}
