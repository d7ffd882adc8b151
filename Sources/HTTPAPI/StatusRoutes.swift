import HTTPTypes
import KeyValue
import KeyValueService
import NIOCore
import Raft
import RaftNode

/// What this node says of itself: `/`, `/status`, `/health`, `/livez`, `/readyz`.
struct StatusRoutes: Sendable {
    let server: ServerCore

    var routes: [Route] {
        [
            Route(method: .get, pattern: "/") { await welcome($0) },
            Route(method: .get, pattern: "/openapi.json") { _ in describe() },
            Route(method: .get, pattern: "/status") { try await status($0) },
            Route(method: .get, pattern: "/health") { try await ready($0) },
            Route(method: .get, pattern: "/livez") { try await live($0) },
            Route(method: .get, pattern: "/readyz") { try await ready($0) },
        ]
    }

    // MARK: /

    private func welcome(_ request: APIRequest) async -> Answer {
        var json = JSONWriter(capacity: 1024)
        json.beginObject()
        json.member("name", "kontiki")
        json.member("version", server.options.version)
        json.member("node", server.name)
        json.member("description", "A durable, replicated key-value store.")
        json.member("openapi", "/openapi.json")
        json.name("try")
        json.beginArray()
        for operation in APIDescription.operations { json.value(operation.line) }
        json.endArray()
        json.endObject()
        return server.stamped(.json(200, json.buffer))
    }

    private func describe() -> Answer {
        server.stamped(.json(200, OpenAPIDocument.bytes(version: server.options.version)))
    }

    // MARK: /status

    private func status(_ request: APIRequest) async throws -> Answer {
        let status = server.service.status
        let mark = server.service.store.mark
        var json = JSONWriter(capacity: 2048)
        json.beginObject()
        json.member("id", status.name)
        json.member("server_id", status.serverID.description)
        json.member("cluster_id", status.clusterID.description)
        json.member("version", server.options.version)
        json.member("role", status.role.rawValue)
        json.member("term", status.term)
        json.name("leader")
        if let leader = status.leader { json.leader(leader) } else { json.null() }
        json.member("first_index", status.firstIndex)
        json.member("last_index", status.lastIndex)
        json.member("commit_index", status.commitIndex)
        json.member("applied_index", status.appliedIndex)
        json.member("durable_index", status.durableIndex)
        json.member("snapshot_index", status.snapshotIndex)
        json.name("leader_last_index")
        if let index = status.pursuit.leaderLog?.last { json.value(index) } else { json.null() }
        json.name("leader_commit_index")
        if let index = status.pursuit.leaderLog?.commit { json.value(index) } else { json.null() }
        json.name("lag")
        if let lag = status.pursuit.lag { json.value(lag) } else { json.null() }
        json.member("ready", server.readinessChecks.allSatisfy(\.isOK))
        json.member("revision", mark.revision)
        let uptime = NIODeadline.now() - server.startedAt
        json.member("uptime", "\(uptime.nanoseconds / 1_000_000_000)s")
        json.member("connections", server.connectionCount)
        json.member("pending_requests", server.service.pendingCount)
        storage(status, &json)
        if let quarantine = status.quarantine { json.member("quarantine", quarantine.description) }
        if let alarm = status.comparison.alarm { json.member("replicas_differ", alarm) }
        if let fault = status.fault ?? server.service.node.machine.fault?.description { json.member("fault", fault) }
        json.name("peers")
        json.beginArray()
        for peer in status.peers where peer.member.id != status.serverID { json.peer(peer) }
        json.endArray()
        json.endObject()
        var answer = Answer.json(200, json.buffer)
        answer.revision = mark.revision
        return server.stamped(answer)
    }

    private func storage(_ status: NodeStatus, _ json: inout JSONWriter) {
        json.name("storage")
        json.beginObject()
        json.member("log_bytes", status.logBytes)
        if let statistics = try? server.service.store.statistics() {
            json.member("keys", statistics.keyCount)
            json.member("content_bytes", statistics.contentBytes)
            json.member("pending_bytes", statistics.pendingBytes)
            json.member("used_bytes", statistics.usedBytes)
            json.member("file_bytes", statistics.fileBytes)
            json.member("available_disk_bytes", statistics.availableDiskBytes)
            json.member("reader_slots", statistics.readerSlots)
        }
        json.member("full", status.lackOfRoom != nil)
        json.member("refuses_writes", status.refusesWrites)
        if let detail = status.lackOfRoom { json.member("detail", detail) }
        json.endObject()
    }

    // MARK: Health

    /// Alive: the process answers and its state is whole. Whether there is a leader is no reason to restart it.
    private func live(_ request: APIRequest) async throws -> Answer {
        try await answer(server.service.livenessChecks, as: "alive", request)
    }

    /// Ready: strong requests sent here are likely to succeed now, also when another node goes.
    private func ready(_ request: APIRequest) async throws -> Answer {
        try await answer(server.readinessChecks, as: "ready", request)
    }

    private func answer(_ checks: [HealthCheck], as name: StaticString, _ request: APIRequest) async throws -> Answer {
        let isVerbose = try request.flag("verbose")
        let isOK = checks.allSatisfy(\.isOK)
        var json = JSONWriter(capacity: 512)
        json.beginObject()
        json.member(name, isOK)
        json.name("checks")
        json.beginArray()
        for check in checks {
            json.beginObject()
            json.member("name", check.name)
            json.member("ok", check.isOK)
            if isVerbose || !check.isOK { json.member("detail", check.detail) }
            json.endObject()
        }
        json.endArray()
        json.endObject()
        var answer = Answer.json(isOK ? 200 : 503, json.buffer)
        if !isOK { answer.retryAfterSeconds = 1 }
        return server.stamped(answer)
    }
}

extension JSONWriter {
    /// `{"id","addr","http"}`
    mutating func leader(_ leader: Member) {
        beginObject()
        member("id", leader.name)
        member("addr", leader.peerAddress)
        member("http", leader.clientAddress)
        endObject()
    }

    /// One of `/members`, and one of the peers in `/status`.
    mutating func peer(_ peer: NodeStatus.Peer) {
        beginObject()
        member("id", peer.member.name)
        member("server_id", peer.member.id.description)
        member("addr", peer.member.peerAddress)
        member("http", peer.member.clientAddress)
        member("suffrage", peer.isVoter ? "voter" : "learner")
        member("leader", peer.isLeader)
        name("match_index")
        if let index = peer.matchIndex { value(index) } else { null() }
        name("last_contact_ms")
        if let contact = peer.lastContactMilliseconds { value(contact) } else { null() }
        member("healthy", peer.isHealthy)
        if peer.isReceivingSnapshot { member("receiving_snapshot", true) }
        endObject()
    }
}
