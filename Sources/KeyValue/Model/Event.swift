/// One change of one key, as the history tells it.
public struct Event: Hashable, Sendable {
    public enum Kind: UInt8, Hashable, Sendable {
        case put = 1
        case delete = 2
        /// Deleted because its lease ended.
        case expire = 3
    }

    /// The revision of the command that made the change. All changes of one command share it.
    public var revision: UInt64
    public var kind: Kind
    /// The key as the change left it. For a key that went: the key, an empty value, the change's revision as modify revision, and
    /// nothing else.
    public var item: Item
    /// The key as the change found it; nil where it was not there, and where ``EventFilter/withPrevious`` did not ask for it.
    public var previous: Item?

    public init(revision: UInt64, kind: Kind, item: Item, previous: Item? = nil) {
        self.revision = revision
        self.kind = kind
        self.item = item
        self.previous = previous
    }
}

/// Which events are asked for.
public struct EventFilter: Hashable, Sendable {
    /// What the keys of the events name.
    public enum Space: Hashable, Sendable {
        /// Keys and values of users.
        case keys
        /// Locks by their names; the values are records of ``Lock``'s own form.
        case locks
    }

    public enum Match: Hashable, Sendable {
        /// Exactly this key.
        case key([UInt8])
        /// All keys that begin with this; empty for all.
        case prefix([UInt8])
    }

    public var space: Space
    public var match: Match
    /// Whether ``Event/previous`` is wanted, which may cost a read of the disk for each event.
    public var withPrevious: Bool

    public init(_ match: Match = .prefix([]), space: Space = .keys, withPrevious: Bool = false) {
        self.match = match
        self.space = space
        self.withPrevious = withPrevious
    }
}

/// Why a revision cannot be read.
public enum HistoryError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The past is gone below `compactRevision`: reads at it and above are possible, and events after it.
    case compacted(compactRevision: UInt64)
    /// The state has not come so far; `revision` is its present one.
    case future(revision: UInt64)

    public var description: String {
        switch self {
        case .compacted(let revision):
            "the history before revision \(revision) is gone; read at that revision or a later one, or list the present state anew"
        case .future(let revision):
            "the state stands at revision \(revision), which is below the one that was asked for"
        }
    }
}
