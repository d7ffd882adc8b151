public import NIOCore
public import Raft

/// One server of a replicated state machine: the Raft core, its storage, its links to the peers and the machine it drives.
public final class RaftNode<Machine: StateMachine>: Sendable {
    /// The machine, for reads by the embedding program.
    public let machine: Machine

    init(machine: Machine) {
        self.machine = machine
    }

    /// Replicates a command. `completion` is called exactly once, on the Raft loop; it must not block.
    /// A follower forwards the command to the leader and answers when it has applied it itself.
    public func propose(
        _ command: [UInt8], completion: @escaping @Sendable (ProposalOutcome<Machine.Output>) -> Void
    ) {
        completion(.rejected(Rejection(.shuttingDown)))
    }

    /// Confirms that a read of the machine's state from now on is linearizable: the leader's commit index was recorded after this
    /// call, a quorum confirmed the leader, and this node has applied up to it. `completion` is called on the Raft loop.
    public func confirmRead(completion: @escaping @Sendable (ReadOutcome) -> Void) {
        completion(.rejected(Rejection(.shuttingDown)))
    }

    /// What the node knows now. Cheap enough for every request: a copy of a few references under a lock.
    public var status: NodeStatus { get throws { throw OperationError(.shuttingDown, "") } }

    /// Term, leader and applied index alone, from atomics, for answer headers.
    public var vitals: Vitals { Vitals(term: 0, leader: nil, appliedIndex: 0) }

    public struct Vitals: Sendable {
        public var term: Term
        public var leader: ServerID?
        public var appliedIndex: LogIndex
    }

    /// Changes the membership; returns when the change is committed and left. Works on any node (followers ask the leader).
    public func changeMembership(_ request: MembershipRequest, timeout: TimeAmount) async throws(OperationError) {}

    /// Takes in the server that answers at `peerAddress` (started with a join flag, not yet part of a cluster), as a learner that is
    /// promoted when it has caught up, replacing `replaced` in the same change when given.
    public func addMember(
        name: String?, peerAddress: String, replacing replaced: ServerID?, timeout: TimeAmount
    ) async throws(OperationError) -> Member { throw OperationError(.shuttingDown, "") }

    /// Hands leadership to `target`, or to the best candidate; returns when another server leads.
    public func transferLeadership(to target: ServerID?, timeout: TimeAmount) async throws(OperationError) {}

    /// Hands leadership over if it has it, finishes what is pending, makes the state durable and stops.
    public func shutdown() async {}
}
