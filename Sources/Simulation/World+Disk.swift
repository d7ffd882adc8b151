import Raft
import RaftDriver

/// Disks: writes become durable in order and in groups, after a time; a crash loses what was not.
extension World {
    func submit(_ write: StorageWrite, _ server: SimulatedServer) {
        trace.note(now) { "\(server.id.rawValue) writes \(Trace.text(write))" }
        server.pendingWrites.append(write)
        if server.syncing == 0 { startSync(server) }
    }

    private func startSync(_ server: SimulatedServer) {
        server.syncing = server.pendingWrites.count
        server.watch.syncSince = server.syncing > 0 ? server.driver?.ticks : nil
        guard server.syncing > 0 else { return }
        let time = (server.sync ?? climate.sync) + diskRandom.upTo(isHealed ? climate.sync : climate.syncSpread)
        agenda.add(.synced(server.id, life: server.life), at: now + time)
    }

    func finishSync(_ server: SimulatedServer) throws(Broken) {
        statistics.syncs += 1
        let group = server.pendingWrites.prefix(server.syncing)
        if options.brokenDisk == .lies, server.disk.platter == nil { server.disk.platter = server.disk.log }
        for write in group {
            try checkTrim(write, server)
            try server.disk.log.carryOut(write)
        }
        if options.brokenDisk == .lies, diskRandom.chance(500) { server.disk.platter = server.disk.log }
        let sequence = group[group.endIndex - 1].sequence
        server.pendingWrites.removeFirst(server.syncing)
        startSync(server)
        trace.mix(6, server.id.rawValue, sequence)
        trace.note(now) { "\(server.id.rawValue) has write \(sequence) durable" }
        try step(server, [.persisted(upTo: sequence)])
    }

    /// R8: what is trimmed away is held by a durable snapshot, and by the durable state.
    private func checkTrim(_ write: StorageWrite, _ server: SimulatedServer) throws(Broken) {
        guard let position = write.trimTo?.position else { return }
        let snapshot = server.disk.snapshots.last?.base.position.index ?? 0
        let state = server.disk.machine.position.index
        try demand(
            position.index <= min(snapshot, state),
            "server \(server.id.rawValue) trims its log to \(position), its durable snapshot stands at \(snapshot), its state at \(state) (R8)"
        )
    }

    /// What a disk that breaks its word does when the power goes; the others lose nothing that they reported.
    func losePower(_ server: SimulatedServer) throws(Broken) {
        switch options.brokenDisk {
        case .lies:
            guard let platter = server.disk.platter else { return }
            let before = (server.disk.log.last, server.disk.log.hardState, server.disk.log.base)
            server.disk.log = platter
            guard before != (platter.last, platter.hardState, platter.base), options.auditsDisks else { return }
            throw Broken(
                "the disk of server \(server.id.rawValue) lies: it reported \(before.0), term \(before.1.term) as durable, and after the crash it "
                    + "holds \(platter.last), term \(platter.hardState.term)"
            )
        case .losesVotes:
            guard let vote = server.disk.log.hardState.vote else { return }
            server.disk.log.hardState.vote = nil
            guard options.auditsDisks else { return }
            throw Broken(
                "the disk of server \(server.id.rawValue) lost a vote for \(vote.rawValue) that it reported as durable"
            )
        case nil: break
        }
    }

    func finishFetch(
        _ server: SimulatedServer,
        _ purpose: Driver.Fetch,
        _ range: ClosedRange<LogIndex>,
        maxBytes: Int
    ) throws(Broken) {
        // What is not durable yet cannot be read: the answer may be shorter than what was asked for.
        let end = min(range.upperBound, server.disk.log.lastIndex)
        var entries =
            end < range.lowerBound ? nil : server.disk.log.entries(behind: range.lowerBound - 1, upTo: end)
        statistics.fetches += 1
        if let all = entries {
            var sum = 0
            let count = all.firstIndex { entry in
                sum += entry.size
                return sum > maxBytes
            }
            entries = Array(all.prefix(max(count ?? all.count, 1)))
        }
        try act(server) { $0.fetched(purpose, entries: entries, into: &$1) }
    }

