/// Bugs that tests can switch on, each the violation of one rule of consensus: a suite or a simulator that does not notice one has a hole.
///
/// They are there only in builds with the compile-time flag `KONTIKI_PLANTED_BUGS` (an environment variable of that name when the package
/// is built). Anywhere else, the shipped binary and ordinary tests included, ``isPlanted(_:)`` is constantly false, the compiler drops the sites,
/// and nothing is left but the names below. `Deploy/mutations.sh` switches the bugs on one by one and writes the table of what catches them from
/// the comments here: the rule, and what is broken.
@usableFromInline
package enum PlantedBug: String, CaseIterable, Sendable {
    // MARK: Durability

    /// R1: A new term is stored together with the vote of the term before.
    case mixesTermAndVote
    /// R2: A vote is granted before it is durable.
    case grantsVotesEarly
    /// R2: A candidate asks for votes before its own is durable.
    case asksForVotesEarly
    /// R2: A candidate counts its own vote before it is durable.
    case countsOwnVoteEarly
    /// R2: A follower acknowledges entries that are not durable.
    case acknowledgesEarly
    /// R2: A heartbeat of a new term is answered before that term is durable.
    case answersHeartbeatsEarly
    /// R2: A leader counts entries of its own that are not durable.
    case countsOwnLogEarly
    /// R2: The driver releases a reply one write too early.
    case releasesRepliesEarly
    /// R3: A term that comes without a vote is not stored, the entries of that term are.
    case forgetsFollowersTerm
    /// R3: A snapshot of a higher term is installed without that term.
    case ignoresTermOfSnapshot
    /// R4: The truncation is a write of its own, before that of the entries.
    case truncatesApart
    /// R4: Entries that match already are deleted and written again.
    case rewritesWhatMatches
    /// R5: A cluster of one commits what its disk does not hold yet.
    case singleServerSkipsSync
    /// R6: A server goes on after its storage failed.
    case outlivesStorageFailure
    /// R6: A step that finds a broken invariant still gives out what it began.
    case brokenStepLeaks
    /// R6: The driver of a halted core still has done what was asked for before in the same turn.
    case haltedDriverActs
    /// R7: What is committed is applied before it is durable here.
    case appliesUndurable
    /// R8: The log is trimmed beyond what is applied.
    case trimsUnapplied
    /// R8: The driver trims the log up to the durable state, snapshot or not.
    case trimsBeyondSnapshot
    /// R8: The driver trims the log up to the snapshot, durable state or not.
    case trimsBeyondDurableState
    /// R9: A write that ends late makes truncated entries stable.
    case lateWriteRevivesTruncated
    /// R9: A write that ends late makes entries stable that a snapshot took the place of.
    case lateWriteRevivesReplaced
    /// R9: Entries that take the place of stable ones count as stable at once.
    case rewrittenStaysStable
    /// R10: A configuration stays in force when its entry is truncated.
    case keepsTruncatedMembership
    /// R10: The cache of entries is not truncated with the log.
    case cachesTruncatedEntries

    // MARK: Elections

    /// R11: A server that finds a leader in its term forgets whom it voted for.
    case forgetsVoteWithinTerm
    /// R12: A log counts as up to date by its length alone.
    case comparesLogLengths
    /// R12: A log counts as up to date by its last term alone.
    case comparesLastTerms
    /// R13: A pre-vote takes its receiver into the term that it asks about.
    case preVoteChangesTerm
    /// R13: A server that hears its leader grants pre-votes all the same.
    case preVoteAgainstLeader
    /// R13: A pre-candidate counts a late grant that speaks of an earlier term.
    case countsLatePreVotes
    /// R14: The election timeout is drawn anew at each tick.
    case redrawsTimeoutEachTick
    /// R14: The election timeout is the same for everybody, always.
    case neverRedrawsTimeout
    /// R15: A learner refuses its vote, though it may have been promoted unawares.
    case learnerRefusesVotes
    /// R15: A server that may not campaign never forgets a silent leader.
    case learnerRemembersLeader
    /// R16: A server campaigns by what it last committed, not by its latest appended membership.
    case campaignsByCommittedMembership
    /// R16: A server that is no voter campaigns.
    case campaignsWithoutVote
    /// R17: A leader that no quorum answers leads on.
    case leadsWithoutQuorum
    /// R17: A leader in a joint configuration is content with answers of the incoming half.
    case asksOneHalfForContact
    /// R18: A rejected append counts as contact.
    case rejectionIsContact
    /// R18: Who speaks from an earlier term is not told the present one.
    case leavesStaleUnanswered
    /// R18: A higher term in the answer to a heartbeat is not obeyed.
    case ignoresTermOfReplies
    /// R19: A leader whose disk hangs leads on.
    case leadsWithStalledDisk
    /// R19: A server whose disk hangs campaigns.
    case campaignsWithStalledDisk
    /// R19: A server whose disk hangs, or that is barred, campaigns when the leader asks it to.
    case campaignsWhenAsked
    /// R19: A leader that is the only voter gives up leadership when its disk hangs, and its reads with it.
    case onlyVoterGivesUp
    /// R19: A server that may not lead campaigns.
    case campaignsWhenBarred
    /// R19: A leader that may not lead any more leads on.
    case leadsWhenBarred
    /// R19: A leader that may not lead takes one wish after the other to hand leadership over, and leads on meanwhile.
    case transfersWhenBarred
    /// R19: A leader that should give way never tries to hand leadership over.
    case neverGivesWay
    /// R20: A leader that becomes a follower drops what is not committed.
    case dropsTailAtStepDown

    // MARK: Replication

    /// R21: Entries of earlier terms are committed by counting.
    case commitsOlderTerms
    /// R22: A follower commits up to its own last index, whether the append verified it or not.
    case commitsUnverified
    /// R23: A heartbeat carries the commit index to followers that are not known to hold it.
    case heartbeatCommitsBeyondMatch
    /// R24: A leader that contradicts a committed entry is not found out.
    case overlooksContradictions
    /// R25: An append with a gap, or with a term from the future, is taken in.
    case acceptsMalformedAppends
    /// R25: The driver sends an append that an earlier leadership asked for.
    case sendsAppendsOfEarlierTerms
    /// R25: The driver sends an append with fewer entries than it is about.
    case sendsShortAppends
    /// R25: An append overtakes one to the same follower that waits for storage.
    case appendsOvertake
    /// R26: A leader probes below what the follower is known to hold.
    case probesBelowMatch
    /// R26: A rejection that an acknowledgement has overtaken is believed.
    case believesStaleRejections
    /// R27: Half of an even number of servers counts as a majority for commits, reads and contact.
    case halfIsAQuorum
    /// R27: Half of an even number of voters elects a leader.
    case halfWinsElections
    /// R27: A joint configuration commits by a majority of the incoming half.
    case commitsByOneHalf
    /// R28: An answer to earlier dealings is taken for one to the present ones.
    case ignoresSessions
    /// R29: A window that nobody acknowledges is not probed.
    case neverProbesFullWindows
    /// R29: A stalled window behind which the log was trimmed is kept.
    case keepsTrimmedWindow
    /// R30: A leader with too many uncommitted bytes does not append its own first entry.
    case refusesOwnNoop
    /// R30: A command larger than the bound is refused even when nothing else is under way.
    case refusesLargeCommands
    /// R30: A follower that does not acknowledge keeps the leader from taking commands.
    case hungPeerBlocksCommands

    // MARK: Reads

    /// R31: A leader reads before an entry of its own term is committed.
    case readsBeforeTermStart
    /// R32: A read joins a round of confirmation that began before it.
    case reusesReadRounds
    /// R32: An answer to a round that never began confirms the ones to come.
    case believesRoundsToCome
    /// R33: A leader answers reads without asking a quorum.
    case readsWithoutRound
    /// R33: A read is answered before its index is applied.
    case readsBeforeApply
    /// R34: In a joint configuration the incoming half alone confirms reads.
    case readsByOneHalf
    /// R34: Reads that leaving a joint configuration confirms wait for an answer that never comes.
    case forgetsReadsAtJointEnd
    /// R36: A leader that stands down forgets its pending reads.
    case forgetsReadsAtStepDown
    /// R36: The answer that completes a removed leader's departure is not counted for its reads first.
    case commitsBeforeItConfirms

    // MARK: Snapshots

    /// R37: A snapshot at or below the commit index is installed.
    case installsOldSnapshots
    /// R38: A log that conflicts with a snapshot is kept because it is long enough.
    case matchesSnapshotByIndex
    /// R38: A snapshot that matches the log takes what stands behind it away.
    case dropsLogBehindSnapshot
    /// R39: A snapshot does not replace the membership.
    case keepsMembershipAtInstall
    /// R40: Core and driver give entries out to apply while a snapshot is installed.
    case appliesDuringRestore
    /// R40: A server that installs a snapshot campaigns.
    case campaignsDuringRestore
    /// R40: A server that installs a snapshot takes no appends in.
    case refusesAppendsDuringRestore
    /// R40: The driver lets the machine load a snapshot before the log that begins behind it is durable.
    case restoresBeforeTheLog
    /// R40: The driver lets the machine load a snapshot while its old state is being flushed.
    case restoresDuringFlush
    /// R40: The driver gives out entries that it fetched before a snapshot took their place.
    case givesOutLateFetch
    /// R41: A snapshot transfer that failed is not tried again.
    case forgetsFailedSnapshot
    /// R41: The driver takes no snapshot where a follower needs one that does not exist yet.
    case takesNoSnapshotOnDemand

    // MARK: Membership, transfer, identity, clients

    /// R42: The membership is changed before an entry of the leader's own term is committed.
    case changesBeforeTermStart
    /// R42: A second change begins before the configuration that ends the first is committed.
    case changesTwiceAtOnce
    /// R42: The driver promotes a learner that has not caught up.
    case promotesLaggingLearners
    /// R43: A leader leads on when its own removal is committed.
    case leadsAfterRemoval
    /// R43: A removed leader stands down without telling the others that its removal is committed.
    case leavesWithoutAWord
    /// R43: A removed follower is forgotten before it is told.
    case dropsRemovedAtOnce
    /// R43: A removed server keeps its clients waiting for what nobody will tell it.
    case removedServerKeepsCommands
    /// R44: Only the leader that began a change leaves its joint configuration.
    case leavesOnlyOwnJoint
    /// R44: In a joint configuration the incoming half alone elects a leader.
    case electsByOneHalf
    /// R45: The order to take over is sent to a server that lacks entries.
    case transfersToLagging
    /// R45: The server that is to take over asks for pre-votes first.
    case transferAsksForPreVotes
    /// R45: Commands are appended while leadership is handed over.
    case appendsDuringTransfer
    /// R45: A transfer that does not come about blocks commands for ever.
    case neverGivesUpTransfer
    /// R45: A transfer that ends with the old leader leading again has no outcome.
    case forgetsWatchedTransfer
    /// R47: A message for another server is taken for one's own.
    case takesForeignMessages
    /// R47: A term that no cluster reaches in earnest is obeyed.
    case believesEveryTerm
    /// R48: A forwarded command that nobody answered is reported as rejected.
    case silenceIsRejection
    /// R48: A command whose entry was truncated here is reported as rejected, though another server may yet commit it.
    case truncatedIsRejected
    /// R48: A command that can never be committed any more keeps its client waiting.
    case supersededStaysOpen
    /// R48: A command that an installed snapshot swallowed is reported as rejected.
    case swallowedIsRejected
    /// R48: Commands whose answers an installed snapshot swallowed keep their clients waiting.
    case swallowedAnswerStaysOpen
}

#if KONTIKI_PLANTED_BUGS
    /// The bug that is switched on; set once, before the first core is made.
    // Sound, for it is written before any thread that reads it starts, and never while one runs.
    package nonisolated(unsafe) var plantedBug: PlantedBug?

    /// Whether `bug` is switched on.
    @inline(__always)
    package func isPlanted(_ bug: PlantedBug) -> Bool { plantedBug == bug }
#else
    /// Whether `bug` is switched on: never, in a build that does not ask for bugs.
    @inlinable @inline(__always)
    package func isPlanted(_ bug: PlantedBug) -> Bool { false }
#endif
