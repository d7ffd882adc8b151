internal import Raft
internal import RaftStorage
internal import RaftTransport
internal import Synchronization

/// Takes snapshots of the leader in; its calls come on the streams thread, one at a time.
///
/// One snapshot comes in at a time. A leader that was deposed may go on sending for a while, since its streams do not wait for its Raft
/// loop: the newer stream takes the place of the older, unless that is the stream of the server that leads as far as is known here.
struct SnapshotInbox: SnapshotReceiver {
    let snapshots: SnapshotStore
    let store: LogStore
    /// Whom this server takes for the leader.
    let leader: @Sendable () -> ServerID?
    /// Called when a snapshot is complete and durable; returns when the core has been told.
    let arrived: @Sendable (SnapshotDescriptor, ServerID) -> Void
    /// Called when the disk fails: the node must end.
    let failed: @Sendable (StorageError) -> Void
    private let slot = Slot()

    init(
        snapshots: SnapshotStore,
        store: LogStore,
        leader: @escaping @Sendable () -> ServerID?,
        arrived: @escaping @Sendable (SnapshotDescriptor, ServerID) -> Void,
        failed: @escaping @Sendable (StorageError) -> Void
    ) {
        self.snapshots = snapshots
        self.store = store
        self.leader = leader
        self.arrived = arrived
        self.failed = failed
    }

    func begin(_ offer: SnapshotOffer, from peer: ServerIdentity) throws -> SnapshotAdmission {
        guard let descriptor = SnapshotDescriptor(decoding: offer.descriptor), descriptor.fileSize == offer.totalBytes
        else {
            return .refused(SnapshotRefusal(.unavailable, "the snapshot's description is malformed"))
        }
        if let sender = slot.sender, sender != peer.serverID, sender == leader() {
            return .refused(
                SnapshotRefusal(.unavailable, "a snapshot of server \(sender), which leads, is being received")
            )
        }
        return try refusing {
            let isHere = try isHere(descriptor)
            // Nothing was promised yet that a failure here could make untrue.
            let incoming = isHere ? nil : try snapshots.receive(descriptor, clusterID: store.identity.clusterID)
            let arrival = SnapshotArrival(
                incoming: incoming,
                number: slot.take(peer.serverID),
                slot: slot,
                finished: { arrived(descriptor, peer.serverID) },
                failed: failed
            )
            return .accepted(arrival, resumeAt: incoming?.offset ?? offer.totalBytes)
        }
    }

    /// Whether the snapshot had come whole before, though its sender does not know. One that the disk has damaged since is set aside.
    private func isHere(_ descriptor: SnapshotDescriptor) throws(StorageError) -> Bool {
        guard try snapshots.list().contains(descriptor) else { return false }
        do throws(StorageError) {
            try snapshots.verify(descriptor)
            return true
        } catch  where error.code == .missing {
            return false
        } catch  where error.isDamage {
            try snapshots.setAside(descriptor)
            return false
        }
    }

    /// Which stream is being received.
    fileprivate final class Slot: Sendable {
        private let state = Mutex((sender: ServerID?.none, number: UInt64(0)))

        var sender: ServerID? { state.withLock { $0.sender } }

        /// Answers a number for ``release(_:)``.
        func take(_ sender: ServerID) -> UInt64 {
            state.withLock { state in
                state = (sender, state.number + 1)
                return state.number
            }
        }

        /// Nothing when another stream has taken the slot since.
        func release(_ number: UInt64) {
            state.withLock { if $0.number == number { $0.sender = nil } }
        }
    }
}

/// One snapshot that comes in; without `incoming` it had come whole before, but its sender did not know.
private struct SnapshotArrival: SnapshotSink {
    let incoming: IncomingSnapshot?
    let number: UInt64
    let slot: SnapshotInbox.Slot
    let finished: @Sendable () -> Void
    let failed: @Sendable (StorageError) -> Void

    func write(_ bytes: [UInt8], at offset: UInt64) throws {
        try refusing { try reporting { () throws(StorageError) in _ = try incoming?.append(bytes, at: offset) } }
    }

    func finish() throws -> SnapshotVerdict {
        defer { slot.release(number) }
        try refusing { try reporting { () throws(StorageError) in _ = try incoming?.finish() } }
        finished()
        return .accepted
    }

    /// What came so far stays on disk for the next transfer.
    func abandon() { slot.release(number) }

    /// Tells `failed` of an error of the system: what comes after a failed flush says nothing about what the disk holds.
    private func reporting(_ body: () throws(StorageError) -> Void) throws(StorageError) {
        do throws(StorageError) {
            try body()
        } catch {
            if error.code == .failed { failed(error) }
            throw error
        }
    }
}

/// Turns an error of the storage into what the sender is told.
private func refusing<Result>(_ body: () throws -> Result) throws -> Result {
    do {
        return try body()
    } catch let error as StorageError {
        let kind: SnapshotRefusal.Kind =
            error.isDamage ? .damaged : error.code == .newerFormat ? .unknownFormat : .unavailable
        throw SnapshotRefusal(kind, error.message)
    }
}
