import Testing

@testable import Raft

@Suite struct ReadRuleTests {
    @Test("R31: no read is answered before an entry of the leader's own term is committed")
    func noReadBeforeTheTermStarts() {
        var leader = Bench(terms: [1, 1])
        leader.lead(committed: false)
        leader.step(.read([1]))
        #expect(leader.core.reads.round == 0)
        leader.persist()
        let committed = leader.acknowledge(2)
        #expect(committed.outcomes.isEmpty, "committed, but this read's round has only begun")
        #expect(committed.heartbeats(to: 2).contains { $0.round == 1 })
        leader.answerHeartbeat(2)
        let applied = leader.apply()
        #expect(applied.outcomes == [.readReady(1, index: 4)])
    }

    @Test("R31: nor on a single server")
    func singleServer() {
        var single = Bench(1, configuration([1]), terms: [1, 1])
        single.lead(committed: false)
        #expect(single.core.isLeader)
        #expect(single.step(.read([1])).outcomes.isEmpty)
        #expect(single.persist().outcomes.isEmpty)
        #expect(single.apply().outcomes == [.readReady(1, index: 4)])
        #expect(single.step(.read([2])).outcomes == [.readReady(2, index: 4)])
    }

    @Test("R32: an answer to an earlier round confirms no later read")
    func roundsAreNotReused() {
        var leader = Bench()
        leader.lead()
        leader.step(.read([1]))
        let first = leader.core.reads.round
        leader.step(.read([2]))
        #expect(leader.core.reads.round == first + 1)
        #expect(leader.answerHeartbeat(2, round: first).outcomes.map(\.token) == [1])
        #expect(leader.answerHeartbeat(2, round: first).outcomes.isEmpty)
        #expect(leader.acknowledge(3, round: first).outcomes.isEmpty)
        #expect(leader.answerHeartbeat(3, round: first + 9).outcomes.isEmpty, "a round that was never begun")
        #expect(leader.answerHeartbeat(3, round: first + 1).outcomes.map(\.token) == [2])
    }

    @Test("R32: rounds are cumulative, and an append's answer confirms as well")
    func cumulativeRounds() {
        var leader = Bench()
        leader.lead()
        leader.step(.read([1]))
        leader.step(.read([2, 3]))
        #expect(leader.acknowledge(2, round: leader.core.reads.round).outcomes.map(\.token) == [1, 2, 3])
    }

