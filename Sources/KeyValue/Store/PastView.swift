internal import LMDB

/// A consistent cut of the state with its history. Like a ``ReadView`` it must be made under the lock of the live state.
struct PastView: ~Copyable {
    let now: ReadView
    let activeLog: EventLog
    let frozenLog: EventLog?
    /// Revisions at and above it can be read.
    let floor: UInt64

    func check(_ revision: UInt64) throws(HistoryError) {
        if revision > now.mark.revision { throw .future(revision: now.mark.revision) }
        if revision < floor { throw .compacted(compactRevision: floor) }
    }
}

extension LiveState {
    func makePastView() throws -> PastView {
        PastView(
            now: try makeView(),
            activeLog: log,
            frozenLog: frozen?.log,
            floor: history.floor.revision
        )
    }
}

/// A key as it stood at a revision.
enum PastItem {
    case absent
    case memory(MemtableEntry)
    case stored(StoredRecord)

    func item(key: UnsafeRawBufferPointer, _ backend: Backend, keysOnly: Bool = false) throws -> Item? {
        switch self {
        case .absent: nil
        case .memory(let entry): entry.item(keysOnly: keysOnly)
        case .stored(let record): try backend.item(record, key: key, keysOnly: keysOnly)
        }
    }
}

extension Memtable {
    /// A key as it stood at `revision`, with the log that belongs to the table; nil when the levels below decide.
    fileprivate func find(_ key: UnsafeRawBufferPointer, at revision: UInt64, _ log: EventLog) -> PastItem? {
        let (position, isFound) = find(key)
        if isFound {
            var entry = self[position]
            while true {
                if entry.metadata.modRevision <= revision { return entry.isTombstone ? .absent : .memory(entry) }
                // A change that the log does not hold lies below the floor, or is of a key that has no history.
                guard let place = log.find(key, in: entry.metadata.modRevision),
                    let earlier = log.find(key, in: log[place].previous)
                else { break }
                entry = log[earlier].entry
            }
        }
        return deletedPrefix(of: key) == nil ? nil : .absent
    }
}

extension PastView {
    /// The levels of the state, from the newest.
    enum Level {
        case active, frozen, stored
    }

    /// A key as it stood at `revision`, which ``check(_:)`` has let pass. What is stored is valid as long as the view.
    func find(_ key: UnsafeRawBufferPointer, at revision: UInt64, from level: Level = .active) throws -> PastItem {
        if level == .active, let found = now.active.find(key, at: revision, activeLog) { return found }
        if level != .stored, let table = now.frozen, let log = frozenLog,
            let found = table.find(key, at: revision, log)
        {
            return found
        }
        let record = try now.backend.record(of: key, at: revision, in: now.transaction)
        return record.map { .stored($0) } ?? .absent
    }

    /// Calls `visit` for each item within `bounds` as it stood at `revision`, in the order of the keys, and `pass` behind each key that
    /// was looked at, whether it was there or not, and that the scan goes on behind; it answers whether it does.
    func scan(
        _ bounds: KeyBounds,
        at revision: UInt64,
        isReverse: Bool = false,
        pass: (UnsafeRawBufferPointer) -> Bool = { _ in true },
        visit: (ScannedItem) throws -> ScanStep
    ) throws {
        guard revision < now.mark.revision else { return try now.scan(bounds, isReverse: isReverse, visit: visit) }
        try scanKeys(bounds, isReverse: isReverse) { key in
            let step: ScanStep =
                switch try find(key, at: revision) {
                case .absent: .next
                case .memory(let entry): try visit(ScannedItem(entry))
                case .stored(let record): try visit(ScannedItem(record, key: key, now.backend))
                }
            if case .next = step, !pass(key) { return .stop }
            return step
        }
    }

    /// Calls `visit` for each key within `bounds` that is there or that the history knows, in their order.
    private func scanKeys(
        _ bounds: KeyBounds,
        isReverse: Bool,
        visit: (UnsafeRawBufferPointer) throws -> ScanStep
    ) throws {
        guard !bounds.isEmpty else { return }
        try now.backend.withCursor(in: now.backend.deletions, now.transaction) { cursor in
            var deleted = DeletedKeys(bounds, isReverse: isReverse)
            try deleted.seek(isReverse ? bounds.upper : bounds.lower, &cursor)
            var isStopped = false
            try now.scan(bounds, isReverse: isReverse, includesTombstones: true) { item in
                let step = try item.withKey { key in
                    if let step = try deleted.visitThose(before: key, &cursor, visit) { return step }
                    try deleted.skip(key, &cursor)
                    return try visit(key)
                }
                switch step {
                case .next: break
                case .jump(let key): try deleted.seek(key, &cursor)
                case .stop: isStopped = true
                }
                return step
            }
            while !isStopped, let step = try deleted.visitThose(before: nil, &cursor, visit) {
                switch step {
                case .next: break
                case .jump(let key): try deleted.seek(key, &cursor)
                case .stop: isStopped = true
                }
            }
        }
    }
}

/// A place among the keys that are deleted, moved in one direction.
private struct DeletedKeys {
    private let bounds: KeyBounds
    private let isReverse: Bool
    private var current: UnsafeRawBufferPointer?

    init(_ bounds: KeyBounds, isReverse: Bool) {
        self.bounds = bounds
        self.isReverse = isReverse
    }

    /// As in a scan: nil or an empty key is the beginning, in its direction.
    mutating func seek(_ key: [UInt8]?, _ cursor: inout Cursor) throws {
        switch (isReverse, key) {
        case (false, let key?) where !key.isEmpty: take(try cursor.seek(atLeast: key))
        case (false, _): take(try cursor.first())
        case (true, let key?): take(key.isEmpty ? nil : try cursor.seek(below: key))
        case (true, nil): take(try cursor.last())
        }
    }

    private mutating func take(_ item: Cursor.Item?) {
        current = item.flatMap { item in
            let isOutside = isReverse ? bounds.isBelowLower(item.key) : bounds.isBeyondUpper(item.key)
            return isOutside ? nil : item.key
        }
    }

    private mutating func advance(_ cursor: inout Cursor) throws {
        take(isReverse ? try cursor.previous() : try cursor.next())
    }

    /// Moves on when it stands at `key`.
    mutating func skip(_ key: UnsafeRawBufferPointer, _ cursor: inout Cursor) throws {
        if let current, current.compare(to: key) == 0 { try advance(&cursor) }
    }

    /// Visits the keys that come before `key`, nil for all. Answers the first step other than to the next one; nil when there was none.
    mutating func visitThose(
        before key: UnsafeRawBufferPointer?,
        _ cursor: inout Cursor,
        _ visit: (UnsafeRawBufferPointer) throws -> ScanStep
    ) throws -> ScanStep? {
        while let current {
            if let key {
                let order = current.compare(to: key)
                guard isReverse ? order > 0 : order < 0 else { return nil }
            }
            let step = try visit(current)
            guard case .next = step else { return step }
            try advance(&cursor)
        }
        return nil
    }
}
