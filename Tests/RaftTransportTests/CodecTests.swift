import NIOCore
import Raft
import Testing

@testable import RaftTransport

@Suite("Wire forms")
struct CodecTests {
    static let configuration = Configuration(
        voters: [
            Member(id: ServerID(1), name: "a", peerAddress: "h:1", clientAddress: "h:2"),
            Member(id: ServerID(2), name: "ä", peerAddress: "[::1]:1", promotion: .voter),
        ],
        learners: [Member(id: ServerID(3), name: "c", peerAddress: "h:3", promotion: .replacing(ServerID(1)))]
    )

    static let bodies: [Message.Body] = [
        .preVoteRequest(VoteRequest(last: LogPosition(index: 3, term: 2))),
        .preVoteResponse(granted: true),
        .preVoteResponse(granted: false),
        .voteRequest(VoteRequest(last: LogPosition(index: .max, term: .max), isTransfer: true)),
        .voteResponse(granted: true),
        .append(Append(previous: .zero, entries: [], commit: 0, session: 0, round: 0)),
        .append(
            Append(
                previous: LogPosition(index: 4, term: 2),
                entries: [
                    Entry(index: 5, term: 2, payload: .noop),
                    Entry(index: 6, term: 3, payload: .command([])),
                    Entry(index: 7, term: 3, payload: .command([UInt8](repeating: 7, count: 3000))),
                    Entry(index: 8, term: 4, payload: .configuration(configuration)),
                ],
                commit: 6,
                session: 99,
                round: 100
            )
        ),
        .appendResponse(AppendResponse(result: .accepted(match: 12), session: 1, round: 2)),
        .appendResponse(
            AppendResponse(
                result: .rejected(rejected: 9, hint: LogPosition(index: 4, term: 1)),
                session: .max,
                round: 2
            )
        ),
        .heartbeat(Heartbeat(commit: 1, session: 2, round: 3)),
        .heartbeat(Heartbeat(commit: 1, session: 2, round: 3, leaderLog: LeaderLog(last: .max, commit: 8))),
        .append(
            Append(
                previous: LogPosition(index: 4, term: 2),
                entries: [Entry(index: 5, term: 2, payload: .command([1, 2]))],
                commit: 4,
                session: 99,
                round: 100,
                leaderLog: LeaderLog(last: 9, commit: 4)
            )
        ),
        .heartbeatResponse(HeartbeatResponse(session: 2, round: 3)),
        .timeoutNow,
        .readIndexRequest(requestID: 77),
        .readIndexResponse(requestID: 77, index: 5),
        .readIndexResponse(requestID: 77, index: nil),
        .propose(requestID: 4, commands: [[1], [], [2, 3]]),
        .propose(requestID: 4, commands: []),
        .proposeResponse(requestID: 4, .accepted(first: LogPosition(index: 3, term: 3))),
        .proposeResponse(requestID: 4, .rejected(leader: nil)),
        .proposeResponse(requestID: 4, .overloaded),
        .proposeResponse(requestID: 4, .rejected(leader: ServerID(8))),
    ]

    static func encoded(_ body: Message.Body) -> ByteBuffer {
        var buffer = ByteBuffer()
        MessageCodec.encode(message(1, 2, body), version: Handshake.version, into: &buffer)
        return buffer
    }

    @Test("A peer of the first version is sent what it reads, and what it sends is read", arguments: bodies)
    func firstVersion(_ body: Message.Body) throws {
        var buffer = ByteBuffer()
        MessageCodec.encode(message(1, 2, body), version: 1, into: &buffer)
        #expect(buffer.getInteger(at: 0, as: UInt8.self) == 1)
        #expect(try MessageCodec.decode(buffer) == message(1, 2, body).canonical)
    }

    @Test("What says nothing of a leader's log has no second form")
    func secondForm() {
        var buffer = Self.encoded(.timeoutNow)
        buffer.setInteger(UInt8(2), at: 0)
        #expect(throws: WireError.self) { try MessageCodec.decode(buffer) }
    }

