internal import KeyValue
internal import Raft
internal import RaftNode

/// One thing that must be so for a node to be alive, or to be counted on.
public struct HealthCheck: Hashable, Sendable {
    public var name: String
    public var isOK: Bool
    /// What is lacking and what to do, or how it stands.
    public var detail: String

    public init(_ name: String, _ isOK: Bool, _ detail: String) {
        self.name = name
        self.isOK = isOK
        self.detail = detail
    }
}

extension KeyValueNode {
    /// Whether the process is whole. Whether there is a leader is no reason to restart it.
    public var livenessChecks: [HealthCheck] {
        let fault = node.machine.fault?.description ?? status.fault
        return [HealthCheck("storage", fault == nil, fault ?? "no fault was met")]
    }

    /// Whether others may count on this node, say by stopping another one: it serves strong requests now, and what the leader has it has, too.
    public var readinessChecks: [HealthCheck] {
        let status = status
        return [
            storageCheck(status), status.membershipCheck, status.leaderCheck(now: .now), status.readIndexCheck,
            status.snapshotCheck, status.appliedCheck, status.comparisonCheck,
        ]
    }

    /// Whether nothing is lacking but what comes by itself, sooner or later: a leader is there, and has what this node lacks.
    public var isCatchingUp: Bool {
        let lacking = Set(readinessChecks.filter { !$0.isOK }.map(\.name))
        return !lacking.isEmpty && status.leader != nil
            && lacking.isSubset(of: ["member", "read-index", "snapshot", "applied"])
    }

    /// A disk without room is a reason to send requests elsewhere, and none to restart the process.
    private func storageCheck(_ status: NodeStatus) -> HealthCheck {
        for check in livenessChecks where !check.isOK { return check }
        return HealthCheck("storage", status.lackOfRoom == nil, status.lackOfRoom ?? "no fault was met")
    }
}

extension NodeStatus {
    /// A learner that waits to become a voter is not counted on yet: it is in no quorum.
    var membershipCheck: HealthCheck {
        guard let member = configuration.member(serverID) else {
            return HealthCheck(
                "member",
                false,
                "this node belongs to no cluster; start it with --join, or add it with POST /members"
            )
        }
        let isWaiting = configuration.isLearner(serverID) && member.promotion != .manual
        return HealthCheck(
            "member",
            !isWaiting,
            isWaiting
                ? "this node is a learner, and becomes a voter when it has caught up"
                : "belongs to cluster \(clusterID)"
        )
    }

    func leaderCheck(now: ContinuousClock.Instant) -> HealthCheck {
        guard let leader else {
            return HealthCheck(
                "leader",
                false,
                "no leader is known; check that a majority of the servers runs and reaches each other"
            )
        }
        let silence = pursuit.leaderHeard.map { $0.duration(to: now) } ?? .zero
        guard silence <= pursuit.patience else {
            let whom = role == .leader ? "a majority of the servers" : leader.name
            return HealthCheck("leader", false, "\(whom) was not heard of for \(silence / .milliseconds(1)) ms")
        }
        return HealthCheck("leader", true, "\(leader.name) leads term \(term)")
    }

    var readIndexCheck: HealthCheck {
        HealthCheck(
            "read-index",
            pursuit.hasConfirmedRead,
            pursuit.hasConfirmedRead
                ? "the leader confirmed a read, and it was applied here"
                : "no read index of the leader was confirmed and applied here since the start"
        )
    }

    var snapshotCheck: HealthCheck {
        let detail =
            switch pursuit.snapshot {
            case .receiving: "a snapshot comes in from the leader"
            case .installing: "a snapshot is being installed"
            case nil: "none comes in"
            }
        return HealthCheck("snapshot", pursuit.snapshot == nil, detail)
    }

    var appliedCheck: HealthCheck {
        guard let lag = pursuit.lag else {
            return HealthCheck("applied", false, "how much is lacking is not known without a leader")
        }
        let whole = pursuit.leaderLog.map { "; the leader has \($0.last), \($0.commit) of them committed" } ?? ""
        return HealthCheck(
            "applied",
            pursuit.keepsUp,
            "\(lag) entries are lacking: \(lastIndex) are here, \(appliedIndex) of them applied\(whole)"
                + (pursuit.keepsUp ? "" : "; this node is catching up, to within \(pursuit.readyLag)")
        )
    }

    /// Where no majority says who is right, the nodes go on, and say so.
    var comparisonCheck: HealthCheck {
        HealthCheck(
            "replica-comparison",
            quarantine == nil,
            quarantine?.description ?? comparison.alarm
                ?? "this node noted its state last at index \(comparison.notedIndex); no difference is known"
        )
    }
}
