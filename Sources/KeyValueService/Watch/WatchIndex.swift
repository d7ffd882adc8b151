internal import KeyValue

/// Finds who watches a key: one look-up for the key itself, and one for each length that a watched prefix has. What it costs does not
/// grow with the number of those who watch other keys.
struct WatchIndex {
    private struct Group {
        var watches: [UInt64: Watch] = [:]
        /// How many of them want to see what was there before.
        var wantingPrevious = 0

        var isEmpty: Bool { watches.isEmpty }

        mutating func insert(_ watch: Watch) {
            watches[watch.number] = watch
            if watch.filter.withPrevious { wantingPrevious += 1 }
        }

        /// False when it was not there.
        mutating func remove(_ watch: Watch) -> Bool {
            guard watches.removeValue(forKey: watch.number) != nil else { return false }
            if watch.filter.withPrevious { wantingPrevious -= 1 }
            return true
        }
    }

    private var byKey: [ArraySlice<UInt8>: Group] = [:]
    private var byPrefix: [ArraySlice<UInt8>: Group] = [:]
    /// The lengths that watched prefixes have, in order, and how many prefixes have each.
    private var lengths: [(length: Int, count: Int)] = []
    /// How many of them want to see what was there before.
    private(set) var wantingPrevious = 0

    var isEmpty: Bool { byKey.isEmpty && byPrefix.isEmpty }

    var all: [Watch] { (Array(byKey.values) + Array(byPrefix.values)).flatMap { $0.watches.values } }

    mutating func insert(_ watch: Watch) {
        if watch.filter.withPrevious { wantingPrevious += 1 }
        switch watch.filter.match {
        case .key(let key): byKey[key[...], default: Group()].insert(watch)
        case .prefix(let prefix):
            if byPrefix[prefix[...]] == nil { note(prefix.count, 1) }
            byPrefix[prefix[...], default: Group()].insert(watch)
        }
    }

    /// False when it was not there.
    mutating func remove(_ watch: Watch) -> Bool {
        switch watch.filter.match {
        case .key(let key):
            guard byKey[key[...]]?.remove(watch) == true else { return false }
            if byKey[key[...]]?.isEmpty == true { byKey[key[...]] = nil }
        case .prefix(let prefix):
            guard byPrefix[prefix[...]]?.remove(watch) == true else { return false }
            if byPrefix[prefix[...]]?.isEmpty == true {
                byPrefix[prefix[...]] = nil
                note(prefix.count, -1)
            }
        }
        if watch.filter.withPrevious { wantingPrevious -= 1 }
        return true
    }

    func forEach(of key: ArraySlice<UInt8>, _ body: (Watch) -> Void) {
        forEachGroup(of: key) { for watch in $0.watches.values { body(watch) } }
    }

    /// Whether one of those who watch the key wants to see what was there before.
    func wantsPrevious(of key: ArraySlice<UInt8>) -> Bool {
        guard wantingPrevious > 0 else { return false }
        var isWanted = false
        forEachGroup(of: key) { isWanted = isWanted || $0.wantingPrevious > 0 }
        return isWanted
    }

    private func forEachGroup(of key: ArraySlice<UInt8>, _ body: (Group) -> Void) {
        if let group = byKey[key] { body(group) }
        for (length, _) in lengths {
            guard length <= key.count else { break }
            if let group = byPrefix[key.prefix(length)] { body(group) }
        }
    }

    private mutating func note(_ length: Int, _ change: Int) {
        let position = lengths.firstIndex { $0.length >= length } ?? lengths.count
        if position == lengths.count || lengths[position].length != length {
            lengths.insert((length, change), at: position)
        } else {
            lengths[position].count += change
            if lengths[position].count == 0 { lengths.remove(at: position) }
        }
    }
}
