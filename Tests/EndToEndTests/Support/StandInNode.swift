import NIOCore
import NIOPosix
import Synchronization

/// Takes HTTP requests in the place of a node, and does with each what a test says: a real node cannot be made to fall silent, or to
/// go, at just this request each time.
final class StandInNode: Sendable {
    /// What becomes of a request.
    enum Reaction: Sendable {
        case answer(Int, String = "")
        /// The same, so much later.
        case late(Duration, Int, String = "")
        /// The connection stays open, and nothing comes.
        case silence
        /// The connection is closed without an answer: the outcome is unknown.
        case hangUp
    }

    /// A request as it came.
    struct Request: Hashable, Sendable {
        var method: String
        var target: String
        var idempotencyKey: String?
    }

    private let seen = Mutex<[Request]>([])
    private let channel = Mutex<(any Channel)?>(nil)
    private let reaction: @Sendable (Request, Int) -> Reaction

    /// - Parameter reaction: asked for each request, with how many came before it.
    init(_ reaction: @escaping @Sendable (Request, Int) -> Reaction) async throws {
        self.reaction = reaction
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { [self] channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(RequestHandler(self))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        self.channel.withLock { $0 = channel }
    }

    var endpoint: String { "127.0.0.1:\(channel.withLock { $0?.localAddress?.port } ?? 0)" }

    /// What was asked so far.
    var requests: [Request] { seen.withLock { $0 } }

    /// Takes no more connections.
    func stop() async { try? await channel.withLock { $0 }?.close() }

    private func react(to request: Request) -> Reaction {
        let before = seen.withLock { seen in
            seen.append(request)
            return seen.count - 1
        }
        return reaction(request, before)
    }

    /// Reads requests, one after the other on a connection.
    private final class RequestHandler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let node: StandInNode
        private var text = ""

        init(_ node: StandInNode) { self.node = node }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            text += String(buffer: unwrapInboundIn(data))
            guard let end = text.firstRange(of: "\r\n\r\n") else { return }
            let lines = text[..<end.lowerBound].split(separator: "\r\n")
            var fields: [String: String] = [:]
            for line in lines.dropFirst() {
                guard let colon = line.firstIndex(of: ":") else { continue }
                fields[line[..<colon].lowercased()] = String(line[line.index(after: colon)...].drop { $0 == " " })
            }
            guard text[end.upperBound...].utf8.count >= fields["content-length"].flatMap({ Int($0) }) ?? 0 else {
                return
            }
            text = ""
            let words = lines[0].split(separator: " ").map(String.init)
            let request = Request(method: words[0], target: words[1], idempotencyKey: fields["idempotency-key"])
            switch node.react(to: request) {
            case .silence: break
            case .hangUp: context.close(promise: nil)
            case .answer(let status, let body): Self.answer(context.channel, status, body)
            case .late(let delay, let status, let body):
                let channel = context.channel
                channel.eventLoop.scheduleTask(in: TimeAmount(delay)) { Self.answer(channel, status, body) }
            }
        }

        private static func answer(_ channel: any Channel, _ status: Int, _ body: String) {
            let length = status == 204 ? "" : "Content-Length: \(body.utf8.count)\r\n"
            let answer = "HTTP/1.1 \(status) -\r\nContent-Type: application/json\r\n\(length)\r\n\(body)"
            channel.writeAndFlush(ByteBuffer(string: answer), promise: nil)
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }
}
