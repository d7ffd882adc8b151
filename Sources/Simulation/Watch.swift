import Raft
import RaftDriver

/// What the world knows of a server's dealings, to hold it to the rules that are about time: in ticks of its own clock.
struct Watch: Sendable {
    /// When a voter last answered this leader well, by its identity.
    private var answered: [ServerID: UInt64] = [:]  // looked up only
    private var leadsSince: UInt64 = 0
    /// When this leader was last the only voter, who leads whatever happens: there is nobody to give way to.
    private var aloneAt: UInt64 = 0
    private var configurationIndex: LogIndex = 0
    /// The leader that was heard of last, its term, and when.
    private var leader: (term: Term, tick: UInt64)?
    /// The step under way takes in nothing but a pre-vote: what is promised now was not promised before and kept back for the disk.
    var answersPreVote = false
    /// When the oldest write under way was asked for.
    var syncSince: UInt64?
    /// When the server was told that it may not lead.
    var barredSince: UInt64?

    // MARK: What happens

    /// A message comes to a server that is in a term.
    mutating func arrives(_ message: Message, inTerm term: Term, at tick: UInt64) {
        guard message.term == term else { return }
        switch message.body {
        case .heartbeatResponse: answered[message.from] = tick
        case .appendResponse(let response):
            if case .accepted = response.result { answered[message.from] = tick }
        case .append, .heartbeat: leader = (term, tick)
        default: break
        }
    }

    mutating func leads(_ tick: UInt64) { leadsSince = tick }

    /// Said at each step, not at each tick: it may be the only voter for a part of a tick.
    mutating func leadsAlone(_ tick: UInt64) { aloneAt = tick }

    // MARK: What must hold

    /// R17, R19: a leader that hears no quorum, or whose disk does not answer, does not go on leading.
    mutating func checkLeader(_ server: SimulatedServer, _ driver: Driver) throws(Broken) {
        let core = driver.core
        guard core.isLeader else { return }
        if configurationIndex != core.configurationIndex {
            // New voters have a while to be heard of.
            configurationIndex = core.configurationIndex
            leadsSince = driver.ticks
        }
        let patience = 2 * core.options.electionTicks + 2
        if let barredSince, driver.ticks - max(barredSince, aloneAt) > patience {
            throw Broken("server \(server.id.rawValue) leads though it may not for \(driver.ticks - barredSince) ticks")
        }
        if let syncSince, driver.ticks - max(syncSince, aloneAt) > patience {
            throw Broken(
                "server \(server.id.rawValue) leads while its disk has not answered for \(driver.ticks - syncSince) ticks (R19)"
            )
        }
        guard driver.ticks - leadsSince > patience else { return }
        for half in [core.configuration.voters, core.configuration.outgoing] where !half.isEmpty {
            let count = half.count { id in
                id == core.id || answered[id].map { driver.ticks - $0 <= patience } ?? false
            }
            try demand(
                2 * count > half.count,
                "server \(server.id.rawValue) leads in term \(core.term), and only \(count) of \(half.count) voters answered lately (R17)"
            )
        }
    }

    /// Whether ``checkSent(_:_:)`` has something to say of such a message.
    static func concerns(sent message: Message) -> Bool {
        switch message.body {
        case .preVoteRequest, .preVoteResponse(granted: true): true
        default: false
        }
    }

    /// R13, R19: who hears its leader promises no vote to others, and who has a hung disk does not campaign.
    func checkSent(_ message: Message, _ driver: Driver) throws(Broken) {
        switch message.body {
        case .preVoteResponse(granted: true):
            guard answersPreVote, let leader, leader.term == driver.core.term, driver.core.leaderID != nil else {
                return
            }
            try demand(
                driver.ticks - leader.tick >= driver.core.options.electionTicks,
                "server \(message.from.rawValue) hears its leader and would vote for \(message.to.rawValue) (R13)"
            )
        case .preVoteRequest:
            guard let syncSince else { return }
            try demand(
                driver.ticks - syncSince <= driver.core.options.electionTicks + 2,
                "server \(message.from.rawValue) campaigns with a disk that does not answer (R19)"
            )
        default: break
        }
    }
}
