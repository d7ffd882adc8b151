/// One server of a cluster as the replicated configuration knows it.
public struct Member: Hashable, Sendable {
    /// What becomes of a learner when it has caught up. Replicated, so that a new leader carries it on.
    public enum Promotion: Hashable, Sendable {
        /// It stays a learner until an operator promotes it.
        case manual
        /// It becomes a voter.
        case voter
        /// It becomes a voter and, in the same change, the named server leaves.
        case replacing(ServerID)
    }

    public var id: ServerID
    /// The operator's label, unique in a configuration.
    public var name: String
    /// `host:port` where the server takes connections of its peers.
    public var peerAddress: String
    /// Where the server takes clients; opaque to this package (`host:port` of the HTTP API in Kontiki).
    public var clientAddress: String
    public var promotion: Promotion

    public init(
        id: ServerID,
        name: String,
        peerAddress: String,
        clientAddress: String = "",
        promotion: Promotion = .manual
    ) {
        self.id = id
        self.name = name
        self.peerAddress = peerAddress
        self.clientAddress = clientAddress
        self.promotion = promotion
    }
}

/// Who belongs to the cluster and who of them votes.
///
/// While a change is under way the configuration is *joint* (Raft paper §6): `outgoing` holds the voters before the change,
/// and every decision needs a majority of `voters` and a majority of `outgoing`. All lists are sorted by identity.
public struct Configuration: Hashable, Sendable {
    /// Every server that any of the lists below names, and no other.
    public private(set) var members: [Member]
    /// The voters; in a joint configuration, the incoming ones.
    public private(set) var voters: [ServerID]
    /// The voters before the change; empty when the configuration is not joint.
    public private(set) var outgoing: [ServerID]
    /// Servers that receive the log and do not count. A server that is an outgoing voter is none of them yet.
    public private(set) var learners: [ServerID]
    /// Outgoing voters that become learners when the joint configuration is left.
    public private(set) var learnersNext: [ServerID]

    /// No server at all: what a server has that waits to be taken in.
    public static let empty = Configuration(voters: [], learners: [])

    /// A simple (not joint) configuration. A server given as voter and as learner is a voter.
    public init(voters: [Member], learners: [Member] = []) {
        let voterIDs = Set(voters.map(\.id))
        let onlyLearners = learners.filter { !voterIDs.contains($0.id) }
        self.members = (voters + onlyLearners).sorted { $0.id < $1.id }
        self.voters = voters.map(\.id).sorted()
        self.outgoing = []
        self.learners = onlyLearners.map(\.id).sorted()
        self.learnersNext = []
    }

    init(members: [Member], voters: [ServerID], outgoing: [ServerID], learners: [ServerID], learnersNext: [ServerID]) {
        self.members = members.sorted { $0.id < $1.id }
        self.voters = voters.sorted()
        self.outgoing = outgoing.sorted()
        self.learners = learners.sorted()
        self.learnersNext = learnersNext.sorted()
    }

    public var isJoint: Bool { !outgoing.isEmpty }

    public var isEmpty: Bool { members.isEmpty }

    public func member(_ id: ServerID) -> Member? { members.first { $0.id == id } }

    public func member(named name: String) -> Member? { members.first { $0.name == name } }

    /// Whether `id` votes, in either half of a joint configuration.
    public func isVoter(_ id: ServerID) -> Bool { voters.contains(id) || outgoing.contains(id) }

    /// Whether `id` decides alone.
    package func isOnlyVoter(_ id: ServerID) -> Bool { voters == [id] && !isJoint }

    public func isLearner(_ id: ServerID) -> Bool { learners.contains(id) }

    public func contains(_ id: ServerID) -> Bool { members.contains { $0.id == id } }

    /// Whether every server is named once, and none has the identity 0.
    var isDistinct: Bool {
        members.allSatisfy { $0.id.rawValue != 0 } && zip(members, members.dropFirst()).allSatisfy { $0.id < $1.id }
    }

    /// The joint configuration on the way from this one to `target`. Both must be simple.
    func joint(to target: Configuration) -> Configuration {
        precondition(!isJoint && !target.isJoint, "a change starts and ends at a simple configuration")
        let leaving = members.filter { !target.contains($0.id) && voters.contains($0.id) }
        return Configuration(
            members: target.members + leaving,
            voters: target.voters,
            outgoing: voters,
            learners: target.learners.filter { !voters.contains($0) },
            learnersNext: target.learners.filter { voters.contains($0) }
        )
    }

    /// The simple configuration that a joint one leads to.
    func leavingJoint() -> Configuration {
        let learnersThen = learners + learnersNext
        return Configuration(
            members: members.filter { voters.contains($0.id) || learnersThen.contains($0.id) },
            voters: voters,
            outgoing: [],
            learners: learnersThen,
            learnersNext: []
        )
    }
}

extension Configuration: CustomStringConvertible {
    public var description: String {
        func list(_ ids: [ServerID]) -> String {
            ids.map { member($0)?.name ?? $0.description }.joined(separator: " ")
        }
        var text = "voters=(\(list(voters)))"
        if isJoint { text += " outgoing=(\(list(outgoing)))" }
        if !learners.isEmpty { text += " learners=(\(list(learners)))" }
        if !learnersNext.isEmpty { text += " learners_next=(\(list(learnersNext)))" }
        return text
    }
}
