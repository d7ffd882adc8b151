import HTTPTypes
import KeyValue
import KeyValueService
import NIOCore
import Observability
import Raft
import RaftNode

/// `/metrics`, in Prometheus' text format.
struct MetricsRoutes: Sendable {
    let server: ServerCore

    var routes: [Route] { [Route(method: .get, pattern: "/metrics") { _ in answer() }] }

    private func answer() -> Answer {
        server.stamped(
            Answer(
                200,
                contentType: Exposition.contentType,
                body: .buffer(ByteBuffer(bytes: server.options.metrics.text()))
            )
        )
    }
}

extension ServerCore {
    /// What the node knows of itself anyway; asked for when somebody wants to see it.
    func collect(into text: inout Exposition) {
        let status = service.status
        raft(status, &text)
        log(status, &text)
        comparison(status, &text)
        state(&text)
        text.gauge("kontiki_ready", "Whether /readyz says yes.", readinessChecks.allSatisfy(\.isOK))
        text.gauge("kontiki_http_connections", "Open connections of clients.", connectionCount)
        text.gauge("kontiki_requests_pending", "Requests under way.", service.pendingCount)
        let uptime = NIODeadline.now() - startedAt
        text.gauge("kontiki_uptime_seconds", "Since the server started.", Double(uptime.nanoseconds) / 1e9)
        text.begin("kontiki_build_info", .gauge, "The program's version.")
        text.sample([("version", options.version)], 1)
    }

    private func raft(_ status: NodeStatus, _ text: inout Exposition) {
        text.gauge("kontiki_raft_term", "The term.", status.term)
        text.begin("kontiki_raft_role", .gauge, "1 for the role that this node has, 0 for the others.")
        for role in NodeStatus.Role.allCases {
            text.sample([("role", role.rawValue)], role == status.role ? 1 : 0)
        }
        text.gauge("kontiki_raft_has_leader", "Whether this node knows a leader.", status.leader != nil)
        text.gauge("kontiki_raft_voters", "Voters in the configuration.", status.configuration.voters.count)
        text.gauge("kontiki_raft_commit_index", "The last index known to be committed.", status.commitIndex)
        text.gauge("kontiki_raft_applied_index", "The last applied index.", status.appliedIndex)
        if let lag = status.pursuit.lag {
            text.gauge("kontiki_raft_lag_entries", "What the leader has and this node lacks or has not applied.", lag)
        }
        if let last = status.pursuit.leaderLog?.last {
            text.gauge("kontiki_raft_leader_last_index", "Where the leader says that its log ends.", last)
        }
        text.gauge(
            "kontiki_raft_durable_index",
            "The last index whose effect on the state is durable.",
            status.durableIndex
        )
        text.begin(
            "kontiki_raft_peer_match_index",
            .gauge,
            "What each server holds durably, as far as this node knows."
        )
        for peer in status.peers {
            if let index = peer.matchIndex { text.sample([("peer", peer.member.name)], index) }
        }
        text.begin("kontiki_raft_peer_healthy", .gauge, "Whether each server was heard of within an election timeout.")
        for peer in status.peers { text.sample([("peer", peer.member.name)], peer.isHealthy ? 1 : 0) }
    }

    private func log(_ status: NodeStatus, _ text: inout Exposition) {
        text.gauge("kontiki_log_first_index", "The first index that the log holds.", status.firstIndex)
        text.gauge("kontiki_log_last_index", "The last index that the log holds.", status.lastIndex)
        text.gauge("kontiki_log_bytes", "What the log takes on the disk.", status.logBytes)
        text.gauge("kontiki_snapshot_index", "The last index in the newest snapshot.", status.snapshotIndex)
        text.gauge("kontiki_refuses_writes", "Whether writes are refused for lack of room.", status.refusesWrites)
        text.gauge(
            "kontiki_fault",
            "Whether something is wrong with this node; /status says what.",
            status.fault != nil || service.node.machine.fault != nil
        )
    }

    private func comparison(_ status: NodeStatus, _ text: inout Exposition) {
        let comparison = status.comparison
        text.gauge("kontiki_quarantine", "Whether this node's state is known to be wrong.", status.quarantine != nil)
        text.gauge(
            "kontiki_replicas_differ",
            "Whether a difference is known for which nobody is in quarantine.",
            comparison.alarm != nil
        )
        text.counter(
            "kontiki_replica_comparisons_total",
            "Indexes at which this node compared the replicas' states, as the leader.",
            comparison.made
        )
        text.counter(
            "kontiki_replica_comparisons_differing_total",
            "Those at which a replica differed.",
            comparison.differing
        )
        text.gauge(
            "kontiki_state_hash_index",
            "The last index at which this node noted its state's hash.",
            comparison.notedIndex
        )
        text.gauge("kontiki_state_compared_index", "The last index that this node compared.", comparison.comparedIndex)
        text.counter(
            "kontiki_state_verifications_total",
            "How often the state's hash was recomputed from what is stored.",
            comparison.verifications
        )
    }

    private func state(_ text: inout Exposition) {
        text.counter("kontiki_state_revision_total", "The state's revision.", service.store.mark.revision)
        guard let statistics = try? service.store.statistics() else { return }
        text.gauge("kontiki_state_keys", "Keys.", statistics.keyCount)
        text.gauge("kontiki_state_content_bytes", "Bytes of all keys and values.", statistics.contentBytes)
        text.gauge("kontiki_history_changes", "Changes of the past that are kept.", statistics.historyEvents)
        text.gauge("kontiki_history_bytes", "Bytes of the past that are kept.", statistics.historyBytes)
        text.gauge(
            "kontiki_history_compact_revision",
            "The oldest revision that can be read.",
            service.store.compactRevision
        )
        text.gauge("kontiki_leases", "Leases.", service.store.leaseCount)
        text.gauge("kontiki_state_pending_bytes", "What waits in memory to be made durable.", statistics.pendingBytes)
        text.gauge("kontiki_state_used_bytes", "Bytes used in the state's file.", statistics.usedBytes)
        text.gauge("kontiki_state_file_bytes", "The size of the state's file.", statistics.fileBytes)
        text.gauge(
            "kontiki_storage_free_bytes",
            "What the state's file system still gives.",
            statistics.availableDiskBytes
        )
    }
}
