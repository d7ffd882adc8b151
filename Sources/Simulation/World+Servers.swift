import DequeModule
import Raft
import RaftDriver

/// Processes: they start, take steps, carry out what their drivers ask for, and die.
extension World {
    // MARK: Life

    func start(_ server: SimulatedServer) throws(Broken) {
        guard !server.isUp, !server.isGone else { return }
        try recover(server)
        server.life += 1
        let log = server.disk.log
        let applied = server.machine.position
        let core = Core(
            id: server.id,
            options: climate.core,
            seed: serverRandom.next(),
            hardState: log.hardState,
            base: log.base,
            entries: log.entries.map { EntryInfo($0) },
            applied: applied.index
        )
        server.writtenLog = log
        server.writtenLog.hardState = core.hardState
        server.driver = Driver(
            core: core,
            options: climate.driver,
            snapshotIndex: server.disk.snapshots.last?.base.position.index ?? 0,
            snapshotBytes: 50 * climate.keys
        )
        statistics.starts += 1
        trace.note(now) {
            "\(server.id.rawValue) starts: term \(core.term) log \(core.firstIndex)...\(core.last) applied \(applied)"
        }
        trace.mix(1, server.id.rawValue, core.last.index)
        scheduleTick(server)
        try invariants.check(server, in: servers)
        if server.isBarred { try bar(server, true) }
    }

    /// Brings the machine to where the log can carry it on from: a crash may have come between taking a snapshot in and loading it.
    private func recover(_ server: SimulatedServer) throws(Broken) {
        let log = server.disk.log
        if server.disk.machine.position.index < log.base.position.index {
            let base = log.base.position
            guard let snapshot = server.disk.snapshots.first(where: { $0.base.position == base }) else {
                throw Broken(
                    "the log of server \(server.id.rawValue) begins at \(base), and no snapshot is there to load (R8)"
                )
            }
            server.disk.machine = snapshot.machine
            server.disk.machine.unflushedBytes = 0
            statistics.recoveredRestores += 1
        }
        server.machine = server.disk.machine
        let position = server.machine.position
        try demand(
            log.term(at: position.index) == position.term || position.index == log.base.position.index,
            "the state of server \(server.id.rawValue) stands at \(position), its log ends at \(log.last): they do not belong together (R7)"
        )
    }

    func crash(_ server: SimulatedServer, down: UInt64, losesPower: Bool = true) throws(Broken) {
        guard server.isUp else { return }
        statistics.crashes += 1
        // Any first part of what was on its way may have got there, though nobody was told.
        let surviving = diskRandom.pick(server.pendingWrites.count + 1)
        trace.note(now) {
            "\(server.id.rawValue) crashes; \(surviving) of \(server.pendingWrites.count) writes under way survive"
        }
        trace.mix(2, server.id.rawValue, UInt64(surviving))
        for write in server.pendingWrites.prefix(surviving) { try server.disk.log.carryOut(write) }
        for waiter in server.waiters.sorted(by: { $0.key < $1.key }) { loseConnection(waiter.value) }
        server.forget()
        noticeBrokenConnections(of: server)
        if losesPower { try losePower(server) }
        agenda.add(.restart(server.id), at: now + down)
    }

    /// The others' connections to it break; most notice at once.
    private func noticeBrokenConnections(of server: SimulatedServer) {
        for id in slots where id != server.id && self.server(id).isUp && networkRandom.chance(500) {
            let peer = self.server(id)
            agenda.add(.unreachable(id, life: peer.life, server.id), at: now + networkRandom.upTo(climate.delaySpread))
        }
    }

    func restart(_ server: SimulatedServer) throws(Broken) {
        try start(server)
    }

    func resume(_ server: SimulatedServer, life: Int) throws(Broken) {
        guard server.life == life, server.isPaused else { return }
        trace.note(now) { "\(server.id.rawValue) goes on" }
        server.isPaused = false
        for happening in server.held { agenda.add(happening, at: now) }
        server.held = []
        let requests = server.heldEvents
        server.heldEvents = []
        if !requests.isEmpty { try post(requests, to: server) }
    }

