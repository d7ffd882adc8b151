package import Logging
package import NIOCore
package import Raft
internal import Synchronization

/// The framed, checksummed TCP links between a server and its peers.
///
/// Each server opens two connections to each peer and sends messages only on these: one *urgent* for whatever is small,
/// one *bulk* for appends and forwarded proposals, so that a heartbeat never waits behind data. Message links run on
/// one event loop, the Raft loop; methods marked “event loop only” must be called on it, so no message ever changes
/// threads. ``shutdown()`` must be called before the last reference goes.
package final class PeerTransport: Sendable {
    /// What snapshot streams and control requests need on other loops.
    private final class Shared: Sendable {
        struct State {
            var identity: ServerIdentity
            var blocked: Set<ServerID> = []
            var isShutDown = false
            var transfers: [ObjectIdentifier: SnapshotTransfer] = [:]
        }

        private let state: Mutex<State>

        init(_ identity: ServerIdentity) { state = Mutex(State(identity: identity)) }

        func withLock<Result: Sendable>(_ body: (inout State) -> Result) -> Result {
            state.withLock { state in body(&state) }
        }
    }

    private let eventLoop: any EventLoop
    private let group: any EventLoopGroup
    private let logger: Logger
    private let limits: TransportLimits
    private let executor: BlockingExecutor
    private let core: NIOLoopBoundBox<TransportCore>
    private let shared: Shared

    /// - Parameters:
    ///   - eventLoop: where messages come and go, and the delegate is called.
    ///   - group: snapshot streams are sent, and control requests are asked, from its loops.
    ///   - blockingExecutor: where snapshots are read and written; see ``BlockingExecutor``.
    package init(
        eventLoop: any EventLoop,
        group: any EventLoopGroup,
        identity: ServerIdentity,
        logger: Logger,
        limits: TransportLimits = TransportLimits(),
        snapshotReceiver: any SnapshotReceiver,
        blockingExecutor: @escaping BlockingExecutor
    ) {
        self.eventLoop = eventLoop
        self.group = group
        self.logger = logger
        self.limits = limits
        self.executor = blockingExecutor
        let shared = Shared(identity)
        self.shared = shared
        self.core = .makeBoxSendingValue(
            TransportCore(
                eventLoop: eventLoop,
                limits: limits,
                logger: logger,
                identity: identity,
                snapshotReceiver: snapshotReceiver,
                executor: blockingExecutor,
                identityChanged: { identity in shared.withLock { $0.identity = identity } }
            ),
            eventLoop: eventLoop
        )
    }

    /// Listens and begins to take connections. `delegate` is kept until ``shutdown()``.
    ///
    /// - Parameter address: port 0 lets the system choose.
    /// - Returns: the address with the port that was bound.
    /// - Throws: `addressInUse` or `cannotListen`.
    package func start(
        listeningOn address: PeerAddress,
        delegate: any PeerTransportDelegate
    ) async throws(TransportError) -> PeerAddress {
        let core = core
        // From the first accepted connection on the delegate must be there.
        try? await eventLoop.submit { core.value.delegate = delegate }.get()
        let channel = try await Sockets.listen(on: address, eventLoop: eventLoop, limits: limits) {
            AcceptedConnection(core.value)
        }
        eventLoop.execute { core.value.listening(channel) }
        let port = channel.localAddress?.port ?? address.port
        logger.info("listening for peers", metadata: ["address": "\(address.host):\(port)"])
        return PeerAddress(host: address.host, port: port)
    }

    /// Closes every connection. Afterwards the delegate hears nothing more, and transfers have failed as cancelled.
    package func shutdown() async {
        let core = core
        let transfers = shared.withLock { shared in
            shared.isShutDown = true
            return Array(shared.transfers.values)
        }
        for transfer in transfers { transfer.cancel() }
        try? await eventLoop.flatSubmit { core.value.shutdown() }.get()
        for transfer in transfers { try? await transfer.finished.get() }
    }

    /// This server's identity in the handshakes from now on, say when it was taken into a cluster. Event loop only.
    package func updateIdentity(_ identity: ServerIdentity) { core.value.identity = identity }

    /// Opens links to servers that are new or have another address (`host:port`), and closes those to servers that
    /// are not named. This server itself may be among them. Event loop only.
    package func updatePeers(_ peers: [ServerID: String]) { core.value.updatePeers(peers) }

    /// Hands a message to the connection for its kind. Event loop only.
    ///
    /// It leaves with the next ``flush()``, at the latest at the end of the loop's tick. It is sent at most once.
    /// - Returns: false when it was dropped, because no connection is up or a bound is reached: it was certainly not
    ///   sent.
    package func send(_ message: Message) -> Bool { core.value.send(message) }

    /// Writes what was sent since the last time. Event loop only.
    package func flush() { core.value.flush() }

    /// Whether both lanes to a peer are up. Event loop only.
    package func isConnected(_ peer: ServerID) -> Bool { core.value.isConnected(peer) }

    /// Whether a snapshot is coming in from a peer, on a connection of its own. Event loop only.
    package func isReceivingSnapshot(from peer: ServerID) -> Bool { core.value.isReceivingSnapshot(from: peer) }

    /// Drops all traffic with these peers, both ways, as a cut network would: for tests of isolation. Event loop only.
    ///
    /// Connections that are up stay up and go silent (``send(_:)`` goes on answering true); no new ones are made.
    package func setBlocked(_ peers: Set<ServerID>) {
        core.value.setBlocked(peers)
        let cut = shared.withLock { shared in
            shared.blocked = peers
            return shared.transfers.values.filter { peers.contains($0.peer) }
        }
        for transfer in cut { transfer.cancel() }
    }
}

