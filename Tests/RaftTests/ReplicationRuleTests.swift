import Testing

@testable import Raft

@Suite struct ReplicationRuleTests {
    @Test("R21: entries of an earlier term are not committed by counting")
    func onlyTheOwnTermByCounting() {
        var leader = Bench(term: 3, terms: [2])  // ends at 2@2
        leader.lead(committed: false)
        leader.persist()
        #expect(leader.core.log.last == position(3, 4))
        leader.acknowledge(2, 2)
        leader.acknowledge(3, 2)
        #expect(leader.core.commitIndex == 1, "2@2 is on every server, and not committed yet")
        leader.acknowledge(2, 3)
        #expect(leader.core.commitIndex == 3)
    }

    @Test("R22: a follower commits up to what the append verified, not to its own last index")
    func verifiedCommit() {
        var follower = Bench(term: 2, terms: [1, 1, 1, 1])  // 4 and 5 are of a lost leader
        follower.append(term: 2, behind: position(2, 1), [command(3, 1)], commit: 5)
        #expect(follower.core.commitIndex == 3)
        follower.append(term: 2, behind: position(3, 1), commit: 5)
        #expect(follower.core.commitIndex == 3)
    }

    @Test("R23: a heartbeat carries no commit beyond what its receiver is known to hold")
    func heartbeatCommit() {
        var leader = Bench()
        leader.lead(committed: false)
        leader.persist()
        let last = leader.core.lastIndex
        let effects = leader.acknowledge(2)
        #expect(leader.core.commitIndex == last)
        #expect(effects.heartbeats(to: 2).map(\.commit) == [last], "the news of the commit")
        let beat = leader.tick(leader.core.options.heartbeatTicks)
        #expect(beat.heartbeats(to: 2).allSatisfy { $0.commit == last })
        #expect(!beat.heartbeats(to: 3).isEmpty)
        #expect(beat.heartbeats(to: 3).allSatisfy { $0.commit == 0 })
    }

    @Test("R24: a leader that contradicts a committed entry halts the node")
    func contradiction() {
        let fresh = Bench(terms: [1, 1])
        for previous in [position(1, 1), position(2, 1), position(3, 1), position(2, 2), position(3, 2)] {
            var follower = fresh
            follower.heartbeat(commit: 3)
            let entries = (previous.index + 1...4).map { command($0, 2) }
            let effects = follower.append(term: 2, behind: previous, entries)
            if previous == position(3, 1) {
                #expect(effects.halt == nil, "4 is not committed here")
            } else {
                #expect(effects.halt != nil, "\(previous)")
                #expect(effects.writes.isEmpty && effects.messages.isEmpty && effects.deferred.isEmpty)
            }
        }
    }

    @Test(
        "R25: an append with a gap, a term that goes back or one from the future changes nothing",
        arguments: [
            [command(3, 1)], [command(2, 1), command(4, 1)], [command(2, 2), command(3, 1)], [command(2, 9)],
            [command(1, 1)], [command(2, 0)],
        ]
    )
    func malformedAppend(entries: [Entry]) {
        var follower = Bench(term: 2)
        let before = follower.core
        let effects = follower.append(term: 2, behind: position(1, 1), entries)
        #expect(follower.core == before)
        #expect(effects.isEmpty)
    }

    @Test("R26: stale and impossible rejections are ignored, next stays behind match")
    func staleRejections() {
        var leader = Bench()
        leader.lead()
        leader.propose(1)
        let before = leader.core.peers
        leader.reject(2, at: 1, hint: .zero)
        leader.reject(2, at: leader.core.lastIndex - 1, hint: .zero)  // the acknowledged place
        leader.reject(2, at: 100, hint: position(50, 1))
        leader.reject(2, at: 0, hint: .zero)
        #expect(leader.core.peers == before)
        leader.reject(2, at: leader.core.lastIndex, hint: .zero)
        let progress = leader.core.progress(server(2))!
        #expect(progress.next == progress.match + 1)
    }

    @Test("R26: a probe listens only to the rejection of what it asked")
    func probeRejections() {
        var leader = Bench(terms: [1, 1, 1])
        leader.lead(committed: false)
        let next = leader.core.progress(server(2))!.next
        #expect(next == 5)
        leader.reject(2, at: 2, hint: position(1, 1))
        #expect(leader.core.progress(server(2))!.next == 5)
        let effects = leader.reject(2, at: 4, hint: position(1, 1))
        #expect(effects.orders(to: 2).map(\.previous) == [position(1, 1)])
    }

