import HummingbirdCore
import Logging
import NIOCore
import NIOHTTPTypes
import NIOHTTPTypesHTTP1
import Synchronization

/// Hummingbird's HTTP/1 channel with the fast lane in front of the conversion to `HTTPTypes`.
struct KontikiChannel: ServerChildChannel {
    let base: HTTP1Channel
    /// nil leaves the fast lane out.
    let loops: LoopContexts?

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<AcceptedConnection> {
        let loops = self.loops
        return base.setup(channel: channel, logger: logger).map { AcceptedConnection($0) }.flatMapThrowing {
            connection in
            if let loops {
                let pipeline = channel.pipeline.syncOperations
                let codec = try pipeline.handler(type: HTTP1ToHTTPServerCodec.self)
                let lane = FastLane(loop: loops[channel.eventLoop])
                try pipeline.addHandler(lane, position: .before(codec))
                try pipeline.addHandler(HeadArrival(lane: lane), position: .first)
            }
            return connection
        }
    }

    func handle(value connection: AcceptedConnection, logger: Logger) async {
        await base.handle(value: connection.takeUp(), logger: logger)
    }
}

/// A connection between its accept and the task that serves it.
///
/// A server that stops drops what it has accepted and not taken up yet, and a `NIOAsyncChannel` that nobody ever took up traps when it
/// goes. So this one is closed instead.
final class AcceptedConnection: ServerChildChannelValue {
    private let asyncChannel: HTTP1Channel.Value
    private let isTakenUp = Atomic(false)

    init(_ asyncChannel: HTTP1Channel.Value) { self.asyncChannel = asyncChannel }

    var channel: any Channel { asyncChannel.channel }

    /// The connection, for whoever serves it to its end.
    func takeUp() -> HTTP1Channel.Value {
        isTakenUp.store(true, ordering: .relaxed)
        return asyncChannel
    }

    deinit {
        guard !isTakenUp.load(ordering: .relaxed) else { return }
        Task { [asyncChannel] in try? await asyncChannel.executeThenClose { _, _ in } }
    }
}
