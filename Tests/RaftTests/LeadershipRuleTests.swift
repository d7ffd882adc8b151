import Simulation
import Testing

@testable import Raft

@Suite struct LeadershipRuleTests {
    @Test("R17: a leader without a quorum of recent contacts stops all leader traffic")
    func quorumIsChecked() {
        var leader = Bench(1, configuration([1, 2, 3, 4, 5]))
        leader.lead()
        for _ in 0...leader.core.options.electionTicks {
            leader.tick(hearing: 2)
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
            leader.tick(hearing: 2)
        }
        #expect(leader.core.isLeader)
        leader.step(.changeMembership(1, to: configuration([1, 4, 5])))
        leader.persist()
        for _ in 0...(2 * leader.core.options.electionTicks) {
            leader.tick(hearing: 2)
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
            leader.tick(hearing: 2, 3)
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
            leader.tick(hearing: 2, 3)
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
            leader.tick(hearing: 2, 3)
            ticks += 1
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
            leader.tick(hearing: 2, 3)
        }
        #expect(leader.core.isLeader)
        leader.acknowledge(3)
        var asked = false
        for _ in 0..<2 * leader.core.options.electionTicks {
            let effects = leader.tick(hearing: 2, 3)
            asked = asked || effects.bodies(to: 3).contains(.timeoutNow)
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
            let effects = leader.tick(hearing: 2, 3)
            asked += effects.sent.filter { $0.body == .timeoutNow }.map(\.to)
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
