internal import Logging
internal import NIOCore
internal import NIOPosix
internal import Raft

/// The state of a transport; everything here happens on its event loop.
final class TransportCore {
    private struct PeerLink {
        var address: PeerAddress
        var urgent: OutgoingLane
        var bulk: OutgoingLane
        /// What the delegate was told last.
        var isConnected = false
    }

    struct IncomingKey: Hashable {
        var peer: ServerID
        var purpose: Purpose
    }

    let eventLoop: any EventLoop
    let limits: TransportLimits
    let logger: Logger
    let snapshotReceiver: any SnapshotReceiver
    /// The work of all incoming snapshots, one piece at a time.
    let snapshotWork: SerialWork
    var identity: ServerIdentity {
        didSet { identityChanged(identity) }
    }
    private let identityChanged: (ServerIdentity) -> Void
    var delegate: (any PeerTransportDelegate)?
    private(set) var blocked: Set<ServerID> = []
    var strangers = RateLimitedLog()

    private var links: [ServerID: PeerLink] = [:]
    /// Lanes with something to flush, and the empty list that takes its place meanwhile.
    private var dirty: [OutgoingLane] = []
    private var flushing: [OutgoingLane] = []
    private var isFlushScheduled = false
    private var server: (any Channel)?
    private(set) var isShutDown = false
    /// All accepted connections; those in the handshake stand in `handshaking` too, the oldest first.
    private var accepted: [ObjectIdentifier: AcceptedConnection] = [:]
    private var handshaking: [AcceptedConnection] = []
    private var incoming: [IncomingKey: AcceptedConnection] = [:]

    init(
        eventLoop: any EventLoop,
        limits: TransportLimits,
        logger: Logger,
        identity: ServerIdentity,
        snapshotReceiver: any SnapshotReceiver,
        executor: @escaping BlockingExecutor,
        identityChanged: @escaping @Sendable (ServerIdentity) -> Void
    ) {
        self.identityChanged = identityChanged
        self.eventLoop = eventLoop
        self.limits = limits
        self.logger = logger
        self.identity = identity
        self.snapshotReceiver = snapshotReceiver
        self.snapshotWork = SerialWork(executor)
    }

    // MARK: Messages

    func send(_ message: Message) -> Bool {
        guard let link = links[message.to] else { return false }
        let lane: OutgoingLane
        switch message.body {
        case .append, .propose: lane = link.bulk
        default: lane = link.urgent
        }
        if !blocked.isEmpty, blocked.contains(message.to) { return lane.isUp }
        guard lane.enqueue(message) else { return false }
        if !lane.isDirty {
            lane.isDirty = true
            dirty.append(lane)
            scheduleFlush()
        }
        return true
    }

    /// Tasks that are queued in a tick of the loop run before it waits for the next event.
    private func scheduleFlush() {
        guard !isFlushScheduled else { return }
        isFlushScheduled = true
        eventLoop.assumeIsolated().execute { [self] in
            isFlushScheduled = false
            flush()
        }
    }

    func flush() {
        guard !dirty.isEmpty else { return }
        // A write that fails at once may make the delegate send again, which makes other lanes dirty meanwhile.
        swap(&dirty, &flushing)
        for lane in flushing {
            lane.isDirty = false
            lane.flush()
        }
        flushing.removeAll(keepingCapacity: true)
    }

    func deliver(_ messages: [Message], from peer: ServerID) {
        if !blocked.isEmpty, blocked.contains(peer) { return }
        delegate?.receive(messages)
    }

    // MARK: Links

    func updatePeers(_ peers: [ServerID: String]) {
        guard !isShutDown else { return }
        var lost: [ServerID] = []
        for (id, link) in links {
            if let text = peers[id], (try? PeerAddress(parsing: text)) == link.address { continue }
            links[id] = nil
            // What was sent last still goes out: a server that was removed learns it in this way only.
            link.urgent.flush()
            link.bulk.flush()
            link.urgent.close()
            link.bulk.close()
            if link.isConnected { lost.append(id) }
        }
        for (id, text) in peers where id != identity.serverID && links[id] == nil {
            do {
                let address = try PeerAddress(parsing: text)
                let link = PeerLink(
                    address: address,
                    urgent: OutgoingLane(core: self, peer: id, address: address, purpose: .urgentMessages),
                    bulk: OutgoingLane(core: self, peer: id, address: address, purpose: .bulkMessages)
                )
                links[id] = link
                link.urgent.connect()
                link.bulk.connect()
            } catch {
                logger.error("a peer cannot be reached", metadata: ["peer": "\(id)", "reason": "\(error)"])
            }
        }
        // Last, because the delegate may name other peers in its answer.
        for id in lost { delegate?.disconnected(id) }
    }

    func isConnected(_ peer: ServerID) -> Bool {
        guard let link = links[peer] else { return false }
        return link.urgent.isUp && link.bulk.isUp
    }

    func isReceivingSnapshot(from peer: ServerID) -> Bool {
        incoming[IncomingKey(peer: peer, purpose: .snapshot)] != nil
    }

