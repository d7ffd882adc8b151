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
            Histogram(bounds: Self.holds.map { $0 * 1_000 }, scale: 1e-9)
        )
        longestLoopHold = registry.gauge(
            "kontiki_raft_loop_hold_longest_seconds",
            help: "The longest of kontiki_raft_loop_hold_seconds since the start."
        )
    }

    /// In microseconds. Nothing should hold the loop for 20 milliseconds.
    private static let holds: [UInt64] = [
        50, 100, 250, 500, 1_000, 2_000, 3_000, 4_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 50_000, 100_000,
        250_000,
        500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
    ]

    func count(_ commit: GroupCommitter.Commit) {
        commitDuration.observe(commit.duration)
        commitEntries.observe(UInt64(commit.entries))
        commitBytes.add(UInt64(commit.bytes))
    }
}
