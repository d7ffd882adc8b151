import Simulation

@testable import Raft

/// What survives a crash.
struct Disk {
    var log = StoredLog()
    /// Where the state machine durably stands.
    var machine = LogBase()
    var snapshot: LogBase?

    /// What a driver does at start (R8): the state machine is brought to where the log begins, and a log that does not hold the
    /// state machine's position begins again behind it.
    mutating func recover() throws {
        if machine.position.index < log.base.position.index {
            guard let snapshot, snapshot.position.index >= log.base.position.index else {
                throw Broken("the log begins beyond the state machine and every snapshot")
            }
            machine = snapshot
        }
        if log.term(at: machine.position.index) != machine.position.term {
            log.base = machine
            log.entries = []
        }
    }
}

/// When a server's writes become durable.
enum DiskPace: String {
    /// When the scenario says so, or comes to rest.
    case slow
    /// At once.
    case fast
    /// Only when the scenario says so.
    case stuck
}

/// One server of a scenario: a core, its disk, what is on its way to that disk, and how far its state machine has come.
final class Server {
    let number: Int
    var disk = Disk()
    /// nil while crashed or halted.
    var core: Core?
    var life: UInt64 = 0
    var pace = DiskPace.slow
    var appliesAtOnce = true

    /// The log as every write asked for so far will have made it.
    var memory = StoredLog()
    var pendingWrites: [StorageWrite] = []
    var deferred: [DeferredMessage] = []
    var applied: LogIndex = 0
    var applyTarget: LogIndex?
    var restoring: LogBase?

    init(number: Int) { self.number = number }

    var id: ServerID { ServerID(UInt64(number)) }

    func start(options: Options, seed: UInt64) throws {
        try disk.recover()
        life += 1
        memory = disk.log
        applied = disk.machine.position.index
        core = Core(
            id: id,
            options: options,
            seed: seed &* 1_000_003 &+ UInt64(number) &* 1009 &+ life,
            hardState: disk.log.hardState,
            base: disk.log.base,
            entries: disk.log.entries.map { EntryInfo($0) },
            applied: applied
        )
    }

    /// Loses what is in memory. The first `keeping` of the writes under way reached the disk, though nobody was told.
    func stop(keeping: Int) throws {
        for write in pendingWrites.prefix(keeping) { try disk.log.carryOut(write) }
        pendingWrites = []
        deferred = []
        applyTarget = nil
        restoring = nil
        core = nil
    }
}
