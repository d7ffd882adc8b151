internal import LMDB

/// One consistent cut of the state: the memtables as they stood and a snapshot of the environment below them.
///
/// It must be made under the lock of the live state: the transaction is begun while no memtable can be dropped, so that nothing
/// is missing between the levels. The frozen memtable may already be in the environment too, which changes nothing.
struct ReadView: ~Copyable {
    let active: Memtable
    let frozen: Memtable?
    let backend: Backend
    let transaction: ReadTransaction
    let mark: StateMark
}

/// An item that a scan passes: valid inside the visit only.
struct ScannedItem {
    fileprivate enum Source {
        case memory(MemtableEntry)
        case stored(StoredRecord, key: UnsafeRawBufferPointer, Backend)
    }

    fileprivate var source: Source

    init(_ entry: MemtableEntry) { source = .memory(entry) }

    init(_ record: StoredRecord, key: UnsafeRawBufferPointer, _ backend: Backend) {
        source = .stored(record, key: key, backend)
    }

    /// With the raw key.
    func withKey<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        switch source {
        case .memory(let entry): try entry.withKey(body)
        case .stored(_, let key, _): try body(key)
        }
    }

    /// Without the space's byte.
    func withUserKey<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try withKey { try body(UnsafeRawBufferPointer(rebasing: $0.dropFirst())) }
    }

    var metadata: ItemMetadata {
        switch source {
        case .memory(let entry): entry.metadata
        case .stored(let record, _, _): record.metadata
        }
    }

    var valueLength: Int {
        switch source {
        case .memory(let entry): Int(entry.valueLength)
        case .stored(let record, _, _): record.valueLength
        }
    }

    /// What the item adds to the state's hash; `isRecomputed` from the content of a stored one, whatever was stored with it.
    func hash(isRecomputed: Bool) throws -> UInt128 {
        switch source {
        case .memory(let entry): entry.hash
        case .stored(let record, let key, let backend):
            isRecomputed
                ? try backend.recomputedHash(of: record, key: key) : record.storedHash
        }
    }

    /// What was stored with the item as its hash.
    var storedHash: UInt128 {
        switch source {
        case .memory(let entry): entry.hash
        case .stored(let record, _, _): record.storedHash
        }
    }

    func item(keysOnly: Bool) throws -> Item {
        switch source {
        case .memory(let entry): entry.item(keysOnly: keysOnly)
        case .stored(let record, let key, let backend): try backend.item(record, key: key, keysOnly: keysOnly)
        }
    }
}

/// How a scan goes on.
enum ScanStep {
    case next
    /// To the first key that is not below this one; in reverse, to the last that is below it.
    case jump([UInt8])
    case stop
}

/// A place in a memtable that moves in one direction.
private struct MemtableCursor {
    let table: Memtable
    let isReverse: Bool
    private var position: Memtable.Position?
    private(set) var entry: MemtableEntry?

    init?(_ table: Memtable?, isReverse: Bool) {
        guard let table, !table.isEmpty else { return nil }
        self.table = table
        self.isReverse = isReverse
    }

    mutating func seek(_ key: [UInt8]?) {
        guard let key else {
            move(to: isReverse ? table.last : table.first)
            return
        }
        move(to: key.withUnsafeBytes { isReverse ? table.position(below: $0) : table.position(atLeast: $0) })
    }

    mutating func advance() {
        guard let position else { return }
        move(to: isReverse ? table.position(before: position) : table.position(after: position))
    }

    private mutating func move(to position: Memtable.Position?) {
        self.position = position
        entry = position.map { table[$0] }
    }
}

/// Merges the levels of a view: the newest level that knows a key decides.
private struct MergeScan: ~Copyable {
    private enum Level: Int {
        case active, frozen, stored
    }

    private let isReverse: Bool
    private var active: MemtableCursor?
    private var frozen: MemtableCursor?
    private var stored: Cursor.Item?

    init(_ view: borrowing ReadView, isReverse: Bool) {
        self.isReverse = isReverse
        active = MemtableCursor(view.active, isReverse: isReverse)
        frozen = MemtableCursor(view.frozen, isReverse: isReverse)
    }

    /// Nil or an empty key is the beginning, in the direction of the scan.
    mutating func seek(_ key: [UInt8]?, _ cursor: inout Cursor) throws {
        active?.seek(key)
        frozen?.seek(key)
        try seekStored(key, &cursor)
    }

    private mutating func seekStored(_ key: [UInt8]?, _ cursor: inout Cursor) throws {
        switch (isReverse, key) {
        case (false, let key?) where !key.isEmpty: stored = try cursor.seek(atLeast: key)
        case (false, _): stored = try cursor.first()
        case (true, let key?): stored = key.isEmpty ? nil : try cursor.seek(below: key)
        case (true, nil): stored = try cursor.last()
        }
    }

