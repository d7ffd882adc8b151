internal import Glibc
internal import LMDB

/// A memtable on its way to the disk, with the record of the state as it stood when it was frozen.
struct FrozenMemtable: Sendable {
    let table: Memtable
    let log: EventLog
    let record: StateRecord
    var history: HistoryState

    /// What it takes in memory, or will take in the flush.
    var bytes: Int { table.bytes + log.bytes }
}

/// What the store's lock guards.
struct LiveState: Sendable {
    var active = Memtable()
    /// The changes that made ``active``.
    var log: EventLog
    var history: HistoryState
    /// While a flush runs, or after one failed.
    var frozen: FrozenMemtable?
    var backend: Backend
    /// How the state stands, what is not durable included.
    var record: StateRecord
    /// How the state stands in the environment.
    var durable: StateRecord
    /// When the oldest change was applied that is not being flushed; nil when there is none. Nanoseconds, monotonic.
    var oldestUnflushed: UInt64?

    /// When leases end.
    var leaseClock = LeaseClock()
    /// Which outcomes are to be forgotten next.
    var outcomeAges = OutcomeAges()
    /// While a command is executed that may yet be refused, or may change a record more than once.
    var scratch: Scratch?
    /// What was before the present entry, while its command may yet be put off.
    var undo: Undo?
    /// The command of the next entry, while it is executed on a copy.
    var longCommand: LongCommand?
    /// How many pages the flush of the active memtable changes at most, but for the history.
    var itemPages = 0
    /// How often the active memtable was set aside.
    var freezes = 0
    /// While the state's hash is being recomputed.
    var audit: Audit?

    /// Bytes of keys and values that the present command has replaced or deleted.
    var replacedBytes: UInt64 = 0

    let commandAllowance: Int
    let maximumFlushPages: Int
    private let memtableBytes: Int
    let maximumTombstones: Int
    /// What one command may replace or delete without an end of the history: a flush copies what it replaces.
    let maximumReplacedBytes: UInt64
    let maximumIdempotencyRecords: UInt64
    let historyBounds: HistoryState.Bounds

    init(backend: Backend, record: StateRecord, history: HistoryState, options: StoreOptions) throws {
        self.backend = backend
        commandAllowance = options.commandAllowance
        maximumFlushPages = options.maximumFlushPages
        memtableBytes = min(options.memtableBytes, 1 << 40)
        maximumTombstones = options.maximumTombstones
        maximumReplacedBytes = UInt64(clamping: options.maximumReplacedBytes)
        maximumIdempotencyRecords = options.testOnlyMaximumIdempotencyRecords
        historyBounds = HistoryState.Bounds(options)
        self.history = history
        log = EventLog(base: record.mark.revision)
        self.record = record
        durable = record
        if record.leaseCount > 0 { try readLeases() }
    }

    /// Learns when the stored leases end.
    private mutating func readLeases() throws {
        let view = try makeView()
        var clock = LeaseClock()
        try view.scan(KeyBounds(prefix: [Space.leases.rawValue])) { scanned in
            let item = try scanned.item(keysOnly: false)
            guard let id = UInt64(bigEndianBytes: item.key), let lease = LeaseRecord(decoding: item.value) else {
                throw StoreError.malformedRecord(.leases, item.key, path: backend.path)
            }
            clock.set(id, deadline: lease.deadline)
            return .next
        }
        leaseClock = clock
    }

    /// What of ``pendingBytes`` no flush has taken up. It reaches the bound of the memtable when three quarters of a flush's pages are used up, too.
    var activeBytes: Int { max(active.bytes + log.bytes, flushPages * memtableBytes / (maximumFlushPages * 3 / 4)) }

    /// How many pages the flush of the active memtable changes at most. Records of the history lie one behind the other.
    private var flushPages: Int { itemPages + log.bytes >> 11 + log.count >> 3 }

    /// Nothing more can be applied before a flush sets the active memtable aside.
    var isFull: Bool { flushPages >= maximumFlushPages }

    var pendingBytes: Int { activeBytes + (frozen?.bytes ?? 0) }

    func makeView() throws -> ReadView {
        ReadView(
            active: active,
            frozen: frozen?.table,
            backend: backend,
            transaction: try backend.environment.beginRead(),
            mark: record.mark
        )
    }

    // MARK: Applying

