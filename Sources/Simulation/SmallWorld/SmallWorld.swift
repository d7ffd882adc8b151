/// Small worlds, searched through: every schedule of a few servers of the real core within given bounds, breadth first.
///
/// A *world* is each server's core, disk, writes under way and messages that wait for such writes; the messages on
/// their way to it; and the history that the promises of Raft speak of: who led which term, what was committed, which
/// requests were made. From each world the search tries everything that may happen next:
///
/// - a message arrives: any that was sent, in any order. Nothing needs to arrive, so loss needs no event of its own,
///   nor do partitions and servers that are down. What arrives without any effect is not followed: that is loss.
/// - time: an election timeout at any server, a heartbeat, a leader that has lost touch with its followers. Raft's
///   safety must not hang on timing, so timers fire whenever the search likes (`Core.elapse`).
/// - the oldest write of a server becomes durable, and what waited for it leaves.
/// - a request to a leader: a command, a read, a membership change, a transfer.
/// - a crash with a restart from disk, with any number of the writes under way lost. The state machine is as volatile
///   as the process; it is built again from the log.
///
/// Committed entries are applied at once, and snapshots are left to the simulator.
///
/// Every world and every step is checked: one leader a term; log matching; leader completeness; what is committed
/// never changes and is durable on a quorum; applied sequences agree; terms, votes and commit indices never go back;
/// nothing leaves before what it promises is durable; no server votes twice in a term, over crashes too; each request
/// has one outcome, and a true one; no core halts.
///
/// **How it is stored.** A server's state, a set of messages and a history are each stored once and numbered in the
/// order of their discovery, so a world is a handful of 32-bit numbers: worlds are compared exactly, nothing is left
/// to fingerprints. What one event does to one server in one state is worked out once, by the real core, and
/// remembered. Nothing hangs on the hashing of the process: the search order, all counts and the path to a violation
/// are the same in every run.
package enum SmallWorld {
    /// What is broken on purpose, to see that the search finds it.
    package enum Fault: String, Sendable, CaseIterable {
        case none
        /// The disk reports writes as durable which a crash still loses.
        case lyingDisk
        /// The disk forgets the vote at a crash, but not the term.
        case forgottenVote
        /// The disk loses the log's last entry at a crash.
        case lostEntry
        /// The network answers a request for votes with a vote that nobody gave.
        case forgedVote
        /// The driver sends messages before the write that they wait for is durable.
        case impatientDriver
    }

    /// The bounds of a world.
    package struct Options: Sendable {
        /// Servers 1 to `servers`; 1 to 4.
        package var servers = 2
        /// How many of them, from server 1 on, are voters at the beginning; nil for all. The others wait to be taken
        /// in.
        package var initialVoters: Int?
        /// Terms that may be campaigned for.
        package var terms = 2
        /// Commands that clients send.
        package var proposals = 1
        /// Reads that clients ask a leader for. A follower's request for a read index may be repeated without end,
        /// each time with a round of its own; the simulator has those.
        package var reads = 0
        /// Orders to hand leadership over, each to the best follower.
        package var transfers = 0
        /// Crashes over all servers.
        package var crashes = 0
        /// Messages that may arrive once more than they were sent; nil where every message may arrive any number of
        /// times, at any time after it was sent.
        package var duplications: Int?
        /// Membership changes in the order in which they are asked for, each the numbers of the voters it leads to.
        package var membershipChanges: [[Int]] = []
        /// Writes that one server may have under way; a server waits for its disk before it has more. 0 makes every
        /// write durable at once.
        package var writesUnderWay = 1
        /// Entries in one append.
        package var entriesPerAppend = 4
        /// Appends under way to one follower.
        package var appendsUnderWay = 2
        /// The search ends without a fixed point when it has found this many worlds.
        package var maxStates = 20_000_000
        /// Whether servers say at once whatever they can say without changing. Only where every message may arrive
        /// any number of times: there, more messages only allow more, so a world in which all is said can do whatever
        /// the worlds before it can. It has a fraction of the worlds and the same states of servers.
        package var isReduced = true
        package var fault = Fault.none

        package init() {}
    }

    /// How far a search is.
    package struct Progress: Sendable {
        /// Distinct worlds found.
        package var states: Int
        /// Worlds found and not yet expanded.
        package var frontier: Int
        /// Events from the beginning to the worlds that are being expanded.
        package var depth: Int
        /// Events tried, whether they led to a new world or not.
        package var transitions: Int
        package var elapsed: Duration

        /// Distinct worlds found a second.
        package var statesPerSecond: Double { Double(states) / max(elapsed / .seconds(1), 1e-9) }
    }

    /// A broken promise and the shortest way there.
    package struct Violation: Sendable, CustomStringConvertible {
        package var description: String
        /// The events from the beginning on, one line each; the last one breaks the promise.
        package var path: [String]
    }

    package struct Report: Sendable {
        package var progress: Progress
        /// Whether every world within the bounds was expanded.
        package var fixedPoint: Bool
        package var violation: Violation?
        /// Distinct states of single servers, sets of messages on their way to one server, and histories.
        package var localStates: Int
        package var messageSets: Int
        package var histories: Int
        /// Steps that the real core was made to take.
        package var coreSteps: Int
    }

    /// Searches through all worlds within `options`, until the fixed point, a violation, or ``Options/maxStates``.
    /// `progress` is called now and then and answers whether to go on.
    package static func explore(_ options: Options, progress: (Progress) -> Bool = { _ in true }) -> Report {
        var explorer = Explorer(options)
        return explorer.run(progress)
    }
}
