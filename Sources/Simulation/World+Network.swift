import Raft
import RaftDriver

/// Some of the servers cannot reach some others.
struct Partition: Sendable {
    var number: Int
    var isCut: @Sendable (_ from: Int, _ to: Int) -> Bool
}

/// The network: messages take their time, are lost, doubled and overtaken, and partitions stop them.
extension World {
    func isCut(_ from: SimulatedServer, _ to: SimulatedServer) -> Bool {
        for partition in partitions where partition.isCut(from.slot, to.slot) { return true }
        return false
    }

    func send(_ message: Message, from server: SimulatedServer) throws(Broken) {
        try invariants.check(sent: message, by: server)
        if Watch.concerns(sent: message), let driver = server.driver { try server.watch.checkSent(message, driver) }
        guard message.to.rawValue <= servers.count else { return }
        statistics.messages += 1
        let receiver = self.server(message.to)
        trace.note(now) { "\(Trace.text(message))" }
        var isPropose = false
        if case .propose = message.body { isPropose = true }
        if case .timeoutNow = message.body { reach(.transferOrdered, server) }
        if isCut(server, receiver) || !receiver.isUp || receiver.isGone {
            statistics.cutMessages += 1
            // Without a connection the sender knows at once; with one that is about to break it does not.
            if isPropose, networkRandom.chance(500) {
                try act(server) { $0.proposalNotSent(message, into: &$1) }
            }
            return
        }
        let lost = max(loss, storm?.loss ?? 0)
        if lost > 0, networkRandom.chance(lost) {
            statistics.lost += 1
            trace.note(now) { "  lost" }
            return
        }
        agenda.add(.arrival(message), at: now + delay())
        // Commands are handed on at most once, by contract.
        if duplication > 0, !isPropose, networkRandom.chance(duplication) {
            statistics.doubled += 1
            agenda.add(.arrival(message), at: now + delay())
        }
    }

    private func delay() -> UInt64 {
        var delay = climate.shortestDelay + networkRandom.upTo(climate.delaySpread)
        if let storm, storm.delay > 0 { delay += networkRandom.upTo(storm.delay) }
        if climate.stragglers > 0, !isHealed, networkRandom.chance(climate.stragglers) {
            delay += networkRandom.upTo(2 * climate.election)
        }
        return delay
    }

    func arrive(_ message: Message) throws(Broken) {
        let receiver = server(message.to)
        guard receiver.isUp, !isCut(server(message.from), receiver) else { return }
        guard !receiver.isPaused else {
            receiver.held.append(.arrival(message))
            return
        }
        receiver.watch.arrives(message, inTerm: receiver.driver?.core.term ?? 0, at: receiver.driver?.ticks ?? 0)
        trace.mix(4, message.from.rawValue << 32 | message.to.rawValue, message.term << 8 | Trace.kind(message))
        statistics.arrived += 1
        try post([.message(message)], to: receiver)
    }

    // MARK: Snapshots on their way

    func startTransfer(_ send: SnapshotSend, from server: SimulatedServer) {
        lastTransfer += 1
        server.transfers[send.to] = lastTransfer
        guard let snapshot = server.disk.snapshots.last, snapshot.base.position.index >= send.atLeast,
            send.to.rawValue <= servers.count
        else {
            endTransfer(server.id, server.life, to: send.to, lastTransfer, sent: nil)
            return
        }
        let receiver = self.server(send.to)
        trace.note(now) { "\(server.id.rawValue) sends \(send.to.rawValue) a snapshot at \(snapshot.base.position)" }
        let transfer = SnapshotTransfer(
            number: lastTransfer,
            from: server.id,
            fromLife: server.life,
            to: send.to,
            toLife: receiver.life,
            snapshot: snapshot
        )
        agenda.add(.snapshotPiece(transfer), at: now + delay())
    }

    private func endTransfer(_ id: ServerID, _ life: Int, to peer: ServerID, _ number: UInt64, sent: LogIndex?) {
        agenda.add(.transferEnded(id, life: life, to: peer, number: number, sent: sent), at: now + delay())
    }

    /// A piece of a snapshot arrives. What had come before either side broke off is kept, and the next transfer goes on from there.
    func movePiece(_ transfer: SnapshotTransfer) throws(Broken) {
        let sender = server(transfer.from)
        let receiver = server(transfer.to)
        let isAlive =
            sender.isUp && sender.life == transfer.fromLife && sender.transfers[transfer.to] == transfer.number
        guard isAlive, receiver.isUp, receiver.life == transfer.toLife, !isCut(sender, receiver),
            !isCut(receiver, sender), !networkRandom.chance(isHealed ? 0 : max(loss, storm?.loss ?? 0) / 2)
        else {
            if sender.life == transfer.fromLife {
                endTransfer(transfer.from, transfer.fromLife, to: transfer.to, transfer.number, sent: nil)
            }
            statistics.brokenTransfers += 1
            return
        }
        guard !receiver.isPaused else {
            agenda.add(.snapshotPiece(transfer), at: now + climate.election / 4)
            return
        }
        let base = transfer.snapshot.base
        var pieces = 1
        if let partial = receiver.disk.partial, partial.position == base.position {
            if partial.pieces > 0 { statistics.resumedPieces += 1 }
            pieces += partial.pieces
        }
        receiver.disk.partial = (base.position, pieces)
        guard pieces >= SnapshotTransfer.pieces else {
            agenda.add(.snapshotPiece(transfer), at: now + delay())
            return
        }
        receiver.disk.partial = nil
        receiver.disk.add(transfer.snapshot, loading: receiver.restoring)
        statistics.snapshotsMoved += 1
        trace.note(now) { "\(receiver.id.rawValue) holds the snapshot at \(base.position) of \(sender.id.rawValue)" }
        reach(.snapshotArrived, receiver)
        trace.mix(5, receiver.id.rawValue, base.position.index)
        try act(receiver) { $0.snapshotReceived(base, bytes: 50, from: transfer.from, into: &$1) }
        // Newer ones may come before this one is loaded, and must not sweep it away.
        if receiver.restoring == nil, receiver.driver?.isLoadingSnapshot ?? false { receiver.restoring = base.position }
        endTransfer(transfer.from, transfer.fromLife, to: transfer.to, transfer.number, sent: base.position.index)
    }
}
