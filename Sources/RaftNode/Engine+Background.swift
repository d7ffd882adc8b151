internal import Logging
internal import NIOCore
internal import Raft
internal import RaftDriver
internal import RaftStorage
internal import RaftTransport

/// Work that blocks on disks: reading the log, making the state durable, taking, sending and restoring snapshots.
extension Engine {
    // MARK: The log

    func startFetch(_ purpose: Driver.Fetch, _ range: ClosedRange<LogIndex>, maxBytes: Int) {
        let isQueued = reader.submit {
            let result = Result { () throws(StorageError) in
                try self.store.read(from: range.lowerBound, through: range.upperBound, maxBytes: maxBytes)
            }
            self.loop.execute {
                switch result {
                case .success(let entries):
                    self.act { $0.fetched(purpose, entries: entries.isEmpty ? nil : entries, into: &$1) }
                case .failure(let error) where error.code == .missing:
                    self.act { $0.fetched(purpose, entries: nil, into: &$1) }
                case .failure(let error): self.fail("the log cannot be read: \(error)")
                }
            }
        }
        if !isQueued { loop.execute { self.act { $0.fetched(purpose, entries: nil, into: &$1) } } }
    }

    // MARK: The machine's state

    func startFlush() {
        runInBackground("the state cannot be made durable") {
            let position = try self.machine.flush()
            return { self.act { $0.flushed(position, into: &$1) } }
        }
    }

    func startSnapshot() {
        runInBackground("the state cannot be made durable") {
            let position = try self.machine.flush()
            return { self.writeSnapshot(at: position) }
        }
    }

    /// The state is durable at `position`, and nothing flushes it further until the snapshot is written.
    private func writeSnapshot(at position: LogPosition) {
        if let latest = latestSnapshot, latest.position.index >= position.index {
            act { $0.snapshotTaken(latest.position, durable: position, bytes: Int(latest.fileSize), into: &$1) }
            return
        }
        let header = SnapshotHeader(
            clusterID: identity.clusterID,
            position: position,
            configuration: driver.core.configuration(at: position.index),
            schema: options.snapshotSchema
        )
        runInBackground("a snapshot cannot be written") {
            let writer = try self.snapshots.begin(header)
            let written = try self.machine.writeSnapshot { try writer.write($0) }
            guard written == position else {
                throw StartError(.failed, "the state moved from \(position) to \(written) while a snapshot was written")
            }
            let descriptor = try writer.finish()
            return {
                self.logger.info("took a snapshot", metadata: ["at": "\(position)", "bytes": "\(descriptor.fileSize)"])
                self.latestSnapshot = descriptor
                self.act { $0.snapshotTaken(position, durable: position, bytes: Int(descriptor.fileSize), into: &$1) }
            }
        }
    }

    func startRestore(_ base: LogBase) {
        logger.notice("installing a snapshot", metadata: ["at": "\(base.position)"])
        runInBackground("a snapshot cannot be installed") {
            try Self.restore(self.machine, from: self.snapshots, at: base, schema: self.options.snapshotSchema)
            return {
                self.snapshots.protected = nil
                self.abandonCommitted(upTo: base.position.index)
                self.step([.restored(base.position.index)])
            }
        }
    }

    static func restore(_ machine: Machine, from snapshots: SnapshotStore, at base: LogBase, schema: String) throws {
        guard let descriptor = try snapshots.list().first(where: { $0.position == base.position }) else {
            throw StorageError(
                .missing,
                "the snapshot at \(base.position), behind which the log begins, is missing or damaged"
            )
        }
        let file = try snapshots.open(descriptor)
        guard file.header.schema == schema else {
            throw StorageError(
                .newerFormat,
                "the snapshot at \(base.position) has the format '\(file.header.schema)', this program reads '\(schema)'"
            )
        }
        try machine.restore(position: base.position, configuration: base.configuration) { try file.read(maxBytes: $0) }
    }

    /// Runs `work` on the background thread and what it returns on the loop. A failure ends the node: a retry after a failed sync would lie.
    private func runInBackground(_ failure: String, _ work: @escaping @Sendable () throws -> @Sendable () -> Void) {
        _ = background.submit {
            do {
                let finish = try work()
                self.loop.execute(finish)
            } catch {
                self.loop.execute { self.fail("\(failure): \(error)") }
            }
        }
    }

    // MARK: Snapshots on their way

