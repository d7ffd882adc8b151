/// A key: 1–480 bytes, often text.
public struct Key: Hashable, Comparable, Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
    public var bytes: [UInt8]

    public init(bytes: [UInt8]) { self.bytes = bytes }

    public init(_ text: String) { self.bytes = Array(text.utf8) }

    public init(stringLiteral value: String) { self.init(value) }

    /// Bytewise, as the store orders keys.
    public static func < (left: Key, right: Key) -> Bool { left.bytes.lexicographicallyPrecedes(right.bytes) }

    public var description: String { String(decoding: bytes, as: UTF8.self) }
}

/// What a read may answer from.
public enum Consistency: String, Sendable, CaseIterable {
    /// Linearizable: at least as new as every write acknowledged before the read began.
    case strong
    /// From the asked node's state, at once, with or without a leader.
    case stale
    /// From the asked node's state if it can prove that this is no older than a bound, else it catches up first.
    case bounded
}

/// Under what condition a write takes place.
public enum Condition: Hashable, Sendable {
    /// The key's modify revision is this one.
    case revision(UInt64)
    /// The key does not exist.
    case absent
}

/// How long a key lives.
public enum Lifetime: Hashable, Sendable {
    /// Until it is deleted.
    case unbounded
    /// So long, from this write on.
    case time(Duration)
    /// As long as a lease.
    case lease(LeaseID)
}

/// What a lease is named by: 16 hexadecimal digits.
public struct LeaseID: Hashable, Sendable, CustomStringConvertible {
    public var number: UInt64

    public init(_ number: UInt64) { self.number = number }

    /// Nil for what is no name of a lease.
    public init?(_ text: String) {
        guard (1...16).contains(text.utf8.count), let number = UInt64(text, radix: 16) else { return nil }
        self.number = number
    }

    public var description: String {
        let digits = String(number, radix: 16)
        return String(repeating: "0", count: 16 - digits.utf8.count) + digits
    }
}

/// A proof that a lock is held: writes that carry it take place only while it is true.
public struct Fence: Hashable, Sendable, CustomStringConvertible {
    /// The lock's name.
    public var lock: String
    /// What its holder was given.
    public var token: UInt64

    public init(lock: String, token: UInt64) {
        self.lock = lock
        self.token = token
    }

    /// Takes what ``description`` gives: the name with other characters than letters and digits as `%XX`, `=`, the token.
    public init?(_ text: String) {
        guard let equals = text.lastIndex(of: "="), let token = UInt64(text[text.index(after: equals)...]),
            let lock = PercentEncoding.decoded(text[..<equals]), !lock.isEmpty
        else { return nil }
        self.init(lock: lock, token: token)
    }

    /// The value of the field `Kontiki-Fence`.
    public var description: String { PercentEncoding.query(lock.utf8) + "=\(token)" }
}

/// A duration as nodes read it.
struct Milliseconds: CustomStringConvertible {
    var count: Int64

    init(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        count = seconds * 1_000 + attoseconds / 1_000_000_000_000_000
    }

    var description: String { "\(count)ms" }
}

/// A key with its value and its history in numbers.
public struct Item: Hashable, Sendable {
    public var key: Key
    public var value: [UInt8]
    public var contentType: String?
    /// The store's revision that created the key.
    public var createRevision: UInt64
    /// The store's revision that last changed the key.
    public var modifyRevision: UInt64
    /// How often the key was written since it was created; 1 for a new one.
    public var version: UInt64
    /// The lease that the key ends with.
    public var lease: LeaseID?

    public init(
        key: Key,
        value: [UInt8],
        contentType: String?,
        createRevision: UInt64,
        modifyRevision: UInt64,
        version: UInt64,
        lease: LeaseID? = nil
    ) {
        self.key = key
        self.value = value
        self.contentType = contentType
        self.createRevision = createRevision
        self.modifyRevision = modifyRevision
        self.version = version
        self.lease = lease
    }
}

