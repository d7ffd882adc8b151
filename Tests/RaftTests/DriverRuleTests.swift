import RaftDriver
import Testing

@testable import Raft

/// The rules that the driver keeps: what leaves when, what is cached, applied, restored, trimmed and promoted.
@Suite struct DriverRuleTests {
    private static let three = configuration([1, 2, 3])

    private static func base(_ index: LogIndex, _ term: Term) -> LogBase {
        LogBase(position: position(index, term), configuration: three)
    }

    /// A leader of term 2 whose log holds 2…`last` and its first entry behind them, with nothing of it in the cache: appends of it need
    /// storage.
    private static func leader(last: LogIndex) -> DriverBench {
        var bench = Bench(terms: (2...last).map { _ in 1 })
        bench.lead(committed: false)
        bench.persist()
        var driver = DriverBench(bench)
        driver.acknowledge(2, bench.core.lastIndex)
        return driver
    }

    @Test("R2: a reply leaves with the write it waits for, not with an earlier one")
    func replyWaitsForItsWrite() {
        var follower = DriverBench()
        let first = follower.append(behind: position(1, 1), [command(2, 1)])
        let second = follower.append(behind: position(2, 1), [command(3, 1)])
        #expect(first.messages.isEmpty && second.messages.isEmpty)
        #expect(follower.step(.persisted(upTo: first.writes[0].sequence)).acknowledged == [2])
        #expect(follower.step(.persisted(upTo: second.writes[0].sequence)).acknowledged == [3])
    }

    @Test("R6: when the core halts, nothing that the same turn asked for before is done")
    func haltEndsTheTurn() {
        var follower = DriverBench()
        let append = Append(previous: position(1, 1), entries: [command(2, 1)], commit: 0, session: 1, round: 0)
        let message = Message(from: server(2), to: server(1), term: 1, body: .append(append))
        let actions = follower.act { driver, actions in
            driver.step([.message(message)], into: &actions)
            driver.step([.storageFailed("disk on fire")], into: &actions)
        }
        #expect(actions.halt != nil)
        #expect(actions.writes.isEmpty && actions.messages.isEmpty)
    }

    @Test("R6: the driver of a halted core begins nothing of its own any more")
    func haltBeginsNothing() {
        var options = DriverBench.tight
        options.flushTicks = 1
        var follower = DriverBench(Bench(terms: [1, 1], applied: 1), options: options)
        follower.receive(2, .heartbeat(Heartbeat(commit: 2, session: 99, round: 0)))
        follower.fetched(.apply, [command(2, 1)])
        #expect(!follower.applied([command(2, 1)], unflushedBytes: 1).flush)
        var failing = follower
        #expect(follower.step(.tick).flush, "it would be time")
        let failed = failing.step(.storageFailed("disk on fire"), .tick)
        #expect(failed.halt != nil)
        #expect(failed.isIdle)
    }

    @Test("R8: the driver trims the log below the snapshot and below the durable state, whichever is less")
    func trimsBelowBoth() {
        var follower = DriverBench(Bench(terms: [1, 1, 1, 1], applied: 1))
        follower.receive(2, .heartbeat(Heartbeat(commit: 5, session: 99, round: 0)))
        follower.fetched(.apply, (2...5).map { command($0, 1) })
        follower.applied((2...5).map { command($0, 1) })
        let flushed = follower.act { $0.flushed(position(4, 1), into: &$1) }
        #expect(flushed.writes.isEmpty, "durable up to 4, but no snapshot")

        let early = follower.act { $0.snapshotTaken(position(2, 1), durable: position(4, 1), bytes: 1, into: &$1) }
        #expect(early.writes.map(\.trimTo) == [Self.base(2, 1)], "the snapshot lies before the durable state")

        var other = DriverBench(Bench(terms: [1, 1, 1, 1], applied: 1))
        other.receive(2, .heartbeat(Heartbeat(commit: 5, session: 99, round: 0)))
        other.fetched(.apply, (2...5).map { command($0, 1) })
        other.applied((2...5).map { command($0, 1) })
        let late = other.act { $0.snapshotTaken(position(5, 1), durable: position(3, 1), bytes: 1, into: &$1) }
        #expect(late.writes.map(\.trimTo) == [Self.base(3, 1)], "the durable state lies before the snapshot")
    }

