import Testing

@testable import Raft

@Suite struct SnapshotRuleTests {
    private func base(_ index: LogIndex, _ term: Term, _ voters: [Int] = [1, 2, 3]) -> LogBase {
        LogBase(position: position(index, term), configuration: configuration(voters))
    }

    @Test("R37: a snapshot at or below the commit index is ignored, and the leader learns where the follower stands")
    func oldSnapshot() {
        var follower = Bench(terms: [1, 1, 1])
        follower.heartbeat(commit: 3)
        for index in [LogIndex(2), 3] {
            let effects = follower.step(.snapshotReceived(base(index, 1), from: server(2)))
            #expect(effects.restore == nil && effects.writes.isEmpty)
            #expect(effects.appendResults == [.accepted(match: 3)])
        }
        #expect(follower.core.lastIndex == 4)

        follower.apply()
        follower.step(.compact(upTo: 3))
        let behind = follower.step(.snapshotReceived(base(2, 1), from: server(2)))
        #expect(behind.restore == nil, "the log does not reach back to it any more")
        #expect(follower.core.commitIndex == 3)
    }

    @Test("R38: a snapshot that conflicts with the log replaces it", arguments: [LogIndex(3), 4, 9])
    func conflictingSnapshot(index: LogIndex) {
        var follower = Bench(terms: [1, 1, 1])
        let effects = follower.step(.snapshotReceived(base(index, 2), from: server(2)))
        #expect(effects.restore == base(index, 2))
        #expect(effects.writes.map(\.replaceLog) == [base(index, 2)])
        #expect(follower.core.lastIndex == index && follower.core.firstIndex == index + 1)
        #expect(follower.core.commitIndex == index)
        #expect(effects.appendResults.isEmpty)
        #expect(effects.deferredAppendResults == [.accepted(match: index)], "once it is durable")
    }

    @Test("R38: a snapshot that matches the log keeps what stands behind it")
    func matchingSnapshot() {
        var follower = Bench(terms: [1, 1, 1])
        let effects = follower.step(.snapshotReceived(base(3, 1), from: server(2)))
        #expect(effects.restore == nil)
        #expect(effects.writes.allSatisfy { $0.replaceLog == nil && $0.truncateFrom == nil })
        #expect(follower.core.lastIndex == 4)
        #expect(follower.core.commitIndex == 3)
        #expect(effects.applyUpTo == 3)
    }

    @Test("R43: a candidate whose log a snapshot commits stands back: what is committed may have removed it")
    func candidateCommits() {
        var candidate = Bench(terms: [1, 1, 1])
        candidate.becomeCandidate()
        candidate.step(.snapshotReceived(base(3, 1), from: server(2)))
        #expect(candidate.core.commitIndex == 3)
        #expect(candidate.core.role == .follower)
    }

    @Test("R39: a snapshot replaces the membership, a stale uncommitted one too")
    func membershipOfSnapshot() {
        var follower = Bench()
        let stale = Entry(index: 2, term: 1, payload: .configuration(configuration([1, 2, 3, 4])))
        follower.append(behind: position(1, 1), [stale])
        #expect(follower.core.configuration.contains(server(4)))
        follower.step(.snapshotReceived(base(5, 2, [1, 2, 5]), from: server(2)))
        #expect(follower.core.configuration == configuration([1, 2, 5]))
        #expect(follower.core.configuration(at: 5) == configuration([1, 2, 5]))
    }

    @Test("R40: nothing is applied while a snapshot is installed, and appends go on")
    func appendsDuringInstallation() {
        var follower = Bench()
        follower.step(.snapshotReceived(base(5, 1), from: server(2)))
        let below = follower.append(behind: position(1, 1), [command(2, 1)], commit: 5)
        #expect(below.deferredAppendResults == [.accepted(match: 5)], "below the snapshot: it holds that")
        var effects = follower.append(behind: position(5, 1), [command(6, 1), command(7, 1)], commit: 7)
        #expect(effects.deferredAppendResults == [.accepted(match: 7)])
        effects = follower.persist()
        #expect(effects.applyUpTo == nil)
        #expect(follower.core.commitIndex == 7)
        #expect(follower.step(.snapshotReceived(base(9, 1), from: server(2))).restore == nil, "one at a time")
        #expect(follower.step(.restored(5)).applyUpTo == 7)
        #expect(follower.core.appliedIndex == 5)
    }

    @Test("R40: a server that installs a snapshot does not campaign, nor trim its log")
    func quietDuringInstallation() {
        var follower = Bench()
        follower.step(.snapshotReceived(base(5, 1), from: server(2)))
        follower.persist()
        follower.tick(500)
        #expect(follower.core.role == .follower)
        #expect(follower.receive(2, .timeoutNow).messages.isEmpty)
        #expect(follower.step(.compact(upTo: 5)).writes.isEmpty)
        follower.step(.restored(5))
        follower.tick(2 * follower.core.options.electionTicks)
        #expect(follower.core.role == .preCandidate)
    }

    @Test("R40: a restore that was not asked for is a broken invariant")
    func strangeRestore() {
        var follower = Bench()
        #expect(follower.step(.restored(5)).halt != nil)
        var other = Bench()
        other.step(.snapshotReceived(base(5, 1), from: server(2)))
        #expect(other.step(.restored(4)).halt != nil)
    }

