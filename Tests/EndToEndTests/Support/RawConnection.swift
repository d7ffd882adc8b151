import NIOCore
import NIOPosix
import Synchronization

/// A TCP connection on which a test says exactly what it wants to.
enum RawConnection {
    /// Sends bytes and answers all that comes back until the other side closes. One that does neither answer nor close is left after half
    /// a minute.
    static func exchange(_ port: Int, _ bytes: [UInt8]) async throws -> String {
        let collector = Collector()
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandlers(
                        IdleStateHandler(readTimeout: .seconds(30)),
                        CollectHandler(collector)
                    )
                }
            }
            .connect(host: "127.0.0.1", port: port).get()
        // The other side may close before it has read everything: that is not for this to judge.
        try? await channel.writeAndFlush(ByteBuffer(bytes: bytes))
        try? await channel.closeFuture.get()
        return collector.text
    }

    /// Sends one HTTP request and answers the response as it came.
    static func ask(
        _ port: Int,
        _ method: String,
        _ target: String,
        _ headers: [String],
        body: String
    ) async throws -> String {
        var lines = ["\(method) \(target) HTTP/1.1", "Host: localhost", "Connection: close"] + headers
        if !body.isEmpty { lines.append("Content-Length: \(body.utf8.count)") }
        return try await exchange(port, Array((lines.joined(separator: "\r\n") + "\r\n\r\n" + body).utf8))
    }

    private final class Collector: Sendable {
        private let bytes = Mutex<[UInt8]>([])

        func add(_ more: ByteBufferView) { bytes.withLock { $0 += more } }

        var text: String { String(decoding: bytes.withLock { $0 }, as: UTF8.self) }
    }

    /// Keeps what comes, and closes after a silence.
    private final class CollectHandler: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer

        private let collector: Collector

        init(_ collector: Collector) { self.collector = collector }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            collector.add(unwrapInboundIn(data).readableBytesView)
        }

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            if event is IdleStateHandler.IdleStateEvent { context.close(promise: nil) }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }
}
