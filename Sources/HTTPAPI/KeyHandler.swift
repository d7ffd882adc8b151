import KeyValue
import KeyValueService
import NIOCore
import Raft
import RaftNode

/// Carries out requests for one key, for both lanes: what differs between them is how a request comes and an answer goes.
struct KeyHandler: Sendable {
    typealias Completion = (Answer) -> Void

    /// Carries a completion through other threads, which never call it.
    private struct Reply: @unchecked Sendable {
        // Sound: `send` hops to the loop on which the completion was made.
        var loop: LoopContext
        var completion: Completion

        func send(_ make: @escaping @Sendable () -> Answer) {
            loop.eventLoop.execute { completion(make()) }
        }
    }

    let server: ServerCore

    /// Calls `completion` once, on the loop; before it returns, for a stale read.
    func handle(_ request: KeyRequest, body: ByteBuffer, on loop: LoopContext, completion: @escaping Completion) {
        if let target = request.redirectTarget, let answer = redirect(to: target) {
            return completion(answer)
        }
        let timeout = request.timeoutMilliseconds.map { TimeAmount.milliseconds(Int64($0)) }
        let deadline = server.service.deadline(after: timeout)
        switch request.method {
        case .get, .head:
            if request.demand.isPlainlyStrong {
                loop.gate.confirm(deadline: deadline) { result in
                    switch result {
                    case .success: completion(read(request, staleness: nil))
                    case .failure(let error): completion(server.answer(Problem(error)))
                    }
                }
            } else if request.demand.isPlainlyStale, request.revision == nil {
                completion(read(request, staleness: server.service.provenStaleness))
            } else {
                let reply = Reply(loop: loop, completion: completion)
                server.service.permitRead(
                    request.demand.requirement(reaching: request.revision),
                    deadline: deadline
                ) { result in
                    reply.send {
                        switch result {
                        case .success(let permit): read(request, staleness: permit.staleness)
                        case .failure(let error): server.answer(Problem(error))
                        }
                    }
                }
            }
        case .put:
            let reply = Reply(loop: loop, completion: completion)
            server.service.put(
                key: request.key,
                value: body,
                contentType: request.contentType,
                lease: request.lease,
                condition: request.precondition.condition,
                returnsPrevious: request.wantsPrevious,
                options: request.options(body: body),
                deadline: deadline
            ) { result in
                reply.send { written(result, request) }
            }
        case .delete:
            let reply = Reply(loop: loop, completion: completion)
            server.service.delete(
                key: request.key,
                condition: request.precondition.condition,
                returnsPrevious: request.wantsPrevious,
                options: request.options(body: body),
                deadline: deadline
            ) { result in
                reply.send { written(result, request) }
            }
        case .post:
            let reply = Reply(loop: loop, completion: completion)
            server.service.write(
                .increment(key: request.key[...], by: request.increment, condition: request.precondition.condition),
                options: request.options(body: body),
                deadline: deadline
            ) { result in
                reply.send { written(result, request) }
            }
        }
    }

    /// 307 to the leader; nil when this node leads, and so does the work.
    func redirect(to target: String) -> Answer? {
        let vitals = server.service.vitals
        guard let leader = vitals.leader else {
            return server.answer(Problem(ServiceError(.noLeader)))
        }
        guard leader.id != server.service.status.serverID else { return nil }
        guard !leader.clientAddress.isEmpty else {
            return server.answer(
                Problem(
                    503,
                    .noLeader,
                    "the leader's address is unknown",
                    "\(leader.name) leads, but has not said where it takes HTTP; ask without ?redirect."
                ).with { $0.retryable = true }
            )
        }
        var answer = Answer(307)
        answer.location = "http://\(leader.clientAddress)\(target)"
        answer.stamp(vitals)
        return answer
    }

    // MARK: Reads

    /// The key as this node has it.
    func readHere(_ request: KeyRequest) -> Answer {
        var request = request
        request.demand.consistency = .stale
        return read(request, staleness: server.service.provenStaleness)
    }

    private func read(_ request: KeyRequest, staleness: TimeAmount?) -> Answer {
        do {
            let store = try server.service.readableStore()
            let (item, mark) =
                if let revision = request.revision {
                    try store.item(forKey: request.key[...], at: revision)
                } else {
                    try store.get(request.key[...])
                }
            var answer = present(item, revision: request.revision ?? mark.revision, request)
            answer.consistency = request.demand.consistency
            answer.stalenessMilliseconds = ReadPermit(staleness: staleness).stalenessMilliseconds.map {
                UInt64(clamping: $0)
            }
            return answer
        } catch {
            return server.answer(Problem(reading: error))
        }
    }

