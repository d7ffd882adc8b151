internal import Raft
internal import Synchronization

/// What other threads may know of the node, written by the Raft loop.
final class StatusBoard: Sendable {
    private let status: Mutex<NodeStatus>
    private let vitalsNow: Mutex<Vitals>
    /// Asked before every read.
    let isQuarantined = Atomic(false)

    init(_ status: NodeStatus) {
        self.status = Mutex(status)
        self.vitalsNow = Mutex(Vitals(term: status.term, leader: status.leader, appliedIndex: status.appliedIndex))
    }

    var current: NodeStatus { status.withLock { $0 } }

    var vitals: Vitals { vitalsNow.withLock { $0 } }

    func update(_ change: (inout NodeStatus) -> Void) {
        let now = status.withLock { status in
            change(&status)
            return Vitals(term: status.term, leader: status.leader, appliedIndex: status.appliedIndex)
        }
        vitalsNow.withLock { $0 = now }
    }

    /// After every apply.
    func update(appliedIndex: LogIndex) { vitalsNow.withLock { $0.appliedIndex = appliedIndex } }
}
