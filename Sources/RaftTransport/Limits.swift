package import NIOCore

/// The bounds of a transport. Everything that can grow has one.
package struct TransportLimits: Sendable {
    /// The largest frame body that is sent or taken on message links.
    package var maximumFrameBytes = 64 << 20
    /// What may wait on the lane for appends and proposals of one peer. A single larger message passes when nothing
    /// waits.
    package var bulkQueueBytes = 32 << 20
    package var bulkQueueMessages = 8192
    /// What may wait on the lane for heartbeats, votes, reads and answers of one peer.
    package var urgentQueueBytes = 1 << 20
    package var urgentQueueMessages = 8192
    /// Accepted connections in all.
    package var maximumConnections = 512
    /// Accepted connections whose handshake is not finished; beyond it the oldest is closed.
    package var maximumHandshakes = 64
    package var connectTimeout = TimeAmount.seconds(2)
    /// From the connection to the end of the handshake, on either side.
    package var handshakeTimeout = TimeAmount.seconds(3)
    /// How long unacknowledged bytes or an idle link may go without a sign of life from the other host's kernel.
    package var deadLinkTimeout = TimeAmount.seconds(5)
    package var reconnectMinimum = TimeAmount.milliseconds(20)
    package var reconnectMaximum = TimeAmount.seconds(1)
    /// The pause after a refused handshake.
    package var reconnectRefused = TimeAmount.seconds(3)
    /// How long a server may take to answer a control request.
    package var controlTimeout = TimeAmount.seconds(60)
    /// The bytes of one snapshot chunk.
    package var snapshotChunkBytes = 256 << 10
    /// Chunks sent and not acknowledged.
    package var snapshotWindowChunks = 4
    /// Without any frame for so long (either side sends one every quarter of it) a snapshot stream is given up.
    package var snapshotIdleTimeout = TimeAmount.seconds(20)

    package init() {}
}
