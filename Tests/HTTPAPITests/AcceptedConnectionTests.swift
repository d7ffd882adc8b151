import HummingbirdCore
import Logging
import NIOCore
import NIOPosix
import Testing

@testable import HTTPAPI

@Suite("Connections that were accepted and never served")
struct AcceptedConnectionTests {
    /// A server that stops may have accepted what nobody takes up any more; it must not end the process.
    @Test("Such a connection is closed when it is dropped")
    func droppedConnection() async throws {
        let channel = KontikiChannel(base: HTTP1Channel { _, _, _ in }, loops: nil)
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { child in
                channel.setup(channel: child, logger: Logger(label: "test")).map { _ in }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let port = try #require(listener.localAddress?.port)
        for _ in 0..<50 {
            let client = try await RawConnection(port: port)
            #expect(try await client.isAtEnd())
            try await client.close()
        }
        try await listener.close()
    }
}
