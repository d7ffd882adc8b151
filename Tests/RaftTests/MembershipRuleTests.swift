import Testing

@testable import Raft

@Suite struct MembershipRuleTests {
    @Test("R42: no change before an entry of the leader's own term is committed")
    func changeNeedsACommit() {
        var leader = Bench()
        leader.lead(committed: false)
        let target = configuration([1, 2, 3, 4])
        #expect(leader.step(.changeMembership(1, to: target)).outcomes == [.rejected(1, .busy, leader: server(1))])
        leader.persist()
        leader.acknowledge(2)
        #expect(leader.step(.changeMembership(2, to: target)).outcomes.isEmpty)
        #expect(leader.core.configuration.isJoint)
    }

    @Test("R42: one change at a time, until the configuration that ends it is committed")
    func oneChangeAtATime() {
        var leader = Bench()
        leader.lead()
        leader.step(.changeMembership(1, to: configuration([1, 2])))
        let busy = Outcome.rejected(2, .busy, leader: server(1))
        #expect(leader.step(.changeMembership(2, to: configuration([1]))).outcomes == [busy])
        leader.persist()
        leader.acknowledge(2)
        #expect(!leader.core.configuration.isJoint, "the second entry, not committed yet")
        #expect(leader.step(.changeMembership(2, to: configuration([1]))).outcomes == [busy])
        leader.persist()
        #expect(leader.acknowledge(2).outcomes == [.done(1)])
        #expect(leader.step(.changeMembership(3, to: configuration([1]))).outcomes.isEmpty)
    }

    @Test("R42: a server that leads no more says who does, and the change is unknown")
    func changeAndLostLeadership() {
        var leader = Bench()
        leader.lead()
        leader.step(.changeMembership(1, to: configuration([1, 2])))
        #expect(leader.heartbeat(from: 3, term: 9).outcomes == [.unknown(1, leader: nil)])
        let refused = leader.step(.changeMembership(2, to: configuration([1, 2])))
        #expect(refused.outcomes == [.rejected(2, .noLeader, leader: server(3))])
    }

