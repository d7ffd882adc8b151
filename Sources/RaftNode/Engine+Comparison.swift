internal import Glibc
internal import Logging
internal import NIOCore
internal import Raft
internal import RaftDriver
internal import RaftStorage
internal import RaftTransport
internal import Synchronization

/// What the engine knows for the comparison of the states.
struct ComparisonState {
    var notes = StateNotes()
    var quarantine: Quarantine?
    var status = ComparisonStatus()
    /// The question to the other servers that is under way.
    var asking: Task<Void, Never>?
    var isAsking = false
    var nextTick: UInt64 = 0
    var nextVerificationTick: UInt64 = 0
    var isVerifying = false
    /// Where the applied index stood, and since when.
    var idleIndex: LogIndex = 0
    var idleTick: UInt64 = 0
    /// Servers whose difference has been reported.
    var reported: Set<ServerID> = []
    /// What was found wrong with the own state: an alarm that no comparison takes back.
    var finding: String?
    /// Ends the recomputation of the hash. A class, so that other threads see it.
    let isStopping = StopFlag()

    init(quarantine: Quarantine?) { self.quarantine = quarantine }

    func publish(on board: StatusBoard) {
        board.isQuarantined.store(quarantine != nil, ordering: .relaxed)
        board.update { [quarantine, status] in ($0.quarantine, $0.comparison) = (quarantine, status) }
    }

    final class StopFlag: Sendable {
        private let flag = Atomic(false)

        func set() { flag.store(true, ordering: .relaxed) }

        var isSet: Bool { flag.load(ordering: .relaxed) }
    }
}

/// The servers compare the hashes of their states, so that a replica that went wrong unnoticed (a changed byte behind all
/// checksums, a fault of memory, a bug) serves nobody.
extension Engine {
    /// Applies some of the entries, and notes the state's hash where the last of them stands at an agreed index.
    func applyNoting(_ entries: ArraySlice<Entry>, isTimeUp: () -> Bool) -> AppliedEntries<Machine.Output> {
        let period = options.comparisonEntries
        guard period > 0, let first = entries.first else { return machine.apply(entries, isTimeUp: isTimeUp) }
        let part = entries.prefix(Int(clamping: period - (first.index - 1) % period))
        let applied = machine.apply(part, isTimeUp: isTimeUp)
        if applied.outputs.count == part.count, let last = part.last, last.index % period == 0 { note(last.index) }
        return applied
    }

    private func note(_ index: LogIndex) {
        guard let hash = machine.stateHash() else { return }
        comparison.notes.add(index, hash)
        comparison.status.notedIndex = index
    }

    /// With every tick.
    func compareStates() {
        guard options.comparisonEntries > 0, isRunning else { return }
        noteIdleState()
        verifyWhenDue()
        guard driver.core.isLeader, driver.ticks >= comparison.nextTick, !comparison.isAsking else { return }
        comparison.nextTick = driver.ticks + UInt64(max(1, options.comparisonMilliseconds / options.tickMilliseconds))
        guard !comparison.notes.all.isEmpty else { return }
        ask()
    }

    /// Where nothing more is committed, all servers come to stand at the same index, and note their states there.
    private func noteIdleState() {
        let core = driver.core
        if core.appliedIndex != comparison.idleIndex || driver.isLoadingSnapshot {
            (comparison.idleIndex, comparison.idleTick) = (core.appliedIndex, driver.ticks)
        } else if core.appliedIndex == core.commitIndex, core.appliedIndex > 0,
            comparison.notes.all.last?.index != core.appliedIndex, driver.ticks - comparison.idleTick >= 10
        {
            note(core.appliedIndex)
        }
    }

    // MARK: The leader asks

    private func ask() {
        let core = driver.core
        let peers = core.configuration.members.filter { $0.id != core.id }.compactMap { member in
            address(of: member.id).map { (id: member.id, address: $0) }
        }
        let term = core.term
        let call = ControlRequest.call(
            ComparisonCall.notes(term: term, alarm: comparison.status.alarm ?? "").encode()
        )
        let transport = self.transport
        comparison.isAsking = true
        comparison.asking = Task {
            let answers = await withTaskGroup { group in
                for peer in peers {
                    group.addTask { () -> (ServerID, ComparisonCall.Answer?) in
                        guard
                            case .answer(let bytes) = try? await transport.control(
                                call,
                                at: peer.address,
                                timeout: .seconds(1)
                            )
                        else { return (peer.id, nil) }
                        return (peer.id, ComparisonCall.Answer(decoding: bytes))
                    }
                }
                var answers: [(server: ServerID, answer: ComparisonCall.Answer)] = []
                for await (server, answer) in group { if let answer { answers.append((server, answer)) } }
                return answers.sorted { $0.server < $1.server }
            }
            self.loop.execute {
                self.comparison.isAsking = false
                self.judge(term, answers)
            }
        }
    }

    private func judge(_ term: Term, _ answers: [(server: ServerID, answer: ComparisonCall.Answer)]) {
        guard isRunning, driver.core.isLeader, driver.core.term == term else { return }
        var notes = answers.filter { !$0.answer.isQuarantined }.map { (server: $0.server, notes: $0.answer.notes) }
        if comparison.quarantine == nil { notes.append((driver.core.id, Array(comparison.notes.all))) }
        let found = Comparison(driver.core.configuration, notes)
        for index in found.compared where index > comparison.status.comparedIndex {
            comparison.status.made += 1
            comparison.status.comparedIndex = index
            if found.undecided == index || found.culprits.contains(where: { $0.index <= index }) {
                comparison.status.differing += 1
            }
        }
        for culprit in found.culprits { accuse(culprit, term) }
        if let index = found.undecided {
            let servers = notes.filter { $0.notes.contains { $0.index == index } }.map { name(of: $0.server) }
            raise(
                """
                The states of \(servers.joined(separator: ", ")) differ at index \(index), and no majority says which is right. \
                Start the servers that are down; if all run, compare them (kontiki export with --endpoint of each and \
                consistency=stale), and replace the one that is wrong: kontiki serve … --rejoin HOST:PORT.
                """
            )
        } else if !found.compared.isEmpty, answers.count + 1 == driver.core.configuration.members.count {
            raise(nil)
        }
    }