    // MARK: Time

    func scheduleTick(_ server: SimulatedServer) {
        agenda.add(.tick(server.id, life: server.life), at: now + server.tickLength)
    }

    func tick(_ server: SimulatedServer) throws(Broken) {
        scheduleTick(server)
        try act(server) { $0.step([.tick], into: &$1) }
        // Whole drivers are only copied where there is something to look at.
        guard server.driver?.core.isLeader ?? false, let driver = server.driver else { return }
        try server.watch.checkLeader(server, driver)
    }

    // MARK: Steps

    /// `events` reach the server; they are taken in now, or with others that come a little later.
    func post(_ events: [Event], to server: SimulatedServer) throws(Broken) {
        guard climate.batching > 0 else { return try step(server, events) }
        if server.inbox.isEmpty {
            let time = now + serverRandom.upTo(climate.batching)
            agenda.add(.drain(server.id, life: server.life), at: time)
        }
        server.inbox += events
    }

    func drain(_ server: SimulatedServer) throws(Broken) {
        let events = server.inbox
        server.inbox = []
        try step(server, events)
    }

    func step(_ server: SimulatedServer, _ events: [Event]) throws(Broken) {
        guard events.count == 1, case .message(let message) = events[0], case .preVoteRequest = message.body else {
            return try act(server) { $0.step(events, into: &$1) }
        }
        let before = server.driver?.core.hardState
        server.watch.answersPreVote = true
        try act(server) { $0.step(events, into: &$1) }
        server.watch.answersPreVote = false
        guard server.isUp else { return }
        try demand(
            server.driver?.core.hardState == before,
            "a pre-vote changed server \(server.id.rawValue) (R13)"
        )
    }

    /// Runs `body` on the driver and carries out what it asks for, in order.
    func act(_ server: SimulatedServer, _ body: (inout Driver, inout Driver.Actions) -> Void) throws(Broken) {
        guard server.isUp else { return }
        statistics.steps += 1
        let life = server.life
        var actions = Driver.Actions()
        body(&server.driver!, &actions)  // up, as seen above
        for write in actions.writes {
            try invariants.check(write: write, to: server.writtenLog, by: server)
            try server.writtenLog.carryOut(write)
            if armed != nil { notice(write, server) }
        }
        try observe(server)
        server.backlog.append(actions)
        guard !server.isPerforming else { return }
        server.isPerforming = true
        while server.life == life, server.isUp, let next = server.backlog.popFirst() { try perform(next, server) }
        server.isPerforming = false
    }

    private func notice(_ write: StorageWrite, _ server: SimulatedServer) {
        if write.trimTo != nil { reach(.logTrimmed, server) }
        if write.hardState?.vote != nil { reach(.votes, server) }
        for entry in write.append {
            if case .configuration(let configuration) = entry.payload, configuration.isJoint {
                reach(.jointAppended, server)
            }
        }
    }

    /// Checks what must hold, and notices what the transcript and the statistics want to know.
    private func observe(_ server: SimulatedServer) throws(Broken) {
        if server.driver?.core.violation == nil { try invariants.check(server, in: servers) }
        let isLeader = server.driver?.core.isLeader ?? false
        if isLeader, server.driver?.core.configuration.isOnlyVoter(server.id) ?? false {
            server.watch.leadsAlone(server.driver?.ticks ?? 0)
        }
        guard isLeader != server.wasLeader else { return }
        server.wasLeader = isLeader
        if isLeader {
            statistics.leaders += 1
            server.watch.leads(server.driver?.ticks ?? 0)
            reach(.leads, server)
        } else {
            server.transfers = [:]
        }
        let term = server.driver?.core.term ?? 0
        trace.note(now) { "\(server.id.rawValue) \(isLeader ? "leads" : "stands down") in term \(term)" }
        trace.mix(3, server.id.rawValue, term)
    }

    /// Counts one effect; false when the process dies before it.
    private func survives(_ server: SimulatedServer) throws(Broken) -> Bool {
        guard server.effectsLeft != nil else { return true }
        server.effectsLeft!.count -= 1  // seen above
        guard server.effectsLeft!.count < 0 else { return true }
        statistics.crashesAtEffects += 1
        try crash(server, down: server.effectsLeft!.down)
        return false
    }