    @Test("R10: what is truncated from the log is gone from the cache as well")
    func cacheIsTruncated() {
        var follower = DriverBench()
        follower.append(behind: position(1, 1), [command(2, 1), command(3, 1), command(4, 1)])
        let rewritten = [command(2, 2), command(3, 2)]
        follower.append(from: 3, term: 2, behind: position(1, 1), rewritten, commit: 3)
        #expect(follower.persist().apply == rewritten)
    }

    @Test("R25: an append that an earlier leadership asked for is void, so is one whose entries are not all there")
    func voidAppends() {
        var leader = Self.leader(last: 5)
        let behind = leader.reject(3, at: 5, hint: position(2, 1))
        #expect(behind.fetches.map(\.range) == [3...6])
        var other = leader

        #expect(other.fetched(.append(server(3)), [command(3, 1)]).appends(to: 3).isEmpty, "one of four entries")

        leader.receive(2, term: 9, .heartbeat(Heartbeat(commit: 0, session: 1, round: 0)))
        let entries = (3...5).map { command($0, 1) } + [Entry(index: 6, term: 2, payload: .noop)]
        #expect(leader.fetched(.append(server(3)), entries).appends(to: 3).isEmpty, "it leads no more")
    }

    @Test("R25: appends to one follower keep their order while the first waits for storage")
    func appendsKeepTheirOrder() {
        let entries = (2...5).map { command($0, 1) } + [Entry(index: 6, term: 2, payload: .noop)]
        var leader = Self.leader(last: 5)
        #expect(leader.reject(3, at: 5, hint: position(1, 1)).fetches.map(\.range) == [2...6])
        #expect(leader.fetched(.append(server(3)), entries).appends(to: 3).map(\.previous.index) == [1])
        #expect(leader.acknowledge(3, 2).fetches.map(\.range) == [3...6])
        let proposed = leader.step(.propose([Proposal(token: 1, command: [1])]))
        #expect(proposed.appends(to: 3).isEmpty, "its entry is in the cache, but 3…6 go first")
        let sent = leader.fetched(.append(server(3)), Array(entries.dropFirst()))
        #expect(sent.appends(to: 3).map(\.previous.index) == [2, 6])
    }

    @Test("R29: entries that storage does not have yet do not count as sent, and are asked for again")
    func shortFetch() {
        let entries = (2...5).map { command($0, 1) } + [Entry(index: 6, term: 2, payload: .noop)]
        var leader = Self.leader(last: 5)
        leader.reject(3, at: 5, hint: position(1, 1))
        leader.fetched(.append(server(3)), entries)
        #expect(leader.acknowledge(3, 2).fetches.map(\.range) == [3...6])
        #expect(leader.fetched(.append(server(3)), [command(3, 1)]).appends(to: 3).isEmpty, "one of four entries")
        for _ in 0..<leader.core.options.heartbeatTicks { leader.step(.tick) }
        let session = leader.core.progress(server(3))?.session ?? 0
        let answer = leader.receive(3, .heartbeatResponse(HeartbeatResponse(session: session, round: 0)))
        #expect(answer.fetches.map(\.range) == [3...6])
    }

    @Test("R40: a snapshot is loaded when the log that begins behind it is durable, and no flush is under way")
    func restoreWaits() {
        var follower = DriverBench()
        let received = follower.act { $0.snapshotReceived(Self.base(9, 3), bytes: 1, from: server(2), into: &$1) }
        #expect(received.restore == nil)
        #expect(follower.persist().restore == Self.base(9, 3))

        var options = DriverBench.tight
        options.flushBytes = 1
        var busy = DriverBench(options: options)
        busy.append(behind: position(1, 1), [command(2, 1)], commit: 2)
        #expect(busy.persist().apply == [command(2, 1)])
        #expect(busy.applied([command(2, 1)], unflushedBytes: 9).flush)
        busy.act { $0.snapshotReceived(Self.base(9, 3), bytes: 1, from: server(2), into: &$1) }
        #expect(busy.persist().restore == nil, "the flush is under way")
        #expect(busy.act { $0.flushed(position(2, 1), into: &$1) }.restore == Self.base(9, 3))
    }

