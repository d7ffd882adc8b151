import Testing

@testable import Raft

@Suite struct DurabilityRuleTests {
    let wide = VoteRequest(last: position(100, 100))

    @Test("R1: a new term and the vote in it are one record of one write")
    func termAndVoteTogether() {
        var candidate = Bench()
        candidate.becomePreCandidate()
        let campaign = candidate.receive(2, term: 2, .preVoteResponse(granted: true))
        #expect(campaign.writes.map(\.hardState) == [HardState(term: 2, vote: server(1))])

        var voter = Bench()
        let grant = voter.receive(2, term: 5, .voteRequest(wide))
        #expect(grant.writes.map(\.hardState) == [HardState(term: 5, vote: server(2))])
    }

    @Test("R2: a vote is granted only when it is durable")
    func voteWaits() throws {
        var voter = Bench()
        let effects = voter.receive(2, term: 2, .voteRequest(wide))
        #expect(effects.messages.isEmpty)
        let grant = try #require(effects.deferred.first)
        #expect(grant.message.body == .voteResponse(granted: true))
        #expect(grant.after == effects.writes.last?.sequence)
    }

    @Test("R2: a refusal waits for its term as well, it makes others move to that term")
    func refusalWaits() {
        var voter = Bench(terms: [1, 1])
        let effects = voter.receive(2, term: 2, .voteRequest(VoteRequest(last: position(1, 1))))
        #expect(effects.messages.isEmpty)
        #expect(effects.deferred.map(\.message.body) == [.voteResponse(granted: false)])
    }

    @Test("R2: entries are acknowledged only when they are durable, also a second time")
    func acknowledgementWaits() {
        var follower = Bench()
        let effects = follower.append(behind: position(1, 1), [command(2, 1)])
        #expect(effects.appendResults.isEmpty)
        #expect(effects.deferredAppendResults == [.accepted(match: 2)])
        #expect(effects.deferred.first?.after == effects.writes.first?.sequence)

        let again = follower.append(behind: position(1, 1), [command(2, 1)])
        #expect(again.appendResults.isEmpty, "the same append again, before its write is durable")
        follower.persist()
        let late = follower.append(behind: position(1, 1), [command(2, 1)])
        #expect(late.appendResults == [.accepted(match: 2)])
    }

    @Test("R2: a heartbeat of a new term is answered when the term is durable, and never waits for entries")
    func heartbeatAnswerWaitsForTheTermOnly() {
        var follower = Bench()
        #expect(follower.heartbeat(term: 2).messages.isEmpty)
        follower.persist()
        follower.append(behind: position(1, 1), [command(2, 2)])
        #expect(follower.heartbeat().sent.count == 1, "an entry is under way to the disk, but the term is there")
    }

    @Test("R2: a candidate asks for votes, and counts its own, when its own is durable")
    func ownVoteWaits() {
        var candidate = Bench()
        candidate.becomePreCandidate()
        let campaign = candidate.receive(2, term: 2, .preVoteResponse(granted: true))
        #expect(campaign.messages.isEmpty)
        #expect(campaign.deferred.count == 2)
        candidate.receive(2, .voteResponse(granted: true))
        #expect(candidate.core.role == .candidate, "one vote of three and an own one that is not durable")
        candidate.persist()
        #expect(candidate.core.isLeader)
    }

    @Test("R2: a leader counts its own log only as far as it is durable")
    func leaderCountsItsDisk() {
        var leader = Bench()
        leader.lead()
        leader.propose(1)
        leader.acknowledge(2)
        #expect(leader.core.commitIndex == leader.core.lastIndex - 1)
        leader.persist()
        #expect(leader.core.commitIndex == leader.core.lastIndex)
    }

