internal import Raft
internal import RaftStorage
internal import RaftTransport

/// Takes snapshots of the leader in; its calls come on the streams thread, one at a time.
struct SnapshotInbox: SnapshotReceiver {
    let snapshots: SnapshotStore
    let store: LogStore
    /// Called when a snapshot is complete and durable; returns when the core has been told.
    let arrived: @Sendable (SnapshotDescriptor, ServerID) -> Void
    /// Called when the disk fails: the node must end.
    let failed: @Sendable (StorageError) -> Void

    func begin(_ offer: SnapshotOffer, from peer: ServerIdentity) throws -> SnapshotAdmission {
        guard let descriptor = SnapshotDescriptor(decoding: offer.descriptor), descriptor.fileSize == offer.totalBytes
        else {
            return .refused("the snapshot's description is malformed")
        }
        let finished: @Sendable () -> Void = { arrived(descriptor, peer.serverID) }
        if try snapshots.list().contains(descriptor) {
            let arrival = SnapshotArrival(incoming: nil, finished: finished, failed: failed)
            return .accepted(arrival, resumeAt: offer.totalBytes)
        }
        let incoming = try reporting(failed) { () throws(StorageError) in
            try snapshots.receive(descriptor, clusterID: store.identity.clusterID)
        }
        let arrival = SnapshotArrival(incoming: incoming, finished: finished, failed: failed)
        return .accepted(arrival, resumeAt: incoming.offset)
    }
}

/// Tells `failed` of an error of the system: what comes after a failed flush says nothing about what the disk holds.
private func reporting<Result>(
    _ failed: (StorageError) -> Void,
    _ body: () throws(StorageError) -> Result
) throws(StorageError) -> Result {
    do throws(StorageError) {
        return try body()
    } catch {
        if error.code == .failed { failed(error) }
        throw error
    }
}

/// One snapshot that comes in; without `incoming` it had come whole before, but its sender did not know.
private struct SnapshotArrival: SnapshotSink {
    let incoming: IncomingSnapshot?
    let finished: @Sendable () -> Void
    let failed: @Sendable (StorageError) -> Void

    func write(_ bytes: [UInt8], at offset: UInt64) throws {
        try reporting(failed) { () throws(StorageError) in _ = try incoming?.append(bytes, at: offset) }
    }

    func finish() throws -> SnapshotVerdict {
        do throws(StorageError) {
            try reporting(failed) { () throws(StorageError) in _ = try incoming?.finish() }
        } catch {
            guard error.code == .corrupt else { throw error }
            return .refused(error.description)
        }
        finished()
        return .accepted
    }

    /// What came so far stays on disk for the next transfer.
    func abandon() {}
}
