import HTTPTypes
import KeyValue
import KeyValueService
import NIOCore

/// `/locks`: who holds what, with tokens that fence off those who held it before. An election is a lock whose holder says who it is.
struct LockRoutes: Sendable {
    static let defaultLimit = 100
    static let maximumLimit = 1_000
    private static let maximumWait = 600_000
    /// How soon a request that waits sees that the server stops.
    private static let stopInterval = Duration.milliseconds(100)

    // What looking at one lock takes and answers.
    static let parameters = WatchRequest.parameters + ["timeout"] + ReadDemand.parameters

    let server: ServerCore

    var routes: [Route] {
        [
            Route(method: .get, pattern: "/locks") { try await list($0) },
            Route(method: .get, pattern: "/locks/{name}") { try await get($0) },
            Route(method: .post, pattern: "/locks/{name}") { try await acquire($0) },
            Route(method: .delete, pattern: "/locks/{name}") { try await release($0) },
        ]
    }

    private func name(_ request: APIRequest) throws(Problem) -> [UInt8] {
        let name = Array(request.segments[1].utf8)
        if let reason = Command.validate(lockName: name) { throw .invalidCommand(reason) }
        return name
    }

    // MARK: Taking

    private func acquire(_ request: APIRequest) async throws -> Answer {
        let name = try name(request)
        let body = try BodyObject(request.body, known: ["ttl", "lease", "wait", "value", "value_base64"])
        let lease = try body.leaseChoice()
        guard lease != .none else { throw body.missing("ttl") }
        let value = try body.bytes("value") ?? []
        guard value.count <= KeyValueLimits.maximumLockValueLength else {
            throw body.problem("value", "has more than \(KeyValueLimits.maximumLockValueLength) bytes").with {
                $0.limit = KeyValueLimits.maximumLockValueLength
            }
        }
        let wait = try body.duration("wait", in: 0...Self.maximumWait) ?? 0
        let timeout = try request.timeout(server.service.options.defaultTimeout)
        let answer = try await ask(
            LockRequest(name: name, lease: lease, waits: wait > 0, value: value),
            request,
            timeout: wait > 0 ? .milliseconds(Int64(wait)) : timeout
        )
        switch answer {
        case .acquired(let status):
            var json = JSONWriter()
            json.ticket(status)
            var answer = Answer.json(200, json.buffer)
            answer.revision = status.revision
            return server.stamped(answer)
        case .refused(let written):
            _ = try ServerCore.executed(written.outcome)
            throw Problem.unfitOutcome
        case .notGranted(let status):
            if server.isStopping { throw Problem.shuttingDown }
            throw status.map { Problem.lockHeld($0) } ?? Problem.notGranted
        case .lost:
            // Under the same idempotency key the answer would be the same again.
            let isNamed = try request.options().idempotency != nil
            throw Problem.notGranted.with { $0.retryable = !isNamed }
        }
    }

    /// Asks for the lock; the wait ends when the server stops or the client goes away, too.
    private func ask(
        _ lock: LockRequest,
        _ request: APIRequest,
        timeout: TimeAmount
    ) async throws -> LockAnswer {
        let options = try request.options()
        return try await withThrowingTaskGroup(of: LockAnswer?.self) { group in
            group.addTask { try await server.service.acquireLock(lock, options: options, timeout: timeout) }
            if lock.waits {
                group.addTask {
                    await request.clientDeparture()
                    return nil
                }
            }
            group.addTask {
                // Not with an error, which would be answered in the place of what became of the lock.
                while !server.isStopping, !Task.isCancelled { try? await Task.sleep(for: Self.stopInterval) }
                return nil
            }
            defer { group.cancelAll() }
            while let result = try await group.next() {
                if let result { return result }
                group.cancelAll()
            }
            throw Problem.shuttingDown
        }
    }

    private func release(_ request: APIRequest) async throws -> Answer {
        let name = try name(request)
        guard let parameter = request.query["token"] else {
            throw Problem.invalidParameter("token", "is missing: it is what the lock was granted with.")
        }
        let token = try parameter.number()
        let timeout = try request.timeout(server.service.options.defaultTimeout)
        let (outcome, isReplayed) = try await server.write(
            .releaseLock(name: name, token: token),
            try request.options(),
            timeout: timeout
        )
        guard case .lockReleased(let revision) = outcome else { throw Problem.unfitOutcome }
        var answer = Answer(204)
        answer.revision = revision
        answer.isReplayed = isReplayed
        return server.stamped(answer)
    }

    // MARK: Looking

    private func get(_ request: APIRequest) async throws -> Answer {
        let name = try name(request)
        try request.refuseWatch()
        let read = try await server.prepareRead(request)
        let (lock, mark) = try server.service.readableStore().lock(name: name)
        guard let lock else {
            throw Problem(404, .noSuchLock, "nobody holds the lock", "Nobody holds this lock or waits for it.").with {
                $0.revision = mark.revision
            }
        }
        var json = JSONWriter()
        json.lock(lock)
        var answer = Answer.json(200, json.buffer)
        answer.revision = mark.revision
        return server.stamped(answer, read)
    }

    private func list(_ request: APIRequest) async throws -> Answer {
        let limit = try request.limit(default: Self.defaultLimit, maximum: Self.maximumLimit)
        let prefix = request.query["prefix"]?.value ?? []
        let after = request.query["after"]?.value
        let read = try await server.prepareRead(request)
        var (locks, mark) = try server.service.readableStore().locks(prefix: prefix, after: after, limit: limit + 1)
        let more = locks.count > limit
        if more { locks.removeLast() }
        var json = JSONWriter(capacity: 1024)
        json.beginObject()
        json.member("revision", mark.revision)
        json.name("locks")
        json.beginArray()
        for lock in locks { json.lock(lock) }
        json.endArray()
        json.member("more", more)
        json.endObject()
        var answer = Answer.json(200, json.buffer)
        answer.revision = mark.revision
        return server.stamped(answer, read)
    }
}

extension Problem {
    /// The lock was not granted in time, or the ticket is over.
    fileprivate static var notGranted: Problem {
        Problem(
            409,
            .lockHeld,
            "the lock was not granted",
            "Its turn did not come, or the ticket's lease ended before; ask again."
        ).with { $0.retryable = true }
    }
}

extension JSONWriter {
    /// `{"name","token","lease","revision","value"?,"waiting"}`: how the lock stands, with its holder's token.
    mutating func lock(_ lock: LockStatus) {
        beginObject()
        lockFields(lock)
        endObject()
    }

    mutating func lockFields(_ lock: LockStatus) {
        fields(lock.name, lock.holder)
        member("revision", lock.modRevision)
        member("waiting", lock.waiters.count)
    }

    fileprivate mutating func ticket(_ status: LockTicketStatus) {
        beginObject()
        fields(status.name, status.ticket)
        member("revision", status.revision)
        endObject()
    }

    private mutating func fields(_ name: [UInt8], _ ticket: LockTicket) {
        self.name("name")
        name.withUnsafeBytes { value(utf8: $0) }
        member("token", ticket.token)
        member("lease", LeaseText.text(ticket.lease))
        if !ticket.value.isEmpty { bytes(ticket.value, text: "value", base64: "value_base64") }
    }
}
