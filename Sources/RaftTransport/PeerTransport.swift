package import Logging
package import NIOCore
package import Raft
internal import Synchronization

/// The framed, checksummed TCP links between a server and its peers.
///
/// Each server opens two connections to each peer and sends messages only on these: one *urgent* for whatever is small, one *bulk*
/// for appends and forwarded proposals, so that a heartbeat never waits behind data. Message links run on one event loop, the
/// Raft loop; methods without `async` must be called on it, so no message ever changes threads. ``shutdown()`` must be called before the last
/// reference goes.
package final class PeerTransport: Sendable {
    /// `eventLoop` is where messages come and go; snapshot streams are sent from loops of `group`.
    package init(
        eventLoop: any EventLoop,
        group: any EventLoopGroup,
        identity: ServerIdentity,
        logger: Logger,
        limits: TransportLimits = TransportLimits(),
        snapshotReceiver: any SnapshotReceiver,
        blockingExecutor: @escaping BlockingExecutor
    ) {
    }

    /// Listens and begins to take connections. `delegate` is kept until ``shutdown()``.
    ///
    /// - Parameter address: port 0 lets the system choose.
    /// - Returns: the address that was bound.
    package func start(
        listeningOn address: PeerAddress,
        delegate: any PeerTransportDelegate
    ) async throws(TransportError)
        -> PeerAddress
    { address }

    /// Closes every connection; afterwards the delegate hears nothing more, and transfers have failed as cancelled.
    package func shutdown() async {}

    /// This server's identity in the handshakes from now on, for instance when it was taken into a cluster. Event loop only.
    package func updateIdentity(_ identity: ServerIdentity) {}

    /// Opens links to servers that are new or have another address, closes those to servers that are not named. Event loop only.
    package func updatePeers(_ peers: [ServerID: String]) {}

    /// Hands a message to the connection for its kind. Event loop only.
    ///
    /// It leaves with the next ``flush()``, at the latest at the end of the loop's tick. It is sent at most once.
    /// - Returns: false when it was dropped, because no connection is up or a bound is reached: it was certainly not sent.
    package func send(_ message: Message) -> Bool { false }

    /// Writes what was sent since the last time. Event loop only.
    package func flush() {}

    /// Whether both lanes to a peer are up. Event loop only.
    package func isConnected(_ peer: ServerID) -> Bool { false }

    /// Sends a snapshot on a connection of its own. Any thread.
    ///
    /// - Parameters:
    ///   - read: answers between 1 and `maxBytes` bytes at an offset; called through the blocking executor, one call at a time.
    ///   - bytesPerSecond: a bound on the rate, nil for none.
    ///   - completion: called once, on an event loop of the group; success means that the receiver has accepted the whole.
    /// - Returns: a handle to cancel the transfer with.
    @discardableResult
    package func sendSnapshot(
        _ offer: SnapshotOffer,
        to peer: ServerID,
        at address: String,
        bytesPerSecond: Int? = nil,
        read: @escaping @Sendable (_ offset: UInt64, _ maxBytes: Int) throws -> [UInt8],
        completion: @escaping @Sendable (Result<Void, TransportError>) -> Void
    ) -> SnapshotTransfer { SnapshotTransfer() }

    /// Asks a server a question. Any thread.
    package func control(
        _ request: ControlRequest,
        at address: String,
        timeout: TimeAmount = .seconds(5)
    )
        async throws(TransportError) -> ControlResponse
    { throw TransportError(.cancelled, "") }

    /// Asks a server a question as `identity`, without a transport.
    package static func control(
        _ request: ControlRequest,
        at address: String,
        as identity: ServerIdentity,
        on group: any EventLoopGroup,
        timeout: TimeAmount = .seconds(5)
    ) async throws(TransportError) -> ControlResponse { throw TransportError(.cancelled, "") }

    /// Drops all traffic with these peers, both ways, as a cut network would: for tests of isolation. Event loop only.
    package func setBlocked(_ peers: Set<ServerID>) {}
}

/// A snapshot on its way out.
package final class SnapshotTransfer: Sendable {
    init() {}

    /// Gives the transfer up; its completion is called with `cancelled`, unless it has ended already. Any thread.
    package func cancel() {}
}