    @Test("A diverged log of many terms is found in a few rounds")
    func divergedLog() {
        // The follower holds terms that the leader never saw, and the other way round.
        var follower = Bench(2, term: 9, terms: Array(repeating: 2, count: 40) + Array(repeating: 4, count: 40))
        let ours =
            Array(repeating: Term(2), count: 20) + Array(repeating: 3, count: 40) + Array(repeating: 5, count: 40)
        var leader = Bench(1, term: 9, terms: ours)
        leader.lead(committed: false)
        leader.persist()
        var rounds = 0
        var orders = leader.tick(leader.core.options.heartbeatTicks).orders(to: 2)
        orders += leader.answerHeartbeat(2).orders(to: 2)
        while leader.core.progress(server(2))!.match < leader.core.lastIndex, rounds < 20 {
            rounds += 1
            let sent = orders
            orders = []
            for order in sent {
                let entries =
                    order.isEmpty
                    ? []
                    : (order.previous.index + 1...order.last).map { index in
                        Entry(index: index, term: leader.core.term(at: index)!, payload: .command([0]))
                    }
                let effects = follower.append(
                    from: 1,
                    term: leader.core.term,
                    behind: order.previous,
                    entries,
                    session: order.session
                )
                let answers = effects.appendResults + effects.deferredAppendResults
                follower.persist()
                for answer in answers {
                    let response = AppendResponse(result: answer, session: order.session, round: 0)
                    orders += leader.receive(2, .appendResponse(response)).orders(to: 2)
                }
            }
        }
        #expect(leader.core.progress(server(2))!.match == leader.core.lastIndex)
        #expect(rounds <= 4, "\(rounds) rounds")
    }

    @Test("R28: a delayed answer to an earlier session is ignored after a server was removed and added again")
    func sessions() throws {
        var leader = Bench()
        leader.lead()
        let session = try #require(leader.core.progress(server(3))).session
        leader.change(1, to: configuration([1, 2]))
        leader.change(2, to: configuration([1, 2, 3]), committedBy: [2, 3])
        let again = try #require(leader.core.progress(server(3)))
        #expect(again.session != session)

        var added = Bench()
        added.lead()
        added.change(1, to: configuration([1, 2]))
        added.step(.changeMembership(2, to: configuration([1, 2, 3])))
        added.persist()
        added.acknowledge(3, added.core.lastIndex, session: session)
        added.receive(3, .heartbeatResponse(HeartbeatResponse(session: session, round: added.core.reads.round)))
        #expect(added.core.progress(server(3))?.match == 0)
        #expect(added.core.commitIndex < added.core.lastIndex)
    }

    private func fullWindow() -> Bench {
        var options = Options()
        options.maxInFlightMessages = 2
        var leader = Bench(options: options)
        leader.lead()
        for token in 1...5 { leader.propose(Token(token)) }
        return leader
    }

    @Test("R29: the window bounds what is under way, and a full one is still probed", arguments: [false, true])
    func fullWindowIsProbed(withReads: Bool) {
        var leader = fullWindow()
        #expect(leader.core.progress(server(2))?.inFlight.count == 2)
        var probes: [AppendOrder] = []
        for token in 0..<(4 * leader.core.options.heartbeatTicks) {
            // Steady reads keep the heartbeats going, which must not keep the probes from coming.
            if withReads { leader.step(.read([100 + token])) }
            probes += leader.tick(hearing: 2).orders(to: 2)
        }
        #expect(!probes.isEmpty && probes.count <= 2)
        let place = leader.core.progress(server(2))!.next - 1
        #expect(probes.allSatisfy { $0.isEmpty && $0.previous.index == place })
        let again = leader.reject(2, at: place, hint: position(leader.core.commitIndex, 2))
        #expect(again.orders(to: 2).map(\.previous.index) == [leader.core.commitIndex], "what was lost is sent again")
    }

