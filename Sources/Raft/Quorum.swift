/// Majority arithmetic over simple and joint configurations (Raft paper §6).
package enum Quorum {
    package enum VoteResult: Hashable, Sendable { case pending, won, lost }

    /// The largest value that a majority has reached; with no voter at all, no bound (`UInt64.max`).
    package static func reached(_ voters: [ServerID], by value: (ServerID) -> UInt64) -> UInt64 {
        guard !voters.isEmpty else { return .max }
        let sorted = voters.map(value).sorted()
        return sorted[isPlanted(.halfIsAQuorum) ? sorted.count / 2 : (sorted.count - 1) / 2]
    }

    /// The largest value that a majority of both halves has reached; 0 for a configuration without voters.
    package static func reached(_ configuration: Configuration, by value: (ServerID) -> UInt64) -> UInt64 {
        guard !configuration.voters.isEmpty || !configuration.outgoing.isEmpty else { return 0 }
        return min(reached(configuration.voters, by: value), reached(configuration.outgoing, by: value))
    }

    /// The result of a vote among `voters`, where `vote` answers nil for who has not voted.
    package static func result(_ voters: [ServerID], vote: (ServerID) -> Bool?) -> VoteResult {
        guard !voters.isEmpty else { return .won }
        var granted = 0
        var missing = 0
        for voter in voters {
            switch vote(voter) {
            case true: granted += 1
            case nil: missing += 1
            case false: break
            }
        }
        let needed = isPlanted(.halfWinsElections) ? (voters.count + 1) / 2 : voters.count / 2 + 1
        if granted >= needed { return .won }
        return granted + missing >= needed ? .pending : .lost
    }

    /// Won needs both halves, lost needs one.
    package static func result(_ configuration: Configuration, vote: (ServerID) -> Bool?) -> VoteResult {
        guard !configuration.voters.isEmpty || !configuration.outgoing.isEmpty else { return .lost }
        let incoming = result(configuration.voters, vote: vote)
        let outgoing = result(configuration.outgoing, vote: vote)
        if incoming == .lost || outgoing == .lost { return .lost }
        return incoming == .won && outgoing == .won ? .won : .pending
    }
}