    @Test("The bytes of a heartbeat of the first version")
    func firstHeartbeat() throws {
        var bytes = ByteBuffer(bytes: [1, 7])
        for number: UInt64 in [3, 4, 5, 6, 7, 8] { bytes.writeInteger(number, endianness: .little) }
        let heartbeat = Heartbeat(commit: 6, session: 7, round: 8)
        let expected = Message(from: ServerID(3), to: ServerID(4), term: 5, body: .heartbeat(heartbeat))
        #expect(try MessageCodec.decode(bytes) == expected)
    }

    @Test("Every message reads back as it was written", arguments: bodies)
    func roundTrip(_ body: Message.Body) throws {
        let buffer = Self.encoded(body)
        #expect(try MessageCodec.decode(buffer) == message(1, 2, body))
        #expect(buffer.readableBytes <= MessageCodec.estimatedBytes(body))
    }

    @Test("A message that is cut anywhere, or longer than it should be, is an error", arguments: bodies)
    func truncated(_ body: Message.Body) {
        var buffer = Self.encoded(body)
        for count in 0..<buffer.readableBytes {
            #expect(throws: WireError.self) { try MessageCodec.decode(buffer.getSlice(at: 0, length: count)!) }
        }
        buffer.writeInteger(UInt8(0))
        #expect(throws: WireError.self) { try MessageCodec.decode(buffer) }
    }

    @Test("Random changes of the bytes give a message or an error and never trap", arguments: 1...4)
    func mutations(_ seed: UInt64) async {
        var random = SeededGenerator(state: seed)
        var read = 0
        for _ in 0..<1000 {
            // The other tests wait for their turn on the same few threads.
            await Task.yield()
            var bytes = Array(Self.encoded(Self.bodies.randomElement(using: &random)!).readableBytesView)
            mutate(&bytes, &random)
            if let decoded = try? MessageCodec.decode(ByteBuffer(bytes: bytes)) {
                // What is taken can be written again.
                var again = ByteBuffer()
                MessageCodec.encode(decoded, version: Handshake.version, into: &again)
                read += 1
            }
        }
        #expect(read > 0)
    }

    @Test("Random changes of a handshake or a control frame never trap", arguments: 1...4)
    func otherMutations(_ seed: UInt64) async {
        var random = SeededGenerator(state: seed)
        let member = Member(id: ServerID(9), name: "x", peerAddress: "h:1", promotion: .replacing(ServerID(3)))
        var request = ByteBuffer()
        ControlCodec.encode(.join(JoinRequest(member: member, replaces: "old")), into: &request)
        var response = ByteBuffer()
        ControlCodec.encode(.identity(identity(4)), into: &response)
        let hello = Handshake.Hello(purpose: .control, sender: identity(3), expected: ServerID(4)).encode()
        let reply = Handshake.Reply(refusal: HandshakeRefusal(.busy, "later"), sender: identity(4)).encode()
        for _ in 0..<500 {
            await Task.yield()
            for (index, original) in [request, response, hello, reply].enumerated() {
                var bytes = Array(original.readableBytesView)
                mutate(&bytes, &random)
                var buffer = ByteBuffer(bytes: bytes)
                switch index {
                case 0: _ = try? ControlCodec.decodeRequest(buffer)
                case 1: _ = try? ControlCodec.decodeResponse(buffer)
                case 2:
                    let isWhole = bytes.starts(with: original.readableBytesView)
                    #expect((try? Handshake.Hello.decode(&buffer)) == nil || isWhole)
                default: _ = try? Handshake.Reply.decode(&buffer)
                }
            }
        }
    }