    @Test("R32: followers give back the round they were asked with, even when they reject")
    func followersEchoRounds() {
        var follower = Bench()
        #expect(
            follower.heartbeat(round: 7).sent.map(\.body)
                == [.heartbeatResponse(HeartbeatResponse(session: 99, round: 7))]
        )
        let rejected = follower.append(behind: position(5, 1), round: 8).sent.map(\.body)
        let result = AppendResponse.Result.rejected(rejected: 5, hint: position(1, 1))
        #expect(rejected == [.appendResponse(AppendResponse(result: result, session: 99, round: 8))])
    }

    @Test("R33: the commit index is recorded first, then a quorum answers, then the apply is awaited")
    func order() {
        var leader = Bench()
        leader.lead()
        leader.propose(1)
        leader.persist()
        leader.acknowledge(2)
        let index = leader.core.commitIndex
        #expect(leader.step(.read([2])).outcomes.isEmpty)
        leader.propose(3)
        leader.persist()
        leader.acknowledge(2)
        #expect(leader.core.commitIndex == index + 1)
        #expect(leader.answerHeartbeat(2).outcomes.isEmpty, "confirmed, not applied")
        #expect(leader.step(.applied(upTo: index)).outcomes == [.readReady(2, index: index)])

        var applied = Bench()
        applied.lead()
        #expect(applied.step(.read([4])).outcomes.isEmpty, "applied, not confirmed")
    }

    @Test("R33: a follower asks the leader and waits for its own apply")
    func followerRead() throws {
        var follower = Bench()
        follower.heartbeat()
        let asked = follower.step(.read([1]))
        guard case .readIndexRequest(let request) = try #require(asked.bodies(to: 2).first) else {
            Issue.record("no request")
            return
        }
        follower.append(behind: position(1, 1), [command(2, 1), command(3, 1)], commit: 3)
        follower.persist()
        #expect(follower.receive(2, .readIndexResponse(requestID: request &+ 1, index: 1)).outcomes.isEmpty)
        #expect(follower.receive(2, .readIndexResponse(requestID: request, index: 3)).outcomes.isEmpty)
        #expect(follower.step(.applied(upTo: 2)).outcomes.isEmpty)
        #expect(follower.step(.applied(upTo: 3)).outcomes == [.readReady(1, index: 3)])
        #expect(follower.receive(2, .readIndexResponse(requestID: request, index: 3)).outcomes.isEmpty)
    }

    @Test("R33: a leader answers a follower's request after a round of its own")
    func leaderServesFollowers() {
        var leader = Bench()
        leader.lead()
        #expect(leader.receive(3, .readIndexRequest(requestID: 5)).bodies(to: 3).allSatisfy { $0 != nil5 })
        let effects = leader.answerHeartbeat(2)
        #expect(effects.bodies(to: 3) == [.readIndexResponse(requestID: 5, index: leader.core.commitIndex)])
    }

    private let nil5 = Message.Body.readIndexResponse(requestID: 5, index: nil)

    @Test("R34: a read in a joint configuration needs a quorum of both halves")
    func jointQuorum() {
        var leader = Bench()
        leader.lead()
        leader.step(.changeMembership(1, to: configuration([1, 4, 5])))
        leader.step(.read([2]))
        #expect(leader.answerHeartbeat(2).outcomes.isEmpty)
        #expect(leader.answerHeartbeat(3).outcomes.isEmpty)
        #expect(leader.answerHeartbeat(4).outcomes.map(\.token) == [2])
        leader.step(.read([3]))
        #expect(leader.answerHeartbeat(4).outcomes.isEmpty)
        #expect(leader.answerHeartbeat(5).outcomes.isEmpty)
        #expect(leader.answerHeartbeat(2).outcomes.map(\.token) == [3])
    }

    @Test("R34: leaving a joint configuration counts the answers again")
    func leavingJointCountsAgain() {
        var leader = Bench(1, configuration([1, 2]))
        leader.lead()
        leader.step(.changeMembership(1, to: configuration([1])))
        leader.persist()
        leader.step(.read([2]))
        // Server 2 acknowledges the joint configuration with an answer from before the read, and is never heard again.
        let effects = leader.acknowledge(2, round: 0)
        #expect(!leader.core.configuration.isJoint)
        #expect(effects.outcomes.map(\.token) == [2])
    }

    @Test("R34: learners confirm nothing")
    func learnersDoNotCount() {
        var leader = Bench(1, configuration([1, 2, 3], learners: [4, 5]))
        leader.lead()
        leader.step(.read([1]))
        #expect(leader.answerHeartbeat(4).outcomes.isEmpty)
        #expect(leader.answerHeartbeat(5).outcomes.isEmpty)
        #expect(leader.answerHeartbeat(3).outcomes.map(\.token) == [1])
    }

    @Test("R36: lost leadership gives every pending read its outcome")
    func lostLeadership() {
        var leader = Bench()
        leader.lead()
        leader.step(.read([1, 2]))
        leader.receive(3, .readIndexRequest(requestID: 5))
        let effects = leader.heartbeat(from: 2, term: 9)
        #expect(effects.outcomes == [.rejected(1, .noLeader, leader: nil), .rejected(2, .noLeader, leader: nil)])
        #expect(effects.bodies(to: 3) == [nil5])

        var young = Bench()
        young.lead(committed: false)
        young.step(.read([3]))
        #expect(young.heartbeat(from: 2, term: 9).outcomes.map(\.token) == [3])
    }

    @Test("R36: a forwarded read moves on to a new leader, and ends by age where none answers")
    func forwardedReads() {
        var follower = Bench()
        follower.heartbeat(from: 2)
        follower.step(.read([1]))
        follower.heartbeat(from: 3, term: 2)
        let moved = follower.persist()
        #expect(moved.outcomes.isEmpty)
        var outcomes: [Outcome] = []
        for _ in 0...(2 * follower.core.options.electionTicks + 1) {
            outcomes += follower.tick().outcomes
            follower.heartbeat(from: 3)
        }
        #expect(outcomes.map(\.token) == [1])
    }

    @Test("R36: a follower that becomes leader answers its forwarded reads itself")
    func forwarderBecomesLeader() {
        var follower = Bench()
        follower.heartbeat(from: 2)
        follower.tick(follower.core.electionTimeout - 1)
        follower.step(.read([1]))
        follower.lead(committed: false)
        follower.persist()
        follower.acknowledge(2)
        #expect(follower.core.hasCommittedInTerm)
        follower.answerHeartbeat(2)
        #expect(follower.apply().outcomes.map(\.token) == [1])
    }

    @Test("A read without a leader is rejected at once")
    func noLeader() {
        var follower = Bench()
        #expect(follower.step(.read([1])).outcomes == [.rejected(1, .noLeader, leader: nil)])
    }
}