    @Test("R2: a read request of a new term waits until that term is durable")
    func readRequestWaits() {
        var follower = Bench()
        follower.heartbeat(term: 2)
        let effects = follower.step(.read([1]))
        #expect(effects.messages.isEmpty)
        #expect(effects.deferred.count == 1)

        follower.persist()
        let moved = follower.heartbeat(from: 3, term: 3)
        #expect(moved.messages.isEmpty, "the open request goes to the new leader, but not yet")
        #expect(moved.deferred.count == 2)
    }

    @Test("R3: a term is durable no later than an entry of that term")
    func termBeforeEntry() throws {
        var follower = Bench()
        let effects = follower.append(term: 5, behind: position(1, 1), [command(2, 5)])
        let write = try #require(effects.writes.first)
        #expect(write.hardState == HardState(term: 5))
        #expect(write.append.count == 1)
    }

    @Test("R3: a snapshot that comes before any message of its term brings the term along, at start too")
    func termOfSnapshot() throws {
        let base = LogBase(position: position(10, 9), configuration: configuration([1, 2, 3]))
        var follower = Bench()
        let write = try #require(follower.step(.snapshotReceived(base, from: server(2))).writes.first)
        #expect(write.replaceLog == base)
        #expect(write.hardState == HardState(term: 9))

        let restarted = Core(
            id: server(1),
            seed: 1,
            hardState: HardState(term: 1),
            base: base,
            entries: [],
            applied: 10
        )
        #expect(restarted.term == 9)
    }

    @Test("R4: truncation and entries are one write, and entries that match are not written again")
    func truncateAndAppendTogether() {
        var follower = Bench(term: 2, terms: [1, 1, 2])
        let effects = follower.append(term: 3, behind: position(1, 1), [command(2, 1), command(3, 3), command(4, 3)])
        #expect(effects.writes.count == 1)
        #expect(effects.writes.first?.truncateFrom == 3)
        #expect(effects.writes.first?.append.map(\.position) == [position(3, 3), position(4, 3)])
    }

    @Test("R4: an append that the log already holds truncates nothing behind it")
    func matchingPrefixKeepsTheEnd() {
        var follower = Bench(terms: [1, 1, 1])
        let effects = follower.append(behind: position(1, 1), [command(2, 1)])
        #expect(effects.writes.isEmpty)
        #expect(follower.core.lastIndex == 4)
        #expect(effects.appendResults == [.accepted(match: 2)])
    }

    @Test("R5: a single server acknowledges a command only after its own sync")
    func singleServer() {
        var single = Bench(1, configuration([1]))
        single.lead()
        let proposed = single.propose(1)
        #expect(proposed.outcomes.isEmpty && proposed.applyUpTo == nil)
        let synced = single.persist()
        #expect(synced.outcomes == [.committed(1, at: position(3, 2))])
        #expect(synced.applyUpTo == 3)
    }

    @Test("R6: after a storage error nothing advances")
    func storageError() {
        var leader = Bench()
        leader.lead()
        leader.propose(1)
        #expect(leader.step(.storageFailed("disk on fire")).halt != nil)
        let before = leader.core
        let later = leader.step(.persisted(upTo: leader.core.lastSequence), .tick)
        #expect(later.messages.isEmpty && later.outcomes.isEmpty && later.writes.isEmpty)
        #expect(later.halt != nil)
        #expect(leader.core == before)
    }

    @Test("R6: a step that breaks in its middle reports that and nothing else")
    func brokenStep() {
        var leader = Bench()
        leader.lead()
        let proposal = Event.propose([Proposal(token: 1, command: [1])])
        let effects = leader.step(proposal, .storageFailed("disk on fire"), .tick)
        #expect(effects.halt != nil)
        #expect(effects.writes.isEmpty && effects.messages.isEmpty && effects.outcomes.isEmpty)

        var follower = Bench()
        let half = follower.step(.read([1]), .storageFailed("disk on fire"))
        #expect(half.halt != nil && half.outcomes.isEmpty, "the read was refused before the step broke")
    }

