internal import LMDB

extension Store {
    /// Streams the state exactly as it stands at the last flush, and answers that position and membership.
    ///
    /// On the flush thread, while applying and reading go on. What is applied meanwhile is flushed in between when the memtable
    /// reaches its bound: the snapshot reads on from the cut that it began with. The pages of that cut cannot be used again
    /// before its end, so the file grows by what the flushes change; they stop when it has doubled. Each record is verified on the way, and all
    /// together must make the state's hash: otherwise this throws ``StoreError/Code/stateDiffers`` at the end, and what `sink` got is
    /// void; see ``verifyHash(sliceBytes:pause:)``. The pieces given to `sink` are valid for the call only; when `sink` throws,
    /// so does this.
    ///
    /// - Parameter flushesFirst: flush before, so that everything applied before the call is in the snapshot. Without it the cut is
    ///   ``durablePosition``, for a caller that flushed and has written that position down already.
    public func writeSnapshot(
        flushesFirst: Bool = false,
        to sink: (UnsafeRawBufferPointer) throws -> Void
    ) throws -> (index: UInt64, term: UInt64, membership: [UInt8]) {
        try maintenance.withLock { _ in
            if flushesFirst { _ = try flushWhileHolding() }
            let backend = state.withLock { $0.backend }
            var room = FlushesBesideSnapshot(backend, options)
            return try backend.writeSnapshot { piece in
                try sink(piece)
                try room.flushIfDue(self)
            }
        }
    }

    /// Replaces the state by the one in a snapshot, durably: readers see the old one until they see the whole new one.
    ///
    /// On the flush thread; nothing is applied meanwhile. `source` answers the next bytes, as many as it likes, and nil at
    /// the end. Throws ``StoreError/Code/badSnapshot`` when the stream ends early, is malformed or is of another position than
    /// `index` and `term`, ``StoreError/Code/noRoom`` where the disk is full; then, and whenever `source` throws, the old state stays untouched.
    /// After any other failed system call the process
    /// should end: which of the two states the disk names may then be uncertain, while each is whole.
    public func restore(
        index: UInt64,
        term: UInt64,
        membership: [UInt8],
        from source: (_ maximumBytes: Int) throws -> [UInt8]?
    ) throws {
        try maintenance.withLock { _ in
            guard let current = try directory.readPointer() else {
                throw StoreError(
                    code: .inconsistentDirectory,
                    path: directory.path,
                    message: "the file \(StateDirectory.pointerName) is gone while the state is in use"
                )
            }
            let next = current + 1
            // One that could not be removed when it failed.
            if try directory.generations().contains(next) { try directory.removeGeneration(next) }
            let new: LiveState
            do {
                let built = try build(generation: next, from: source) { record in
                    try record.requirePosition(index, term, path: directory.path)
                    record.membership = membership
                }
                new = try LiveState(
                    backend: built.backend,
                    record: built.record,
                    history: built.history,
                    options: options
                )
                try directory.writePointer(next)
            } catch {
                // Where the pointer names it already, the process ends and the next start finds it there.
                guard try directory.readPointer() == current else { throw error }
                // What stays now is removed at the next restore or start.
                try? directory.removeGeneration(next)
                guard let lack = StoreError.noRoom(error, toInstallIn: directory.path) else { throw error }
                throw lack
            }
            // The old state is freed behind the lock; its files close when its last reader ends.
            let old = state.withLock { state in
                let old = state
                state = new
                return old
            }
            withExtendedLifetime(old) {}
            didApply(through: new.record.mark.revision)
            // Harmless when it fails: the next start removes what is not named by the pointer.
            try? directory.removeGeneration(current)
        }
    }

    /// What the file of a snapshot names as the form of its payload.
    public static var snapshotSchema: String { SnapshotStream.schema }

    /// Throws unless ``restore(index:term:membership:from:)`` could install the snapshot: what it would look at is looked at, and nothing is
    /// written. Errors of `source` are passed on.
    public static func verifySnapshot(
        index: UInt64,
        term: UInt64,
        from source: (_ maximumBytes: Int) throws -> [UInt8]?
    ) throws {
        // The directory is named in messages only; there is none.
        var reader = SnapshotReader(path: "a snapshot")
        let (record, _) = try reader.readState(from: source)
        try record.requirePosition(index, term, path: "a snapshot")
        var content = SnapshotContent(path: "a snapshot")
        while try content.take(try reader.next(from: source)) {}
        try reader.expectEnd(from: source)
        try content.judge(record)
    }