    private func mutate(_ bytes: inout [UInt8], _ random: inout SeededGenerator) {
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            switch Int.random(in: 0..<4, using: &random) {
            case 0 where !bytes.isEmpty: bytes.removeLast(Int.random(in: 1...bytes.count, using: &random))
            case 1: bytes.append(UInt8.random(in: 0...255, using: &random))
            case 2 where !bytes.isEmpty:
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = [0, 1, 2, 0x7f, 0x80, 0xff].randomElement(
                    using: &random
                )!
            default:
                if let at = bytes.indices.randomElement(using: &random) {
                    bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                }
            }
        }
    }

    @Test("A count that promises more than the bytes at hand is refused before room is made for it")
    func largeCounts() {
        var buffer = Self.encoded(.propose(requestID: 1, commands: [[1]]))
        buffer.setInteger(UInt32.max, at: MessageCodec.fixedBytes + 8, endianness: .little)
        #expect(throws: WireError.truncated) { try MessageCodec.decode(buffer) }
        var entries = Self.encoded(.append(Append(previous: .zero, entries: [], commit: 0, session: 0, round: 0)))
        entries.setInteger(UInt32.max, at: entries.writerIndex - 4, endianness: .little)
        #expect(throws: WireError.truncated) { try MessageCodec.decode(entries) }
    }

    @Test("Entries whose index would overflow are refused")
    func indexOverflow() {
        var buffer = Self.encoded(Self.bodies[6])
        buffer.setInteger(UInt64.max - 1, at: MessageCodec.fixedBytes, endianness: .little)
        #expect(throws: WireError.self) { try MessageCodec.decode(buffer) }
    }

    @Test("Control requests and responses read back as they were written")
    func control() throws {
        let member = Member(id: ServerID(9), name: "x", peerAddress: "h:1", clientAddress: "h:2", promotion: .voter)
        let requests: [ControlRequest] = [
            .identify, .join(JoinRequest(member: member)), .join(JoinRequest(member: member, replaces: "old")),
            .call([1, 2, 3]),
        ]
        for request in requests {
            var buffer = ByteBuffer()
            ControlCodec.encode(request, into: &buffer)
            #expect(try ControlCodec.decodeRequest(buffer) == request)
        }
        let responses: [ControlResponse] = [
            .identity(identity(1)), .accepted(cluster), .redirect("h:1"), .refused("no"), .answer([]),
        ]
        for response in responses {
            var buffer = ByteBuffer()
            ControlCodec.encode(response, into: &buffer)
            #expect(try ControlCodec.decodeResponse(buffer) == response)
        }
    }
}

@Suite("Frames and handshakes")
struct FrameTests {
    private func frames(_ count: Int) -> ByteBuffer {
        var buffer = ByteBuffer()
        for number in 0..<count {
            let start = Frame.begin(.message, group: UInt16(number), in: &buffer)
            buffer.writeBytes([UInt8](repeating: UInt8(number), count: number * 10))
            Frame.end(at: start, in: &buffer)
        }
        return buffer
    }

    @Test("Frames are found however the bytes are cut", arguments: [1, 2, 3, 7, 11, 12, 13, 100, 10_000])
    func cuts(_ size: Int) throws {
        var bytes = frames(20)
        var parser = FrameParser(maximumBytes: 1000)
        var found: [ReceivedFrame] = []
        while bytes.readableBytes > 0 {
            parser.feed(bytes.readSlice(length: min(size, bytes.readableBytes))!)
            while let frame = try parser.next() { found.append(frame) }
        }
        #expect(found.map(\.group) == Array(0..<20))
        #expect(found.map(\.body.readableBytes) == (0..<20).map { $0 * 10 })
    }

    @Test("A frame with a flipped bit is an error, wherever the bit is")
    func flippedBits() {
        let good = Frame.make(.message) { $0.writeBytes([1, 2, 3]) }
        for bit in 32..<(good.readableBytes * 8) {
            var bytes = Array(good.readableBytesView)
            bytes[bit / 8] ^= 1 << UInt8(bit % 8)
            var parser = FrameParser(maximumBytes: 1000)
            parser.feed(ByteBuffer(bytes: bytes))
            #expect(throws: WireError.self) { try parser.next() }
        }
    }

    @Test("A frame beyond the bound is refused by its header alone")
    func oversize() {
        var parser = FrameParser(maximumBytes: 1000)
        parser.feed(ByteBuffer(bytes: [0xe9, 0x03, 0, 0]))
        #expect(throws: WireError.self) { try parser.next() }
    }