    /// A lane to `peer` came up (no reason) or went down.
    func laneChanged(_ peer: ServerID, reason: String?) {
        guard let link = links[peer] else { return }
        let isConnected = link.urgent.isUp && link.bulk.isUp
        guard isConnected != link.isConnected else { return }
        links[peer]?.isConnected = isConnected
        if isConnected {
            logger.info("linked to a peer", metadata: ["peer": "\(peer)", "address": "\(link.address)"])
            delegate?.connected(peer)
        } else {
            logger.info(
                "lost the link to a peer",
                metadata: ["peer": "\(peer)", "address": "\(link.address)", "reason": "\(reason ?? "")"]
            )
            delegate?.disconnected(peer)
        }
    }

    func setBlocked(_ peers: Set<ServerID>) {
        blocked = peers
        for (key, connection) in incoming where key.purpose == .snapshot && peers.contains(key.peer) {
            connection.close()
        }
    }

    // MARK: Listening

    func listening(_ channel: any Channel) {
        if isShutDown { channel.close(promise: nil) } else { server = channel }
    }

    func shutdown() -> EventLoopFuture<Void> {
        isShutDown = true
        delegate = nil
        var closing: [EventLoopFuture<Void>] = []
        if let server {
            closing.append(server.closeFuture)
            server.close(promise: nil)
        }
        for link in links.values {
            for lane in [link.urgent, link.bulk] {
                if let future = lane.closeFuture { closing.append(future) }
                lane.close()
            }
        }
        links = [:]
        for connection in accepted.values {
            if let future = connection.closeFuture { closing.append(future) }
            connection.close()
        }
        return EventLoopFuture.andAllComplete(closing, on: eventLoop)
    }
}

// MARK: - Accepted connections

extension TransportCore {
    /// Takes note of a new connection; false when there is no room for it.
    func register(_ connection: AcceptedConnection) -> Bool {
        guard !isShutDown else { return false }
        guard accepted.count < limits.maximumConnections else {
            strangers.warning(
                .tooMany,
                "too many connections to the port for peers; closed the newest",
                to: logger,
                metadata: ["connections": "\(accepted.count)"]
            )
            return false
        }
        if handshaking.count >= limits.maximumHandshakes, let oldest = handshaking.first {
            strangers.warning(
                .tooMany,
                "too many unfinished handshakes on the port for peers; closed the oldest",
                to: logger,
                metadata: ["address": "\(oldest.remote)"]
            )
            oldest.close()
        }
        accepted[ObjectIdentifier(connection)] = connection
        handshaking.append(connection)
        return true
    }

    func unregister(_ connection: AcceptedConnection) {
        accepted[ObjectIdentifier(connection)] = nil
        handshaking.removeAll { $0 === connection }
        if let key = connection.key, incoming[key] === connection { incoming[key] = nil }
    }

    /// Decides about a caller; nil when it is welcome.
    func judge(_ hello: Handshake.Hello) -> HandshakeRefusal? {
        let caller = hello.sender
        guard hello.version >= Handshake.minimumVersion, hello.minimumVersion <= Handshake.version else {
            return HandshakeRefusal(
                .version,
                "versions \(Handshake.minimumVersion) to \(Handshake.version) of the protocol are spoken here"
            )
        }
        if let expected = hello.expected, expected != identity.serverID {
            return HandshakeRefusal(.wrongServer, "this is server \(identity.serverID), not \(expected)")
        }
        // A server that is told to join through itself shall hear who it is.
        guard hello.purpose == .control || caller.serverID != identity.serverID else {
            return HandshakeRefusal(.sameServer, "the caller bears the identity of this server, \(identity.serverID)")
        }
        guard !isShutDown, !blocked.contains(caller.serverID) else {
            return HandshakeRefusal(.notReady, "this server takes no connections now")
        }
        let bothKnown = caller.clusterID != .none && identity.clusterID != .none
        let wrongCluster = HandshakeRefusal(
            .wrongCluster,
            "this server belongs to cluster \(identity.clusterID), the caller to \(caller.clusterID)"
        )
        if hello.purpose == .control { return bothKnown && caller.clusterID != identity.clusterID ? wrongCluster : nil }
        if caller.clusterID == identity.clusterID, bothKnown { return nil }
        guard identity.clusterID == .none, caller.clusterID != .none else { return wrongCluster }
        guard hello.expected == identity.serverID, delegate?.adopt(caller.clusterID, calledBy: caller) == true else {
            return HandshakeRefusal(.notReady, "this server belongs to no cluster yet")
        }
        identity.clusterID = caller.clusterID
        return nil
    }

    /// The handshake of an accepted connection is over; a newer connection of the same kind takes the place of the
    /// older.
    func welcomed(_ connection: AcceptedConnection, _ hello: Handshake.Hello) {
        handshaking.removeAll { $0 === connection }
        guard let key = connection.key else { return }
        incoming.updateValue(connection, forKey: key)?.close()
        guard key.purpose != .snapshot else { return }
        let announced = try? PeerAddress(parsing: hello.sender.peerAddress)
        if links[key.peer]?.address != announced { delegate?.called(by: hello.sender) }
        guard let link = links[key.peer] else { return }
        link.urgent.peerAppeared()
        link.bulk.peerAppeared()
    }
}