    @Test(
        "What was given out may be applied in parts: reads count on each at once, and nothing more is given out before the last"
    )
    func appliedInParts() {
        var follower = DriverBench()
        let entries = [command(2, 1), command(3, 1), command(4, 1)]
        follower.append(behind: position(1, 1), entries, commit: 4)
        #expect(follower.persist().apply == entries)
        follower.append(behind: position(4, 1), [command(5, 1)], commit: 5)
        #expect(follower.persist().apply.isEmpty)
        #expect(follower.applied([entries[0]]).apply.isEmpty)
        #expect(follower.core.appliedIndex == 2)
        #expect(follower.applied([entries[1]]).apply.isEmpty)
        #expect(follower.step(.tick).apply.isEmpty)
        #expect(follower.applied([entries[2]]).apply == [command(5, 1)])
    }

    @Test("R40: nothing is given out to apply while a snapshot is loaded")
    func nothingIsAppliedDuringRestore() {
        var follower = DriverBench()
        follower.act { $0.snapshotReceived(Self.base(9, 1), bytes: 1, from: server(2), into: &$1) }
        follower.persist()
        follower.append(behind: position(9, 1), [command(10, 1)], commit: 10)
        #expect(follower.persist().apply.isEmpty)
        #expect(follower.step(.restored(9)).apply == [command(10, 1)])
    }

    @Test("R40: entries fetched for the apply before a snapshot took their place are not given out")
    func lateFetch() {
        var follower = DriverBench(Bench(terms: [1, 1], applied: 1))
        let behind = follower.receive(2, .heartbeat(Heartbeat(commit: 2, session: 99, round: 0)))
        #expect(behind.fetches.map(\.purpose) == [.apply])
        follower.act { $0.snapshotReceived(Self.base(9, 3), bytes: 1, from: server(2), into: &$1) }
        #expect(follower.fetched(.apply, [command(2, 1)]).apply.isEmpty)
    }

    @Test("R41: a follower that needs a snapshot which does not exist yet has one taken")
    func snapshotOnDemand() {
        var bench = Bench(terms: [1, 1, 1])
        bench.lead(committed: false)
        bench.persist()
        bench.acknowledge(2)
        bench.apply()
        bench.step(.compact(upTo: 3))
        var leader = DriverBench(bench)
        let session = leader.core.progress(server(3))!.session
        let asked = leader.reject(3, at: 4, hint: position(1, 1))
        #expect(asked.snapshotSends.isEmpty)
        #expect(asked.takeSnapshot)

        let position = position(leader.core.appliedIndex, 2)
        leader.act { $0.snapshotTaken(position, durable: position, bytes: 1, into: &$1) }
        for _ in 0..<leader.core.options.heartbeatTicks { leader.step(.tick) }
        let again = leader.receive(3, .heartbeatResponse(HeartbeatResponse(session: session, round: 0)))
        #expect(again.snapshotSends.map(\.to) == [server(3)])
    }

    /// A leader whose log begins behind 3, with a snapshot there, and the follower 3 that needs it; the pauses are 10 ticks, 20, and then 25.
    private func sendingLeader() -> (leader: DriverBench, asked: Driver.Actions) {
        var bench = Bench(terms: [1, 1, 1])
        bench.lead(committed: false)
        bench.persist()
        bench.acknowledge(2)
        bench.apply()
        bench.step(.compact(upTo: 3))
        bench.persist()
        var options = DriverBench.tight
        (options.retryTicks, options.maxRetryTicks) = (10, 25)
        var leader = DriverBench(bench, options: options, snapshotIndex: 3)
        let asked = leader.reject(3, at: 4, hint: position(1, 1))
        return (leader, asked)
    }

    /// Ticks, with signs of life of the followers, until a snapshot is sent.
    private func ticksUntilSent(_ leader: inout DriverBench) -> Int? {
        for ticks in 1...60 {
            var sends = leader.step(.tick).snapshotSends
            for follower in 2...3 {
                let session = leader.core.progress(server(follower))?.session ?? 0
                let response = HeartbeatResponse(session: session, round: 0)
                sends += leader.receive(follower, .heartbeatResponse(response)).snapshotSends
            }
            guard sends.isEmpty else {
                #expect(sends.map(\.to) == [server(3)])
                return ticks
            }
        }
        return nil
    }