    private func perform(_ actions: Driver.Actions, _ server: SimulatedServer) throws(Broken) {
        if let halt = actions.halt { throw Broken("server \(server.id.rawValue) halts: \(halt)") }
        for write in actions.writes {
            guard try survives(server) else { return }
            submit(write, server)
        }
        for message in actions.messages {
            guard try survives(server) else { return }
            try send(message, from: server)
        }
        for fetch in actions.fetches {
            let read = Happening.fetched(
                server.id,
                life: server.life,
                fetch.purpose,
                fetch.range,
                maxBytes: fetch.maxBytes
            )
            agenda.add(read, at: now + 20 + diskRandom.upTo(climate.syncSpread))
        }
        for outcome in actions.outcomes {
            guard try survives(server) else { return }
            try settle(outcome, server)
        }
        if !actions.apply.isEmpty {
            guard try survives(server) else { return }
            try apply(actions.apply, server)
        }
        for send in actions.snapshotSends { startTransfer(send, from: server) }
        if let base = actions.restore { startBackground(server, .restored(base)) }
        if actions.flush { startBackground(server, .flushed(server.machine)) }
        if actions.takeSnapshot { startBackground(server, .flushedForSnapshot(server.machine)) }
    }

    private func apply(_ entries: [Entry], _ server: SimulatedServer) throws(Broken) {
        let keeps = server.driver?.core.awaitsForwardedProposals ?? false
        var bytes = 0
        for entry in entries {
            try invariants.check(applied: entry, by: server)
            try demand(
                entry.index == server.machine.position.index + 1,
                "server \(server.id.rawValue) applies \(entry.position) behind \(server.machine.position)"
            )
            bytes += entry.size
            let output = server.machine.apply(entry)
            try compareDigest(server)
            if let output, let token = server.answers.applied(entry.position, output, keeps: keeps) {
                try finish(token, .applied(output), server)
            }
        }
        let last = entries[entries.count - 1].index
        statistics.applied += entries.count
        let unflushed = server.machine.unflushedBytes
        try act(server) { $0.applied(last, bytes: bytes, unflushedBytes: unflushed, into: &$1) }
    }

    /// Replicas that applied the same are the same.
    private func compareDigest(_ server: SimulatedServer) throws(Broken) {
        let index = Int(server.machine.position.index)
        while digests.count <= index { digests.append(0) }
        if digests[index] == 0 { digests[index] = server.machine.digest }
        try demand(
            digests[index] == server.machine.digest,
            "the state of server \(server.id.rawValue) at \(server.machine.position) differs from that of another server"
        )
    }

    // MARK: Outcomes

    private func settle(_ outcome: Outcome, _ server: SimulatedServer) throws(Broken) {
        guard outcome.token != Driver.internalToken else { return }
        try demand(
            server.waiters[outcome.token] != nil && server.settled.insert(outcome.token).inserted,
            "server \(server.id.rawValue): a second outcome, \(outcome)"
        )
        switch outcome {
        case .committed(let token, let position):
            try checkCommitted(token, at: position, server)
            let applied = server.driver?.core.appliedIndex ?? 0
            switch server.answers.committed(token, at: position, applied: applied) {
            case .later: break
            case .known(let output): try finish(token, .applied(output), server)
            case .lost: try finish(token, .unknown, server)
            }
        case .readReady(let token, let index): try finish(token, .read(index: index), server)
        case .done(let token): try finish(token, .done, server)
        case .rejected(let token, _, _): try finish(token, .rejected, server)
        case .unknown(let token, _): try finish(token, .unknown, server)
        }
    }

    func finish(_ token: Token, _ result: ClientResult, _ server: SimulatedServer) throws(Broken) {
        guard let waiter = server.waiters.removeValue(forKey: token) else { return }
        switch waiter {
        case .operation(let number): try end(number, result, server)
        case .administration: if result == .done { statistics.administrationDone += 1 }
        }
    }
}