    @Test("R6: a storage or a machine that reports what it was never asked for stops the node")
    func reportsFromNowhere() {
        var follower = Bench(terms: [1])
        var other = follower
        #expect(follower.step(.persisted(upTo: 7)).halt != nil)
        #expect(other.step(.applied(upTo: 2)).halt != nil, "it stands in the log, but is not committed")
    }

    @Test("R7: what is committed is applied only when it is durable here")
    func applyWaitsForTheDisk() {
        var follower = Bench()
        let effects = follower.append(behind: position(1, 1), [command(2, 1)], commit: 2)
        #expect(follower.core.commitIndex == 2)
        #expect(effects.applyUpTo == nil)
        #expect(follower.persist().applyUpTo == 2)
    }

    @Test("R8: the log is trimmed only below what is applied and durable")
    func trimBounds() {
        var follower = Bench(terms: [1, 1], applied: 1)
        follower.heartbeat(commit: 3)
        #expect(follower.step(.compact(upTo: 2)).writes.isEmpty, "not applied yet")
        follower.step(.applied(upTo: 2))
        #expect(follower.step(.compact(upTo: 3)).writes.isEmpty, "applied up to 2 only")
        let base = LogBase(position: position(2, 1), configuration: configuration([1, 2, 3]))
        #expect(follower.step(.compact(upTo: 2)).writes.map(\.trimTo) == [base])
        #expect(follower.core.firstIndex == 3)
        #expect(follower.step(.compact(upTo: 2)).writes.isEmpty, "a second time")
    }

    @Test("R9: a late completion of an old write makes no rewritten entry stable")
    func lateCompletion() {
        var follower = Bench()
        let old = follower.append(behind: position(1, 1), [command(2, 1), command(3, 1)])
        let new = follower.append(from: 3, term: 2, behind: position(1, 1), [command(2, 2), command(3, 2)], commit: 3)
        let late = follower.step(.persisted(upTo: old.writes.last!.sequence))
        #expect(follower.core.stableIndex == 1)
        #expect(late.applyUpTo == nil)
        follower.step(.persisted(upTo: new.writes.last!.sequence))
        #expect(follower.core.stableIndex == 3)
    }

    @Test("R9: entries that take the place of durable ones are not durable for that")
    func rewrittenEntries() {
        var follower = Bench(terms: [1, 1])
        #expect(follower.core.stableIndex == 3)
        let entries = [command(2, 2), command(3, 2)]
        let rewritten = follower.append(term: 2, behind: position(1, 1), entries, commit: 3)
        #expect(follower.core.stableIndex == 1)
        #expect(rewritten.applyUpTo == nil)
        #expect(rewritten.deferredAppendResults == [.accepted(match: 3)])
        #expect(follower.persist().applyUpTo == 3)
    }

    @Test("R9: nor does it make an installed snapshot's place stable")
    func lateCompletionBelowSnapshot() {
        var follower = Bench()
        let old = follower.append(behind: position(1, 1), (2...9).map { command($0, 1) })
        let base = LogBase(position: position(5, 3), configuration: configuration([1, 2, 3]))
        let new = follower.step(.snapshotReceived(base, from: server(2)))
        follower.step(.persisted(upTo: old.writes.last!.sequence))
        #expect(follower.core.stableIndex == 0)
        follower.step(.persisted(upTo: new.writes.last!.sequence))
        #expect(follower.core.stableIndex == 5)
    }

    @Test("R10: terms and configurations are truncated with the log")
    func truncatedCaches() {
        var follower = Bench(terms: [1])
        let bigger = Entry(index: 3, term: 1, payload: .configuration(configuration([1, 2, 3, 4])))
        follower.append(behind: position(2, 1), [bigger, command(4, 1)])
        #expect(follower.core.configuration.contains(server(4)))
        follower.append(from: 3, term: 2, behind: position(2, 1), [command(3, 2)])
        #expect(!follower.core.configuration.contains(server(4)))
        #expect(follower.core.term(at: 3) == 2)
        #expect(follower.core.term(at: 4) == nil)
        #expect(follower.core.lastIndex == 3)
    }
}