    @Test(
        "A snapshot that does not arrive is sent again after a pause, longer each time up to a bound, and at once after one that did"
    )
    func pausesBetweenSends() {
        var (leader, asked) = sendingLeader()
        #expect(asked.snapshotSends.map(\.to) == [server(3)])
        for pause in [10, 20, 25, 25] {
            #expect(leader.step(.snapshotSent(to: server(3), sent: nil)).snapshotSends.isEmpty)
            #expect(ticksUntilSent(&leader) == pause)
        }
        leader.step(.snapshotSent(to: server(3), sent: 3))
        // It has lost what it took in, say.
        let session = leader.core.progress(server(3))!.session
        for _ in 0..<leader.core.options.heartbeatTicks { leader.step(.tick) }
        leader.receive(3, .heartbeatResponse(HeartbeatResponse(session: session, round: 0)))
        #expect(leader.reject(3, at: 3, hint: position(1, 1)).snapshotSends.map(\.to) == [server(3)])
    }

    @Test("A snapshot that waits to be sent again is not sent by who leads no more, nor to who needs none")
    func voidSends() {
        var (deposed, _) = sendingLeader()
        deposed.step(.snapshotSent(to: server(3), sent: nil))
        for _ in 0..<3 { deposed.step(.tick) }
        deposed.receive(2, term: deposed.core.term + 1, .heartbeat(Heartbeat(commit: 0, session: 1, round: 0)))
        #expect(!deposed.core.isLeader)
        #expect(ticksUntilSent(&deposed) == nil)

        var (leader, _) = sendingLeader()
        leader.step(.snapshotSent(to: server(3), sent: nil))
        #expect(leader.core.peerViews.contains { $0.id == server(3) })
        leader.acknowledge(3, leader.core.lastIndex)
        #expect(ticksUntilSent(&leader) == nil)
    }

    @Test("A snapshot that is of no use any more is replaced, and none is sent until there is another")
    func lostSnapshot() {
        var (leader, _) = sendingLeader()
        let lost = leader.act { $0.snapshotLost(newest: 0, bytes: 0, into: &$1) }
        #expect(lost.takeSnapshot)
        #expect(leader.driver.snapshotIndex == 0)
        leader.step(.snapshotSent(to: server(3), sent: nil))
        #expect(ticksUntilSent(&leader) == nil)
        let position = position(leader.core.appliedIndex, 2)
        leader.act { $0.snapshotTaken(position, durable: position, bytes: 1, into: &$1) }
        #expect(ticksUntilSent(&leader) != nil)
    }

    @Test("R42: a learner is promoted when it has caught up, not before")
    func promotion() {
        var learner = TestCluster.member(4)
        learner.promotion = .voter
        let members = Configuration(voters: (1...3).map { TestCluster.member($0) }, learners: [learner])
        var bench = Bench(1, members, terms: [1, 1, 1, 1, 1])
        bench.lead()
        var leader = DriverBench(bench)
        leader.acknowledge(4, 2)
        leader.step(.tick)
        #expect(!leader.core.configuration.isJoint, "five entries behind, two are allowed")
        leader.acknowledge(4, leader.core.lastIndex - 2)
        leader.step(.tick)
        #expect(leader.core.configuration.voters.contains(server(4)))
    }

    @Test("R48: a command whose answer a snapshot swallowed is given up, later ones are not")
    func swallowedAnswers() {
        var answers = Answers<Int>()
        for index in 2...4 {
            guard case .later = answers.committed(Token(index), at: position(LogIndex(index), 1), applied: 1) else {
                Issue.record("nothing is applied yet")
                return
            }
        }
        #expect(answers.abandon(upTo: 3) == [2, 3])
        #expect(answers.applied(position(4, 1), 7, keeps: false) == 4)
    }

