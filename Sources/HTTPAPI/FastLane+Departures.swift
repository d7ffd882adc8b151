import NIOCore

/// Asks a connection to tell when the client of its present request is gone. It is sent through the channel as an outbound event, since
/// the router knows of the connection nothing but its channel.
struct DepartureWatch: Sendable {
    /// Called at most once, on the connection's event loop; at once if the client is gone already.
    let tell: @Sendable () -> Void
}

/// A request of the router that waits long is told when nobody waits for its answer any more.
extension FastLane {
    func triggerUserOutboundEvent(context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?) {
        guard let watch = event as? DepartureWatch else {
            context.triggerUserOutboundEvent(event, promise: promise)
            return
        }
        promise?.succeed()
        guard case .passing(var passing) = phase, !backlog.contains(where: \.isEnd) else { return watch.tell() }
        passing.departure = watch
        phase = .passing(passing)
    }

    /// The connection is gone, or the client will send no more: as a killed one looks, too.
    func clientDeparted() {
        guard case .passing(var passing) = phase, let watch = passing.departure else { return }
        passing.departure = nil
        phase = .passing(passing)
        watch.tell()
    }
}

extension FastLane.Inbound {
    fileprivate var isEnd: Bool { if case .inputClosed = self { true } else { false } }
}

extension APIRequest {
    /// Returns when the client is gone, or the task is cancelled. Without the fast lane, only then.
    func clientDeparture() async {
        let (departure, continuation) = AsyncStream<Void>.makeStream()
        channel.triggerUserOutboundEvent(DepartureWatch { continuation.finish() }, promise: nil)
        for await _ in departure {}
    }
}
