/// The replicated key-value state: a memtable over an LMDB environment.
///
/// Threads: `apply` on one thread, in order; ``flush()``, ``writeSnapshot(to:)`` and `restore` on another; reads from any
/// thread at any time.
public final class Store: Sendable {
    /// Opens the state in `directory`, creating it when there is none (its parent must be there).
    public static func open(directory: String, options: StoreOptions = StoreOptions()) throws -> Store {
        throw StoreError(code: .system, path: directory, message: "not there yet")
    }

    init() {}

    /// The last applied position that is durable: the log is replayed from the entry behind it.
    public var durablePosition: (index: UInt64, term: UInt64) { (0, 0) }
    /// The membership that was kept with the durable position; empty when there was none.
    public var durableMembership: [UInt8] { [] }
    /// Where the state stands now, what is not durable yet included.
    public var mark: StateMark { StateMark() }
    /// What waits in memory to be flushed, in bytes.
    public var pendingBytes: Int { 0 }
    /// Whether it is time to call ``flush()``, by bytes or by age.
    public var shouldFlush: Bool { false }

    /// Applies the command in a committed entry. Throws when a record that it needs cannot be read: the node must stop then.
    public func apply(index: UInt64, term: UInt64, payload: [UInt8]) throws -> Outcome {
        throw InvalidCommand.malformed
    }
    /// Takes note of a committed entry that is no command; `membership` is a configuration's bytes, kept with the state.
    public func applyOther(index: UInt64, term: UInt64, membership: [UInt8]?) {}

    /// A key's item and the mark of the cut that it was read from.
    public func get(_ key: ArraySlice<UInt8>) throws -> (item: Item?, mark: StateMark) { (nil, mark) }
    /// One page of keys.
    public func range(_ query: RangeQuery) throws -> Page {
        Page(items: [], groups: [], more: false, last: nil, mark: mark)
    }
    /// How many keys begin with `prefix`.
    public func count(prefix: [UInt8]) throws -> (count: Int, mark: StateMark) { (0, mark) }
    public func statistics() throws -> StoreStatistics { throw StoreError(code: .system, path: "", message: "") }

    @discardableResult
    public func flush() throws -> (index: UInt64, term: UInt64) { (0, 0) }
    public func writeSnapshot(
        to sink: (UnsafeRawBufferPointer) throws -> Void
    ) throws -> (index: UInt64, term: UInt64, membership: [UInt8]) { (0, 0, []) }
    public func restore(
        index: UInt64,
        term: UInt64,
        membership: [UInt8],
        from source: (_ maximumBytes: Int) throws -> [UInt8]?
    ) throws {}
}