    @Test("A follower behind the log's base is sent one snapshot, and appends when it has it")
    func leaderSendsSnapshots() {
        var leader = Bench(terms: [1, 1, 1])
        leader.lead(committed: false)
        leader.persist()
        leader.acknowledge(2)
        leader.apply()
        leader.step(.compact(upTo: 4))
        let asked = leader.reject(3, at: 4, hint: position(1, 1))
        #expect(asked.snapshotSends == [SnapshotSend(to: server(3), atLeast: 4)])
        #expect(leader.answerHeartbeat(3).snapshotSends.isEmpty, "it is under way")
        #expect(leader.reject(3, at: 4, hint: position(1, 1)).snapshotSends.isEmpty)

        var failed = leader
        failed.step(.snapshotSent(to: server(3), sent: nil))
        failed.tick(failed.core.options.heartbeatTicks)
        #expect(failed.answerHeartbeat(3).snapshotSends.count == 1, "a failed transfer is tried again")

        leader.step(.snapshotSent(to: server(3), sent: 4))
        let done = leader.acknowledge(3, 4)
        #expect(done.orders(to: 3).map(\.previous.index) == [4])
        #expect(done.orders(to: 3).map(\.last) == [5])
    }

    @Test("A follower that waits for a snapshot, or is probed, hears within a heartbeat where the leader's log ends")
    func leaderLogInEveryState() {
        func told(_ effects: Effects, _ number: Int) -> [LeaderLog?] {
            effects.messages.compactMap { outgoing in
                switch outgoing {
                case .append(let order): order.to == server(number) ? order.leaderLog : nil
                case .message(let message):
                    if message.to == server(number), case .heartbeat(let heartbeat) = message.body {
                        heartbeat.leaderLog
                    } else {
                        nil
                    }
                }
            }
        }
        var leader = Bench(terms: [1, 1, 1])
        leader.lead(committed: false)
        leader.persist()
        leader.acknowledge(2)
        leader.apply()
        leader.step(.compact(upTo: 4))
        leader.persist()
        let log = LeaderLog(last: leader.core.lastIndex, commit: leader.core.commitIndex)
        #expect(log.commit == 5)
        // Probed: the empty append says it, and every heartbeat.
        #expect(told(leader.tick(leader.core.options.heartbeatTicks), 3).contains(log))
        #expect(!leader.reject(3, at: 4, hint: position(1, 1)).snapshotSends.isEmpty)
        #expect(told(leader.tick(leader.core.options.heartbeatTicks), 3) == [log])

        // And the follower knows: as long as it hears of that leader.
        var follower = Bench(2)
        #expect(follower.core.leaderLog == nil)
        let far = LeaderLog(last: 900, commit: 800)
        follower.receive(1, term: 2, .heartbeat(Heartbeat(commit: 0, session: 9, round: 0, leaderLog: far)))
        #expect(follower.core.leaderLog == far && follower.core.commitIndex == 1)
        let older = LeaderLog(last: 850, commit: 810)
        let late = Append(previous: .zero, entries: [], commit: 0, session: 9, round: 0, leaderLog: older)
        follower.receive(1, term: 2, .append(late))
        #expect(follower.core.leaderLog == LeaderLog(last: 900, commit: 810), "messages overtake one another")
        var silent = follower
        silent.tick(2 * silent.core.options.electionTicks)
        #expect(silent.core.leaderLog == nil && silent.core.ticksSinceLeader == nil)
        follower.receive(3, term: 3, .heartbeat(Heartbeat(commit: 0, session: 8, round: 0)))
        #expect(follower.core.leaderLog == nil, "another leader, which does not say")
    }

    @Test("A follower that is not heard is sent no snapshot")
    func noSnapshotForTheSilent() {
        var leader = Bench(terms: [1, 1, 1])
        leader.lead(committed: false)
        leader.persist()
        leader.acknowledge(2)
        leader.apply()
        leader.step(.compact(upTo: 4))
        leader.persist()
        var sends = 0
        for _ in 0...(2 * leader.core.options.electionTicks) {
            sends += leader.tick(hearing: 2).snapshotSends.count
        }
        sends += leader.reject(3, at: 4, hint: position(1, 1)).snapshotSends.count
        #expect(sends == 0)
        leader.tick(leader.core.options.heartbeatTicks)
        #expect(leader.answerHeartbeat(3).snapshotSends.count == 1)
    }

    @Test("A fresh server is caught up by a snapshot and the entries behind it", arguments: [UInt64(1), 2, 3])
    func catchUp(seed: UInt64) throws {
        let cluster = try TestCluster(4, voters: 3, seed: seed)
        try cluster.elect(1)
        for _ in 0..<20 {
            try cluster.propose(server(1))
            try cluster.settle()
        }
        try cluster.flush(server(1), snapshot: true)
        try cluster.compact(server(1))
        #expect(cluster[1].firstIndex > 15)
        let token = try cluster.change(server(1), to: configuration([1, 2, 3, 4]))
        try cluster.run(ticks: 20)
        #expect(cluster.tokens[token!] == .done(token!))
        #expect(cluster[4].commitIndex == cluster[1].commitIndex)
        #expect(cluster[4].base.position.index > 0)
        #expect(cluster.server(server(4)).applied == cluster[1].commitIndex)
    }
}
