import Simulation
import Testing

@testable import Raft

@Suite struct ElectionRuleTests {
    @Test("R11: a candidate that finds a leader in its term keeps its vote")
    func candidateKeepsItsVote() {
        var candidate = Bench()
        candidate.becomeCandidate()
        candidate.persist()
        let effects = candidate.heartbeat(from: 2)
        #expect(candidate.core.role == .follower)
        #expect(candidate.core.hardState == HardState(term: 2, vote: server(1)))
        #expect(effects.writes.isEmpty)
    }

    @Test("R11: a leader that steps down votes for nobody else in that term")
    func leaderKeepsItsVote() {
        var leader = Bench()
        leader.lead()
        leader.tick(leader.core.options.electionTicks + 1)
        #expect(leader.core.role == .follower)
        leader.receive(3, .voteRequest(VoteRequest(last: position(100, 100))))
        #expect(leader.core.hardState == HardState(term: 2, vote: server(1)))
    }

    @Test("A vote that was given is given again to the same server and to no other")
    func oneVoteATerm() {
        var voter = Bench()
        let request = Message.Body.voteRequest(VoteRequest(last: position(100, 100)))
        voter.receive(2, term: 2, request)
        voter.persist()
        #expect(voter.receive(2, term: 2, request).sent.map(\.body) == [.voteResponse(granted: true)])
        #expect(voter.receive(3, term: 2, request).sent.map(\.body) == [.voteResponse(granted: false)])
    }

    @Test(
        "R12: a log is as up to date as its last term, and then its length",
        arguments: [
            (position(9, 1), false), (position(3, 2), false), (position(4, 2), true), (position(5, 2), true),
            (position(1, 3), true), (position(0, 0), false),
        ]
    )
    func upToDate(last: LogPosition, isGranted: Bool) {
        var voter = Bench(term: 2, terms: [1, 1, 2])  // ends at 4@2
        let effects = voter.receive(2, term: 3, .voteRequest(VoteRequest(last: last)))
        #expect(effects.bodies(to: 2) == [.voteResponse(granted: isGranted)])
        var asked = Bench(term: 2, terms: [1, 1, 2])
        let pre = asked.receive(2, term: 3, .preVoteRequest(VoteRequest(last: last)))
        #expect(pre.bodies(to: 2) == [.preVoteResponse(granted: isGranted)])
    }

    @Test("R13: a pre-vote changes nothing in its receiver", arguments: [position(100, 100), position(0, 0)])
    func preVoteChangesNothing(last: LogPosition) {
        var voter = Bench(term: 3, vote: 3, terms: [1])
        for term in [Term(2), 3, 4, 50] {
            let before = voter.core
            let effects = voter.receive(2, term: term, .preVoteRequest(VoteRequest(last: last)))
            #expect(voter.core == before)
            #expect(effects.writes.isEmpty)
        }
    }

    @Test("R13: a rejected pre-vote tells its own higher term, and the asker obeys")
    func preVoteRejection() throws {
        var voter = Bench(term: 9)
        let effects = voter.receive(2, term: 2, .preVoteRequest(VoteRequest(last: position(100, 100))))
        let answer = try #require(effects.sent.first)
        #expect(answer.term == 9 && answer.body == .preVoteResponse(granted: false))

        var asker = Bench()
        asker.becomePreCandidate()
        asker.receive(2, term: 9, .preVoteResponse(granted: false))
        #expect(asker.core.term == 9 && asker.core.role == .follower)
    }

    @Test("R13: a server that hears its leader grants no pre-vote, and a vote only on the leader's order")
    func leaderIsProtected() {
        var voter = Bench()
        voter.heartbeat(from: 2)
        let request = VoteRequest(last: position(100, 100))
        #expect(voter.receive(3, term: 2, .preVoteRequest(request)).bodies(to: 3) == [.preVoteResponse(granted: false)])
        #expect(voter.receive(3, term: 2, .voteRequest(request)).isEmpty)
        #expect(voter.core.term == 1)
        let ordered = VoteRequest(last: position(100, 100), isTransfer: true)
        #expect(voter.receive(3, term: 2, .voteRequest(ordered)).bodies(to: 3) == [.voteResponse(granted: true)])
    }