// MARK: - Snapshots

extension PeerTransport {
    /// Sends a snapshot on a connection of its own. Any thread.
    ///
    /// - Parameters:
    ///   - address: `host:port` of the peer.
    ///   - read: answers between 1 and `maxBytes` bytes at an offset; called through the blocking executor, one call
    ///     at a time for a transfer.
    ///   - bytesPerSecond: a bound on the rate, nil for none.
    ///   - completion: called once, on an event loop of the group (or, after ``shutdown()``, at once). Success means
    ///     that the receiver has accepted the whole.
    /// - Returns: a handle to cancel the transfer with.
    @discardableResult
    package func sendSnapshot(
        _ offer: SnapshotOffer,
        to peer: ServerID,
        at address: String,
        bytesPerSecond: Int? = nil,
        read: @escaping @Sendable (_ offset: UInt64, _ maxBytes: Int) throws -> [UInt8],
        completion: @escaping @Sendable (Result<Void, TransportError>) -> Void
    ) -> SnapshotTransfer {
        let job = SnapshotJob(
            offer: offer,
            peer: peer,
            bytesPerSecond: bytesPerSecond,
            read: read,
            executor: executor,
            completion: completion,
            limits: limits,
            logger: logger
        )
        let loop = group.next()
        let transfer = SnapshotTransfer(peer: peer, on: loop)
        let identity = shared.withLock { shared -> ServerIdentity? in
            guard !shared.isShutDown, !shared.blocked.contains(peer) else { return nil }
            shared.transfers[ObjectIdentifier(transfer)] = transfer
            return shared.identity
        }
        transfer.start(job, at: address, as: identity)
        transfer.finished.whenComplete { [shared] _ in
            _ = shared.withLock { $0.transfers.removeValue(forKey: ObjectIdentifier(transfer)) }
        }
        return transfer
    }
}

/// A snapshot on its way out.
package final class SnapshotTransfer: Sendable {
    let peer: ServerID
    private let eventLoop: any EventLoop
    private let promise: EventLoopPromise<Void>
    private let stream: NIOLoopBoundBox<OutgoingSnapshot?>

    init(peer: ServerID, on eventLoop: any EventLoop) {
        self.peer = peer
        self.eventLoop = eventLoop
        self.promise = eventLoop.makePromise()
        self.stream = .makeEmptyBox(eventLoop: eventLoop)
    }

    /// Fulfilled after the completion was called, whatever the outcome.
    var finished: EventLoopFuture<Void> { promise.futureResult }

    /// Without an identity there is nothing to be sent any more.
    func start(_ job: SnapshotJob, at address: String, as identity: ServerIdentity?) {
        eventLoop.execute { [self] in
            let stream = OutgoingSnapshot(job, on: eventLoop, finished: promise)
            guard let identity else { return stream.cancel() }
            self.stream.value = stream
            stream.start(at: address, as: identity)
            // The stream is no longer needed when it is over; the handle may live on.
            promise.futureResult.assumeIsolated().whenComplete { [self] _ in self.stream.value = nil }
        }
    }

    /// Gives the transfer up; its completion is called with `cancelled`, unless it has ended already. Any thread.
    package func cancel() {
        eventLoop.execute { self.stream.value?.cancel() }
    }
}

// MARK: - Control

extension PeerTransport {
    /// Asks a server a question. Any thread.
    ///
    /// - Parameter address: `host:port`.
    /// - Throws: `unreachable`, `timedOut`, `disconnected`, `handshakeRefused` or `protocolViolation`. After
    ///   `timedOut` or `disconnected` the request may have been carried out.
    package func control(
        _ request: ControlRequest,
        at address: String,
        timeout: TimeAmount = .seconds(5)
    ) async throws(TransportError) -> ControlResponse {
        try await Self.control(
            request,
            at: address,
            as: shared.withLock { $0.identity },
            on: group,
            timeout: timeout
        )
    }

    /// Asks a server a question as `identity`, without a transport; see ``control(_:at:timeout:)``.
    package static func control(
        _ request: ControlRequest,
        at address: String,
        as identity: ServerIdentity,
        on group: any EventLoopGroup,
        timeout: TimeAmount = .seconds(5)
    ) async throws(TransportError) -> ControlResponse {
        let address = try PeerAddress(parsing: address)
        let loop = group.next()
        do {
            return try await loop.flatSubmit {
                ControlClientHandler.ask(request, at: address, as: identity, on: loop, timeout: timeout)
            }.get()
        } catch let error as TransportError {
            throw error
        } catch {
            throw TransportError(.disconnected, shortDescription(error))
        }
    }
}