/// What a put did.
public struct PutResult: Hashable, Sendable {
    /// The store's revision of the write.
    public var revision: UInt64
    /// The key did not exist before.
    public var created: Bool
}

/// A part of a listing, in the order of keys.
public struct Page: Hashable, Sendable {
    /// The store's revision that the page shows.
    public var revision: UInt64
    public var items: [Item]
    /// What the grouped keys begin with, up to and with the delimiter.
    public var prefixes: [Key]
    /// Where the next page begins; nil on the last.
    public var cursor: String?
}

/// What a node says of itself and of the cluster.
public struct NodeStatus: Hashable, Sendable, Codable {
    public struct Leader: Hashable, Sendable, Codable {
        /// The name of the leader.
        public var id: String
        /// `host:port` for peers.
        public var addr: String
        /// Where it takes clients.
        public var http: String
    }

    /// What a node's files hold, in bytes.
    public struct Storage: Hashable, Sendable, Codable {
        /// Up to the last page of the log's file that was ever used.
        public var logBytes: Int
        public var keys: Int
        /// Keys and values.
        public var contentBytes: Int
        /// Up to the last page of the state's file that was ever used, and that file's size.
        public var usedBytes: Int
        public var fileBytes: Int
        /// What the file system still gives.
        public var availableDiskBytes: Int
        /// The most readers of the state's file at the same time since the start.
        public var readerSlots: Int
        /// Something that is to be written has no room; ``detail`` says what and where.
        public var isFull: Bool
        /// Writes that this node would lead are refused for lack of room.
        public var refusesWrites: Bool
        public var detail: String?

        enum CodingKeys: String, CodingKey {
            case logBytes = "log_bytes"
            case keys
            case contentBytes = "content_bytes"
            case usedBytes = "used_bytes"
            case fileBytes = "file_bytes"
            case availableDiskBytes = "available_disk_bytes"
            case readerSlots = "reader_slots"
            case isFull = "full"
            case refusesWrites = "refuses_writes"
            case detail
        }
    }

    /// The name of the node.
    public var id: String
    public var serverID: String
    public var clusterID: String
    /// `leader`, `follower`, `candidate` or `learner`.
    public var role: String
    public var term: UInt64
    public var leader: Leader?
    public var firstIndex: UInt64
    public var lastIndex: UInt64
    public var commitIndex: UInt64
    public var appliedIndex: UInt64
    public var snapshotIndex: UInt64
    /// Where the leader says that its log ends; nil while it is not known.
    public var leaderLastIndex: UInt64?
    /// The entries that the leader has and the node lacks or has not applied; nil while it knows no leader.
    public var lag: UInt64?
    /// What `/readyz` says; nil from a node of an earlier version.
    public var ready: Bool?
    public var revision: UInt64
    public var storage: Storage

    enum CodingKeys: String, CodingKey {
        case id
        case serverID = "server_id"
        case clusterID = "cluster_id"
        case role, term, leader
        case firstIndex = "first_index"
        case lastIndex = "last_index"
        case commitIndex = "commit_index"
        case appliedIndex = "applied_index"
        case snapshotIndex = "snapshot_index"
        case leaderLastIndex = "leader_last_index"
        case lag, ready
        case revision, storage
    }
}

/// A server of the cluster as the asked node knows it.
public struct ClusterMember: Hashable, Sendable, Codable {
    /// The operator's name for it.
    public var id: String
    public var serverID: String
    /// `host:port` for peers.
    public var addr: String
    /// Where it takes clients.
    public var http: String
    /// `voter` or `learner`.
    public var suffrage: String
    public var leader: Bool
    public var matchIndex: UInt64?
    public var lastContactMilliseconds: Int?
    public var healthy: Bool

    enum CodingKeys: String, CodingKey {
        case id
        case serverID = "server_id"
        case addr, http, suffrage, leader
        case matchIndex = "match_index"
        case lastContactMilliseconds = "last_contact_ms"
        case healthy
    }
}
