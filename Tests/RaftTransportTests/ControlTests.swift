import NIOCore
import NIOPosix
import Raft
import Synchronization
import Testing

@testable import RaftTransport

@Suite("Control requests")
struct ControlTests {
    private func ask(
        _ request: ControlRequest,
        _ node: Node,
        as sender: ServerIdentity,
        timeout: TimeAmount = .seconds(30)
    ) async throws -> ControlResponse {
        try await PeerTransport.control(
            request,
            at: node.address.description,
            as: sender,
            on: MultiThreadedEventLoopGroup.singleton,
            timeout: timeout
        )
    }

    /// Expects this response to a request.
    private func expect(
        _ response: ControlResponse,
        to request: ControlRequest,
        _ node: Node,
        as sender: ServerIdentity
    ) async throws {
        let answer = try await ask(request, node, as: sender)
        #expect(answer == response)
    }

    @Test("Every server says who it is, also to one without a cluster")
    func identify() async throws {
        let a = try await Node(1)
        try await with(a) {
            try await expect(.identity(identity(1)), to: .identify, a, as: identity(9, cluster: .none))
            try await expect(.identity(identity(1)), to: .identify, a, as: identity(9))
            #expect(a.recorder.state.withLock { $0.controls.isEmpty })
        }
    }

    @Test(
        "A request reaches the delegate, and its answer comes back",
        arguments: [
            ControlResponse.accepted(cluster), .redirect("10.0.0.1:9001"), .refused("the name is taken"),
            .answer([1, 2]),
        ]
    )
    func join(_ response: ControlResponse) async throws {
        let a = try await Node(1)
        try await with(a) {
            a.recorder.state.withLock { $0.response = response }
            let member = Member(id: ServerID(9), name: "node9", peerAddress: "h:1", promotion: .voter)
            let request = ControlRequest.join(JoinRequest(member: member, replaces: "node3"))
            try await expect(response, to: request, a, as: identity(9, cluster: .none))
            #expect(a.recorder.state.withLock { $0.controls } == [request])
            try await expect(response, to: .call([7]), a, as: identity(9))
        }
    }

    @Test("Large answers come whole")
    func large() async throws {
        let a = try await Node(1)
        try await with(a) {
            let bytes = [UInt8](repeating: 5, count: 200_000)
            a.recorder.state.withLock { $0.response = .answer(bytes) }
            try await expect(.answer(bytes), to: .call(bytes), a, as: identity(9))
        }
    }

    @Test("What is too large is said clearly, on either side")
    func tooLarge() async throws {
        let a = try await Node(1)
        try await with(a) {
            let bytes = [UInt8](repeating: 5, count: 300_000)
            let error = await #expect(throws: TransportError.self) {
                _ = try await ask(.call(bytes), a, as: identity(9))
            }
            #expect(error?.code == .invalidRequest)
            a.recorder.state.withLock { $0.response = .answer(bytes) }
            try await expect(.refused("the answer is too large to be sent"), to: .call([1]), a, as: identity(9))
        }
    }

    @Test("No answer, no listener, another cluster and a bad address are told apart")
    func failures() async throws {
        let a = try await Node(1)
        let member = Member(id: ServerID(9), name: "node9", peerAddress: "h:1")
        let join = ControlRequest.join(JoinRequest(member: member))
        try await with(a) {
            a.recorder.state.withLock { $0.response = nil }
            var error = await #expect(throws: TransportError.self) {
                _ = try await ask(join, a, as: identity(9), timeout: .seconds(1))
            }
            #expect(error?.code == .timedOut)
            error = await #expect(throws: TransportError.self) {
                _ = try await ask(join, a, as: identity(9, cluster: ClusterID(4)))
            }
            #expect(error?.refusal == .wrongCluster)
        }
        var error = await #expect(throws: TransportError.self) { _ = try await ask(join, a, as: identity(9)) }
        #expect(error?.code == .unreachable)
        error = await #expect(throws: TransportError.self) {
            _ = try await PeerTransport.control(
                join,
                at: "nowhere",
                as: identity(9),
                on: MultiThreadedEventLoopGroup.singleton
            )
        }
        #expect(error?.code == .invalidAddress)
    }
}