    /// The most bytes and items that are written in one transaction.
    private static let restoreBatchBytes = 8 << 20
    private static let restoreBatchItems = 20_000

    private func build(
        generation: UInt64,
        from source: (Int) throws -> [UInt8]?,
        _ check: (inout StateRecord) throws -> Void
    ) throws -> (backend: Backend, record: StateRecord, history: HistoryState) {
        var reader = SnapshotReader(path: directory.path)
        var (record, history) = try reader.readState(from: source)
        try check(&record)
        let backend = try Backend(path: directory.path(ofGeneration: generation), options: options)
        var restored = RestoredContent(backend, path: directory.path)
        while try restored.take(try reader.next(from: source)) {
            if restored.bytes >= Self.restoreBatchBytes || restored.batch.count >= Self.restoreBatchItems {
                try restored.write(last: nil)
            }
        }
        try reader.expectEnd(from: source)
        try restored.content.judge(record)
        try restored.write(last: (record, history))
        return (backend, record, history)
    }
}

extension StateRecord {
    fileprivate func requirePosition(_ index: UInt64, _ term: UInt64, path: String) throws(StoreError) {
        guard mark.index == index, mark.term == term else {
            throw StoreError(
                code: .badSnapshot,
                path: path,
                message: "the snapshot holds the state at entry \(mark.index) of term "
                    + "\(mark.term), not at entry \(index) of term \(term)"
            )
        }
    }
}

/// What the records of a snapshot amount to, to be held against what it announced.
private struct SnapshotContent {
    private let path: String
    /// Records of each kind come in the order of their keys.
    private var last: [SnapshotStream.Kind: [UInt8]] = [:]
    private var items: UInt64 = 0
    /// Users' keys, and the bytes of those and of their values.
    private var keys: UInt64 = 0
    private var keyBytes: UInt64 = 0
    private var hash: UInt128 = 0

    init(path: String) { self.path = path }

    /// False at the end.
    mutating func take(_ frame: SnapshotReader.Frame) throws -> Bool {
        switch frame {
        case .item(let key, let record, let hash):
            self.hash &+= hash
            items += 1
            if key.first == Space.keys.rawValue {
                keys += 1
                keyBytes += UInt64(key.count - 1 + Self.valueLength(record, key: key))
            }
            try follow(.item, key)
        case .deletion(let key, _): try follow(.deletion, key)
        case .change(let key, _): try follow(.change, key)
        case .end: return false
        }
        return true
    }

    private mutating func follow(_ kind: SnapshotStream.Kind, _ key: ArraySlice<UInt8>) throws(StoreError) {
        guard last[kind]?.lexicographicallyPrecedes(key) ?? true else {
            throw StoreError(code: .badSnapshot, path: path, message: "the snapshot's keys are not in order")
        }
        last[kind] = Array(key)
    }

    private static func valueLength(_ record: ArraySlice<UInt8>, key: ArraySlice<UInt8>) -> Int {
        key.withUnsafeBytes { key in record.withUnsafeBytes { StoredRecord($0, key: key)?.valueLength ?? 0 } }
    }

    func judge(_ record: StateRecord) throws(StoreError) {
        guard items == record.recordCount, keys == record.keyCount, keyBytes == record.contentBytes else {
            throw StoreError(
                code: .badSnapshot,
                path: path,
                message:
                    "the snapshot has \(items) records, \(keys) of them keys with \(keyBytes) bytes, but announced "
                    + "\(record.recordCount), \(record.keyCount) and \(record.contentBytes)"
            )
        }
        guard hash == record.hash else {
            throw StoreError(
                code: .badSnapshot,
                path: path,
                message: "the snapshot's items do not make the hash of the state that it announced; "
                    + "it was not installed, fetch it again"
            )
        }
    }
}

/// What comes out of a snapshot on its way into a new environment.
private struct RestoredContent {
    private let backend: Backend
    private(set) var batch: [Backend.Appended] = []
    /// In the batch.
    private(set) var bytes = 0
    private(set) var content: SnapshotContent
    private var extent = HistoryExtent()

    init(_ backend: Backend, path: String) {
        self.backend = backend
        content = SnapshotContent(path: path)
    }

