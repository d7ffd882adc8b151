import HTTPTypes
import KeyValue
import KeyValueService
import NIOCore

/// `POST /txn`: comparisons and operations in one atomic step.
struct TransactionRoutes: Sendable {
    let server: ServerCore

    var routes: [Route] { [Route(method: .post, pattern: "/txn") { try await execute($0) }] }

    private func execute(_ request: APIRequest) async throws -> Answer {
        let transaction = try TransactionBody.parse(request.body, server.options.limits)
        let options = try request.options()
        if try request.flag("redirect"), let answer = KeyHandler(server: server).redirect(to: request.target) {
            return answer
        }
        let timeout = try request.timeout(server.service.options.defaultTimeout)
        let (outcome, isReplayed) = try await server.write(.transaction(transaction), options, timeout: timeout)
        guard case .transaction(let done) = outcome else { throw Problem.unfitOutcome }
        var json = JSONWriter(capacity: 1024)
        json.beginObject()
        json.member("succeeded", done.succeeded)
        json.member("revision", done.revision)
        json.name("results")
        json.beginArray()
        for result in done.results { json.result(result, revision: done.revision) }
        json.endArray()
        json.endObject()
        var answer = Answer.json(200, json.buffer)
        answer.revision = done.revision
        answer.isReplayed = isReplayed
        return server.stamped(answer)
    }
}

extension JSONWriter {
    /// `{"put":{…}}`, named as the operation was.
    fileprivate mutating func result(_ result: OperationResult, revision: UInt64) {
        beginObject()
        switch result {
        case .put(let createRevision, let version, let created):
            name("put")
            beginObject()
            member("revision", revision)
            member("create_revision", createRevision)
            member("version", version)
            member("created", created)
            endObject()
        case .deleted(let count):
            name("delete")
            beginObject()
            member("deleted", count)
            endObject()
        case .item(let item):
            name("get")
            beginObject()
            if let item {
                self.item(item, as: "item")
            } else {
                name("item")
                null()
            }
            endObject()
        case .range(let items, let more):
            name("get")
            beginObject()
            name("items")
            beginArray()
            for item in items { self.item(item) }
            endArray()
            member("more", more)
            endObject()
        case .incremented(let value, let createRevision, let version):
            name("incr")
            beginObject()
            member("value", value)
            member("create_revision", createRevision)
            member("version", version)
            endObject()
        }
        endObject()
    }
}
