internal import Glibc
internal import LMDB

/// The replicated key-value state: a memtable over an LMDB environment.
///
/// Threads: `apply` on one thread, in order; ``flush()``, ``writeSnapshot(flushesFirst:to:)`` and `restore` on another; reads
/// from any thread at any time.
///
/// A committed entry is applied in memory only. ``flush()`` writes what was applied, with the position up to which it was, as
/// one durable transaction; what a crash takes from memory is applied again from the log, behind ``durablePosition``.
public final class Store: Sendable {
    let directory: StateDirectory
    let options: StoreOptions
    let state: Guarded<LiveState>
    /// Held by what writes to the environment or replaces it, one at a time.
    let maintenance = Guarded(())
    /// See ``onApplied(_:)``. The closure is an array's element: one that is itself what a lock guards is wrapped anew at each look at it,
    /// so that calls of it go ever deeper.
    let appliedHooks = Guarded<[@Sendable (UInt64) -> Void]>([])

    private init(directory: StateDirectory, options: StoreOptions, backend: Backend) throws {
        self.directory = directory
        self.options = options
        let record = try backend.readStateRecord()
        let history = try backend.environment.read { try backend.readHistory(in: $0).state }
        state = Guarded(try LiveState(backend: backend, record: record, history: history, options: options))
    }

    /// Opens the state in `directory`, creating it when there is none (its parent must be there).
    ///
    /// Throws ``StoreError`` for a state that is corrupt or of a newer version, and LMDB's error (in use, no room, no right).
    public static func open(directory path: String, options: StoreOptions = StoreOptions()) throws -> Store {
        let directory = StateDirectory(path: path)
        let backend = try directory.openCurrent(options)
        return try Store(directory: directory, options: options, backend: backend)
    }

    /// Whether `directory` holds a state, sound or not: what a first start has not come to has left none.
    public static func exists(directory path: String) -> Bool {
        access(path + "/" + StateDirectory.pointerName, F_OK) == 0
    }

    /// Closes the files and gives the directory free, without a flush: what was not flushed is applied again from the log.
    /// Reads that need the disk fail afterwards. Throws LMDB's `busy` while reads are under way; try again then.
    public func close() throws {
        try maintenance.withLock { _ in try state.withLock { $0.backend }.close() }
    }

    /// The directory that the state lies in.
    public var path: String { directory.path }

    // MARK: Where it stands

    /// The last applied position that is durable: the log is replayed from the entry behind it.
    public var durablePosition: (index: UInt64, term: UInt64) {
        state.withLock { ($0.durable.mark.index, $0.durable.mark.term) }
    }

    /// The membership that was kept with ``durablePosition``; empty when there was none.
    public var durableMembership: [UInt8] { state.withLock { $0.durable.membership } }

    /// Where the state stands now, what is not durable yet included.
    public var mark: StateMark { state.withLock { $0.record.mark } }

    /// What waits to be flushed, in bytes of memory that it takes or will take in the flush; also while a flush runs.
    ///
    /// Each entry counts at least 2 KiB, because LMDB holds the pages that a transaction changes in memory, and keys all over the
    /// state change nearly a page of 4 KiB each. It grows beyond ``StoreOptions/memtableBytes`` when
    /// entries come faster than the disk takes them: stop proposing at a multiple of it.
    public var pendingBytes: Int { state.withLock { $0.pendingBytes } }

    /// Whether it is time to call ``flush()``: the memtable reached its bound in bytes or age. Cheap.
    public var shouldFlush: Bool {
        let now = monotonicNanoseconds()
        return state.withLock { state in
            guard let oldest = state.oldestUnflushed else { return false }
            return state.activeBytes >= options.memtableBytes
                || (now - min(now, oldest)) / 1_000_000 >= options.memtableAgeMilliseconds
        }
    }

    /// How long the oldest change has waited that no flush has taken up, in milliseconds; nil when there is none.
    public var oldestUnflushedAgeMilliseconds: UInt64? {
        let now = monotonicNanoseconds()
        return state.withLock { $0.oldestUnflushed }.map { (now - min(now, $0)) / 1_000_000 }
    }

    public func statistics() throws -> StoreStatistics {
        let (backend, record, history, pending) = state.withLock {
            ($0.backend, $0.record, $0.history, $0.pendingBytes)
        }
        let space = try backend.environment.spaceUsage()
        return StoreStatistics(
            keyCount: Int(clamping: record.keyCount),
            contentBytes: Int(clamping: record.contentBytes),
            pendingBytes: pending,
            historyEvents: Int(clamping: history.events),
            historyBytes: Int(clamping: history.bytes),
            compactRevision: history.floor.revision,
            usedBytes: space.usedBytes,
            fileBytes: space.fileBytes,
            mapFraction: space.mapFraction,
            availableDiskBytes: space.availableDiskBytes,
            readerSlots: space.readerSlots
        )
    }
}
