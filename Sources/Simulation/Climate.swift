import Raft
import RaftDriver

/// The standing conditions of a world, drawn from its seed. Times are in microseconds.
struct Climate: Hashable, Sendable {
    var servers: Int
    var voters: Int
    var clients: Int
    var keys: Int
    /// Between two ticks of a clock that runs true: the product's default.
    let tick: UInt64 = 20_000
    var core = Options()
    var driver = DriverOptions()
    /// In thousandths.
    var loss: UInt64
    var duplication: UInt64
    var shortestDelay: UInt64
    var delaySpread: UInt64
    /// Messages of which one in a thousand is late by up to an election timeout, and so overtaken.
    var stragglers: UInt64
    /// What arrives within this time is taken as one step.
    var batching: UInt64
    var sync: UInt64
    var syncSpread: UInt64
    /// Between two requests of one client, on average.
    var thinking: UInt64
    var clientTimeout: UInt64
    /// Reads among the requests, in thousandths.
    var reads: UInt64
    /// Requests that go to any server rather than to the one that led lately, in thousandths.
    var strays: UInt64

    var election: UInt64 { core.electionTicks * tick }

    init(_ options: SimulationOptions, random: inout SeededRandom) {
        func one<Value>(of values: [Value]) -> Value { values[random.pick(values.count)] }
        // Drawn whether it is needed or not: with the same numbers given, the world is the same.
        let count = one(of: [1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7])
        servers = options.servers ?? count
        // A few begin outside and may be taken in.
        let outside = random.chance(400) ? 1 + random.pick(4) : 0
        voters = max(servers - outside, min(servers, 3))
        clients = 1 + random.pick(6)
        keys = 1 + random.pick(5)
        core.electionTicks = 8 + random.upTo(16)
        core.heartbeatTicks = 1 + random.upTo(3)
        core.maxInFlightMessages = one(of: [1, 2, 4, 16, 256])
        core.maxInFlightBytes = one(of: [200, 1 << 20])
        core.maxAppendEntries = one(of: [1, 2, 8, 1024])
        core.maxAppendBytes = one(of: [100, 1 << 18])
        core.maxUncommittedBytes = one(of: [300, 4_000, 1 << 20])
        driver.cacheBytes = one(of: [0, 500, 1 << 20])
        driver.applyBytes = one(of: [1, 300, 1 << 20])
        driver.snapshotLogBytes = one(of: [400, 2_000, 10_000, 1 << 20])
        driver.snapshotGrowth = one(of: [0, 1])
        driver.trailingLogBytes = one(of: [0, 200, 2_000])
        driver.flushBytes = one(of: [100, 1_000, 1 << 20])
        driver.flushTicks = one(of: [5, 50, 1_500])
        driver.promotionLag = one(of: [0, 3, 256])
        let lost: UInt64 = one(of: [0, 0, 5, 20, 100, 300])
        let doubled: UInt64 = one(of: [0, 0, 10, 100, 500])
        loss = options.loss ?? lost
        duplication = options.duplication ?? doubled
        shortestDelay = one(of: [20, 100, 1_000])
        delaySpread = one(of: [50, 500, 2_000, 20_000])
        stragglers = one(of: [0, 2, 20, 100])
        batching = one(of: [0, 0, 200, 2_000])
        sync = one(of: [50, 500, 4_000])
        syncSpread = one(of: [50, 1_000, 20_000])
        thinking = one(of: [20_000, 100_000, 400_000, 2_000_000])
        clientTimeout = one(of: [300_000, 1_000_000])
        reads = one(of: [200, 500, 700])
        strays = one(of: [50, 300, 1_000])
    }
}