    mutating func advance(index: UInt64, term: UInt64) {
        precondition(index == record.mark.index + 1, "entries are applied in order, each once")
        if oldestUnflushed == nil { oldestUnflushed = monotonicNanoseconds() }
        record.mark.index = index
        record.mark.term = term
    }

    /// Applies one command.
    mutating func execute(
        _ layout: CommandLayout,
        _ payload: [UInt8],
        _ reader: inout BatchReader
    ) throws -> Outcome {
        defer { settleHistory() }
        guard layout.isPlain else { return try applyDecoded(layout, payload, &reader) }
        try beginCommand(at: layout.timestampMilliseconds, &reader)
        if layout.operation == .deletePrefix {
            guard record.leaseCount == 0 else { return try applyDecoded(layout, payload, &reader) }
            let count = try deletePrefix(Array(payload[layout.rawKey]), &reader)
            return .deleted(revision: record.mark.revision, count: count, previous: nil)
        }
        let current = try payload.withUnsafeBytes {
            try find(
                UnsafeRawBufferPointer(rebasing: $0[layout.rawKey]),
                withItem: layout.returnsPrevious,
                &reader
            )
        }
        guard layout.condition.holds(modRevision: current.metadata?.modRevision) else {
            return .conditionFailed(revision: record.mark.revision, current: current.metadata)
        }
        // What changes more than the key goes the longer way.
        if let lease = current.metadata?.lease, lease != 0 { return try applyDecoded(layout, payload, &reader) }
        guard layout.operation == .put else { return delete(layout, payload, current) }
        try reader.spend(hashing: layout.valueLength)
        return put(layout, payload, over: current)
    }

    /// What precedes the execution of every command.
    mutating func beginCommand(at time: UInt64, _ reader: inout BatchReader) throws {
        record.mark.timestampMilliseconds = max(record.mark.timestampMilliseconds, time)
        if record.idempotencyCount > 0 { try forgetOldOutcomes(&reader) }
    }

    private mutating func put(_ layout: CommandLayout, _ payload: [UInt8], over current: CurrentKey) -> Outcome {
        record.mark.revision += 1
        let revision = record.mark.revision
        let metadata = ItemMetadata(
            createRevision: current.metadata?.createRevision ?? revision,
            modRevision: revision,
            version: (current.metadata?.version ?? 0) + 1,
            lease: 0
        )
        set(MemtableEntry(put: layout, payload: payload, metadata: metadata), over: current)
        return .put(
            revision: revision,
            createRevision: metadata.createRevision,
            version: metadata.version,
            created: current.metadata == nil,
            previous: current.item
        )
    }

    private mutating func delete(_ layout: CommandLayout, _ payload: [UInt8], _ current: CurrentKey) -> Outcome {
        guard current.metadata != nil else {
            return .deleted(revision: record.mark.revision, count: 0, previous: nil)
        }
        record.mark.revision += 1
        set(MemtableEntry(tombstoneIn: payload, key: layout.rawKey, revision: record.mark.revision), over: current)
        return .deleted(revision: record.mark.revision, count: 1, previous: current.item)
    }

    // MARK: Changes

    /// Makes `entry`, a record or a tombstone, what there is of its raw key. Every change of the state goes through here, but for
    /// ``hide(_:_:)``.
    ///
    /// `current` is what ``find(_:withItem:_:)`` just told of the key. A tombstone is only set over a record that is there. Where the space has a
    /// history, the entry's revision is that of the command. While there is a ``scratch``, this is a draft: a key may be set several times, and
    /// what is left of it is set for good, once for each key, when the command is done.
    mutating func set(_ entry: MemtableEntry, over current: CurrentKey) {
        let isThere = current.metadata != nil
        precondition(isThere || !entry.isTombstone, "a tombstone for what is not there")
        record.hash = record.hash &- current.hash &+ entry.hash
        if entry.space == Space.keys.rawValue {
            record.contentBytes -= UInt64(isThere ? current.contentSize : 0)
            record.contentBytes += UInt64(entry.isTombstone ? 0 : entry.contentSize)
        }
        if isThere == entry.isTombstone { count(entry.isTombstone ? .max : 1, inSpace: entry.space) }
        if scratch == nil {
            countPages(entry, over: current)
            noteInHistory(entry, over: current)
        }
        active.put(entry, at: current.position, replacing: current.isInActive)
        if scratch == nil {
            if audit != nil { entry.withKey { audit?.note($0, change: entry.hash &- current.hash) } }
            if entry.space == Space.leases.rawValue { noteDeadline(entry) }
        } else {
            scratch?.changed.put(entry)
        }
    }