    @Test("R29: no probe is asked for in a step that ends the leadership")
    func noProbeOfAPastLeader() {
        var leader = fullWindow()
        leader.tick(2 * leader.core.options.heartbeatTicks - 1)
        var probing = leader
        #expect(probing.step(.tick).orders(to: 2).count == 1)
        let heartbeat = Message.Body.heartbeat(Heartbeat(commit: 0, session: 1, round: 0))
        let message = Message(from: server(3), to: server(1), term: 9, body: heartbeat)
        #expect(leader.step(.tick, .message(message)).orders.isEmpty)
    }

    @Test("R29: a full window behind which the log was trimmed ends in a snapshot")
    func trimmedWindow() {
        var leader = fullWindow()
        leader.persist()
        leader.acknowledge(3)
        while leader.core.progress(server(3))!.match < leader.core.lastIndex { leader.acknowledge(3) }
        leader.apply()
        leader.step(.compact(upTo: leader.core.appliedIndex))
        leader.persist()
        var sends: [SnapshotSend] = []
        for _ in 0..<(4 * leader.core.options.heartbeatTicks) {
            sends += leader.tick().snapshotSends
            sends += leader.answerHeartbeat(2).snapshotSends
        }
        #expect(sends == [SnapshotSend(to: server(2), atLeast: leader.core.base.position.index)])
    }

    @Test("A window is bounded in bytes as well, and one large entry still goes")
    func windowInBytes() {
        var options = Options()
        options.maxInFlightBytes = 300
        options.maxAppendBytes = 200
        var leader = Bench(options: options)
        leader.lead()
        let large = leader.propose(1, bytes: 5000)
        #expect(large.orders(to: 2).count == 1)
        #expect(leader.propose(2, bytes: 10).orders(to: 2).isEmpty)
        let next = leader.acknowledge(2, leader.core.lastIndex - 1)
        #expect(next.orders(to: 2).count == 1)
    }

    @Test("R30: a peer that hangs takes up no more than its window, the others go on")
    func hungPeer() {
        var options = Options()
        options.maxInFlightMessages = 4
        var leader = Bench(options: options)
        leader.lead()
        var sent = 0
        for token in 1...100 {
            sent += leader.propose(Token(token)).orders(to: 3).count
            leader.persist()
            sent += leader.acknowledge(2).orders(to: 3).count
        }
        #expect(leader.core.commitIndex == leader.core.lastIndex)
        #expect(sent <= 4)
    }

    @Test("R30: the bound on uncommitted bytes refuses commands, never the leader's own first entry")
    func uncommittedBytes() {
        var options = Options()
        options.maxUncommittedBytes = 100
        var leader = Bench(terms: Array(repeating: 1, count: 50), options: options)
        leader.lead(committed: false)
        #expect(leader.core.lastIndex == 52)
        #expect(leader.propose(1).outcomes == [.rejected(1, .overloaded, leader: server(1))])
        leader.persist()
        leader.acknowledge(2)
        #expect(leader.propose(2, bytes: 1000).outcomes.isEmpty, "with nothing under way even a large one goes")
        #expect(leader.propose(3).outcomes == [.rejected(3, .overloaded, leader: server(1))])
        leader.persist()
        leader.acknowledge(2)
        #expect(leader.propose(4).outcomes.isEmpty)
    }

    @Test("A broken link makes a leader begin again where the follower is known to stand")
    func unreachable() {
        var leader = Bench()
        leader.lead()
        let match = leader.core.lastIndex
        leader.propose(1)
        leader.step(.unreachable(server(2)))
        #expect(leader.propose(2).orders(to: 2).isEmpty)
        leader.tick(leader.core.options.heartbeatTicks)
        let again = leader.answerHeartbeat(2).orders(to: 2)
        #expect(again.map(\.previous.index) == [match])
        #expect(again.map(\.last) == [leader.core.lastIndex])
    }

    @Test("R47: a message for somebody else changes nothing")
    func foreignMessage() {
        var follower = Bench()
        let before = follower.core
        let append = Append(previous: position(1, 1), entries: [command(2, 5)], commit: 0, session: 1, round: 0)
        for (from, to) in [(2, 3), (1, 1)] {
            let message = Message(from: server(from), to: server(to), term: 5, body: .append(append))
            #expect(follower.step(.message(message)).isEmpty)
        }
        #expect(follower.core == before)
    }
}
