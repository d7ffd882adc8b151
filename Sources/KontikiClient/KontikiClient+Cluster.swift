internal import NIOCore
internal import NIOHTTP1

extension KontikiClient {
    /// What one of the nodes says of itself and of the cluster.
    public func status() async throws(ClientError) -> NodeStatus {
        try await perform(Request(method: .GET, target: "/status")).decoded(NodeStatus.self)
    }

    /// The answer of ``status()`` as the node gave it, JSON.
    public func statusDocument() async throws(ClientError) -> String {
        String(buffer: try await perform(Request(method: .GET, target: "/status")).body)
    }

    /// What keeps one of the nodes from being ready, as its `/readyz` says, each in words; nothing when it is ready.
    public func readiness() async throws(ClientError) -> [String] {
        let response = try await perform(Request(method: .GET, target: "/readyz"), accepting: [503])
        return try response.decoded(ReadinessDocument.self).checks.filter { !$0.ok }.map { check in
            check.detail.map { "\(check.name): \($0)" } ?? check.name
        }
    }

    /// The servers of the cluster.
    public func members() async throws(ClientError) -> [ClusterMember] {
        try await perform(Request(method: .GET, target: "/members")).decoded(MembersDocument.self).members
    }

    /// Takes in a server that was started to join, as a learner which is promoted when it has caught up.
    ///
    /// - Parameter address: where it takes connections of its peers, `host:port`.
    public func addMember(name: String, address: String) async throws(ClientError) {
        try await change(.POST, "/members", MemberRequest(name: name, addr: address))
    }

    /// Takes a server out of the cluster.
    public func removeMember(_ name: String) async throws(ClientError) {
        try await change(.DELETE, member(name), nil)
    }

    /// Makes a learner a voter.
    public func promoteMember(_ name: String) async throws(ClientError) {
        try await change(.POST, member(name) + "/promote", nil)
    }

    /// Puts the server at `address` in the place of the member `name`, in one change of the membership.
    public func replaceMember(_ name: String, with newName: String, address: String) async throws(ClientError) {
        try await change(.POST, member(name) + "/replace", MemberRequest(name: newName, addr: address))
    }

    /// Hands leadership to the member `name`, or to the follower that is furthest.
    public func transferLeadership(to name: String? = nil) async throws(ClientError) {
        try await change(.POST, "/leader/transfer", MemberRequest(to: name))
    }

    private func member(_ name: String) -> String { "/members/" + PercentEncoding.query(name.utf8) }

    private func change(_ method: HTTPMethod, _ target: String, _ body: MemberRequest?) async throws(ClientError) {
        var request = Request(method: method, target: target)
        if let body {
            request.headers = [("Content-Type", "application/json")]
            request.body = try body.encoded()
        }
        _ = try await perform(request)
    }
}
