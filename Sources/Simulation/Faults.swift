import Raft

/// The kinds of trouble, as an operator would name them.
package enum FaultClass: String, Hashable, Sendable, CaseIterable {
    case crashes
    case pauses
    case disks
    case partitions
    case storms
    case wipes
    case membership
    case transfers
    case snapshots
    case clocks
    case bursts
}

/// Something that happens to the world at a moment.
struct PlannedFault: Hashable, Sendable {
    /// In microseconds.
    var time: UInt64
    var fault: Fault
}

enum Fault: Hashable, Sendable {
    /// Which server it meets, looked up when it happens.
    enum Victim: Hashable, Sendable {
        case slot(Int)
        /// Whoever leads in the newest term, else the slot.
        case leader(else: Int)
    }

    /// Moments at which a crash or a change of leaders is worth more than elsewhere.
    enum Moment: Hashable, Sendable, CaseIterable {
        case snapshotWritten, snapshotArrived, restoreBegins, logTrimmed, leads, jointAppended, transferOrdered, votes
    }

    /// A process dies, or its machine: it comes back after `down` microseconds.
    case crash(Victim, down: UInt64)
    /// A process dies in the middle of carrying out what its driver asked for.
    case crashAtEffect(Victim, effects: Int, down: UInt64)
    /// The next process that comes to such a moment dies there, or just after.
    case crashAtMoment(Moment, after: UInt64, down: UInt64)
    /// All machines lose power at once.
    case powerCut(down: UInt64)
    case pause(Victim, time: UInt64)
    /// Every sync takes this long for a while; a very long one is a hung disk.
    case slowDisk(Victim, sync: UInt64, time: UInt64)
    /// A write fails: the process ends, and is started again.
    case failDisk(Victim, down: UInt64)
    case isolate(Victim, time: UInt64)
    case oneWay(from: Int, to: Int, time: UInt64)
    /// The slots of the mask see only one another, and so do the rest; the bridge sees all.
    case halves(mask: UInt64, bridge: Int?, time: UInt64)
    /// A connection breaks; what was on its way is lost.
    case cut(Int, Int)
    /// The whole network loses this many messages in a thousand, and delivers the others late.
    case storm(loss: UInt64, delay: UInt64, time: UInt64)
    /// A disk is replaced by an empty one: its server comes back as another.
    case wipe(Int)
    case changeMembership(choice: UInt64)
    case transfer(to: Int?)
    case snapshot(Int)
    /// A server is told that it may not lead; a restart does not change it.
    case bar(Victim, time: UInt64)
    /// A server would rather not lead from now on, or does not mind any more.
    case giveWay(Victim, Bool)
    /// A server's clock runs at this many thousandths of the true pace from now on.
    case clock(Int, pace: UInt64)
    /// Many commands come at once, to a server that is cut off at the same moment when `isolation` is not 0.
    case burst(Victim, count: Int, isolation: UInt64)

    var kind: FaultClass {
        switch self {
        case .crash, .crashAtEffect, .crashAtMoment, .powerCut: .crashes
        case .pause: .pauses
        case .slowDisk, .failDisk: .disks
        case .isolate, .oneWay, .halves, .cut: .partitions
        case .storm: .storms
        case .wipe: .wipes
        case .changeMembership: .membership
        case .transfer, .bar, .giveWay: .transfers
        case .snapshot: .snapshots
        case .clock: .clocks
        case .burst: .bursts
        }
    }
}

/// Plans the faults of a run before it begins, so that a failing run can be tried with fewer of them.
struct FaultPlanner {
    private var random: SeededRandom
    private let servers: Int
    /// The time scale of elections, in microseconds.
    private let election: UInt64

    init(seed: UInt64, servers: Int, election: UInt64) {
        random = SeededRandom(seed: seed)
        self.servers = servers
        self.election = election
    }

