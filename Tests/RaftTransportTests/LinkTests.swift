import NIOCore
import NIOPosix
import Raft
import Synchronization
import Testing

@testable import RaftTransport

@Suite("Links between peers")
struct LinkTests {
    @Test("Two servers exchange messages in order, both ways, and each hears of its link")
    func twoServers() async throws {
        let (a, b) = (try await Node(1), try await Node(2))
        try await with(a, b) {
            try await a.link(to: b)
            try await b.link(to: a)
            try await linked((a, b), (b, a))
            for index in 0..<100 {
                #expect(try await a.send(heartbeat(1, 2, round: UInt64(index))))
                #expect(try await b.send(append(2, 1, after: UInt64(index), bytes: 10_000)))
            }
            try await eventually { b.recorder.messages.count == 100 && a.recorder.messages.count == 100 }
            #expect(b.recorder.messages == (0..<100).map { heartbeat(1, 2, round: UInt64($0)) })
            #expect(a.recorder.messages == (0..<100).map { append(2, 1, after: UInt64($0), bytes: 10_000) })
            #expect(a.recorder.links == ["+2"])
        }
    }

    @Test("What is sent in one tick of the loop arrives as one batch, also without a flush")
    func batches() async throws {
        let (a, b) = (try await Node(1), try await Node(2))
        try await with(a, b) {
            try await a.link(to: b)
            try await linked((a, b))
            try await a.onLoop { transport in
                for round in 0..<50 { #expect(transport.send(heartbeat(1, 2, round: UInt64(round)))) }
            }
            try await eventually { b.recorder.messages.count == 50 }
            #expect(b.recorder.state.withLock { $0.batches } == 1)
        }
    }

    @Test("Three servers: each message goes to the one it is meant for")
    func threeServers() async throws {
        let (a, b, c) = (try await Node(1), try await Node(2), try await Node(3))
        try await with(a, b, c) {
            try await a.link(to: a, b, c)
            try await b.link(to: a, b, c)
            try await c.link(to: a, b, c)
            try await linked((a, b), (a, c), (b, c), (c, a))
            #expect(try await a.send(heartbeat(1, 2, round: 12)))
            #expect(try await a.send(heartbeat(1, 3, round: 13)))
            #expect(try await b.send(heartbeat(2, 3, round: 23)))
            #expect(try await a.send(heartbeat(1, 1, round: 11)) == false)
            try await eventually { b.recorder.messages.count == 1 && c.recorder.messages.count == 2 }
            #expect(b.recorder.messages == [heartbeat(1, 2, round: 12)])
            #expect(Set(c.recorder.messages) == [heartbeat(1, 3, round: 13), heartbeat(2, 3, round: 23)])
        }
    }

    @Test("A proposal is refused at once when there is no link, and is not sent later")
    func noLink() async throws {
        let a = try await Node(1)
        let b = try await Node(2)
        let proposal = message(1, 2, .propose(requestID: 1, commands: [[1]]))
        try await with(a, b) {
            #expect(try await a.send(proposal) == false)
            try await a.link(to: b)
            try await linked((a, b))
            #expect(try await a.send(heartbeat(1, 2, round: 1)))
            try await eventually { b.recorder.messages.count == 1 }
            #expect(b.recorder.messages == [heartbeat(1, 2, round: 1)])
        }
    }

    @Test("A server that restarts is linked to again, and what was sent in between is reported as dropped")
    func restart() async throws {
        let a = try await Node(1)
        let b = try await Node(2, port: Ports.next())
        try await with(a, b) {
            try await a.link(to: b)
            try await linked((a, b))
            await b.transport.shutdown()
            try await eventually { a.recorder.links == ["+2", "-2"] }
            // The link counts as lost with the first of its two lanes; a message is refused when its own lane is down.
            try await eventually { try await a.send(heartbeat(1, 2, round: 1)) == false }
            try await eventually { a.log.count(of: "no link to a peer") > 0 }
            let again = try await Node(2, port: b.address.port)
            try await with(again) {
                try await eventually { try await a.isConnected(again) }
                #expect(try await a.send(heartbeat(1, 2, round: 2)))
                try await eventually { again.recorder.messages == [heartbeat(1, 2, round: 2)] }
            }
        }
    }

    @Test("An incoming link of a peer ends the wait for the outgoing one")
    func appears() async throws {
        var patient = TransportLimits()
        patient.reconnectMinimum = .hours(1)
        patient.reconnectMaximum = .hours(1)
        let unused = try await Node(2, port: Ports.next())
        await unused.transport.shutdown()
        let a = try await Node(1, limits: patient)
        try await with(a) {
            try await a.link(to: unused)
            try await eventually { a.log.count(of: "no link to a peer") > 0 }
            let b = try await Node(2, port: unused.address.port)
            try await with(b) {
                try await b.link(to: a)
                try await linked((a, b))
            }
        }
    }

    @Test("The delegate hears who calls without a link to it, and what the caller says is delivered")
    func unknownCaller() async throws {
        let (a, b) = (try await Node(1), try await Node(2))
        try await with(a, b) {
            try await a.link(to: b)
            try await linked((a, b))
            try await eventually { !b.recorder.state.withLock { $0.callers.isEmpty } }
            #expect(b.recorder.state.withLock { $0.callers.allSatisfy { $0 == identity(1) } })
            #expect(try await a.send(heartbeat(1, 2, round: 1)))
            try await eventually { b.recorder.messages.count == 1 }
            try await b.link(to: a)
            try await linked((b, a))
            // There is a link, but to another address than the caller says: the delegate may know better.
            #expect(a.recorder.state.withLock { $0.callers.allSatisfy { $0 == identity(2) } })
        }
    }

    @Test("A peer that moves is followed, one that leaves is let go")
    func moves() async throws {
        let (a, b, moved) = (try await Node(1), try await Node(2), try await Node(2))
        try await with(a, b, moved) {
            try await a.link(to: b)
            try await linked((a, b))
            try await a.link(to: moved)
            try await eventually { a.recorder.links == ["+2", "-2", "+2"] }
            #expect(try await a.send(heartbeat(1, 2, round: 2)))
            try await eventually { moved.recorder.messages.count == 1 }
            #expect(b.recorder.messages.isEmpty)
            try await a.onLoop { $0.updatePeers([:]) }
            #expect(try await a.send(heartbeat(1, 2, round: 3)) == false)
            #expect(a.recorder.links.last == "-2")
        }
    }

    @Test("What was sent just before a peer is let go still goes out")
    func lastWords() async throws {
        let (a, b) = (try await Node(1), try await Node(2))
        try await with(a, b) {
            try await a.link(to: b)
            try await linked((a, b))
            try await a.onLoop { transport in
                #expect(transport.send(heartbeat(1, 2, round: 1)))
                transport.updatePeers([:])
            }
            try await eventually { b.recorder.messages == [heartbeat(1, 2, round: 1)] }
        }
    }

    @Test("R30: a hung peer costs a bounded queue, and heartbeats do not wait behind the data for it")
    func hungPeer() async throws {
        let hung = try await HungPeer(2)
        var limits = TransportLimits()
        limits.bulkQueueBytes = 1 << 20
        limits.deadLinkTimeout = .seconds(120)
        let a = try await Node(1, limits: limits)
        try await with(a) {
            try await a.onLoop { $0.updatePeers([ServerID(2): "127.0.0.1:\(hung.port)"]) }
            try await eventually { a.recorder.links == ["+2"] }
            var sent: UInt64 = 0
            while try await a.send(append(1, 2, after: sent, bytes: 200_000)) {
                sent += 1
                try #require(sent < 1000, "the queue has no bound")
            }
            for round in 1...5 { #expect(try await a.send(heartbeat(1, 2, round: UInt64(round)))) }
            try await eventually { hung.messages.count == 5 }
            #expect(hung.messages == (1...5).map { heartbeat(1, 2, round: UInt64($0)) })
            // The kernel may have taken a little more meanwhile, and then there is room for that much again.
            while try await a.send(append(1, 2, after: sent, bytes: 200_000)) {
                sent += 1
                try #require(sent < 1000, "the queue has no bound")
            }
        }
        try await hung.close()
    }

    @Test("The number of waiting messages is bounded, and one message too large for a frame is dropped")
    func bounds() async throws {
        var limits = TransportLimits()
        limits.urgentQueueMessages = 10
        limits.maximumFrameBytes = 1000
        let bounded = limits
        let (a, b) = (try await Node(1, limits: bounded), try await Node(2))
        try await with(a, b) {
            try await a.link(to: b)
            try await linked((a, b))
            let taken = try await a.onLoop { transport in
                (0..<20).count { transport.send(heartbeat(1, 2, round: UInt64($0))) }
            }
            #expect(taken == 10)
            try await eventually { b.recorder.messages.count == 10 }
            #expect(try await a.send(append(1, 2, after: 0, bytes: 2000)) == false)
            #expect(try await a.send(append(1, 2, after: 0, bytes: 1000)) == false)
            #expect(try await a.send(append(1, 2, after: 0, bytes: 100)))
        }
    }

    @Test("A cut between two servers goes both ways, and heals")
    func blocked() async throws {
        var limits = TransportLimits()
        limits.bulkQueueBytes = 1 << 20
        // A machine that does not read for some seconds is not what is tested here.
        limits.deadLinkTimeout = .seconds(120)
        let (a, b, c) = (try await Node(1), try await Node(2, limits: limits), try await Node(3))
        try await with(a, b, c) {
            try await a.link(to: b, c)
            try await b.link(to: a, c)
            try await c.link(to: a)
            try await linked((a, b), (b, a), (a, c), (b, c), (c, a))
            try await a.onLoop { $0.setBlocked([ServerID(2)]) }
            #expect(try await a.send(heartbeat(1, 2, round: 1)))
            #expect(try await a.send(heartbeat(1, 3, round: 1)))
            #expect(try await c.send(heartbeat(3, 1, round: 1)))
            // More than the queue and the sockets on the way hold, so that the first of them has been read, and dropped, before the cut heals.
            for index in 0..<100 {
                try await eventually { try await b.send(append(2, 1, after: UInt64(index), bytes: 200_000)) }
            }
            try await eventually { a.recorder.messages == [heartbeat(3, 1, round: 1)] }
            try await a.onLoop { $0.setBlocked([]) }
            #expect(try await a.send(heartbeat(1, 2, round: 2)))
            #expect(try await b.send(heartbeat(2, 1, round: 2)))
            try await eventually { a.recorder.messages.contains(heartbeat(2, 1, round: 2)) }
            try await eventually { b.recorder.messages == [heartbeat(1, 2, round: 2)] }
            #expect(!a.recorder.messages.contains(append(2, 1, after: 0, bytes: 200_000)))
        }
    }

    #if os(Linux)
        @Test("The kernel is told to give up a host that has gone silent, and to send small frames at once")
        func socketOptions() async throws {
            var limits = TransportLimits()
            limits.handshakeTimeout = .hours(1)
            let a = try await Node(1, limits: limits)
            try await with(a) {
                let channel = try await Sockets.connect(
                    to: a.address,
                    on: a.loop,
                    limits: TransportLimits(),
                    handlers: { [] }
                ).get()
                func option(_ number: CInt) async throws -> SocketOptionValue {
                    try await channel.getOption(
                        ChannelOptions.Types.SocketOption(level: .tcp, name: .init(rawValue: number))
                    ).get()
                }
                // TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT and TCP_USER_TIMEOUT of <netinet/tcp.h>.
                let values = [try await option(1), try await option(4), try await option(5), try await option(6)]
                #expect(values == [1, 2, 1, 2])
                let userTimeout = try await option(18)
                #expect(userTimeout == 5000)
                try await channel.close().get()
            }
        }
    #endif

    @Test("A port in use is said clearly")
    func portInUse() async throws {
        let a = try await Node(1)
        try await with(a) {
            let error = await #expect(throws: TransportError.self) { _ = try await Node(2, port: a.address.port) }
            #expect(error?.code == .addressInUse)
            #expect(error?.description.contains("\(a.address)") == true)
        }
    }
}

/// A server that reads its urgent lane and leaves its bulk lane unread.
final class HungPeer: Sendable {
    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        let id: UInt64
        let received: @Sendable (Message) -> Void
        var bytes = ByteBuffer()
        var parser: FrameParser?

        init(_ id: UInt64, _ received: @escaping @Sendable (Message) -> Void) {
            self.id = id
            self.received = received
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let read = unwrapInboundIn(data)
            guard parser != nil else {
                bytes.writeImmutableBuffer(read)
                guard let hello = try? Handshake.Hello.decode(&bytes) else { return }
                parser = FrameParser(maximumBytes: 1 << 20)
                let reply = Handshake.Reply(sender: identity(id)).encode()
                context.writeAndFlush(wrapOutboundOut(reply), promise: nil)
                if hello.purpose == .bulkMessages {
                    context.channel.setOption(.autoRead, value: false).whenFailure { Issue.record($0) }
                }
                return
            }
            parser?.feed(read)
            while let frame = try? parser?.next(), let message = try? MessageCodec.decode(frame.body) {
                received(message)
            }
        }
    }

    private let received: Received
    private let channel: any Channel

    private final class Received: Sendable {
        let messages = Mutex<[Message]>([])
    }

    init(_ id: UInt64) async throws {
        let received = Received()
        self.received = received
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        Handler(id) { message in received.messages.withLock { $0.append(message) } }
                    )
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
    }

    var port: Int { channel.localAddress?.port ?? 0 }
    var messages: [Message] { received.messages.withLock { $0 } }

    func close() async throws { try await channel.close().get() }
}
