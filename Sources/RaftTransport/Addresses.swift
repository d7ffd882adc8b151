package import Raft

/// `host:port`, where a server takes connections of its peers. An IPv6 address stands in brackets.
package struct PeerAddress: Hashable, Sendable, CustomStringConvertible {
    package var host: String
    /// 0–65,535; 0 only for listening, where it asks the system to choose.
    package var port: Int

    package init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// Reads `host:port` or `[ipv6]:port`.
    package init(parsing text: String) throws(TransportError) {
        func invalid() -> TransportError {
            TransportError(.invalidAddress, "“\(text)” is no address of the form host:port")
        }
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            throw invalid()
        }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            throw invalid()
        }
        guard !host.isEmpty else { throw invalid() }
        self.init(host: String(host), port: Int(port))
    }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// Who a server says it is, in every handshake.
package struct ServerIdentity: Hashable, Sendable {
    package var serverID: ServerID
    /// `.none` while the server waits to be taken into a cluster.
    package var clusterID: ClusterID
    /// The operator's label.
    package var name: String
    /// `host:port` for peers, as the server wants to be reached.
    package var peerAddress: String
    /// Where clients reach it; opaque here.
    package var clientAddress: String

    package init(
        serverID: ServerID,
        clusterID: ClusterID,
        name: String,
        peerAddress: String,
        clientAddress: String = ""
    ) {
        self.serverID = serverID
        self.clusterID = clusterID
        self.name = name
        self.peerAddress = peerAddress
        self.clientAddress = clientAddress
    }
}

/// Why something with a link, a control request or a snapshot stream went wrong.
package struct TransportError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Code: String, Hashable, Sendable {
        /// Another process listens there.
        case addressInUse
        case cannotListen
        case invalidAddress
        /// A control request beyond its bound.
        case invalidRequest
        /// No connection came about.
        case unreachable
        case timedOut
        /// The other side refused the handshake; see ``TransportError/refusal``.
        case handshakeRefused
        /// The other side sent what the protocol does not allow.
        case protocolViolation
        /// The connection ended before the work was done.
        case disconnected
        /// Told to stop, or the transport is shutting down.
        case cancelled
        /// The receiver does not want the snapshot, or found it damaged; see ``TransportError/snapshotRefusal``.
        case snapshotRefused
        /// This server has too much to do at the moment.
        case busy
        /// The local source of a snapshot failed.
        case readFailed
    }

    package var code: Code
    package var refusal: HandshakeRefusal.Code?
    /// Of ``Code/snapshotRefused``.
    package var snapshotRefusal: SnapshotRefusal?
    package var description: String

    init(_ refusal: SnapshotRefusal) {
        self.init(.snapshotRefused, "the receiver refused the snapshot: \(refusal)")
        snapshotRefusal = refusal
    }

    package init(_ code: Code, refusal: HandshakeRefusal.Code? = nil, _ description: String) {
        self.code = code
        self.refusal = refusal
        self.description = description
    }
}
