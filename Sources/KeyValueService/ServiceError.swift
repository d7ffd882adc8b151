public import Raft
import RaftNode

/// Why a request to a ``KeyValueNode`` failed, and what that says about its effect.
public struct ServiceError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: String, Hashable, Sendable {
        /// No leader was found in time. Nothing was done.
        case noLeader
        /// Leadership was changing hands until the time was up. Nothing was done.
        case leadershipChanging
        /// A bound on waiting requests was reached, here or at the leader. Nothing was done.
        case overloaded
        /// The disk, or its quota, is full. Nothing was done; reads go on.
        case storageFull
        /// This node is stopping. Nothing was done.
        case shuttingDown
        /// This node's state is known to be wrong. Nothing was done; other nodes take the request.
        case quarantined
        /// The time was up while the request was under way.
        case timedOut
        /// The leader was lost while the request was under way.
        case outcomeUnknown
        /// It could not be proven in time that this node's state is fresh enough for a bounded read.
        case tooStale
        /// This node had not applied the revision that a read asked for in time.
        case notCaughtUp
        /// The disk has no room for what the request needs there meanwhile. Nothing was done.
        case noRoom
    }

    public var code: Code
    /// Whether a write may have been, or may yet be, carried out. Always false for reads.
    public var mayHaveExecuted: Bool
    /// Who might take the request, where it is known.
    public var leader: ServerID?
    /// More about the reason, for people.
    public var detail: String?

    public init(_ code: Code, mayHaveExecuted: Bool = false, leader: ServerID? = nil, detail: String? = nil) {
        self.code = code
        self.mayHaveExecuted = mayHaveExecuted
        self.leader = leader
        self.detail = detail
    }

    init(_ rejection: Rejection) {
        let code: Code =
            switch rejection.reason {
            case .noLeader: .noLeader
            case .leadershipChanging, .superseded: .leadershipChanging
            case .overloaded: .overloaded
            case .storageFull: .storageFull
            case .shuttingDown: .shuttingDown
            }
        self.init(code, leader: rejection.leader, detail: rejection.detail)
    }

    public var description: String {
        switch code {
        case .noLeader: "no leader was found in time; check that a majority of the servers runs, then try again"
        case .leadershipChanging: "leadership was changing hands; try again"
        case .overloaded: detail ?? "too many requests are waiting; try again later"
        case .storageFull:
            "\(detail ?? "the disk or its quota is full"); free some space, writes are taken then without a restart; reads go on"
        case .shuttingDown: "this node is stopping; ask another one"
        case .quarantined: "this node's state is known to be wrong, so that it answers nothing from it; ask another one"
        case .timedOut where mayHaveExecuted:
            "the time was up while the write was under way; read the key to see whether it took place"
        case .timedOut: "the time was up; try again"
        case .tooStale:
            "this node could not prove in time that its state is as fresh as asked; try again, or ask another one"
        case .notCaughtUp:
            "this node has not applied the revision that was asked for in time; try again, or ask another one"
        case .noRoom: "\(detail ?? "the disk has no room for that"); free some space, or ask another node"
        case .outcomeUnknown:
            "the leader was lost while the write was under way; read the key to see whether it took place"
        }
    }
}

extension Rejection {
    /// Certainly not executed, and likely to succeed in a moment: what an election or a handover looks like from outside.
    var isWorthRetrying: Bool {
        switch reason {
        case .noLeader, .leadershipChanging, .superseded: true
        case .overloaded, .storageFull, .shuttingDown: false
        }
    }
}
