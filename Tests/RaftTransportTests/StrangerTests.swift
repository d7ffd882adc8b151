import NIOCore
import Raft
import Synchronization
import Testing

@testable import RaftTransport

@Suite("Strangers on the port for peers")
struct StrangerTests {
    /// Says hello as `sender` and gives the answer.
    private func reply(
        of node: Node,
        to sender: ServerIdentity,
        purpose: Purpose = .urgentMessages,
        expected: UInt64? = nil,
        version: UInt16 = 1
    ) async throws -> (Handshake.Reply, RawClient) {
        var hello = Handshake.Hello(purpose: purpose, sender: sender, expected: expected.map { ServerID($0) })
        hello.version = version
        hello.minimumVersion = version
        while true {
            let client = try await RawClient(node.address)
            client.send(hello.encode())
            var reply: Handshake.Reply?
            // On a machine that is busy the hello may come too late for the server's patience.
            try await eventually {
                var bytes = client.received.withLock { $0 }
                reply = try Handshake.Reply.decode(&bytes)
                return reply != nil || client.closed
            }
            if let reply { return (reply, client) }
        }
    }

    @Test("R47: a peer of another cluster is refused, and told why")
    func wrongCluster() async throws {
        let a = try await Node(1)
        try await with(a) {
            for purpose in [Purpose.urgentMessages, .bulkMessages, .snapshot, .control] {
                let stranger = identity(2, cluster: ClusterID(0xbad))
                let (reply, client) = try await reply(of: a, to: stranger, purpose: purpose, expected: 1)
                #expect(reply.refusal?.code == .wrongCluster)
                #expect(reply.refusal?.description.contains("\(ClusterID(0xbad))") == true)
                try await eventually { client.closed }
            }
            #expect(a.log.count(of: "refused a connection") > 0)
        }
    }

    @Test("R46: a server under another identity than the expected one is told apart, as is a copy of oneself")
    func wrongServer() async throws {
        let a = try await Node(1)
        try await with(a) {
            var answer = try await reply(of: a, to: identity(2), expected: 9).0
            #expect(answer.refusal?.code == .wrongServer)
            answer = try await reply(of: a, to: identity(1)).0
            #expect(answer.refusal?.code == .sameServer)
            answer = try await reply(of: a, to: identity(2), version: 9).0
            #expect(answer.refusal?.code == .version)
            answer = try await reply(of: a, to: identity(2, cluster: .none)).0
            #expect(answer.refusal?.code == .wrongCluster)
        }
    }

    @Test("R47: both sides say in one line why two clusters do not link, and nothing is delivered")
    func twoClusters() async throws {
        let (a, b) = (try await Node(1), try await Node(2, cluster: ClusterID(0xbad)))
        try await with(a, b) {
            try await b.link(to: a)
            try await eventually { a.log.count(of: "refused a connection") > 0 }
            try await eventually { b.log.count(of: "no link to a peer") > 0 }
            #expect(b.log.all.contains { $0.contains("refused: this server belongs to cluster \(cluster)") })
            #expect(try await b.send(heartbeat(2, 1, round: 1)) == false)
            #expect(a.recorder.messages.isEmpty)
            #expect(b.recorder.links.isEmpty)
        }
    }

    @Test("R46: a link to an address where another server answers does not come up")
    func replacedServer() async throws {
        let (a, b) = (try await Node(1), try await Node(2))
        try await with(a, b) {
            let address = b.address.description
            try await a.onLoop { $0.updatePeers([ServerID(3): address]) }
            try await eventually { a.log.all.contains { $0.contains("this is server \(ServerID(2))") } }
            #expect(try await a.send(heartbeat(1, 3, round: 1)) == false)
        }
    }

    @Test("A server that waits for a cluster is not linked to before it adopts one, and belongs to it then")
    func adoption() async throws {
        let (a, b) = (try await Node(1), try await Node(2, cluster: .none))
        try await with(a, b) {
            try await a.link(to: b)
            try await eventually { a.log.all.contains { $0.contains("belongs to no cluster yet") } }
            b.recorder.state.withLock { $0.adopts = true }
            try await linked((a, b))
            #expect(b.recorder.state.withLock { $0.adopted } == [cluster])
            try await b.link(to: a)
            try await linked((b, a))
            let answer = try await b.transport.control(.identify, at: b.address.description)
            #expect(answer == .identity(identity(2)))
        }
    }

    @Test("A stranger gets one line in five seconds, which says how many were left out")
    func rateLimit() {
        let log = LogLines()
        var limited = RateLimitedLog()
        let start = NIODeadline.now()
        for second in 0..<12 {
            for kind in [RateLimitedLog.Kind.garbage, .refused] {
                limited.warning(
                    kind,
                    "\(kind)",
                    to: log.logger,
                    now: start + .seconds(Int64(second)),
                    metadata: [:]
                )
            }
        }
        let expected = ["garbage [:]", "garbage [\"suppressed\": 4]", "garbage [\"suppressed\": 4]"]
        #expect(log.all.filter { $0.hasPrefix("garbage") } == expected)
        #expect(log.count(of: "refused") == 3)
    }