    @Test("A target without voters, or that names a server twice, is invalid")
    func invalidTargets() {
        var leader = Bench()
        leader.lead()
        let twice = Configuration(voters: [TestCluster.member(1), TestCluster.member(1)])
        let nobody = Configuration(voters: [Member(id: ServerID(0), name: "", peerAddress: "")])
        for target in [Configuration.empty, configuration([], learners: [1, 2]), twice, nobody] {
            #expect(
                leader.step(.changeMembership(1, to: target)).outcomes == [.rejected(1, .invalid, leader: server(1))]
            )
        }
    }

    @Test("A joint configuration decides by majorities of both halves")
    func jointCommit() {
        var leader = Bench()
        leader.lead()
        leader.step(.changeMembership(1, to: configuration([1, 4, 5])))
        leader.persist()
        let joint = leader.core.lastIndex
        leader.acknowledge(2)
        leader.acknowledge(3)
        #expect(leader.core.commitIndex < joint, "all of the old, one of the new")
        leader.acknowledge(4)
        #expect(leader.core.commitIndex == joint)
        #expect(leader.core.configuration == configuration([1, 4, 5]))
    }

    @Test("R43: a removed leader leads until its removal is committed, without counting itself")
    func removedLeader() {
        var leader = Bench()
        leader.lead()
        leader.step(.changeMembership(1, to: configuration([2, 3])))
        leader.persist()
        leader.acknowledge(2)
        #expect(
            leader.core.isLeader,
            "the joint configuration is committed by 1 and 2 of the old, but 2 alone of the new"
        )
        leader.acknowledge(3)
        leader.persist()
        #expect(leader.core.configuration == configuration([2, 3]))
        leader.acknowledge(2)
        #expect(leader.core.isLeader, "one of two")
        let last = leader.core.lastIndex
        let effects = leader.acknowledge(3)
        #expect(leader.core.role == .follower)
        #expect(leader.core.commitIndex == last)
        #expect(effects.outcomes == [.done(1)])
        #expect(effects.heartbeats(to: 2).map(\.commit) == [last], "the others learn the commit first")
        #expect(effects.heartbeats(to: 3).map(\.commit) == [last])
        #expect(effects.sent.last?.body == .timeoutNow, "and one of them is asked to take over")
    }

    @Test("R43: a cluster goes on after its leader removed itself", arguments: [UInt64(1), 2, 3])
    func clusterWithoutItsLeader(seed: UInt64) throws {
        let cluster = try TestCluster(3, seed: seed)
        try cluster.elect(1)
        let token = try cluster.change(server(1), to: configuration([2, 3]))
        try cluster.run(ticks: 3)
        #expect(cluster.tokens[token!] == .done(token!))
        #expect(!cluster[1].isLeader)
        #expect(cluster[2].isLeader || cluster[3].isLeader, "at once, by the order of the old leader")
        #expect(cluster[2].commitIndex >= cluster[1].commitIndex && cluster[3].commitIndex >= cluster[1].commitIndex)
        try cluster.run(ticks: 200)
        #expect(cluster[1].role == .follower, "the removed server does not disturb")
    }

    @Test("R43: commands behind a leader's own removal end as unknown")
    func commandsOfARemovedLeader() {
        var leader = Bench()
        leader.lead()
        leader.change(1, to: configuration([2, 3]), committedBy: [2])
        leader.acknowledge(3)
        leader.persist()
        leader.acknowledge(2)
        leader.propose(5)
        let removal = leader.core.log.configurationIndex
        let effects = leader.acknowledge(3, removal)
        #expect(effects.outcomes.contains(.unknown(5, leader: nil)))
    }

    @Test("R43: a removed follower that does not answer is told for a while, and then forgotten")
    func silentRemovedFollower() {
        var leader = Bench()
        leader.lead()
        leader.change(1, to: configuration([1, 2]), committedBy: [2])
        #expect(leader.core.log.configurationIndex <= leader.core.commitIndex)
        leader.tick()
        #expect(leader.core.replication.map(\.id) == [server(2), server(3)])
        for _ in 0..<(5 * leader.core.options.electionTicks) {
            leader.tick(hearing: 2)
        }
        #expect(leader.core.replication.map(\.id) == [server(2)])
    }

    @Test("R43: a removed follower is told so before it is forgotten")
    func removedFollower() throws {
        let cluster = try TestCluster(3)
        try cluster.elect(1)
        try cluster.change(server(1), to: configuration([1, 2]))
        try cluster.run(ticks: 20)
        #expect(cluster[3].configuration == configuration([1, 2]))
        #expect(cluster[3].commitIndex == cluster[1].commitIndex)
        #expect(cluster[1].peers.map(\.id) == [server(2)])
    }

    @Test("R44: a joint configuration found at start is honoured in elections")
    func jointElection() {
        let joint = configuration([1, 2, 3]).joint(to: configuration([1, 4, 5]))
        var candidate = Bench(1, joint)
        candidate.becomePreCandidate()
        candidate.receive(2, term: 2, .preVoteResponse(granted: true))
        candidate.receive(3, term: 2, .preVoteResponse(granted: true))
        #expect(candidate.core.role == .preCandidate)
        candidate.receive(4, term: 2, .preVoteResponse(granted: true))
        #expect(candidate.core.role == .candidate)
        candidate.persist()
        candidate.receive(4, .voteResponse(granted: true))
        candidate.receive(5, .voteResponse(granted: true))
        #expect(candidate.core.role == .candidate)
        candidate.receive(3, .voteResponse(granted: true))
        #expect(candidate.core.isLeader)
    }

    @Test("R44: and left by whoever leads")
    func jointIsLeft() {
        let joint = configuration([1, 2, 3]).joint(to: configuration([1, 4, 5], learners: [2]))
        #expect(joint.learnersNext == [server(2)])
        var leader = Bench(1, joint)
        leader.lead()
        #expect(leader.core.configuration == configuration([1, 4, 5], learners: [2]))
        #expect(leader.core.log.configurationIndex == leader.core.lastIndex)
    }

    // MARK: Transfer

    @Test("R45: the order to take over is sent only when the target holds the whole log")
    func transferAtFullMatch() {
        var leader = Bench()
        leader.lead()
        leader.propose(1)
        #expect(!leader.step(.transfer(2, to: server(3))).bodies(to: 3).contains(.timeoutNow))
        #expect(!leader.acknowledge(3, leader.core.lastIndex - 1).bodies(to: 3).contains(.timeoutNow))
        let ready = leader.acknowledge(3)
        #expect(ready.bodies(to: 3).contains(.timeoutNow))
        #expect(!ready.bodies(to: 2).contains(.timeoutNow))
        #expect(leader.heartbeat(from: 3, term: 3).outcomes.contains(.done(2)))
    }

    @Test("R45: the target skips the pre-vote and is voted for while the leader is still heard")
    func transferSkipsPreVote() {
        var target = Bench()
        target.heartbeat(from: 2)
        let effects = target.receive(2, .timeoutNow)
        #expect(target.core.role == .candidate)
        let request = VoteRequest(last: position(1, 1), isTransfer: true)
        #expect(effects.deferred.map(\.message.body) == [.voteRequest(request), .voteRequest(request)])
        var learner = Bench(3, configuration([1, 2], learners: [3]))
        #expect(learner.receive(2, .timeoutNow).isEmpty, "a learner does not take over")
    }

    @Test("R45: commands are refused during a transfer and taken again when it is given up")
    func abortedTransfer() {
        var leader = Bench()
        leader.lead()
        leader.propose(1)
        leader.step(.transfer(2, to: server(3)))
        #expect(leader.propose(3).outcomes == [.rejected(3, .transferring, leader: server(1))])
        #expect(leader.step(.transfer(4, to: nil)).outcomes == [.rejected(4, .busy, leader: server(1))])
        #expect(leader.step(.changeMembership(5, to: configuration([1]))).outcomes.map(\.token) == [5])
        var outcomes: [Outcome] = []
        for _ in 0..<leader.core.options.electionTicks {
            outcomes += leader.tick(hearing: 2).outcomes
            leader.persist()
        }
        #expect(outcomes == [.rejected(2, .busy, leader: server(1))], "it was never ordered")
        #expect(leader.core.isLeader)
        #expect(leader.propose(6).outcomes.isEmpty)
    }

    @Test("R45: leadership goes to a voter only, and to the best one where nobody is named")
    func transferTargets() {
        var leader = Bench(1, configuration([1, 2, 3], learners: [4]))
        leader.lead()
        for target in [1, 4, 9] {
            let refused = leader.step(.transfer(7, to: server(target)))
            #expect(refused.outcomes == [.rejected(7, .invalid, leader: server(1))])
        }
        leader.propose(1)
        leader.acknowledge(3)
        #expect(leader.step(.transfer(8, to: nil)).bodies(to: 3).contains(.timeoutNow))
    }

    @Test("R45: two transfers in a row have an outcome each")
    func twoTransfers() {
        var leader = Bench()
        leader.lead()
        leader.step(.transfer(1, to: server(2)))
        var outcomes = leader.receive(3, term: 5, .voteResponse(granted: false)).outcomes
        #expect(leader.core.role == .follower)
        leader.persist()
        leader.becomeCandidate()
        leader.persist()
        outcomes += leader.receive(2, .voteResponse(granted: true)).outcomes
        #expect(leader.core.isLeader)
        outcomes += leader.step(.transfer(2, to: server(2))).outcomes
        outcomes += leader.heartbeat(from: 2, term: 50).outcomes
        #expect(outcomes == [.unknown(1, leader: server(1)), .done(2)])
    }

    @Test("R45: a transfer moves leadership without a term of nobody", arguments: [UInt64(1), 2, 3])
    func transferInACluster(seed: UInt64) throws {
        let cluster = try TestCluster(3, seed: seed)
        try cluster.elect(1)
        let term = cluster[1].term
        let token = try cluster.transfer(server(1), to: server(3))
        try cluster.settle()
        #expect(cluster[3].isLeader && cluster[3].term == term + 1)
        #expect(cluster.tokens[token!] == .done(token!))
    }
}