    /// False at the end.
    mutating func take(_ frame: SnapshotReader.Frame) throws -> Bool {
        guard try content.take(frame) else { return false }
        switch frame {
        case .item(let key, let record, _):
            append(backend.items, key, record)
        case .deletion(let key, let record):
            try key.withUnsafeBytes { key in
                extent.add(deletion: try record.withUnsafeBytes { try backend.decodeDeletion($0, key: key) }, key)
            }
            append(backend.deletions, key, record)
        case .change(let key, let record):
            let checksum = try key.withUnsafeBytes { key in
                try record.withUnsafeBytes { try backend.decodeHistory($0, place: key).checksum }
            }
            extent.add(record: checksum)
            append(backend.history, key, record)
        case .end: break
        }
        return true
    }

    private mutating func append(_ database: Database, _ key: ArraySlice<UInt8>, _ record: ArraySlice<UInt8>) {
        // Copied, because a slice would keep the whole piece that it lies in.
        batch.append(Backend.Appended(database: database, key: Array(key), record: Array(record)))
        bytes += key.count + record.count
    }

    mutating func write(last: (record: StateRecord, history: HistoryState)?) throws {
        try backend.append(batch, last: last.map { ($0.record, $0.history.encode(extent)) })
        batch.removeAll(keepingCapacity: true)
        bytes = 0
    }
}

/// Flushes while a snapshot is written, on the same thread, within bounds.
private struct FlushesBesideSnapshot {
    private let backend: Backend
    private let boundBytes: Int
    /// How large the environment's file may become.
    private let maximumFileBytes: Int
    private var hasNoRoom = false

    init(_ backend: Backend, _ options: StoreOptions) {
        self.backend = backend
        boundBytes = options.memtableBytes
        let fileBytes = (try? backend.environment.spaceUsage().fileBytes) ?? 0
        maximumFileBytes = fileBytes + max(fileBytes, 256 << 20)
    }

    /// The caller holds `maintenance`.
    mutating func flushIfDue(_ store: Store) throws {
        guard !hasNoRoom, store.pendingBytes >= boundBytes,
            try backend.environment.spaceUsage().fileBytes < maximumFileBytes
        else {
            return
        }
        do {
            _ = try store.flushWhileHolding()
        } catch let error as StoreError where error.code == .noRoom {
            // Nothing is lost: the flush after the snapshot deals with it.
            hasNoRoom = true
        }
    }
}

extension Backend {
    /// - Parameter isChecked: false for tests only, to get snapshots that must be refused.
    func writeSnapshot(
        isChecked: Bool = true,
        to sink: (UnsafeRawBufferPointer) throws -> Void
    ) throws -> (index: UInt64, term: UInt64, membership: [UInt8]) {
        try environment.read { transaction in
            let record = try readStateRecord(in: transaction)
            var writer = SnapshotWriter()
            let history = try readHistory(in: transaction).state
            writer.write(record, history)
            var hash: UInt128 = 0
            try withItemCursor(in: transaction) { cursor in
                var next = try cursor.first()
                while let item = next {
                    hash &+= try recomputedHash(of: try decode(item.value, key: item.key), key: item.key)
                    try writer.write(key: item.key, record: item.value, to: sink)
                    next = try cursor.next()
                }
            }
            guard hash == record.hash || !isChecked else {
                throw StoreError(
                    code: .stateDiffers,
                    path: path,
                    message: "the items do not make the hash of the state that was kept up with the changes"
                )
            }
            try writeHistory(after: history.floor.revision, in: transaction, &writer, to: sink)
            try writer.finish(to: sink)
            return (record.mark.index, record.mark.term, record.membership)
        }
    }

    /// Writes what the history tells of the revisions after `floor`.
    private func writeHistory(
        after floor: UInt64,
        in transaction: borrowing ReadTransaction,
        _ writer: inout SnapshotWriter,
        to sink: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        try withCursor(in: deletions, transaction) { cursor in
            var next = try cursor.first()
            while let item = next {
                if try decodeDeletion(item.value, key: item.key) > floor {
                    try writer.write(.deletion, key: item.key, record: item.value, to: sink)
                }
                next = try cursor.next()
            }
        }
        try withCursor(in: history, transaction) { cursor in
            var next = try cursor.seek(atLeast: (floor + 1).bigEndianBytes)
            while let item = next {
                guard try decodeHistory(item.value, place: item.key).isIntact(key: item.key) else {
                    throw corruptHistory(item.key)
                }
                try writer.write(.change, key: item.key, record: item.value, to: sink)
                next = try cursor.next()
            }
        }
    }
}