    /// Shows a difference that nobody is put in quarantine for.
    private func raise(_ alarm: String?) {
        let alarm = comparison.finding ?? alarm
        guard comparison.status.alarm != alarm else { return }
        comparison.status.alarm = alarm
        if let alarm { logger.error("the replicas differ", metadata: ["what": "\(alarm)"]) }
    }

    private func accuse(_ culprit: Comparison.Culprit, _ term: Term) {
        let isNew = comparison.reported.insert(culprit.server).inserted
        if culprit.server == driver.core.id { return quarantine(culprit.index, culprit.hash, culprit.expected) }
        if isNew {
            logger.error(
                "a server's state differs from that of the majority",
                metadata: ["server": "\(name(of: culprit.server))", "index": "\(culprit.index)"]
            )
        }
        guard let address = address(of: culprit.server) else { return }
        let call = ComparisonCall.differs(
            term: term,
            index: culprit.index,
            hash: culprit.hash,
            expected: culprit.expected
        )
        let transport = self.transport
        // Said again with the next comparison, until the server's answer shows that it has heard.
        Task { _ = try? await transport.control(.call(call.encode()), at: address, timeout: .seconds(1)) }
    }

    // MARK: A server answers

    func answer(_ call: ComparisonCall, from sender: ServerIdentity) -> ControlResponse {
        guard isRunning, sender.clusterID == identity.clusterID else { return .refused("this server is not running") }
        func isLeader(_ term: Term) -> Bool {
            term == driver.core.term && sender.serverID == driver.core.leaderID
        }
        switch call {
        case .notes(let term, let alarm):
            if isLeader(term) { raise(alarm.isEmpty ? nil : alarm) }
            let answer = ComparisonCall.Answer(
                isQuarantined: comparison.quarantine != nil,
                notes: Array(comparison.notes.all)
            )
            return .answer(answer.encode())
        case .differs(let term, let index, let hash, let expected):
            // What the leader says is held against what this server knows itself: it may be about a state that was replaced since.
            if isLeader(term), hash != expected, comparison.notes.hash(at: index) == hash {
                quarantine(index, hash, expected)
            }
            return .answer([])
        }
    }

    // MARK: Quarantine

    private func quarantine(_ index: LogIndex, _ hash: [UInt8], _ expected: [UInt8]) {
        guard comparison.quarantine == nil else { return }
        let quarantine = Quarantine(
            index: index,
            ownHash: hash.hexadecimal,
            expectedHash: expected.hexadecimal,
            reason: "At index \(index) this server's state differs from the one that a majority of the servers has."
        )
        comparison.quarantine = quarantine
        comparison.publish(on: board)
        logger.critical(
            "this server's state is wrong: it is in quarantine, answers no reads and will not lead",
            metadata: [
                "why": "\(quarantine)", "own": "\(quarantine.ownHash)", "expected": "\(quarantine.expectedHash)",
            ]
        )
        step([.mayLead(false)])
        let directory = options.directory
        queue(on: reader) {
            let result = Result { try quarantine.store(directory) }
            self.loop.execute {
                guard case .failure(let error) = result else { return }
                // A restart must not forget it, so there must be none that does.
                self.fail("the quarantine of this server cannot be written down: \(error)")
            }
        }
    }

    // MARK: The own state

    /// Has the hash recomputed from what is stored: after the start, and then every day.
    private func verifyWhenDue() {
        guard let bytesPerSecond = options.verificationBytesPerSecond, driver.ticks >= comparison.nextVerificationTick,
            !comparison.isVerifying
        else { return }
        comparison.isVerifying = true
        comparison.nextVerificationTick = driver.ticks + UInt64(86_400_000 / max(1, options.tickMilliseconds))
        let isStopping = comparison.isStopping
        queue(on: verifier) {
            let result = Result {
                try self.machine.verifyState { bytes in
                    Self.pause(microseconds: bytes * 1_000_000 / max(1, bytesPerSecond), unless: isStopping)
                }
            }
            self.loop.execute {
                self.comparison.isVerifying = false
                if self.isRunning { self.verified(result) }
            }
        }
    }

    private static func pause(microseconds: Int, unless stop: ComparisonState.StopFlag) -> Bool {
        var rest = microseconds
        while rest > 0, !stop.isSet {
            usleep(UInt32(min(rest, 50_000)))
            rest -= 50_000
        }
        return !stop.isSet
    }

    /// The hash was recomputed. A difference is for the comparison to judge, from the notes made from now on.
    func verified(_ result: Result<StateVerification, any Error>) {
        switch result {
        case .success(.sound): comparison.status.verifications += 1
        // Asked for again soon: a snapshot was installed meanwhile, say.
        case .success(.interrupted): comparison.nextVerificationTick = driver.ticks + 500
        case .success(.differs(let what)):
            comparison.status.verifications += 1
            comparison.notes.removeAll()
            comparison.finding = "This server's stored state is not what applying the log made of it: \(what)"
            raise(nil)
        case .failure(let error):
            comparison.finding = "This server's state cannot be read: \(error)"
            raise(nil)
        }
    }
}