    func startSnapshotSend(_ send: SnapshotSend) {
        let peer = send.to
        guard let descriptor = latestSnapshot, descriptor.position.index >= send.atLeast,
            let address = address(of: peer)
        else {
            step([.snapshotSent(to: peer, sent: nil)])
            return
        }
        logger.info("sending a snapshot", metadata: ["to": "\(name(of: peer))", "at": "\(descriptor.position)"])
        let number = beginTransfer(to: peer)
        let isQueued = streams.submit {
            let file = Result { try self.snapshots.open(descriptor) }
            self.loop.execute { self.send(file, descriptor, to: peer, at: address, number) }
        }
        if !isQueued {
            loop.execute { self.endTransfer(to: peer, number, .failure(.init(.cancelled, "too much to do"))) }
        }
    }

    /// At most one transfer to a peer counts; what an earlier one says when it ends is no longer heard.
    private func beginTransfer(to peer: ServerID) -> UInt64 {
        transfers[peer]?.handle?.cancel()
        lastTransfer += 1
        transfers[peer] = Transfer(number: lastTransfer)
        return lastTransfer
    }

    /// Leadership is lost: its transfers go with it.
    func cancelTransfers() {
        for transfer in transfers.values { transfer.handle?.cancel() }
        transfers = [:]
    }

    private func send(
        _ file: Result<SnapshotReader, any Error>,
        _ descriptor: SnapshotDescriptor,
        to peer: ServerID,
        at address: String,
        _ number: UInt64
    ) {
        guard transfers[peer]?.number == number else { return }
        switch file {
        case .success(let file):
            let index = descriptor.position.index
            transfers[peer]?.handle = transport.sendSnapshot(
                SnapshotOffer(descriptor: descriptor.encode(), totalBytes: descriptor.fileSize),
                to: peer,
                at: address,
                bytesPerSecond: options.snapshotBytesPerSecond,
                read: { try file.rawChunk(offset: $0, maxBytes: $1) },
                completion: { result in
                    self.loop.execute { self.endTransfer(to: peer, number, result.map { index }) }
                }
            )
        case .failure(let error): endTransfer(to: peer, number, .failure(.init(.readFailed, "\(error)")))
        }
    }

    private func endTransfer(to peer: ServerID, _ number: UInt64, _ result: Result<LogIndex, TransportError>) {
        guard transfers[peer]?.number == number else { return }
        transfers[peer] = nil
        switch result {
        case .success(let index): step([.snapshotSent(to: peer, sent: index)])
        case .failure(let error):
            logger.warning("a snapshot did not arrive", metadata: ["to": "\(name(of: peer))", "error": "\(error)"])
            step([.snapshotSent(to: peer, sent: nil)])
        }
    }

    /// A snapshot lies complete on disk.
    func snapshotArrived(_ descriptor: SnapshotDescriptor, from peer: ServerID) {
        // One that comes before the log can be written is asked for again: the file is there then.
        guard isRunning else { return }
        logger.info("received a snapshot", metadata: ["from": "\(name(of: peer))", "at": "\(descriptor.position)"])
        if descriptor.position.index > latestSnapshot?.position.index ?? 0 { latestSnapshot = descriptor }
        act { $0.snapshotReceived(descriptor.base, bytes: Int(descriptor.fileSize), from: peer, into: &$1) }
        // Newer ones may come before this one is loaded, and must not sweep it away.
        if driver.isLoadingSnapshot, snapshots.protected == nil { snapshots.protected = descriptor.position }
    }
}

/// Takes snapshots of the leader in; its calls come on the streams thread, one at a time.
struct SnapshotInbox: SnapshotReceiver {
    let snapshots: SnapshotStore
    let store: LogStore
    /// Called when a snapshot is complete and durable; returns when the core has been told.
    let arrived: @Sendable (SnapshotDescriptor, ServerID) -> Void

    func begin(_ offer: SnapshotOffer, from peer: ServerIdentity) throws -> SnapshotAdmission {
        guard let descriptor = SnapshotDescriptor(decoding: offer.descriptor), descriptor.fileSize == offer.totalBytes
        else {
            return .refused("the snapshot's description is malformed")
        }
        let finished: @Sendable () -> Void = { arrived(descriptor, peer.serverID) }
        if try snapshots.list().contains(descriptor) {
            return .accepted(SnapshotArrival(incoming: nil, finished: finished), resumeAt: offer.totalBytes)
        }
        let incoming = try snapshots.receive(descriptor, clusterID: store.identity.clusterID)
        return .accepted(SnapshotArrival(incoming: incoming, finished: finished), resumeAt: incoming.offset)
    }
}

/// One snapshot that comes in; without `incoming` it had come whole before, but its sender did not know.
private struct SnapshotArrival: SnapshotSink {
    let incoming: IncomingSnapshot?
    let finished: @Sendable () -> Void

    func write(_ bytes: [UInt8], at offset: UInt64) throws { _ = try incoming?.append(bytes, at: offset) }

    func finish() throws -> SnapshotVerdict {
        do throws(StorageError) {
            _ = try incoming?.finish()
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
