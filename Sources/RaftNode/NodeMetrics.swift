public import Observability
internal import RaftStorage

/// What a node counts while it works. All else that is worth knowing is in ``NodeStatus``.
public struct NodeMetrics: Sendable {
    let proposals: Counter
    let commitDuration: Histogram
    let commitEntries: Histogram
    let commitBytes: Counter
    let flushDuration: Histogram
    let snapshotDuration: Histogram
    let snapshotBytes: Counter
    let snapshotsReceived: Counter
    let snapshotsSent: Counter
    let loopHold: Histogram
    let longestLoopHold: Gauge

    public init(_ registry: MetricsRegistry) {
        proposals = registry.counter("kontiki_proposals_total", help: "Commands of this node's clients.")
        commitDuration = registry.histogram(
            "kontiki_log_commit_seconds",
            help: "How long one durable transaction of the log takes.",
            .durations()
        )
        commitEntries = registry.histogram(
            "kontiki_log_commit_entries",
            help: "How many entries one transaction of the log makes durable.",
            .counts(upTo: 4096)
        )
        commitBytes = registry.counter(
            "kontiki_log_commit_bytes_total",
            help: "Bytes of the entries that were made durable in the log."
        )
        flushDuration = registry.histogram(
            "kontiki_state_flush_seconds",
            help: "How long it takes to make the applied state durable.",
            .durations()
        )
        snapshotDuration = registry.histogram(
            "kontiki_snapshot_seconds",
            help: "How long it takes to write a snapshot.",
            .durations()
        )
        snapshotBytes = registry.counter("kontiki_snapshot_bytes_total", help: "Bytes of the snapshots written.")
        snapshotsReceived = registry.counter(
            "kontiki_snapshots_received_total",
            help: "Snapshots of the leader taken in."
        )
        snapshotsSent = registry.counter("kontiki_snapshots_sent_total", help: "Snapshots sent to followers, complete.")
        loopHold = registry.histogram(
            "kontiki_raft_loop_hold_seconds",
            help: "How long the Raft loop was held by one piece of work: a step of the core, or a slice of applying.",
            .durations()
        )
        longestLoopHold = registry.gauge(
            "kontiki_raft_loop_hold_longest_seconds",
            help: "The longest of kontiki_raft_loop_hold_seconds since the start."
        )
    }

    func count(_ commit: GroupCommitter.Commit) {
        commitDuration.observe(commit.duration)
        commitEntries.observe(UInt64(commit.entries))
        commitBytes.add(UInt64(commit.bytes))
    }
}
