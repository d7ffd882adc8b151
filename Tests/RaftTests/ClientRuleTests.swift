import Simulation
import Testing

@testable import Raft

// Rules that concern other rooms, and are tested there: R7's transaction and R8's file order (storage, driver), R35 (there are no
// leases), R41 (transfer of snapshots), R46 and R47's checks (storage and transport), R48's idempotency keys (state machine).
@Suite struct ClientRuleTests {
    /// The request that a follower sent on for `token`.
    private func forward(_ token: Token, by follower: inout Bench) throws -> UInt64 {
        let effects = follower.propose(token)
        guard case .propose(let request, _) = try #require(effects.bodies(to: 2).first) else {
            throw Broken("nothing was sent on")
        }
        return request
    }

    @Test("R48: a forwarded command that nobody answers is unknown, not failed")
    func silence() throws {
        var follower = Bench()
        follower.heartbeat()
        _ = try forward(1, by: &follower)
        var outcomes: [Outcome] = []
        for _ in 0..<100 {
            outcomes += follower.tick().outcomes
            follower.heartbeat()
        }
        #expect(outcomes == [.unknown(1, leader: server(2))])
        #expect(!follower.core.awaitsForwardedProposals)
    }

    @Test("R48: so is one whose leader is gone before it answered")
    func leaderGone() throws {
        var follower = Bench()
        follower.heartbeat()
        let request = try forward(1, by: &follower)
        #expect(follower.heartbeat(from: 3, term: 2).outcomes.map(\.token) == [1])
        let late = follower.receive(2, term: 1, .proposeResponse(requestID: request, .accepted(first: position(2, 1))))
        #expect(late.outcomes.isEmpty)
    }

    @Test("A forwarded command is followed to its commit, in whichever order the answers come")
    func forwardedCommit() throws {
        var follower = Bench()
        follower.heartbeat()
        let first = try forward(1, by: &follower)
        let second = try forward(2, by: &follower)
        #expect(first != second)
        let answer = Message.Body.proposeResponse(requestID: first, .accepted(first: position(2, 1)))
        #expect(follower.receive(2, answer).outcomes.isEmpty)
        let entries = [command(2, 1), command(3, 1)]
        #expect(
            follower.append(behind: position(1, 1), entries, commit: 3).outcomes == [.committed(1, at: position(2, 1))]
        )
        let late = Message.Body.proposeResponse(requestID: second, .accepted(first: position(3, 1)))
        #expect(follower.receive(2, late).outcomes == [.committed(2, at: position(3, 1))])
        #expect(follower.receive(2, late).outcomes.isEmpty)
    }

    @Test("A leader appends a follower's commands all or none, and says where")
    func leaderTakesForwarded() {
        var options = Options()
        options.maxUncommittedBytes = 500
        var leader = Bench(options: options)
        leader.lead()
        let next = leader.core.lastIndex + 1
        let taken = leader.receive(3, .propose(requestID: 4, commands: [[1], [2]]))
        let accepted = Message.Body.proposeResponse(requestID: 4, .accepted(first: position(next, 2)))
        #expect(taken.bodies(to: 3) == [accepted])
        #expect(leader.core.lastIndex == next + 1)
        let refused = leader.receive(3, .propose(requestID: 5, commands: [[1], [UInt8](repeating: 2, count: 500)]))
        #expect(refused.bodies(to: 3) == [.proposeResponse(requestID: 5, .overloaded)])
        #expect(leader.core.lastIndex == next + 1)
    }

    @Test("A forwarded command that the leader has no room for is overloaded, which is not the same as no leader")
    func overloadedLeader() throws {
        var follower = Bench()
        follower.heartbeat()
        let request = try forward(1, by: &follower)
        let answer = follower.receive(2, .proposeResponse(requestID: request, .overloaded))
        #expect(answer.outcomes == [.rejected(1, .overloaded, leader: server(2))])
        #expect(!follower.core.awaitsForwardedProposals)
        #expect(follower.receive(2, .proposeResponse(requestID: request, .overloaded)).outcomes.isEmpty)
    }

    @Test("Who does not lead refuses forwarded commands without a word of overload")
    func forwardedToFollower() {
        var options = Options()
        options.maxUncommittedBytes = 1
        var follower = Bench(options: options)
        follower.heartbeat()
        let refused = follower.receive(3, term: 1, .propose(requestID: 5, commands: [[1], [2]]))
        #expect(refused.bodies(to: 3) == [.proposeResponse(requestID: 5, .rejected(leader: server(2)))])
    }

    @Test("R48: a command is superseded only when another entry is committed in its place")
    func superseded() {
        var leader = Bench()
        leader.lead()
        leader.propose(1)
        let place = leader.core.lastIndex
        let truncated = leader.append(from: 3, term: 5, behind: position(place - 1, 2), [command(place, 5)])
        #expect(truncated.writes.contains { $0.truncateFrom == place })
        #expect(truncated.outcomes.isEmpty, "truncated here, it may still be committed elsewhere")
        let before = leader.heartbeat(from: 3, term: 5, commit: place - 1)
        #expect(before.outcomes.isEmpty, "what is committed now stands before its place")
        let committed = leader.heartbeat(from: 3, term: 5, commit: place)
        #expect(committed.outcomes == [.rejected(1, .superseded, leader: server(3))])
    }

    @Test("R48: or when a committed entry of a later term stands before its place")
    func supersededByTerm() {
        var leader = Bench()
        leader.lead()
        leader.propose(1)
        leader.propose(2)
        let place = leader.core.lastIndex - 1
        let commit = leader.append(from: 3, term: 5, behind: position(place - 1, 2), [command(place, 5)], commit: place)
        #expect(
            commit.outcomes == [
                .rejected(1, .superseded, leader: server(3)), .rejected(2, .superseded, leader: server(3)),
            ]
        )
    }

    @Test("R48: what an installed snapshot swallowed is unknown")
    func swallowed() {
        var leader = Bench()
        leader.lead()
        leader.propose(1)
        leader.heartbeat(from: 3, term: 5)
        let base = LogBase(position: position(50, 5), configuration: configuration([1, 2, 3]))
        let effects = leader.step(.snapshotReceived(base, from: server(3)))
        #expect(effects.outcomes == [.unknown(1, leader: server(3))])
    }

    @Test("A command that survives a change of leader is committed after all, once")
    func survives() throws {
        let cluster = try TestCluster(3)
        try cluster.elect(1)
        let token = try cluster.propose(server(1))[0]
        try cluster.persist(server(1))
        try cluster.deliver()
        try cluster.persist(server(2))
        cluster.isolate(1)
        for _ in 0..<100 where !cluster[2].isLeader {
            try cluster.step(2, .tick)
            try cluster.step(3, .tick)
            for number in [2, 3] { try cluster.persist(server(number)) }
            try cluster.deliver()
        }
        cluster.heal()
        try cluster.run(ticks: 50)
        guard case .committed = try #require(cluster.tokens[token]) else {
            Issue.record("\(cluster.tokens[token]!)")
            return
        }
    }

    @Test("A command without a leader is rejected at once")
    func noLeader() {
        var follower = Bench()
        #expect(follower.propose(1).outcomes == [.rejected(1, .noLeader, leader: nil)])
    }
}
