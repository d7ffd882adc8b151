import HTTPTypes
import KeyValue
import KeyValueService
import NIOCore

/// `/leases`: lives that keys and locks share.
struct LeaseRoutes: Sendable {
    /// Leases of a page, when the client names no bound, and at most; and keys that a lease's answer names.
    static let defaultLimit = 100
    static let maximumLimit = 1_000

    let server: ServerCore

    var routes: [Route] {
        [
            Route(method: .post, pattern: "/leases") { try await grant($0) },
            Route(method: .get, pattern: "/leases") { try await list($0) },
            Route(method: .get, pattern: "/leases/{id}") { try await get($0) },
            Route(method: .put, pattern: "/leases/{id}") { try await keepAlive($0) },
            Route(method: .delete, pattern: "/leases/{id}") { try await revoke($0) },
        ]
    }

    private func id(_ request: APIRequest) throws(Problem) -> UInt64 {
        let text = request.segments[1]
        guard let id = LeaseText.id(text.utf8) else {
            throw .invalidParameter("id", "'\(text)' is no lease; it has 1 to 16 hexadecimal digits.")
        }
        return id
    }

    private func write(
        _ command: Command,
        _ request: APIRequest
    ) async throws(Problem) -> (outcome: KeyValue.Outcome, isReplayed: Bool) {
        let timeout = try request.timeout(server.service.options.defaultTimeout)
        return try await server.write(command, try request.options(), timeout: timeout)
    }

    private func answer(_ status: Int, _ lease: LeaseStatus, isReplayed: Bool) -> Answer {
        var json = JSONWriter()
        json.lease(lease)
        var answer = Answer.json(status, json.buffer)
        answer.isReplayed = isReplayed
        if status == 201 { answer.location = "/leases/\(LeaseText.text(lease.id))" }
        return server.stamped(answer)
    }

    private func grant(_ request: APIRequest) async throws -> Answer {
        let body = try BodyObject(request.body, known: ["ttl"])
        guard let ttl = try body.duration("ttl", in: LeaseText.ttlMilliseconds) else { throw body.missing("ttl") }
        let (outcome, isReplayed) = try await write(.grantLease(id: 0, ttlMilliseconds: UInt64(ttl)), request)
        guard case .lease(let lease) = outcome else { throw Problem.unfitOutcome }
        return answer(201, lease, isReplayed: isReplayed)
    }

    private func keepAlive(_ request: APIRequest) async throws -> Answer {
        let id = try id(request)
        let options = try request.options()
        guard options != .none else {
            // Those of one moment share a log entry.
            let timeout = try request.timeout(server.service.options.defaultTimeout)
            guard let lease = try await server.service.keepLeaseAlive(id, timeout: timeout) else {
                throw Problem.noSuchLease(id)
            }
            return answer(200, lease, isReplayed: false)
        }
        let (outcome, isReplayed) = try await write(.keepLeasesAlive([id]), request)
        guard case .leasesKept(let kept) = outcome, kept.count == 1 else { throw Problem.unfitOutcome }
        guard let lease = kept[0] else { throw Problem.noSuchLease(id) }
        return answer(200, lease, isReplayed: isReplayed)
    }

    private func revoke(_ request: APIRequest) async throws -> Answer {
        let (outcome, isReplayed) = try await write(.revokeLease(try id(request)), request)
        guard case .leaseRevoked(let revision, _) = outcome else { throw Problem.unfitOutcome }
        var answer = Answer(204)
        answer.revision = revision
        answer.isReplayed = isReplayed
        return server.stamped(answer)
    }

    private func get(_ request: APIRequest) async throws -> Answer {
        let id = try id(request)
        let read = try await server.prepareRead(request)
        let store = try server.service.readableStore()
        let (lease, mark) = try store.lease(id: id)
        guard let lease else { throw Problem.noSuchLease(id) }
        var json = JSONWriter()
        json.lease(lease, keys: try store.attachedKeys(of: id, limit: Self.maximumLimit).keys)
        var answer = Answer.json(200, json.buffer)
        answer.revision = mark.revision
        return server.stamped(answer, read)
    }

    private func list(_ request: APIRequest) async throws -> Answer {
        let limit = try request.limit(default: Self.defaultLimit, maximum: Self.maximumLimit)
        let after = try request.query["after"]?.leaseID()
        let read = try await server.prepareRead(request)
        var (leases, mark) = try server.service.readableStore().leases(after: after, limit: limit + 1)
        let more = leases.count > limit
        if more { leases.removeLast() }
        var json = JSONWriter(capacity: 1024)
        json.beginObject()
        json.name("leases")
        json.beginArray()
        for lease in leases { json.lease(lease) }
        json.endArray()
        json.member("more", more)
        if more, let last = leases.last { json.member("after", LeaseText.text(last.id)) }
        json.endObject()
        var answer = Answer.json(200, json.buffer)
        answer.revision = mark.revision
        return server.stamped(answer, read)
    }
}

extension JSONWriter {
    /// `{"id","ttl","remaining","keys"?}`
    fileprivate mutating func lease(_ lease: LeaseStatus, keys: [[UInt8]]? = nil) {
        beginObject()
        member("id", LeaseText.text(lease.id))
        member("ttl", Durations.text(milliseconds: Int(clamping: lease.ttlMilliseconds)))
        member("remaining", Durations.text(milliseconds: Int(clamping: lease.remainingMilliseconds)))
        if let keys {
            name("keys")
            beginArray()
            for bytes in keys { key(bytes) }
            endArray()
        }
        endObject()
    }
}
