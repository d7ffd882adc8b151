/// What world a seed is played in. Everything that is nil is drawn from the seed.
package struct SimulationOptions: Hashable, Sendable {
    package static let serverCounts = 1...7

    package var seed: UInt64
    /// Servers, 1 to 7.
    package var servers: Int?
    /// How long faults happen, in simulated seconds; the time to heal comes on top.
    package var seconds: Double = 20
    /// Messages lost, in thousandths.
    package var loss: UInt64?
    /// Messages delivered twice, in thousandths.
    package var duplication: UInt64?
    /// Multiplies how often faults of each class happen; 0 switches a class off.
    package var intensity: [FaultClass: Double] = [:]  // looked up only
    /// Of the faults that the seed plans, only these happen, by their numbers from 0; nil lets all happen.
    package var keptFaults: [Int]?
    /// A world that breaks its word, to see it convicted.
    package var brokenDisk: BrokenDisk?
    /// Whether the world checks what disks say against what they hold, so that a disk that lies is named.
    package var auditsDisks = true
    /// Keep a readable transcript.
    package var traces = false

    package init(seed: UInt64) { self.seed = seed }
}

/// What a disk can do that no disk may.
package enum BrokenDisk: String, Hashable, Sendable, CaseIterable {
    /// Reports a write as durable that a power cut then takes away.
    case lies
    /// Loses the vote, not the term.
    case losesVotes = "loses-votes"
}
