package import Raft

/// Runs blocking work off the event loops, on any thread but never on the calling one. False when it takes no more at the moment: that
/// piece is not run then.
package typealias BlockingExecutor = @Sendable (_ work: @escaping @Sendable () -> Void) -> Bool

/// What a transport tells its owner. All of it is called on the transport's event loop and must not block.
package protocol PeerTransportDelegate: AnyObject, Sendable {
    /// Messages in the order of their connection, in one batch for what one read brought. Sender and receiver have
    /// been checked against the handshake.
    func receive(_ messages: [Message])

    /// Both lanes to the peer are up.
    func connected(_ peer: ServerID)

    /// A lane to the peer has gone down after ``connected(_:)``.
    func disconnected(_ peer: ServerID)

    /// A server of the same cluster opened a link for messages, and there is no link to it, or one to another address
    /// than it says: a leader that this server has not heard of yet, say, whose appends want answers, or a server that
    /// moved.
    func called(by peer: ServerIdentity)

    /// A member of a cluster calls this server, by its identity, while it belongs to none. True adopts the cluster:
    /// the identity of the transport changes; the delegate sees to it that it is durable before it promises anything.
    /// False refuses for now.
    func adopt(_ cluster: ClusterID, calledBy peer: ServerIdentity) -> Bool

    /// Answers a control request other than `identify`. `reply` is called once, from any thread.
    func control(
        _ request: ControlRequest,
        from sender: ServerIdentity,
        reply: @escaping @Sendable (ControlResponse) -> Void
    )
}

extension PeerTransportDelegate {
    package func connected(_ peer: ServerID) {}

    package func disconnected(_ peer: ServerID) {}

    package func called(by peer: ServerIdentity) {}

    package func adopt(_ cluster: ClusterID, calledBy peer: ServerIdentity) -> Bool { false }

    package func control(
        _ request: ControlRequest,
        from sender: ServerIdentity,
        reply: @escaping @Sendable (ControlResponse) -> Void
    ) {
        reply(.refused("this server takes no such request"))
    }
}

/// What is offered to a receiver of a snapshot.
package struct SnapshotOffer: Hashable, Sendable {
    /// Says which snapshot it is; opaque here, equal for equal bytes. At most ``maximumDescriptorBytes``.
    package var descriptor: [UInt8]
    package var totalBytes: UInt64

    /// Room for a snapshot's configuration.
    package static let maximumDescriptorBytes = 1 << 20

    package init(descriptor: [UInt8], totalBytes: UInt64) {
        self.descriptor = descriptor
        self.totalBytes = totalBytes
    }
}

package enum SnapshotAdmission: Sendable {
    /// Send it from `resumeAt` on, which is at most the total; what lies before is here already.
    case accepted(any SnapshotSink, resumeAt: UInt64)
    case refused(SnapshotRefusal)
}

package enum SnapshotVerdict: Hashable, Sendable {
    case accepted
    case refused(SnapshotRefusal)
}

/// Why a receiver does not take a snapshot. Between servers it is a text, the kind's word before a colon.
package struct SnapshotRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Kind: String, Hashable, Sendable, CaseIterable {
        /// It is not what was written, or no state can be loaded from it: it would be refused again.
        case damaged = "corrupt"
        /// The receiver's version does not know its form.
        case unknownFormat = "newer-format"
        /// Anything else, which may pass.
        case unavailable
    }

    package var kind: Kind
    package var reason: String

    package init(_ kind: Kind, _ reason: String) {
        self.kind = kind
        self.reason = reason
    }

    /// From the text that came; without a known word, it is for people only.
    init(parsing text: String) {
        let kind = Kind.allCases.first { text.hasPrefix($0.rawValue + ": ") }
        self.init(kind ?? .unavailable, kind.map { String(text.dropFirst($0.rawValue.count + 2)) } ?? text)
    }

    package var description: String { "\(kind.rawValue): \(reason)" }
}

/// Takes snapshots of peers in. Everything here and in ``SnapshotSink`` is called through the blocking executor, one
/// call at a time for the whole transport.
package protocol SnapshotReceiver: Sendable {
    func begin(_ offer: SnapshotOffer, from peer: ServerIdentity) throws -> SnapshotAdmission
}

/// One incoming snapshot stream. It ends with exactly one call of ``finish()`` or ``abandon()``.
package protocol SnapshotSink: Sendable {
    /// The next bytes; `offset` follows what came before. Throwing ends the stream, a ``SnapshotRefusal`` says why; ``abandon()`` follows.
    func write(_ bytes: [UInt8], at offset: UInt64) throws

    /// Everything has come. It may take long: the stream is kept alive meanwhile.
    func finish() throws -> SnapshotVerdict

    /// The stream ended early. What came so far may be kept for the next one.
    func abandon()
}
