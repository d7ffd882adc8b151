import Simulation

@testable import Raft

/// What survives a crash: the log environment, the newest snapshot file, and where the state machine durably stands.
struct Disk {
    var log = StoredLog()
    var snapshot: LogBase?
    var machine = LogBase()

    /// What a driver does at start (R8): the state machine is brought to where the log begins, and a log that does not hold
    /// the state machine's position begins again behind it.
    mutating func recover() throws {
        if machine.position.index < log.base.position.index {
            guard let snapshot, snapshot.position.index >= log.base.position.index else {
                throw Broken("the log begins at \(log.base.position), beyond the state machine and every snapshot")
            }
            machine = snapshot
        }
        if log.term(at: machine.position.index) != machine.position.term {
            log.base = machine
            log.entries = []
        }
    }
}

/// One server of a test world: a core, its disk, what is on its way to that disk, and a state machine.
final class TestServer: ObservedServer {
    let id: ServerID
    var disk: Disk
    /// nil while crashed.
    var core: Core?
    /// Counts starts, so that what belongs to an earlier life can be told.
    var life = 0

    /// The log as every write asked for so far will have made it: what the driver holds in memory.
    var memory = StoredLog()
    var pendingWrites: [StorageWrite] = []
    var deferred: [DeferredMessage] = []
    var applied: LogIndex = 0
    var applyTarget: LogIndex?
    var restoring: LogBase?

    init(id: ServerID, disk: Disk) {
        switchOnPlantedBug()
        self.id = id
        self.disk = disk
    }

    var isUp: Bool { core != nil }
    var durableLog: StoredLog { disk.log }
    var writtenLog: StoredLog { memory }

    func start(options: Options, seed: UInt64) throws {
        try disk.recover()
        life += 1
        memory = disk.log
        pendingWrites = []
        deferred = []
        applied = disk.machine.position.index
        applyTarget = nil
        restoring = nil
        core = Core(
            id: id,
            options: options,
            seed: seed,
            hardState: disk.log.hardState,
            base: disk.log.base,
            entries: disk.log.entries.map { EntryInfo($0) },
            applied: disk.machine.position.index
        )
        memory.hardState = core!.hardState
    }

    /// Loses what is in memory. The first `surviving` of the writes under way reached the disk, though nobody was told.
    func crash(surviving: Int) throws {
        for write in pendingWrites.prefix(surviving) { try disk.log.carryOut(write) }
        pendingWrites = []
        deferred = []
        applyTarget = nil
        restoring = nil
        core = nil
    }
}
