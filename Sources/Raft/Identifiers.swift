/// A Raft term: a logical clock that moves only forward (Raft paper §5.1). The first election makes term 1.
public typealias Term = UInt64

/// A position in the replicated log. The first entry has index 1; 0 stands before it.
public typealias LogIndex = UInt64

/// The number of a storage write. Writes are made durable in the order of their numbers; the first is 1.
public typealias WriteSequence = UInt64

/// A server's identity: a random number made together with its data directory.
///
/// A wiped disk gets a new one, so a server that lost its state can never speak for the one it was (R46). Never 0.
public struct ServerID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public var rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }

    public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    public static func < (left: ServerID, right: ServerID) -> Bool { left.rawValue < right.rawValue }

    /// Sixteen hexadecimal digits.
    public var description: String { paddedHex(rawValue) }
}

/// A cluster's identity: a random number made when the cluster is bootstrapped. 0 stands for "not yet a part of any".
public struct ClusterID: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public var rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }

    public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// A server that waits to be taken into a cluster.
    public static let none = ClusterID(0)

    /// Sixteen hexadecimal digits.
    public var description: String { paddedHex(rawValue) }
}

func paddedHex(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
}

/// An index together with the term of the entry there. Positions are ordered as logs are: by term, then by index (R12).
public struct LogPosition: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var index: LogIndex
    public var term: Term

    public init(index: LogIndex, term: Term) {
        self.index = index
        self.term = term
    }

    /// Before the first entry.
    public static let zero = LogPosition(index: 0, term: 0)

    public static func < (left: LogPosition, right: LogPosition) -> Bool {
        (left.term, left.index) < (right.term, right.index)
    }

    public var description: String { "\(index)@\(term)" }
}

/// Names one request of the embedding program; a token gets exactly one outcome.
public typealias Token = UInt64
