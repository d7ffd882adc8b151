import NIOCore

/// Stands in front of the HTTP codec and tells the lane behind it when the head of a request begins to arrive in pieces: the codec says
/// nothing before it is complete.
final class HeadArrival: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    private let lane: FastLane

    init(lane: FastLane) { self.lane = lane }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let before = lane.inboundCount
        let isBlank = Self.isBlank(unwrapInboundIn(data))
        context.fireChannelRead(data)
        if lane.inboundCount == before, !isBlank { lane.headIsArriving() }
    }

    /// Some clients end a body with an empty line that belongs to nothing (RFC 9112 §2.2).
    private static func isBlank(_ bytes: ByteBuffer) -> Bool {
        bytes.readableBytes <= 4 && bytes.readableBytesView.allSatisfy { $0 == 0x0D || $0 == 0x0A }
    }
}

extension FastLane {
    /// Bytes came of which the codec made nothing yet.
    func headIsArriving() {
        guard headSince == nil, backlog.isEmpty else { return }
        switch phase {
        case .idle, .working, .watching: headSince = .now()
        case .passing(let passing) where passing.requestEnded: headSince = .now()
        case .collecting, .passing, .lingering, .closed: break
        }
    }
}