    @Test("A handshake reads back as it was written, in one piece or byte by byte")
    func handshake() throws {
        let hello = Handshake.Hello(purpose: .snapshot, sender: identity(1), expected: ServerID(2))
        var whole = hello.encode()
        var pieces = ByteBuffer()
        for byte in whole.readableBytesView.dropLast() {
            pieces.writeInteger(byte)
            #expect(try Handshake.Hello.decode(&pieces) == nil)
        }
        #expect(try Handshake.Hello.decode(&whole) == hello)
        #expect(whole.readableBytes == 0)
        let reply = Handshake.Reply(refusal: HandshakeRefusal(.wrongCluster, "no"), sender: identity(2))
        var bytes = reply.encode()
        #expect(try Handshake.Reply.decode(&bytes) == reply)
    }

    @Test("Over-long names are cut, so that a handshake always fits")
    func longNames() throws {
        var sender = identity(1)
        sender.name = String(repeating: "ü", count: 5000)
        sender.clientAddress = sender.name
        sender.peerAddress = sender.name
        var bytes = Handshake.Reply(refusal: HandshakeRefusal(.busy, sender.name), sender: sender).encode()
        #expect(try Handshake.Reply.decode(&bytes)?.sender.name.utf8.count == 1024)
    }

    @Test("What does not begin like a handshake is refused at its first wrong byte")
    func garbage() {
        var http = ByteBuffer(string: "G")
        #expect(throws: WireError.self) { try Handshake.Hello.decode(&http) }
        var almost = ByteBuffer(string: "KTKHELLA")
        #expect(throws: WireError.self) { try Handshake.Hello.decode(&almost) }
    }

    @Test("A later version may add fields to its handshake, the present one may not")
    func laterVersion() throws {
        var hello = Handshake.Hello(purpose: .control, sender: identity(1), expected: nil)
        hello.version = Handshake.version + 1
        let longer = try extended(hello)
        var bytes = longer
        #expect(try Handshake.Hello.decode(&bytes) == hello)
        hello.version = Handshake.version
        var wrong = try extended(hello)
        #expect(throws: WireError.self) { try Handshake.Hello.decode(&wrong) }
    }

    /// The hello with three more bytes behind its known fields.
    private func extended(_ hello: Handshake.Hello) throws -> ByteBuffer {
        var body = hello.encode()
        body.moveReaderIndex(forwardBy: Handshake.headerBytes)
        return Handshake.make(
            Handshake.helloMagic,
            version: hello.version,
            minimum: hello.minimumVersion
        ) { buffer in
            buffer.writeImmutableBuffer(body)
            buffer.writeBytes([1, 2, 3])
        }
    }

    @Test(
        "Addresses are host and port, with brackets around IPv6",
        arguments: [("a.b:1", "a.b", 1), ("[::1]:65535", "::1", 65535), ("10.0.0.1:0", "10.0.0.1", 0)]
    )
    func addresses(_ text: String, _ host: String, _ port: Int) throws {
        let address = try PeerAddress(parsing: text)
        #expect(address == PeerAddress(host: host, port: port))
        #expect(address.description == text)
    }

    @Test("What is no address is refused", arguments: ["", "a", ":1", "a:", "a:65536", "a:-1", "::1:5", "[]:1", "a:b"])
    func notAddresses(_ text: String) {
        #expect(throws: TransportError.self) { try PeerAddress(parsing: text) }
    }

    @Test("The throttle lets bytes through at its rate and saves nothing up")
    func throttle() {
        var throttle = Throttle(bytesPerSecond: 1000)
        let start = NIODeadline.now()
        #expect(throttle.pause(at: start) == .zero)
        throttle.sent(500, at: start)
        throttle.sent(500, at: start)
        #expect(throttle.pause(at: start) == .seconds(1))
        #expect(throttle.pause(at: start + .seconds(10)) == .zero)
        throttle.sent(1000, at: start + .seconds(10))
        #expect(throttle.pause(at: start + .seconds(10)) == .seconds(1))
        #expect(throttle.chunkBytes(atMost: 1 << 20) == 4096)
        var free = Throttle(bytesPerSecond: nil)
        free.sent(1 << 40, at: start)
        #expect(free.pause(at: start) == .zero)
    }
}