    /// Deletes all user keys that begin with a prefix at once, too many for a tombstone each.
    mutating func hide(_ rawPrefix: [UInt8], _ doomed: Doomed) {
        record.hash &-= doomed.hash
        record.keyCount -= UInt64(doomed.count)
        record.recordCount -= UInt64(doomed.count)
        record.contentBytes -= doomed.contentBytes
        active.deletePrefix(rawPrefix)
        if scratch == nil {
            // Those at both ends; one that becomes empty in between is used again.
            itemPages += 16
            audit = nil
            forgetHistory()
        } else {
            scratch?.hidden.append((rawPrefix, doomed))
        }
    }

    /// Anywhere in the state: the page that holds a record, another one where that is split or merged, and those of a large value. A key that comes
    /// or goes is looked for among those that were deleted, too.
    private mutating func countPages(_ entry: MemtableEntry, over current: CurrentKey) {
        if !current.isInActive { itemPages += 2 }
        itemPages += entry.size >> 12
        let isThere = current.metadata != nil
        if isThere == entry.isTombstone, Space(rawValue: entry.space)?.hasHistory ?? false { itemPages += 2 }
    }

    /// Counts records; `change` is added modulo 2^64.
    private mutating func count(_ change: UInt64, inSpace space: UInt8) {
        record.recordCount &+= change
        switch Space(rawValue: space) {
        case .keys: record.keyCount &+= change
        case .locks: record.lockCount &+= change
        case .leases: record.leaseCount &+= change
        case .idempotency: record.idempotencyCount &+= change
        case .attachments, .idempotencyTimes, nil: break
        }
    }

    // MARK: One key

    /// What a command finds of a raw key.
    struct CurrentKey {
        /// Nil when the key is not there.
        var metadata: ItemMetadata?
        /// Bytes of key, without its space's byte, and value.
        var contentSize = 0
        /// What it adds to the state's hash; 0 when it is not there.
        var hash: UInt128 = 0
        /// When it was asked for.
        var item: Item?
        /// The key's place in the active memtable, where it is or would be.
        var position: Memtable.Position
        var isInActive = false
    }

    func find(
        _ key: UnsafeRawBufferPointer,
        withItem: Bool,
        _ reader: inout BatchReader
    ) throws -> CurrentKey {
        let (position, isInActive) = active.find(key)
        var current = CurrentKey(position: position, isInActive: isInActive)
        try reader.spend(2)
        switch lookUp(key, active: isInActive ? active[position] : nil) {
        case .gone: break
        case .entry(let entry):
            current.metadata = entry.metadata
            current.contentSize = entry.contentSize
            current.hash = entry.hash
            if withItem { current.item = entry.item() }
        case .below:
            try reader.withTransaction(of: backend) { transaction in
                guard let record = try backend.record(of: key, in: transaction) else { return }
                current.metadata = record.metadata
                current.contentSize = key.count - 1 + record.valueLength
                current.hash = record.storedHash
                if withItem { current.item = try backend.item(record, key: key) }
            }
        }
        if withItem { try reader.spend(reading: current.contentSize) }
        return current
    }

    enum Lookup {
        case entry(MemtableEntry)
        case gone
        /// The memtables know nothing of the key; the environment decides.
        case below
    }

    /// What the memtables know of a key.
    func lookUp(_ key: UnsafeRawBufferPointer) -> Lookup {
        let (position, isFound) = active.find(key)
        return lookUp(key, active: isFound ? active[position] : nil)
    }

    private func lookUp(_ key: UnsafeRawBufferPointer, active entry: MemtableEntry?) -> Lookup {
        if let entry { return entry.isTombstone ? .gone : .entry(entry) }
        if active.deletedPrefix(of: key) != nil { return .gone }
        guard let table = frozen?.table else { return .below }
        let (position, isFound) = table.find(key)
        if isFound {
            let entry = table[position]
            return entry.isTombstone ? .gone : .entry(entry)
        }
        return table.deletedPrefix(of: key) != nil ? .gone : .below
    }
}

/// Nanoseconds on a clock that never goes back.
func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
