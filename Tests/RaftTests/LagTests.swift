import RaftDriver
import Testing

@testable import Raft

/// How far a server is behind its leader, and whether others may count on it.
@Suite("Lag")
struct LagTests {
    private static var options: DriverOptions {
        var options = DriverBench.tight
        options.readyLag = 5
        options.keptLag = 20
        return options
    }

    /// A heartbeat of leader 2, which holds this server's log to be up to date as far as `commit`.
    private func hear(_ bench: inout DriverBench, _ log: LeaderLog?, commit: LogIndex = 0) {
        bench.receive(2, .heartbeat(Heartbeat(commit: commit, session: 99, round: 0, leaderLog: log)))
        bench.step(.tick)
    }

    @Test("A follower that was told of no commit knows how far the leader is, and does not keep up")
    func behind() {
        var follower = DriverBench(options: Self.options)
        #expect(follower.driver.lag == nil)
        hear(&follower, LeaderLog(last: 9_009, commit: 9_009))
        #expect(follower.core.commitIndex == 1)
        #expect(follower.driver.lag == 9_008)
        #expect(!follower.driver.keepsUp)
    }

    @Test("It keeps up from when it is close, and until it is far: a loaded one does not flap")
    func hysteresis() {
        var follower = DriverBench(options: Self.options)
        hear(&follower, LeaderLog(last: 7, commit: 7))
        #expect(!follower.driver.keepsUp, "6 are lacking")
        hear(&follower, nil)
        var entries: [Entry] = []
        for index in 2...6 as ClosedRange<LogIndex> { entries.append(command(index, 1)) }
        follower.append(behind: position(1, 1), entries)
        follower.persist()
        hear(&follower, nil)
        #expect(follower.driver.lag == 6 && !follower.driver.keepsUp, "6 are committed, and none of them applied")
        hear(&follower, nil, commit: 6)
        follower.applied(entries)
        hear(&follower, nil)
        #expect(follower.driver.lag == 1 && follower.driver.keepsUp)
        hear(&follower, LeaderLog(last: 26, commit: 26))
        #expect(follower.driver.lag == 20 && follower.driver.keepsUp)
        hear(&follower, LeaderLog(last: 27, commit: 26))
        #expect(follower.driver.lag == 21 && !follower.driver.keepsUp)
    }

    @Test("What is not durable here is lacking, also in a leader's own log")
    func notDurable() {
        var follower = DriverBench(options: Self.options)
        hear(&follower, LeaderLog(last: 2, commit: 1))
        #expect(follower.driver.lag == 1)
        follower.append(behind: position(1, 1), [command(2, 1)])
        #expect(follower.driver.lag == 1)
        follower.persist()
        #expect(follower.driver.lag == 0)
        var bench = Bench()
        bench.lead()
        var leader = DriverBench(bench, options: Self.options)
        leader.step(.tick)
        #expect(leader.driver.lag == 0 && leader.driver.keepsUp)
        leader.step(.propose((1...30).map { Proposal(token: $0, command: [1]) }))
        leader.step(.tick)
        #expect(leader.driver.lag == 30 && !leader.driver.keepsUp)
    }

    @Test("While a snapshot is loaded, or no leader is known, nobody may count on it")
    func neither() {
        var follower = DriverBench(options: Self.options)
        hear(&follower, LeaderLog(last: 1, commit: 1))
        #expect(follower.driver.keepsUp)
        var silent = follower
        for _ in 0...(2 * silent.core.options.electionTicks) { silent.step(.tick) }
        #expect(silent.driver.lag == nil && !silent.driver.keepsUp)
        let base = LogBase(position: position(4, 1), configuration: configuration([1, 2, 3]))
        follower.act { $0.snapshotReceived(base, bytes: 1, from: server(2), into: &$1) }
        follower.persist()
        hear(&follower, LeaderLog(last: 4, commit: 4))
        #expect(!follower.driver.keepsUp)
        follower.step(.restored(4))
        hear(&follower, LeaderLog(last: 4, commit: 4))
        #expect(follower.driver.lag == 0 && follower.driver.keepsUp)
    }
}