    private func present(_ item: Item?, revision: UInt64, _ request: KeyRequest) -> Answer {
        if let precondition = request.readPrecondition {
            if let ifMatch = precondition.ifMatch, !ifMatch.match(item?.modRevision) {
                return server.answer(.preconditionFailed(revision: revision, current: item?.modRevision))
            }
            if let ifNoneMatch = precondition.ifNoneMatch, let item, ifNoneMatch.match(item.modRevision) {
                var answer = Answer(304)
                describe(item, revision: revision, in: &answer)
                return answer
            }
        }
        guard let item else { return server.answer(.noSuchKey(revision: revision)) }
        var answer: Answer
        if request.wantsEnvelope {
            var json = JSONWriter(capacity: 256 + item.value.count)
            json.item(item)
            answer = .json(200, json.buffer)
        } else {
            answer = Answer(
                200,
                contentType: item.contentType ?? "application/octet-stream",
                body: .slice(item.value)
            )
            answer.isRawValue = true
        }
        describe(item, revision: revision, in: &answer)
        return answer
    }

    private func describe(_ item: Item, revision: UInt64, in answer: inout Answer) {
        answer.etag = item.modRevision
        answer.revision = revision
        answer.createRevision = item.createRevision
        answer.version = item.version
        answer.variesByAccept = true
        answer.stamp(server.service.vitals)
    }

    // MARK: Writes

    private func written(
        _ result: Result<KeyValueNode.Written, ServiceError>,
        _ request: KeyRequest
    ) -> Answer {
        let outcome: KeyValue.Outcome
        let isReplayed: Bool
        do {
            switch result {
            case .success(let written): (outcome, isReplayed) = try ServerCore.executed(written.outcome)
            case .failure(let error): return server.answer(Problem(error))
            }
        } catch {
            return server.answer(error)
        }
        var answer: Answer
        switch outcome {
        case .put(let revision, let createRevision, let version, let created, let previous):
            var json = JSONWriter(capacity: 128 + (previous?.value.count ?? 0))
            json.beginObject()
            json.member("revision", revision)
            json.member("version", version)
            json.member("created", created)
            if let previous { json.item(previous, as: "previous") }
            json.endObject()
            answer = .json(created ? 201 : 200, json.buffer)
            answer.describe(revision, createRevision, version)
            answer.preferenceApplied = request.wantsPrevious
        case .deleted(let revision, let count, let previous):
            answer = Answer(204)
            if request.wantsPrevious {
                var json = JSONWriter(capacity: 128 + (previous?.value.count ?? 0))
                json.beginObject()
                json.member("revision", revision)
                json.member("deleted", count)
                if let previous { json.item(previous, as: "previous") }
                json.endObject()
                answer = .json(200, json.buffer)
            }
            answer.revision = revision
            answer.preferenceApplied = request.wantsPrevious
        case .incremented(let revision, let value, let createRevision, let version):
            var json = JSONWriter()
            json.beginObject()
            json.member("revision", revision)
            json.member("value", value)
            json.endObject()
            answer = .json(200, json.buffer)
            answer.describe(revision, createRevision, version)
        default: return server.answer(.unfitOutcome)
        }
        answer.isReplayed = isReplayed
        answer.stamp(server.service.vitals)
        return answer
    }
}

extension Answer {
    /// What a write made of the key.
    fileprivate mutating func describe(_ revision: UInt64, _ createRevision: UInt64, _ version: UInt64) {
        etag = revision
        self.revision = revision
        self.createRevision = createRevision
        self.version = version
    }
}

extension WritePrecondition {
    var condition: Condition {
        switch self {
        case .none: .none
        case .mustNotExist: .absent
        case .mustExist: .exists
        case .revision(let revision): .modRevision(revision)
        }
    }
}

extension JSONWriter {
    /// `{"key","value","content_type","create_revision","mod_revision","version","lease"?}`, under `name` inside an object.
    mutating func item(_ item: Item, as name: StaticString? = nil, withValue: Bool = true) {
        if let name { self.name(name) }
        beginObject()
        fields(item, withValue: withValue)
        endObject()
    }

    /// The fields of an item, inside an object.
    mutating func fields(_ item: Item, withValue: Bool = true) {
        bytes(item.key, text: "key", base64: "key_base64")
        if withValue { bytes(item.value, text: "value", base64: "value_base64") }
        if let contentType = item.contentType { member("content_type", contentType) }
        member("create_revision", item.createRevision)
        member("mod_revision", item.modRevision)
        member("version", item.version)
        if item.lease != 0 { member("lease", LeaseText.text(item.lease)) }
    }
}
