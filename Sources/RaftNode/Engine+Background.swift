internal import Logging
internal import NIOCore
internal import Observability
internal import Raft
internal import RaftDriver
internal import RaftStorage
internal import RaftTransport

/// Work that blocks on disks: reading the log, making the state durable, taking, sending and restoring snapshots.
extension Engine {
    // MARK: The log

    func startFetch(_ purpose: Driver.Fetch, _ range: ClosedRange<LogIndex>, maxBytes: Int) {
        queue(on: reader) {
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
    }

    /// Hands a job to a thread; where its queue is full, again after a moment, so that what waits for the job's end is not left waiting. Only a
    /// node that stops drops it.
    func queue(on worker: WorkerThread, _ job: @escaping @Sendable () -> Void) {
        guard !worker.submit(job), isRunning else { return }
        loop.scheduleTask(in: .milliseconds(50)) { self.queue(on: worker, job) }
    }

    // MARK: The machine's state

    func startFlush() {
        runInBackground("the state cannot be made durable") {
            let start = ContinuousClock.now
            let position = try self.machine.flush()
            self.options.metrics?.flushDuration.observe(start.duration(to: .now))
            return {
                self.noteRoom(\.state, nil)
                self.act { $0.flushed(position, into: &$1) }
            }
        } lackingRoom: { detail in
            self.noteRoom(\.state, detail)
            self.act { $0.lackedRoom(durable: nil, into: &$1) }
        }
    }

    func startSnapshot() {
        runInBackground("the state cannot be made durable") {
            let position = try self.machine.flush()
            return { self.writeSnapshot(at: position) }
        } lackingRoom: { detail in
            self.noteRoom(\.state, detail)
            self.act { $0.lackedRoom(durable: nil, into: &$1) }
        }
    }

    /// The state is durable at `position`, and nothing flushes it further until the snapshot is written.
    private func writeSnapshot(at position: LogPosition) {
        noteRoom(\.state, nil)
        guard position.index >= driver.core.base.position.index else {
            // A leader's snapshot took the place of the log meanwhile.
            act { $0.flushed(position, into: &$1) }
            return
        }
        if let latest = latestSnapshot, latest.position.index >= position.index {
            noteRoom(\.snapshot, nil)
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
            let start = ContinuousClock.now
            // Dropped on an error, it removes its file.
            let writer = try self.snapshots.begin(header)
            let descriptor: SnapshotDescriptor
            do {
                let written = try self.machine.writeSnapshot { try writer.write($0) }
                guard written == position else {
                    throw StartError(
                        .failed,
                        "the state moved from \(position) to \(written) while a snapshot was written"
                    )
                }
                descriptor = try writer.finish()
            } catch let error as StorageError where error.code == .unsound {
                // As it was written, and yet of no use to anybody: what it was written from is wrong.
                return { self.stateIsUnsound(error, durable: position) }
            } catch let error as StateDifferenceError {
                // Seen first by who writes everything. The hash is set right, for the comparison to judge, and the snapshot taken again.
                let found = Result { try self.machine.verifyState { _ in true } }
                return {
                    self.logger.error("a snapshot was not taken", metadata: ["reason": "\(error)"])
                    self.verified(found)
                    self.startSnapshot()
                }
            }
            self.options.metrics?.snapshotDuration.observe(start.duration(to: .now))
            self.options.metrics?.snapshotBytes.add(descriptor.fileSize)
            return {
                self.logger.info("took a snapshot", metadata: ["at": "\(position)", "bytes": "\(descriptor.fileSize)"])
                self.latestSnapshot = descriptor
                self.noteRoom(\.snapshot, nil)
                self.act { $0.snapshotTaken(position, durable: position, bytes: Int(descriptor.fileSize), into: &$1) }
            }
        } lackingRoom: { detail in
            self.noteRoom(\.snapshot, "no room for a snapshot: \(detail)")
            self.act { $0.lackedRoom(durable: position, into: &$1) }
        }
    }

    func startRestore(_ base: LogBase) {
        logger.notice("installing a snapshot", metadata: ["at": "\(base.position)"])
        restore(base)
    }

    private func restore(_ base: LogBase) {
        guard isRunning else { return }
        // Of several at one position, this server's own and a leader's, the one that was examined when it came.
        let arrived = lastArrived.flatMap { $0.base == base ? $0 : nil }
        runInBackground("a snapshot cannot be installed") {
            guard let descriptor = try arrived ?? self.snapshots.list().first(where: { $0.base == base }) else {
                throw StorageError(
                    .missing,
                    "the snapshot at \(base.position), behind which the log begins, is missing or damaged"
                )
            }
            try Self.restore(self.machine, from: self.snapshots, descriptor)
            return {
                self.noteRoom(\.snapshot, nil)
                self.snapshots.protected = nil
                self.abandonCommitted(upTo: base.position.index)
                self.comparison.notes.removeAll()
                self.step([.restored(base.position.index)])
            }
        } lackingRoom: { detail in
            // The old state is as it was. The log has nothing before the snapshot any more, so that this must succeed some time.
            self.noteRoom(\.snapshot, "no room to install a snapshot: \(detail)")
            self.loop.scheduleTask(in: .seconds(1)) { self.restore(base) }
        }
    }

    static func restore(_ machine: Machine, from snapshots: SnapshotStore, _ descriptor: SnapshotDescriptor) throws {
        let file = try snapshots.open(descriptor)
        try machine.restore(position: descriptor.position, configuration: descriptor.configuration) {
            try file.read(maxBytes: $0)
        }
    }

    /// Runs `work` on the background thread and what it returns on the loop, or `lackingRoom` with what is lacking.
    /// Any other failure ends the node: a retry after a failed sync would lie.
    private func runInBackground(
        _ failure: String,
        _ work: @escaping @Sendable () throws -> @Sendable () -> Void,
        lackingRoom: @escaping @Sendable (String) -> Void
    ) {
        queue(on: background) {
            do {
                let finish = try work()
                self.loop.execute(finish)
            } catch let error as NoRoomError {
                self.loop.execute { lackingRoom(error.description) }
            } catch let error as StorageError where error.isLackOfRoom {
                self.loop.execute { lackingRoom(error.message) }
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
        let number = beginTransfer(of: descriptor, to: peer)
        let isQueued = streams.submit {
            let file = Result { try self.snapshots.open(descriptor) }
            self.loop.execute { self.send(file, descriptor, to: peer, at: address, number) }
        }
        if !isQueued {
            loop.execute { self.endTransfer(to: peer, number, .failure(.init(.busy, "too much to do"))) }
        }
    }

    /// At most one transfer to a peer counts; what an earlier one says when it ends is no longer heard.
    private func beginTransfer(of descriptor: SnapshotDescriptor, to peer: ServerID) -> UInt64 {
        transfers[peer]?.handle?.cancel()
        lastTransfer += 1
        transfers[peer] = Transfer(number: lastTransfer, descriptor: descriptor)
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
        guard let transfer = transfers[peer], transfer.number == number else { return }
        if case .failure(let error) = result, let descriptor = transfer.descriptor, error.doubtsSnapshot {
            // Looked at first, so that it is not sent again meanwhile.
            transfers[peer]?.descriptor = nil
            return examine(descriptor) { self.endTransfer(to: peer, number, result) }
        }
        transfers[peer] = nil
        switch result {
        case .success(let index):
            options.metrics?.snapshotsSent.add()
            step([.snapshotSent(to: peer, sent: index)])
        case .failure(let error):
            if error.snapshotRefusal?.kind == .unknownFormat {
                logger.error(
                    "\(name(of: peer)) cannot read snapshots of the format \(options.snapshotSchema); upgrade it",
                    metadata: ["error": "\(error)"]
                )
            } else {
                logger.warning("a snapshot did not arrive", metadata: ["to": "\(name(of: peer))", "error": "\(error)"])
            }
            step([.snapshotSent(to: peer, sent: nil)])
        }
    }

    /// A snapshot lies complete on disk.
    func snapshotArrived(_ descriptor: SnapshotDescriptor, from peer: ServerID) {
        // One that comes before the log can be written is asked for again: the file is there then.
        guard isRunning else { return }
        options.metrics?.snapshotsReceived.add()
        logger.info("received a snapshot", metadata: ["from": "\(name(of: peer))", "at": "\(descriptor.position)"])
        if descriptor.position.index > latestSnapshot?.position.index ?? 0 { latestSnapshot = descriptor }
        lastArrived = descriptor
        act { $0.snapshotReceived(descriptor.base, bytes: Int(descriptor.fileSize), from: peer, into: &$1) }
        // Newer ones may come before this one is loaded, and must not sweep it away.
        if driver.isLoadingSnapshot, snapshots.protected == nil { snapshots.protected = descriptor.position }
    }
}