    @Test("Commands are refused while the machine's disk does not keep up, and while the shell has no room")
    func pushBack() {
        var options = DriverBench.tight
        options.flushBytes = 10
        options.maxUnflushedFactor = 4
        var bench = Bench(terms: [1])
        bench.lead()
        bench.persist()
        var leader = DriverBench(bench, options: options)
        for unflushed in [39, 40] {
            #expect(leader.driver.takesCommands)
            let entry = command(leader.core.lastIndex + 1, leader.core.term)
            leader.step(.propose([Proposal(token: Token(unflushed), command: [1])]))
            leader.persist()
            leader.acknowledge(2, entry.index)
            leader.applied([entry], unflushedBytes: unflushed)
        }
        #expect(!leader.driver.takesCommands)
        let own = leader.step(.propose([Proposal(token: 8, command: [1])]))
        #expect(own.outcomes == [.rejected(8, .overloaded, leader: server(1))])
        let forwarded = leader.receive(2, .propose(requestID: 5, commands: [[1]]))
        #expect(forwarded.messages.map(\.body) == [.proposeResponse(requestID: 5, .overloaded)])
        #expect(forwarded.writes.isEmpty && own.writes.isEmpty)
        let last = position(leader.core.appliedIndex, leader.core.term)
        leader.act { $0.flushed(last, into: &$1) }
        #expect(leader.driver.takesCommands)
        leader.driver.lacksRoom = true
        #expect(leader.step(.propose([Proposal(token: 9, command: [1])])).outcomes.count == 1)
        // Without room it gives way, so that another leader may take them soon.
        let asked = leader.receive(2, .propose(requestID: 6, commands: [[1]]))
        #expect(asked.messages.map(\.body) == [.proposeResponse(requestID: 6, .rejected(leader: server(1)))])
        leader.driver.lacksRoom = false
        #expect(!leader.step(.propose([Proposal(token: 10, command: [1])])).writes.isEmpty)
    }

    @Test("What had no room is tried again after a pause that grows; a flush does not wait for a snapshot's room")
    func retries() {
        var options = DriverBench.tight
        (options.flushBytes, options.retryTicks, options.maxRetryTicks) = (10, 3, 6)
        var follower = DriverBench(Bench(terms: [1, 1], applied: 1), options: options)
        follower.receive(2, .heartbeat(Heartbeat(commit: 2, session: 99, round: 0)))
        follower.fetched(.apply, [command(2, 1)])
        #expect(follower.applied([command(2, 1)], unflushedBytes: 10).flush)
        for pause in [3, 6, 6] {
            #expect(!follower.act { $0.lackedRoom(durable: nil, into: &$1) }.flush)
            for _ in 1..<pause { #expect(!follower.step(.tick).flush) }
            #expect(follower.step(.tick).flush)
        }
        follower.act { $0.flushed(position(2, 1), into: &$1) }
        #expect(follower.act { $0.requestSnapshot(into: &$1) }.takeSnapshot)
        #expect(!follower.act { $0.lackedRoom(durable: position(2, 1), into: &$1) }.takeSnapshot)
        follower.receive(2, .heartbeat(Heartbeat(commit: 3, session: 99, round: 0)))
        follower.fetched(.apply, [command(3, 1)])
        #expect(follower.applied([command(3, 1)], unflushedBytes: 10).flush)
        follower.act { $0.flushed(position(3, 1), into: &$1) }
        #expect(!follower.step(.tick).takeSnapshot)
        #expect(!follower.step(.tick).takeSnapshot)
        #expect(follower.step(.tick).takeSnapshot)
    }

    @Test("A follower whose state is not made durable applies no more than its memory bears, and goes on when it is")
    func boundedUnflushedState() {
        var options = DriverBench.tight
        (options.flushBytes, options.maxUnflushedFactor) = (10, 2)
        var follower = DriverBench(Bench(terms: [1, 1, 1], applied: 1), options: options)
        follower.receive(2, .heartbeat(Heartbeat(commit: 3, session: 99, round: 0)))
        #expect(follower.fetched(.apply, [command(2, 1)]).apply == [command(2, 1)])
        #expect(follower.applied([command(2, 1)], unflushedBytes: 40).flush)
        #expect(follower.receive(2, .heartbeat(Heartbeat(commit: 4, session: 99, round: 0))).fetches.isEmpty)
        // Made durable alone, with a snapshot, or on the way to a snapshot that lacked the room.
        let ways: [(inout Driver, inout Driver.Actions) -> Void] = [
            { $0.flushed(position(2, 1), into: &$1) },
            { $0.snapshotTaken(position(1, 1), durable: position(2, 1), bytes: 1, into: &$1) },
            { $0.lackedRoom(durable: position(2, 1), into: &$1) },
        ]
        for way in ways {
            var other = follower
            #expect(other.act(way).fetches.map(\.range) == [3...4])
        }
    }
}
