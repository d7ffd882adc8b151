public import NIOCore
public import Raft
internal import RaftTransport
internal import Synchronization

/// One server of a replicated state machine: the Raft core, its storage, its links to the peers and the machine it drives.
///
/// ```swift
/// let node = try await RaftNode.start(options: options, machine: machine, raftLoop: group.next(), group: group, logger: logger)
/// node.propose(command) { outcome in … }
/// node.confirmRead { outcome in … }   // then read the machine
/// await node.shutdown()
/// ```
public final class RaftNode<Machine: StateMachine>: Sendable {
    /// The machine, for reads by the embedding program.
    public let machine: Machine
    /// Where peers reach this server.
    public let peerAddress: String
    let engine: Engine<Machine>
    private let board: StatusBoard

    init(engine: Engine<Machine>, peerAddress: String) {
        self.machine = engine.machine
        self.engine = engine
        self.board = engine.board
        self.peerAddress = peerAddress
    }

    /// What the node knows now; at most one tick old.
    public var status: NodeStatus { board.current }

    /// Term, leader and applied index alone, for the headers of answers.
    public var vitals: Vitals { board.vitals }

    /// This node's state is known to be wrong: nothing must be read from its machine, nor any outcome of a command be believed.
    public var isQuarantined: Bool { board.isQuarantined.load(ordering: .relaxed) }

    // MARK: Commands and reads

    /// Replicates a command. `completion` is called exactly once, on the Raft loop or on the calling thread; it must not block.
    ///
    /// A follower forwards the command to the leader and answers when it has applied it itself. There is no time limit here: a caller
    /// that stops waiting must take the outcome for unknown.
    public func propose(
        _ command: [UInt8],
        completion: @escaping @Sendable (ProposalOutcome<Machine.Output>) -> Void
    ) {
        switch engine.inbox.add(.init(command: command, completion: completion)) {
        case .accepted(let wake): if wake { wakeLoop() }
        case .full: completion(.rejected(Rejection(.overloaded, leader: vitals.leader?.id)))
        case .closed: completion(.rejected(Rejection(.shuttingDown)))
        }
    }

    /// Replicates a command and waits for its outcome.
    public func propose(_ command: [UInt8]) async -> ProposalOutcome<Machine.Output> {
        await withCheckedContinuation { continuation in propose(command) { continuation.resume(returning: $0) } }
    }

    /// Confirms that a read of the machine's state from now on is linearizable: the leader's commit index was recorded after this
    /// call, a quorum confirmed the leader, and this node has applied up to it (Raft dissertation §6.4).
    /// `completion` is called exactly once, on the Raft loop or on the calling thread.
    public func confirmRead(completion: @escaping @Sendable (ReadOutcome) -> Void) {
        switch engine.inbox.add(completion) {
        case .accepted(let wake): if wake { wakeLoop() }
        case .full: completion(.rejected(Rejection(.overloaded, leader: vitals.leader?.id)))
        case .closed: completion(.rejected(Rejection(.shuttingDown)))
        }
    }

    /// ``confirmRead(completion:)``, waiting.
    public func confirmRead() async -> ReadOutcome {
        await withCheckedContinuation { continuation in confirmRead { continuation.resume(returning: $0) } }
    }

    private func wakeLoop() { engine.loop.execute { self.engine.drainInbox() } }

    // MARK: Operations

    /// Changes the membership; returns when the change is committed and complete. Works on any node: followers ask the leader.
    public func changeMembership(_ request: MembershipRequest, timeout: TimeAmount) async throws(OperationError) {
        _ = try await call(.change(request), timeout: timeout)
    }

    /// Takes in the server that answers at `peerAddress` (started to join, not yet part of a cluster) as a learner, which is promoted
    /// when it has caught up and then takes the place of `replaced`, when given. Returns when the learner is taken in.
    public func addMember(
        name: String?,
        peerAddress: String,
        replacing replaced: ServerID?,
        timeout: TimeAmount
    ) async throws(OperationError) -> Member {
        let answer = try await call(
            .addMember(name: name, peerAddress: peerAddress, replacing: replaced),
            timeout: timeout
        )
        guard let member = answer.member else {
            throw OperationError(.timedOut, "the leader did not name the new member")
        }
        return member
    }

    /// Hands leadership to `target`, or to the follower that is furthest; returns when another server leads.
    public func transferLeadership(to target: ServerID?, timeout: TimeAmount) async throws(OperationError) {
        _ = try await call(.transfer(to: target), timeout: timeout)
    }

    private func call(_ call: NodeCall, timeout: TimeAmount) async throws(OperationError) -> NodeCall.Answer {
        let answer = await engine.callLeader(call, timeout: timeout)
        if let error = answer.error { throw error }
        return answer
    }

    // MARK: Stopping

    /// Hands leadership over if it has it, finishes what is pending, makes the state durable and stops. Call it once.
    ///
    /// - Parameter patience: how long each of the first two may take, which without a majority come to nothing; four times the shortest
    ///   election timeout unless said.
    public func shutdown(patience: TimeAmount? = nil) async { await engine.shutdown(patience: patience) }
}
