import HTTPTypes
import KeyValueService
import NIOCore
import Raft
import RaftNode

/// `/members` and `/leader/transfer`: what an operator changes of the cluster. Any node takes these and asks the leader.
struct MemberRoutes: Sendable {
    private static let defaultTimeout = TimeAmount.seconds(30)

    let server: ServerCore

    var routes: [Route] {
        [
            Route(method: .get, pattern: "/members") { try await list($0) },
            Route(method: .post, pattern: "/members") { try await add($0) },
            Route(method: .delete, pattern: "/members/{name}") { try await remove($0) },
            Route(method: .post, pattern: "/members/{name}/promote") { try await promote($0) },
            Route(method: .post, pattern: "/members/{name}/replace") { try await replace($0) },
            Route(method: .post, pattern: "/leader/transfer") { try await transfer($0) },
        ]
    }

    private func list(_ request: APIRequest) async throws -> Answer {
        let status = server.service.status
        var json = JSONWriter(capacity: 1024)
        json.beginObject()
        json.name("members")
        json.beginArray()
        for peer in status.peers { json.peer(peer) }
        json.endArray()
        json.endObject()
        return server.stamped(.json(200, json.buffer))
    }

    private func add(_ request: APIRequest) async throws -> Answer {
        let body = try RequestBodies.decode(RequestBodies.NewMember.self, from: request.body)
        let member = try await server.service.node.addMember(
            name: body.name,
            peerAddress: try Self.checked(body),
            replacing: nil,
            timeout: try request.timeout(Self.defaultTimeout)
        )
        return await answer(201, member, request)
    }

    private func remove(_ request: APIRequest) async throws -> Answer {
        let member = try named(request.segments[1])
        try await server.service.node.changeMembership(
            .remove(member.id),
            timeout: try request.timeout(Self.defaultTimeout)
        )
        return server.stamped(Answer(204))
    }

    private func promote(_ request: APIRequest) async throws -> Answer {
        let member = try named(request.segments[1])
        try await server.service.node.changeMembership(
            .promote(member.id),
            timeout: try request.timeout(Self.defaultTimeout)
        )
        return await answer(200, member, request)
    }

    private func replace(_ request: APIRequest) async throws -> Answer {
        let replaced = try named(request.segments[1])
        let body = try RequestBodies.decode(RequestBodies.NewMember.self, from: request.body)
        let member = try await server.service.node.addMember(
            name: body.name,
            peerAddress: try Self.checked(body),
            replacing: replaced.id,
            timeout: try request.timeout(Self.defaultTimeout)
        )
        return await answer(200, member, request)
    }

    private func transfer(_ request: APIRequest) async throws -> Answer {
        var target: Member?
        if request.body.readableBytes > 0 {
            let body = try RequestBodies.decode(RequestBodies.Transfer.self, from: request.body)
            target = try body.to.map { name throws(Problem) in try named(name) }
        }
        try await server.service.node.transferLeadership(
            to: target?.id,
            timeout: try request.timeout(.seconds(10))
        )
        let status = server.service.status
        var json = JSONWriter()
        json.beginObject()
        json.name("leader")
        if let leader = status.leader { json.leader(leader) } else { json.null() }
        json.member("term", status.term)
        json.endObject()
        return server.stamped(.json(200, json.buffer))
    }

    // MARK: Parts

    private func answer(_ status: Int, _ member: Member, _ request: APIRequest) async -> Answer {
        var json = JSONWriter()
        json.beginObject()
        json.member("id", member.name)
        json.member("server_id", member.id.description)
        json.member("addr", member.peerAddress)
        json.member("http", member.clientAddress)
        json.endObject()
        return server.stamped(.json(status, json.buffer))
    }

    /// The member with this name, or with this identity in hexadecimal.
    private func named(_ name: String) throws(Problem) -> Member {
        let configuration = server.service.status.configuration
        if let member = configuration.member(named: name) { return member }
        if let number = UInt64(name, radix: 16), let member = configuration.member(ServerID(number)) { return member }
        let known = configuration.members.map(\.name)
        throw Problem(
            404,
            .noSuchMember,
            "no such member",
            "'\(name)' is no member; known are: \(known.joined(separator: ", "))."
        ).with { $0.known = known }
    }

    private static func checked(_ body: RequestBodies.NewMember) throws(Problem) -> String {
        let colon = body.addr.lastIndex(of: ":")
        let port = colon.flatMap { Int(body.addr[body.addr.index(after: $0)...]) }
        guard let colon, colon != body.addr.startIndex, let port, (1...65_535).contains(port) else {
            throw Problem(
                400,
                .invalidBody,
                "invalid body",
                "addr is where the new server takes connections of its peers, as host:port; '\(body.addr)' is not."
            )
        }
        if let name = body.name {
            guard (1...64).contains(name.utf8.count), name.utf8.allSatisfy({ (0x21...0x7E).contains($0) && $0 != 0x2F })
            else {
                throw Problem(
                    400,
                    .invalidBody,
                    "invalid body",
                    "name must have 1 to 64 printable ASCII characters without spaces and slashes."
                )
            }
        }
        return body.addr
    }
}
