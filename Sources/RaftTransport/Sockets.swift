internal import Glibc
internal import NIOCore
internal import NIOPosix

/// Socket options by number, and how connections are opened.
enum Sockets {
    /// What every connection of a transport sets: small frames leave at once, and a host that is gone is noticed in
    /// seconds.
    static func options(_ limits: TransportLimits) -> [(ChannelOptions.Types.SocketOption, Int)] {
        var options: [(ChannelOptions.Types.SocketOption, Int)] = [
            (.init(level: .tcp, name: .tcp_nodelay), 1),
            (.init(level: .socket, name: .so_keepalive), 1),
        ]
        #if os(Linux)
            // Numbers from <netinet/tcp.h>.
            let keepIdle = NIOBSDSocket.Option(rawValue: 4)
            let keepInterval = NIOBSDSocket.Option(rawValue: 5)
            let keepCount = NIOBSDSocket.Option(rawValue: 6)
            let userTimeout = NIOBSDSocket.Option(rawValue: 18)
            let milliseconds = max(1000, limits.deadLinkTimeout.nanoseconds / 1_000_000)
            options.append((.init(level: .tcp, name: keepIdle), Int(max(1, milliseconds / 2000))))
            options.append((.init(level: .tcp, name: keepInterval), 1))
            options.append((.init(level: .tcp, name: keepCount), Int(max(1, milliseconds / 2000))))
            options.append((.init(level: .tcp, name: userTimeout), Int(milliseconds)))
        #endif
        return options
    }

    /// Opens a connection on `eventLoop`; `handlers` is called there to make the handlers for it.
    static func connect(
        to address: PeerAddress,
        on eventLoop: any EventLoop,
        limits: TransportLimits,
        handlers: @escaping @Sendable () -> [any ChannelHandler]
    ) -> EventLoopFuture<any Channel> {
        var bootstrap = ClientBootstrap(group: eventLoop).connectTimeout(limits.connectTimeout)
        for (option, value) in options(limits) {
            bootstrap = bootstrap.channelOption(option, value: SocketOptionValue(value))
        }
        bootstrap = bootstrap.channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandlers(handlers())
            }
        }
        if let numeric = try? SocketAddress(ipAddress: address.host, port: address.port) {
            return bootstrap.connect(to: numeric)
        }
        return bootstrap.connect(host: address.host, port: address.port)
    }

    /// Listens on `eventLoop`, where the accepted connections stay as well.
    static func listen(
        on address: PeerAddress,
        eventLoop: any EventLoop,
        limits: TransportLimits,
        handler: @escaping @Sendable () -> any ChannelHandler
    ) async throws(TransportError) -> any Channel {
        var bootstrap = ServerBootstrap(group: eventLoop)
            .serverChannelOption(.backlog, value: 256)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(minimum: 1024, initial: 8192, maximum: 1 << 18)
            )
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(handler())
                }
            }
        for (option, value) in options(limits) {
            bootstrap = bootstrap.childChannelOption(option, value: SocketOptionValue(value))
        }
        // The name may stand for ::1 and 127.0.0.1; callers try both, and the latter exists on every machine.
        let host = address.host == "localhost" ? "127.0.0.1" : address.host
        do {
            return try await bootstrap.bind(host: host, port: address.port).get()
        } catch let error as IOError where error.errnoCode == EADDRINUSE {
            throw TransportError(
                .addressInUse,
                "\(address) is in use by another process; stop it or choose another address for peers"
            )
        } catch {
            throw TransportError(
                .cannotListen,
                "cannot listen on \(address) for peers (\(shortDescription(error))); is it an address of this machine?"
            )
        }
    }
}