    @Test("Garbage closes the connection, leaves a line in the log and disturbs nobody")
    func garbage() async throws {
        let (a, b) = (try await Node(1), try await Node(2))
        try await with(a, b) {
            try await b.link(to: a)
            try await linked((b, a))
            for text in ["GET / HTTP/1.1\r\n\r\n", "\0\0\0\0\0\0", "KTKHELLO" + String(repeating: "\u{7f}", count: 40)]
            {
                let client = try await RawClient(a.address)
                client.send(ByteBuffer(string: text))
                try await eventually { client.closed }
                #expect(client.received.withLock { $0.readableBytes } == 0)
            }
            #expect(a.log.count(of: "closed a connection that is not of a peer") > 0)
            #expect(try await b.send(heartbeat(2, 1, round: 1)))
            try await eventually { a.recorder.messages.count == 1 }
        }
    }

    @Test(
        "After a good handshake, broken frames and messages in another's name still close the connection",
        arguments: 0..<6
    )
    func brokenFrames(_ which: Int) async throws {
        let a = try await Node(1)
        try await with(a) {
            let (_, client) = try await reply(of: a, to: identity(2), expected: 1)
            func frame(_ message: Message, group: UInt16 = 0) -> ByteBuffer {
                var buffer = ByteBuffer()
                let start = Frame.begin(.message, group: group, in: &buffer)
                MessageCodec.encode(message, version: 1, into: &buffer)
                Frame.end(at: start, in: &buffer)
                return buffer
            }
            switch which {
            case 0: client.send(ByteBuffer(bytes: [0xff, 0xff, 0xff, 0xff]))
            case 1:
                var bytes = frame(heartbeat(2, 1, round: 1))
                bytes.setInteger(UInt8(0xee), at: bytes.writerIndex - 1)
                client.send(bytes)
            case 2: client.send(frame(heartbeat(3, 1, round: 1)))
            case 3: client.send(frame(heartbeat(2, 3, round: 1)))
            case 4: client.send(frame(heartbeat(2, 1, round: 1), group: 5))
            default: client.send(Frame.make(.snapshotEnd))
            }
            try await eventually { client.closed }
            #expect(a.recorder.messages.isEmpty)
            #expect(a.log.count(of: "closed a connection of a peer that broke the protocol") == 1)
        }
    }

    @Test("A connection without a handshake is closed, however slowly it goes on")
    func slowHandshake() async throws {
        var limits = TransportLimits()
        limits.handshakeTimeout = .milliseconds(100)
        let a = try await Node(1, limits: limits)
        try await with(a) {
            let client = try await RawClient(a.address)
            let letters = Array("KTKHELLO\u{1}".utf8)
            var sent = 0
            try await eventually {
                if sent < letters.count { client.send(ByteBuffer(bytes: [letters[sent]])) }
                sent += 1
                return client.closed
            }
        }
    }

    @Test("Strangers that hold connections open do not keep peers out")
    func manyStrangers() async throws {
        var limits = TransportLimits()
        limits.maximumHandshakes = 4
        limits.handshakeTimeout = .hours(1)
        let (a, b) = (try await Node(1, limits: limits), try await Node(2))
        try await with(a, b) {
            var clients: [RawClient] = []
            for _ in 0..<12 { clients.append(try await RawClient(a.address)) }
            try await eventually { clients.count { $0.closed } == 8 }
            try await b.link(to: a)
            try await linked((b, a))
            for client in clients { client.close() }
        }
    }

    @Test("The number of connections is bounded")
    func maximumConnections() async throws {
        var limits = TransportLimits()
        limits.maximumConnections = 3
        limits.handshakeTimeout = .hours(1)
        let a = try await Node(1, limits: limits)
        try await with(a) {
            var clients: [RawClient] = []
            for _ in 0..<5 { clients.append(try await RawClient(a.address)) }
            try await eventually { clients.count { $0.closed } == 2 }
            #expect(a.log.count(of: "too many connections") > 0)
            clients.first { !$0.closed }?.close()
            // Its place is free once the server has noticed.
            try await eventually {
                (try? await a.transport.control(.identify, at: a.address.description)) != nil
            }
        }
    }

    @Test("A newer connection of a peer takes the place of the older one")
    func newerConnection() async throws {
        let a = try await Node(1)
        try await with(a) {
            let (_, first) = try await reply(of: a, to: identity(2), expected: 1)
            let (_, otherLane) = try await reply(of: a, to: identity(2), purpose: .bulkMessages, expected: 1)
            let (_, second) = try await reply(of: a, to: identity(2), expected: 1)
            try await eventually { first.closed }
            #expect(!otherLane.closed && !second.closed)
        }
    }
}
