/// One entry of the replicated log.
public struct Entry: Hashable, Sendable {
    public enum Payload: Hashable, Sendable {
        /// The entry a new leader begins its term with (Raft paper §8).
        case noop
        /// A command of the state machine; the core never looks inside.
        case command([UInt8])
        case configuration(Configuration)
    }

    public var index: LogIndex
    public var term: Term
    public var payload: Payload

    public init(index: LogIndex, term: Term, payload: Payload) {
        self.index = index
        self.term = term
        self.payload = payload
    }

    public var position: LogPosition { LogPosition(index: index, term: term) }

    /// What the entry counts against bounds in bytes: its payload and a fixed overhead.
    public var size: Int { payload.size }
}

extension Entry.Payload {
    /// The overhead counted for each entry, in bytes.
    public static let overhead = 32

    public var size: Int {
        switch self {
        case .noop: Self.overhead
        case .command(let bytes): Self.overhead + bytes.count
        case .configuration(let configuration): Self.overhead + 64 * configuration.members.count
        }
    }

    /// How the payload is stored and sent: a kind byte and its bytes. The kinds are a part of the disk and wire formats.
    public var encoded: (kind: UInt8, bytes: [UInt8]) {
        switch self {
        case .noop: (0, [])
        case .command(let bytes): (1, bytes)
        case .configuration(let configuration): (2, configuration.encode())
        }
    }

    /// The inverse of ``encoded``; nil when the kind is unknown or the bytes are malformed.
    public init?(kind: UInt8, bytes: [UInt8]) {
        switch kind {
        case 0 where bytes.isEmpty: self = .noop
        case 1: self = .command(bytes)
        case 2:
            guard let configuration = Configuration(decoding: bytes) else { return nil }
            self = .configuration(configuration)
        default: return nil
        }
    }
}

/// What the core keeps of an entry that storage holds.
public struct EntryInfo: Hashable, Sendable {
    public var index: LogIndex
    public var term: Term
    /// ``Entry/size``.
    public var size: Int
    public var configuration: Configuration?

    public init(index: LogIndex, term: Term, size: Int, configuration: Configuration? = nil) {
        self.index = index
        self.term = term
        self.size = size
        self.configuration = configuration
    }

    public init(_ entry: Entry) {
        self.init(index: entry.index, term: entry.term, size: entry.size)
        if case .configuration(let configuration) = entry.payload { self.configuration = configuration }
    }
}

/// The term and the vote: one atomic record (R1).
public struct HardState: Hashable, Sendable {
    public var term: Term
    /// Whom this server voted for in `term`.
    public var vote: ServerID?

    public init(term: Term = 0, vote: ServerID? = nil) {
        self.term = term
        self.vote = vote
    }
}

/// Where the stored log begins: the last position before it and the configuration in force there.
public struct LogBase: Hashable, Sendable {
    public var position: LogPosition
    public var configuration: Configuration

    public init(position: LogPosition = .zero, configuration: Configuration = .empty) {
        self.position = position
        self.configuration = configuration
    }
}

/// One step of storage. Everything in it becomes durable atomically (R1, R3, R4), and writes become durable in order.
///
/// It is carried out in this order: `replaceLog`, `truncateFrom`, `append`, `trimTo`, `hardState`.
public struct StorageWrite: Hashable, Sendable {
    public var sequence: WriteSequence
    /// The new term and vote, when they changed.
    public var hardState: HardState?
    /// A snapshot takes the place of the whole log: drop every entry, begin again behind this base.
    public var replaceLog: LogBase?
    /// Drop this entry and all behind it.
    public var truncateFrom: LogIndex?
    /// Entries to append; contiguous, and contiguous with what is stored after the steps before.
    public var append: [Entry]
    /// Compaction: drop every entry up to this base, which becomes the log's base.
    public var trimTo: LogBase?

    public init(
        sequence: WriteSequence,
        hardState: HardState? = nil,
        replaceLog: LogBase? = nil,
        truncateFrom: LogIndex? = nil,
        append: [Entry] = [],
        trimTo: LogBase? = nil
    ) {
        self.sequence = sequence
        self.hardState = hardState
        self.replaceLog = replaceLog
        self.truncateFrom = truncateFrom
        self.append = append
        self.trimTo = trimTo
    }
}