    // MARK: Background work

    func startBackground(_ server: SimulatedServer, _ work: BackgroundWork) {
        if case .restored(let base) = work {
            reach(.restoreBegins, server)
            trace.note(now) { "\(server.id.rawValue) installs the snapshot at \(base.position)" }
        }
        let time = now + (server.sync ?? climate.sync) + diskRandom.upTo(climate.syncSpread) * 2
        agenda.add(.background(server.id, life: server.life, work), at: time)
    }

    func finishBackground(_ server: SimulatedServer, _ work: BackgroundWork) throws(Broken) {
        switch work {
        case .flushed(let machine):
            makeDurable(machine, server)
            try act(server) { $0.flushed(machine.position, into: &$1) }
        case .flushedForSnapshot(let machine):
            makeDurable(machine, server)
            try beginSnapshot(machine, server)
        case .snapshotWritten(let snapshot, let durable):
            try finishSnapshot(snapshot, durable: durable, server)
        case .restored(let base): try finishRestore(base, server)
        }
    }

    private func makeDurable(_ machine: RegisterMachine, _ server: SimulatedServer) {
        statistics.flushes += 1
        server.machine.unflushedBytes = max(0, server.machine.unflushedBytes - machine.unflushedBytes)
        server.disk.machine = machine
        server.disk.machine.unflushedBytes = 0
    }

    private func beginSnapshot(_ machine: RegisterMachine, _ server: SimulatedServer) throws(Broken) {
        guard let driver = server.driver else { return }
        let position = machine.position
        guard position.index >= driver.core.base.position.index else {
            // A leader's snapshot took the place of the log meanwhile.
            try act(server) { $0.flushed(position, into: &$1) }
            return
        }
        if let latest = server.disk.snapshots.last?.base.position, latest.index >= position.index {
            try act(server) { $0.snapshotTaken(latest, durable: position, bytes: 50, into: &$1) }
            return
        }
        let base = LogBase(position: position, configuration: driver.core.configuration(at: position.index))
        try invariants.check(base: base, of: server, initial: position.index == 0 ? base.configuration : initial)
        var state = machine
        state.unflushedBytes = 0
        startBackground(
            server,
            .snapshotWritten(SimulatedSnapshot(base: base, machine: state), durable: position)
        )
    }

    private func finishSnapshot(
        _ snapshot: SimulatedSnapshot,
        durable: LogPosition,
        _ server: SimulatedServer
    ) throws(Broken) {
        server.disk.add(snapshot, loading: server.restoring)
        statistics.snapshots += 1
        reach(.snapshotWritten, server)
        let position = snapshot.base.position
        trace.note(now) { "\(server.id.rawValue) took a snapshot at \(position)" }
        trace.mix(7, server.id.rawValue, position.index)
        try act(server) { $0.snapshotTaken(position, durable: durable, bytes: 50, into: &$1) }
    }

    private func finishRestore(_ base: LogBase, _ server: SimulatedServer) throws(Broken) {
        guard let snapshot = server.disk.snapshots.first(where: { $0.base.position == base.position }) else {
            throw Broken(
                "the snapshot at \(base.position) that server \(server.id.rawValue) is to load is not there any more"
            )
        }
        server.restoring = nil
        server.machine = snapshot.machine
        makeDurable(snapshot.machine, server)
        try compareRestored(server)
        statistics.restores += 1
        trace.note(now) { "\(server.id.rawValue) stands at the snapshot \(base.position)" }
        for token in server.answers.abandon(upTo: base.position.index) { try finish(token, .unknown, server) }
        try step(server, [.restored(base.position.index)])
    }

    private func compareRestored(_ server: SimulatedServer) throws(Broken) {
        let index = Int(server.machine.position.index)
        try demand(
            index < digests.count && digests[index] == server.machine.digest,
            "the state that server \(server.id.rawValue) loaded at \(server.machine.position) is not what others had there"
        )
        try demand(
            server.disk.log.base.position.index >= server.machine.position.index,
            "server \(server.id.rawValue) loads a snapshot at \(server.machine.position) before its log begins there (R8)"
        )
    }
}
