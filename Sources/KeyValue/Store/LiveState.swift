internal import Glibc
internal import LMDB

/// A memtable on its way to the disk, with the record of the state as it stood when it was frozen.
struct FrozenMemtable: Sendable {
    let table: Memtable
    let record: StateRecord
}

/// What the store's lock guards.
struct LiveState: Sendable {
    var active = Memtable()
    /// While a flush runs, or after one failed.
    var frozen: FrozenMemtable?
    var backend: Backend
    /// How the state stands, what is not durable included.
    var record: StateRecord
    /// How the state stands in the environment.
    var durable: StateRecord
    /// When the oldest change was applied that is not being flushed; nil when there is none. Nanoseconds, monotonic.
    var oldestUnflushed: UInt64?

    /// While the state's hash is being recomputed.
    var audit: Audit?

    private let maximumTombstones: Int

    init(backend: Backend, record: StateRecord, options: StoreOptions) {
        self.backend = backend
        maximumTombstones = options.maximumTombstones
        self.record = record
        durable = record
    }

    var pendingBytes: Int { active.bytes + (frozen?.table.bytes ?? 0) }

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

    /// Applies one command. The reader must have been begun under the present hold of the lock.
    mutating func apply(_ payload: [UInt8], _ reader: inout BatchReader) throws -> Outcome {
        let layout: CommandLayout
        do throws(InvalidCommand) {
            layout = try payload.withUnsafeBufferPointer { (bytes) throws(InvalidCommand) in
                try CommandLayout(decoding: UnsafeRawBufferPointer(bytes))
            }
        } catch {
            return .invalid(error)
        }
        record.mark.timestampMilliseconds = max(record.mark.timestampMilliseconds, layout.timestampMilliseconds)
        if layout.operation == .deletePrefix { return try deletePrefix(Array(payload[layout.key])) }
        let current = try payload.withUnsafeBytes {
            try find(
                UnsafeRawBufferPointer(rebasing: $0[layout.key]),
                withItem: layout.returnsPrevious,
                &reader
            )
        }
        guard layout.condition.holds(modRevision: current.metadata?.modRevision) else {
            return .conditionFailed(revision: record.mark.revision, current: current.metadata)
        }
        return layout.operation == .put
            ? put(layout, payload, over: current)
            : delete(layout, payload, current)
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
        let entry = MemtableEntry(put: layout, payload: payload, metadata: metadata)
        entry.withKey { rehash($0, from: current.hash, to: entry.hash) }
        active.put(entry, at: current.position, replacing: current.isInActive)
        if current.metadata == nil { record.keyCount += 1 }
        record.contentBytes += UInt64(entry.contentSize)
        record.contentBytes -= UInt64(current.contentSize)
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
        record.keyCount -= 1
        record.contentBytes -= UInt64(current.contentSize)
        let tombstone = MemtableEntry(tombstoneIn: payload, key: layout.key)
        tombstone.withKey { rehash($0, from: current.hash, to: 0) }
        active.put(tombstone, at: current.position, replacing: current.isInActive)
        return .deleted(revision: record.mark.revision, count: 1, previous: current.item)
    }

    private mutating func deletePrefix(_ prefix: [UInt8]) throws -> Outcome {
        let doomed = try collect(prefix)
        guard doomed.count > 0 else { return .deleted(revision: record.mark.revision, count: 0, previous: nil) }
        record.mark.revision += 1
        record.keyCount -= UInt64(doomed.count)
        record.contentBytes -= doomed.contentBytes
        if doomed.count <= maximumTombstones {
            for (key, hash) in doomed.keys {
                key.withUnsafeBytes { rehash($0, from: hash, to: 0) }
                active.put(MemtableEntry(tombstoneIn: key, key: 0..<key.count))
            }
        } else {
            record.hash &-= doomed.hash
            audit = nil
            active.deletePrefix(prefix)
        }
        return .deleted(revision: record.mark.revision, count: doomed.count, previous: nil)
    }

    /// Keeps the state's hash up with the change of one item; 0 stands for none.
    private mutating func rehash(_ key: UnsafeRawBufferPointer, from old: UInt128, to new: UInt128) {
        record.hash = record.hash &- old &+ new
        audit?.note(key, change: new &- old)
    }

    /// What goes with a deleted prefix.
    private struct Doomed {
        var count = 0
        var contentBytes: UInt64 = 0
        var hash: UInt128 = 0
        /// The first of them, with their hashes.
        var keys: [(key: [UInt8], hash: UInt128)] = []
    }

    private func collect(_ prefix: [UInt8]) throws -> Doomed {
        var doomed = Doomed()
        try makeView().scan(KeyBounds(prefix: prefix)) { item in
            let hash = try item.hash(isRecomputed: false)
            item.withKey { key in
                if doomed.count < maximumTombstones { doomed.keys.append((Array(key), hash)) }
                doomed.contentBytes += UInt64(key.count + item.valueLength)
            }
            doomed.hash &+= hash
            doomed.count += 1
            return .next
        }
        return doomed
    }

    // MARK: One key

    /// What a command finds of its key.
    struct CurrentKey {
        /// Nil when the key is not there.
        var metadata: ItemMetadata?
        var contentSize = 0
        /// What it adds to the state's hash; 0 when it is not there.
        var hash: UInt128 = 0
        /// When it was asked for.
        var item: Item?
        /// The key's place in the active memtable, where it is or would be.
        var position: Memtable.Position
        var isInActive = false
    }

    private func find(
        _ key: UnsafeRawBufferPointer,
        withItem: Bool,
        _ reader: inout BatchReader
    ) throws -> CurrentKey {
        let (position, isInActive) = active.find(key)
        var current = CurrentKey(position: position, isInActive: isInActive)
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
                current.contentSize = key.count + record.valueLength
                current.hash = try backend.hash(of: record, key: key)
                if withItem { current.item = try backend.item(record, key: key) }
            }
        }
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

/// The read transaction that one hold of the lock uses for all its lookups, begun with the first.
struct BatchReader: ~Copyable {
    private var transaction: ReadTransaction?

    init() { transaction = nil }

    mutating func withTransaction(
        of backend: Backend,
        _ body: (borrowing ReadTransaction) throws -> Void
    ) throws {
        let open = try transaction.take() ?? backend.environment.beginRead()
        // Not kept after an error: the caller gives up then.
        try body(open)
        transaction = consume open
    }
}

/// Nanoseconds on a clock that never goes back.
func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