    @Test("R13: a pre-candidate counts no late grant of an earlier term")
    func latePreVote() {
        var asker = Bench(term: 5)
        asker.becomePreCandidate()
        asker.receive(2, term: 5, .preVoteResponse(granted: true))
        #expect(asker.core.role == .preCandidate)
        asker.receive(2, term: 6, .preVoteResponse(granted: true))
        #expect(asker.core.role == .candidate)
    }

    @Test("R14: the election timeout is drawn at each reset and stays between resets")
    func timeoutIsDrawnAtResets() {
        var follower = Bench()
        var drawn: Set<UInt64> = []
        let shortest = follower.core.options.electionTicks
        for _ in 0..<100 {
            follower.heartbeat(from: 2)
            let timeout = follower.core.electionTimeout
            drawn.insert(timeout)
            #expect(timeout >= shortest && timeout < 2 * shortest)
            for _ in 0..<(shortest - 1) {
                follower.tick()
                #expect(follower.core.electionTimeout == timeout)
            }
            #expect(follower.core.role == .follower)
        }
        #expect(drawn.count > Int(shortest) / 2)
    }

    @Test("R15: a learner that is asked for a vote answers by the log rule")
    func learnerVotes() {
        var learner = Bench(3, configuration([1, 2], learners: [3]), terms: [1])
        let request = VoteRequest(last: position(2, 1))
        #expect(
            learner.receive(1, term: 2, .preVoteRequest(request)).bodies(to: 1) == [.preVoteResponse(granted: true)]
        )
        #expect(learner.receive(1, term: 2, .voteRequest(request)).bodies(to: 1) == [.voteResponse(granted: true)])
        let behind = VoteRequest(last: position(1, 1))
        #expect(learner.receive(2, term: 3, .voteRequest(behind)).bodies(to: 2) == [.voteResponse(granted: false)])
    }

    @Test("R15: a learner forgets a silent leader, at any later time")
    func learnerForgetsTheLeader() {
        var learner = Bench(3, configuration([1, 2], learners: [3]))
        learner.heartbeat(from: 1)
        learner.tick(2 * learner.core.options.electionTicks)
        for _ in 0..<100 {
            learner.tick()
            var asked = learner
            let effects = asked.receive(2, term: 2, .preVoteRequest(VoteRequest(last: position(9, 1))))
            #expect(effects.bodies(to: 2) == [.preVoteResponse(granted: true)])
        }
    }

    @Test("R16: a server campaigns by its latest appended membership, committed or not")
    func latestMembership() {
        var learner = Bench(3, configuration([1, 2], learners: [3]))
        learner.tick(500)
        #expect(learner.core.role == .follower)
        let promoted = Entry(index: 2, term: 1, payload: .configuration(configuration([1, 2, 3])))
        learner.append(from: 2, behind: position(1, 1), [promoted])
        learner.persist()
        learner.tick(2 * learner.core.options.electionTicks)
        #expect(learner.core.role == .preCandidate)
    }

    @Test("R16: a server whose removal is committed does not campaign")
    func removedServer() {
        var removed = Bench(3)
        let removal = Entry(index: 2, term: 1, payload: .configuration(configuration([1, 2])))
        removed.append(from: 2, behind: position(1, 1), [removal], commit: 2)
        removed.persist()
        removed.tick(500)
        #expect(removed.core.role == .follower)
    }

    @Test("R16: until its removal is committed a server campaigns, but does not count itself")
    func serverAboutToLeave() {
        var leaving = Bench(3)
        let removal = Entry(index: 2, term: 1, payload: .configuration(configuration([1, 2])))
        leaving.append(from: 2, behind: position(1, 1), [removal])
        leaving.persist()
        leaving.tick(2 * leaving.core.options.electionTicks)
        #expect(leaving.core.role == .preCandidate)
        leaving.receive(1, term: 2, .preVoteResponse(granted: true))
        #expect(leaving.core.role == .preCandidate, "one of two is no majority")
        leaving.receive(2, term: 2, .preVoteResponse(granted: true))
        leaving.persist()
        leaving.receive(1, .voteResponse(granted: true))
        #expect(leaving.core.role == .candidate)
        leaving.receive(2, .voteResponse(granted: true))
        #expect(leaving.core.isLeader)
    }

    @Test("R16: a cluster whose only long log is the leaving leader's elects again")
    func leavingLeaderIsNeeded() throws {
        let cluster = try TestCluster(2)
        try cluster.elect(1)
        let target = configuration([2])
        try cluster.change(server(1), to: target)
        // Everything but the last entry arrives: server 1 holds its removal alone, and loses leadership.
        while cluster[1].configuration.isJoint || cluster[1].configuration.isVoter(server(1)) {
            try cluster.persist(server(1))
            try cluster.persist(server(2))
            try cluster.deliver()
        }
        cluster.network = []
        for server in cluster.servers {
            try cluster.persist(server.id)
            try cluster.crash(server.id)
            try cluster.start(server.id)
        }
        for _ in 0..<500 {
            for server in cluster.servers { try cluster.step(server.id, [.tick]) }
            try cluster.settle()
        }
        #expect(cluster[2].isLeader)
        #expect(cluster[2].configuration == target)
    }

    @Test("R17: a leader without a quorum of recent contacts stops all leader traffic")
    func quorumIsChecked() {
        var leader = Bench(1, configuration([1, 2, 3, 4, 5]))
        leader.lead()
        for _ in 0...leader.core.options.electionTicks {
            leader.tick()
            leader.answerHeartbeat(2)
        }
        #expect(leader.core.role == .follower, "two of five are in contact")
        let later = leader.step(.tick)
        #expect(later.orders.isEmpty && later.heartbeats(to: 2).isEmpty)
    }

    @Test("R17: a quorum of contacts keeps a leader, a joint configuration needs both")
    func contactKeepsALeader() {
        var leader = Bench(1, configuration([1, 2, 3]))
        leader.lead()
        for _ in 0..<200 {
            leader.tick()
            leader.answerHeartbeat(2)
        }
        #expect(leader.core.isLeader)
        leader.step(.changeMembership(1, to: configuration([1, 4, 5])))
        leader.persist()
        for _ in 0...(2 * leader.core.options.electionTicks) {
            leader.tick()
            leader.answerHeartbeat(2)
        }
        #expect(!leader.core.isLeader, "4 and 5 never answered")

        var mirrored = Bench()
        mirrored.lead()
        mirrored.step(.changeMembership(1, to: configuration([1, 4, 5])))
        mirrored.persist()
        for _ in 0...(2 * mirrored.core.options.electionTicks) {
            mirrored.tick()
            mirrored.answerHeartbeat(4)
            mirrored.answerHeartbeat(5)
        }
        #expect(!mirrored.core.isLeader, "2 and 3 never answered")
    }

    @Test("R17: a leader that is heard but cannot hear is replaced", arguments: [UInt64(1), 2, 3])
    func oneWayPartition(seed: UInt64) throws {
        let cluster = try TestCluster(3, seed: seed)
        try cluster.elect(1)
        cluster.block(2, 1)
        cluster.block(3, 1)
        try cluster.run(ticks: 200)
        #expect(!cluster[1].isLeader)
        #expect(cluster[2].isLeader || cluster[3].isLeader)
    }

    @Test("R17: a bridge between two halves sees one leader that commits", arguments: [UInt64(1), 2, 3])
    func bridge(seed: UInt64) throws {
        let cluster = try TestCluster(5, seed: seed)
        try cluster.elect(1)
        for left in [1, 2] {
            for right in [4, 5] {
                cluster.block(left, right)
                cluster.block(right, left)
            }
        }
        try cluster.run(ticks: 200)
        let before = cluster.invariants.highestCommit
        for number in 1...5 where cluster[number].isLeader { try cluster.propose(server(number)) }
        try cluster.settle()
        #expect(cluster.invariants.highestCommit > before)
    }

    @Test("R18: rejections and answers of another term are no contact")
    func noContact() {
        var leader = Bench()
        leader.lead()
        for _ in 0...leader.core.options.electionTicks {
            leader.tick()
            leader.reject(2, at: 1, hint: .zero)
            let session = leader.core.progress(server(3))?.session ?? 0
            leader.receive(3, term: 1, .heartbeatResponse(HeartbeatResponse(session: session, round: 0)))
            leader.receive(3, .heartbeatResponse(HeartbeatResponse(session: session &+ 1, round: 0)))
        }
        #expect(leader.core.role == .follower)
    }

    @Test(
        "R18: a higher term in any answer is obeyed",
        arguments: [
            Message.Body.appendResponse(AppendResponse(result: .accepted(match: 2), session: 1, round: 0)),
            .heartbeatResponse(HeartbeatResponse(session: 1, round: 0)), .voteResponse(granted: false),
            .preVoteResponse(granted: false), .readIndexRequest(requestID: 1),
        ]
    )
    func higherTerm(body: Message.Body) {
        var leader = Bench()
        leader.lead()
        leader.receive(3, term: 8, body)
        #expect(leader.core.role == .follower)
        #expect(leader.core.hardState == HardState(term: 8))
    }

    @Test("R18: who leads in the past is told the present term")
    func staleLeader() {
        var follower = Bench(term: 8)
        #expect(follower.append(term: 3, behind: .zero).sent.map(\.term) == [8])
        #expect(follower.heartbeat(term: 3).sent.map(\.term) == [8])
        #expect(follower.core.leaderID == nil)
    }

    @Test("R19: a leader whose disk stalls beyond the election timeout gives up and does not campaign")
    func stalledDisk() {
        var leader = Bench()
        leader.lead()
        leader.propose(1)
        for _ in 0...(leader.core.options.electionTicks + 1) {
            leader.tick()
            leader.answerHeartbeat(2)
            leader.answerHeartbeat(3)
        }
        #expect(leader.core.role == .follower)
        #expect(leader.core.isStorageStalled)
        leader.tick(200)
        #expect(leader.core.role == .follower)
        leader.persist()
        leader.tick(2 * leader.core.options.electionTicks)
        #expect(leader.core.role == .preCandidate)
    }

    @Test("R19: a leader whose disk stalls and who is the only voter leads on, and reads go on")
    func stalledDiskOfOnlyVoter() {
        var leader = Bench(1, configuration([1]))
        leader.lead()
        leader.propose(1)
        leader.tick(5 * leader.core.options.electionTicks)
        #expect(leader.core.isStorageStalled)
        #expect(leader.core.role == .leader)
        #expect(leader.step(.read([7])).outcomes == [.readReady(7, index: leader.core.commitIndex)])
        #expect(leader.persist().outcomes.map(\.token) == [1])
    }

    @Test("R19: who has a stalled disk does not campaign when the leader asks for it either")
    func stalledDiskRefusesLeadership() {
        var follower = Bench()
        follower.append(behind: position(1, 1), [command(2, 1)])
        follower.tick(2 * follower.core.options.electionTicks)
        follower.heartbeat()
        let term = follower.core.term
        follower.receive(2, .timeoutNow)
        #expect(follower.core.term == term)
        #expect(follower.core.role == .follower)
    }

    @Test("R19: a leader that may not lead any more hands leadership over, and takes it neither by time nor by wish")
    func barredLeader() {
        var leader = Bench()
        leader.lead()
        leader.acknowledge(2, leader.core.lastIndex)
        leader.step(.mayLead(false))
        #expect(leader.tick().bodies(to: 2).contains(.timeoutNow))
        leader.tick(leader.core.options.electionTicks + 1)
        #expect(leader.core.role == .follower)
        let term = leader.core.term
        leader.tick(10 * leader.core.options.electionTicks)
        leader.heartbeat(term: term)
        leader.receive(2, .timeoutNow)
        #expect(leader.core.role == .follower)
        #expect(leader.core.term == term)
        leader.step(.mayLead(true))
        leader.tick(2 * leader.core.options.electionTicks)
        #expect(leader.core.role == .preCandidate)
    }

    @Test("R19: who may not lead any more does not win the election that it had begun")
    func barredCandidate() {
        var asking = Bench()
        asking.becomePreCandidate()
        asking.step(.mayLead(false))
        let term = asking.core.term
        asking.receive(2, term: term + 1, .preVoteResponse(granted: true))
        #expect(asking.core.role == .follower)
        #expect(asking.core.term == term)

        var candidate = Bench()
        candidate.becomeCandidate()
        #expect(candidate.core.role == .candidate)
        candidate.persist()
        candidate.step(.mayLead(false))
        candidate.receive(2, .voteResponse(granted: true))
        #expect(candidate.core.role == .follower)
        // Its vote for itself stays (R11).
        #expect(candidate.core.hardState.vote == candidate.core.id)
    }

    @Test("R19: a leader that may not lead and finds nobody to hand leadership to stands down")
    func barredWithoutSuccessor() {
        var leader = Bench()
        leader.lead()
        leader.propose(1)
        leader.persist()
        // The others are there, but none has caught up.
        leader.step(.mayLead(false))
        for _ in 0..<2 * leader.core.options.electionTicks {
            leader.tick()
            leader.answerHeartbeat(2)
            leader.answerHeartbeat(3)
        }
        #expect(leader.core.role == .follower)
    }

    @Test("R19: a leader that may not lead stands down, however often it is asked to hand leadership over")
    func barredDuringTransfers() {
        var leader = Bench()
        leader.lead()
        leader.acknowledge(2, leader.core.lastIndex)
        leader.step(.transfer(1, to: server(2)))
        leader.step(.mayLead(false))
        // The one under way has its time, and so has the attempt of its own; nobody campaigns.
        var ticks: UInt64 = 0
        while leader.core.isLeader, ticks < 10 * leader.core.options.electionTicks {
            leader.tick()
            ticks += 1
            leader.answerHeartbeat(2)
            leader.answerHeartbeat(3)
            leader.step(.transfer(1 + ticks, to: server(2)))
        }
        #expect(ticks <= 2 * leader.core.options.electionTicks + 2)
    }

    @Test("R19: a leader that would rather not lead hands leadership over when it can, and leads until then")
    func givesWay() {
        var leader = Bench()
        leader.lead()
        leader.propose(1)
        leader.persist()
        leader.step(.giveWay(true))
        for _ in 0..<3 * leader.core.options.electionTicks {
            leader.tick()
            leader.answerHeartbeat(2)
            leader.answerHeartbeat(3)
        }
        #expect(leader.core.isLeader)
        leader.acknowledge(3)
        var asked = false
        for _ in 0..<2 * leader.core.options.electionTicks {
            asked = asked || leader.tick().bodies(to: 3).contains(.timeoutNow)
            leader.answerHeartbeat(2)
            leader.answerHeartbeat(3)
        }
        #expect(asked && leader.core.isLeader)
    }

    @Test("R19: a leader that would rather not lead asks one after the other of those that hold the whole log")
    func asksInTurn() {
        var leader = Bench(1, configuration([1, 2, 3]))
        leader.lead()
        leader.step(.giveWay(true))
        var asked: [ServerID] = []
        for _ in 0..<12 * leader.core.options.electionTicks {
            let effects = leader.tick()
            asked += effects.sent.filter { $0.body == .timeoutNow }.map(\.to)
            leader.answerHeartbeat(2)
            leader.answerHeartbeat(3)
        }
        #expect(asked == [server(2), server(3), server(2)])
    }

    @Test("R19: who would rather not lead declines when asked, and leads where nobody else does")
    func declines() {
        var server = Bench()
        server.step(.giveWay(true))
        server.heartbeat()
        server.receive(2, .timeoutNow)
        #expect(server.core.role == .follower)
        server.becomePreCandidate()
        #expect(server.core.role == .preCandidate)
    }

    @Test("R19: an only voter leads, whatever it is told")
    func onlyVoterLeads() {
        var server = Bench(1, configuration([1]))
        server.step(.mayLead(false), .giveWay(true))
        server.lead()
        server.tick(10 * server.core.options.electionTicks)
        #expect(server.core.isLeader)
    }

    @Test("R20: a leader that becomes a follower keeps what it holds")
    func entriesStay() {
        var leader = Bench()
        leader.lead()
        leader.propose(1)
        leader.persist()
        let last = leader.core.lastIndex
        let effects = leader.heartbeat(from: 3, term: 5)
        #expect(leader.core.lastIndex == last)
        #expect(effects.writes.allSatisfy { $0.truncateFrom == nil })
        let entries = [Entry(index: last + 1, term: 5, payload: .noop)]
        let appended = leader.append(from: 3, behind: position(last, 2), entries)
        #expect(appended.writes.allSatisfy { $0.truncateFrom == nil })
        #expect(leader.core.term(at: last) == 2)
    }
}
