/// How a store is opened.
public struct StoreOptions: Hashable, Sendable {
    /// The bound of the memtable: ``Store/shouldFlush`` answers true when ``Store/pendingBytes`` reaches it, which it also does where the flush
    /// would change too many pages for one transaction.
    public var memtableBytes = 32 << 20
    /// How long something applied may wait to be flushed, in milliseconds.
    public var memtableAgeMilliseconds: UInt64 = 30_000
    /// The most that the environment's file may grow to, in bytes. Address space only.
    public var mapSize = 256 << 30
    /// How long the past can be read, in milliseconds of the state's clock.
    public var historyMilliseconds: UInt64 = 3_600_000
    /// How many changes of keys the history holds at most, and how many bytes of what they replaced. The bounds are kept to a
    /// 64th of them, but a command's changes are never divided.
    public var historyEvents = 1_000_000
    public var historyBytes = 512 << 20
    /// How much of the state's file is examined before it is opened.
    public var verification = Verification.start
    /// How many reads may be under way at the same time.
    public var maximumReaders = 1024
    /// Up to this many keys a deleted prefix becomes one tombstone for each, which keeps lookups free of prefixes; above
    /// it, one mark for all, which takes no memory for each key, and the history begins anew behind it.
    package var maximumTombstones = 1_000
    /// One command that replaces or deletes more bytes of keys and values than this lets the history begin anew behind it, because
    /// the next flush would have to copy them all.
    package var maximumReplacedBytes = 32 << 20
    /// What a command may cost where others wait for it, in the time of a key that a scan passes, half a microsecond: it is executed elsewhere
    /// when it costs more, see ``LongCommand``.
    package var commandAllowance = 4_096
    /// How many pages one flush changes at most: nothing more is applied then until a flush has set the memtable aside. LMDB keeps the pages that a
    /// transaction has changed in a list of 131,071; left are those that trimming the history changes, and room for a large value.
    package var maximumFlushPages = 92_000
    /// Commits are not flushed to the disk. Only for tests that do not cut the power.
    package var testOnlyNoSync = false
    /// A part of the apply rules: alike on all replicas.
    package var testOnlyMaximumIdempotencyRecords = KeyValueLimits.maximumIdempotencyRecords

    public init() {}

    /// When every page of the state's file is looked at. LMDB believes what it reads; a damaged page that nobody looked at
    /// can hide keys, or end the process.
    public enum Verification: String, Hashable, Sendable, CaseIterable {
        /// Before the state is opened.
        case start
        /// Only the meta pages at start; the rest by scrubbing (see ``Store/scrub(after:milliseconds:)``), while the state is in use.
        case background
        /// Not at all. Only for tests that show what the examination is for.
        case testOnlyNone
    }
}

/// Where a state stands. Two replicas with equal marks have equal contents.
public struct StateMark: Hashable, Sendable {
    /// The last applied entry; 0 and 0 when there is none.
    public var index: UInt64
    public var term: UInt64
    /// The number of the last mutating command; 0 when there was none.
    public var revision: UInt64
    /// The cluster's time in milliseconds, as leaders stamped it into the applied commands. It never goes back.
    public var timestampMilliseconds: UInt64

    public init(index: UInt64 = 0, term: UInt64 = 0, revision: UInt64 = 0, timestampMilliseconds: UInt64 = 0) {
        self.index = index
        self.term = term
        self.revision = revision
        self.timestampMilliseconds = timestampMilliseconds
    }
}

/// What ``Store/range(_:)`` reads.
///
/// The keys are those that begin with `prefix`, are not below `start` and are below `end`.
public struct RangeQuery: Hashable, Sendable {
    public var prefix: [UInt8]
    /// The lowest key, included; nil for no bound.
    public var start: [UInt8]?
    /// The bound above, excluded; nil for no bound.
    public var end: [UInt8]?
    /// Continue behind this key (before it in reverse), excluded: ``Page/last`` of the page before. With a delimiter, a group
    /// means that the whole group was seen.
    public var after: [UInt8]?
    /// The most items and groups together, at least 1.
    public var limit: Int
    /// The most bytes of keys and values; at least one item is answered all the same.
    public var maximumBytes: Int
    /// Leave the values out.
    public var keysOnly: Bool
    /// From the highest key down.
    public var reverse: Bool
    /// Keys that hold this behind the prefix are not listed but grouped: the part up to and with its first occurrence is
    /// listed once in ``Page/groups``. Empty is the same as nil.
    public var delimiter: [UInt8]?
    /// Read the keys as they stood at this revision; nil for the present. See ``Store/compactRevision``.
    public var revision: UInt64?

    public init(
        prefix: [UInt8] = [],
        start: [UInt8]? = nil,
        end: [UInt8]? = nil,
        after: [UInt8]? = nil,
        limit: Int = 1000,
        maximumBytes: Int = 8 << 20,
        keysOnly: Bool = false,
        reverse: Bool = false,
        delimiter: [UInt8]? = nil,
        revision: UInt64? = nil
    ) {
        self.prefix = prefix
        self.start = start
        self.end = end
        self.after = after
        self.limit = limit
        self.maximumBytes = maximumBytes
        self.keysOnly = keysOnly
        self.reverse = reverse
        self.delimiter = delimiter
        self.revision = revision
    }
}

/// How many keys there are, or how many of them were counted at once.
public struct KeyCount: Hashable, Sendable {
    public var count: Int
    /// The last key that was looked at, when there may be more behind it: what counting goes on `after`.
    public var last: [UInt8]?
    public var mark: StateMark
}

/// One page of a range, read from one consistent cut of the state.
///
/// The next page, asked for with `after` = ``last``, is read from the state as it stands then, unless the query names the revision
/// of the first page's `mark`.
public struct Page: Hashable, Sendable {
    /// In the order of the keys, descending in reverse.
    public var items: [Item]
    /// The groups that a delimiter makes, in the same order; they share the limit with the items.
    public var groups: [[UInt8]]
    /// Whether there is something behind this page.
    public var more: Bool
    /// The last key or group of the page, or the last key of the past that was looked at; nil when the page is empty and there is no more.
    public var last: [UInt8]?
    public var mark: StateMark

    public init(items: [Item], groups: [[UInt8]], more: Bool, last: [UInt8]?, mark: StateMark) {
        self.items = items
        self.groups = groups
        self.more = more
        self.last = last
        self.mark = mark
    }
}

/// Sizes, for people and for metrics.
public struct StoreStatistics: Hashable, Sendable {
    public var keyCount: Int
    /// Keys and values, without metadata.
    public var contentBytes: Int
    /// See ``Store/pendingBytes``.
    public var pendingBytes: Int
    /// What the history holds: changes of keys, and about how many bytes; see ``Store/compactRevision``.
    public var historyEvents: Int
    public var historyBytes: Int
    public var compactRevision: UInt64
    /// Bytes used in the environment's file, and the file's size.
    public var usedBytes: Int
    public var fileBytes: Int
    /// Used part of the map, 0 to 1.
    public var mapFraction: Double
    /// What the file system still gives.
    public var availableDiskBytes: Int
    /// The most readers of the disk at the same time since the start.
    public var readerSlots: Int
}
