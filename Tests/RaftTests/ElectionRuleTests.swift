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
}