    mutating func plan(length: UInt64, options: SimulationOptions) -> [PlannedFault] {
        // Some worlds are calm, some are a storm; in some only few classes occur, but those often.
        let gap = [100_000, 250_000, 500_000, 1_000_000, 3_000_000][random.pick(5)] as UInt64
        var weights: [(FaultClass, Double)] = []
        for (kind, weight) in Self.weights {
            let here = random.chance(700) ? 1.0 : 0.0
            weights.append((kind, weight * here * (options.intensity[kind] ?? 1)))
        }
        let sum = weights.reduce(0) { $0 + $1.1 }
        guard sum > 0 else { return [] }
        // Intensities change how often, not only what.
        let plain = Self.weights.reduce(0) { $0 + $1.1 } * 0.7
        let mean = UInt64(Double(gap) * min(plain / sum, 20))
        var faults: [PlannedFault] = []
        // The first leader is let begin.
        var time = 2 * election
        while true {
            time += random.upTo(2 * mean) + 1
            guard time < length else { return faults }
            var point = Double(random.next() >> 11) / Double(1 << 53) * sum
            let kind = weights.first { _, weight in
                point -= weight
                return point < 0
            }
            if let kind = kind?.0 { faults.append(PlannedFault(time: time, fault: draw(kind))) }
        }
    }

    private static let weights: [(FaultClass, Double)] = [
        (.crashes, 5), (.pauses, 4), (.disks, 3), (.partitions, 6), (.storms, 1), (.wipes, 1), (.membership, 4),
        (.transfers, 2), (.snapshots, 2), (.clocks, 0.5), (.bursts, 2),
    ]

    private mutating func slot() -> Int { random.pick(servers) }

    private mutating func victim() -> Fault.Victim { random.chance(500) ? .leader(else: slot()) : .slot(slot()) }

    /// A time around the election timeout: from a blink to several elections.
    private mutating func time() -> UInt64 {
        switch random.pick(4) {
        case 0: random.upTo(election)
        case 1, 2: election + random.upTo(3 * election)
        default: random.upTo(12 * election)
        }
    }

    private mutating func draw(_ kind: FaultClass) -> Fault {
        switch kind {
        case .crashes: drawCrash()
        case .pauses: .pause(victim(), time: time())
        case .disks: drawDisk()
        case .partitions: drawPartition()
        case .storms: .storm(loss: 50 + random.upTo(400), delay: random.upTo(election), time: time())
        case .wipes: .wipe(slot())
        case .membership: .changeMembership(choice: random.next())
        case .transfers:
            switch random.pick(5) {
            case 0: .bar(victim(), time: time())
            case 1: .giveWay(victim(), random.chance(700))
            default: .transfer(to: random.chance(500) ? nil : slot())
            }
        case .snapshots: .snapshot(slot())
        case .clocks: .clock(slot(), pace: 700 + random.upTo(700))
        case .bursts:
            .burst(victim(), count: 1 + random.pick(30), isolation: random.chance(700) ? election + time() : 0)
        }
    }

    private mutating func drawCrash() -> Fault {
        switch random.pick(8) {
        case 0: .powerCut(down: random.upTo(2 * election))
        case 1, 2:
            .crashAtMoment(
                random.chance(200)
                    ? .restoreBegins : Fault.Moment.allCases[random.pick(Fault.Moment.allCases.count)],
                after: random.chance(500) ? 0 : random.upTo(20_000),
                down: time()
            )
        case 3, 4: .crashAtEffect(victim(), effects: random.pick(12), down: time())
        default: .crash(victim(), down: time())
        }
    }

    private mutating func drawDisk() -> Fault {
        switch random.pick(4) {
        case 0: .failDisk(victim(), down: time())
        case 1: .slowDisk(victim(), sync: 3 * election, time: time())
        default: .slowDisk(victim(), sync: random.upTo(election / 2), time: time())
        }
    }

    private mutating func drawPartition() -> Fault {
        switch random.pick(6) {
        case 0: .oneWay(from: slot(), to: slot(), time: time())
        case 1: .cut(slot(), slot())
        case 2, 3:
            .halves(mask: random.next(), bridge: random.chance(400) ? slot() : nil, time: time())
        default: .isolate(victim(), time: time())
        }
    }
}

extension SeededRandom {
    /// A number in `0..<count`.
    mutating func pick(_ count: Int) -> Int { Int(truncatingIfNeeded: next() % UInt64(count)) }

    /// A number in `0...bound`.
    mutating func upTo(_ bound: UInt64) -> UInt64 { next() % (bound + 1) }

    mutating func chance(_ thousandths: UInt64) -> Bool { next() % 1000 < thousandths }
}