    /// The level with the key that comes first; the newest of those that share it.
    private func front() -> Level? {
        var best: Level?
        for level in [Level.active, .frozen, .stored] where has(level) {
            guard let other = best else {
                best = level
                continue
            }
            let order = compare(level, other)
            if isReverse ? order > 0 : order < 0 { best = level }
        }
        return best
    }

    private func has(_ level: Level) -> Bool {
        switch level {
        case .active: active?.entry != nil
        case .frozen: frozen?.entry != nil
        case .stored: stored != nil
        }
    }

    private func compare(_ left: Level, _ right: Level) -> Int {
        withKey(left) { left in withKey(right) { right in left.compare(to: right) } }
    }

    private func withKey<Result>(_ level: Level, _ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        let entry =
            switch level {
            case .active: active?.entry
            case .frozen: frozen?.entry
            case .stored: nil as MemtableEntry?
            }
        if let entry { return try entry.withKey(body) }
        return try body(stored?.key ?? UnsafeRawBufferPointer(start: nil, count: 0))
    }

    /// Moves every level that stands at the front's key.
    private mutating func advance(_ front: Level, _ cursor: inout Cursor) throws {
        let movesFrozen = front.rawValue <= Level.frozen.rawValue && has(.frozen) && compare(front, .frozen) == 0
        let movesStored = has(.stored) && compare(front, .stored) == 0
        if front == .active { active?.advance() }
        if movesFrozen { frozen?.advance() }
        if movesStored { stored = isReverse ? try cursor.previous() : try cursor.next() }
    }

    /// The prefix deleted in a newer level that hides the front's key.
    private func hidingPrefix(_ front: Level) -> [UInt8]? {
        guard front != .active else { return nil }
        return withKey(front) { key in
            active?.table.deletedPrefix(of: key)
                ?? (front == .stored ? frozen?.table.deletedPrefix(of: key) : nil)
        }
    }

    /// Runs over the visible items within the bounds, and over tombstones where they are asked for; calls `passing` for whatever it looks at.
    mutating func run(
        _ bounds: KeyBounds,
        _ backend: Backend,
        _ cursor: inout Cursor,
        includesTombstones: Bool,
        passing: () throws -> Void,
        visit: (ScannedItem) throws -> ScanStep
    ) throws {
        try seek(isReverse ? bounds.upper : bounds.lower, &cursor)
        while let front = front() {
            let isOutside = withKey(front) { isReverse ? bounds.isBelowLower($0) : bounds.isBeyondUpper($0) }
            if isOutside { return }
            try passing()
            if let prefix = hidingPrefix(front) {
                try skip(front, hiddenBy: prefix, &cursor)
                continue
            }
            guard let item = try visibleItem(front, backend, includesTombstones) else {
                try advance(front, &cursor)
                continue
            }
            switch try visit(item) {
            case .next: try advance(front, &cursor)
            case .jump(let key): try seek(key, &cursor)
            case .stop: return
            }
        }
    }

    private func visibleItem(
        _ front: Level,
        _ backend: Backend,
        _ includesTombstones: Bool
    ) throws -> ScannedItem? {
        let entry =
            switch front {
            case .active: active?.entry
            case .frozen: frozen?.entry
            case .stored: nil as MemtableEntry?
            }
        if let entry { return entry.isTombstone && !includesTombstones ? nil : ScannedItem(entry) }
        guard let stored else { return nil }
        return ScannedItem(try backend.decode(stored.value, key: stored.key), key: stored.key, backend)
    }

    /// Moves one level past a run of keys that a newer level hides.
    private mutating func skip(_ front: Level, hiddenBy prefix: [UInt8], _ cursor: inout Cursor) throws {
        if front == .frozen {
            frozen?.advance()
            return
        }
        if isReverse {
            try seekStored(prefix, &cursor)
        } else if let next = KeyBounds.successor(ofPrefix: prefix) {
            try seekStored(next, &cursor)
        } else {
            stored = nil
        }
    }
}

extension ReadView {
    /// Calls `visit` for each record within `bounds` of raw keys, in their order; with
    /// `includesTombstones` also for those of the memtables. `passing` is called for each place that is looked at on the way, visible or not.
    func scan(
        _ bounds: KeyBounds,
        isReverse: Bool = false,
        includesTombstones: Bool = false,
        passing: () throws -> Void = {},
        visit: (ScannedItem) throws -> ScanStep
    ) throws {
        guard !bounds.isEmpty else { return }
        var merge = MergeScan(self, isReverse: isReverse)
        try backend.withItemCursor(in: transaction) { cursor in
            try merge.run(
                bounds,
                backend,
                &cursor,
                includesTombstones: includesTombstones,
                passing: passing,
                visit: visit
            )
        }
    }
}
