import DequeModule
import Raft
import RaftDriver

/// A snapshot file.
struct SimulatedSnapshot: Sendable {
    var base: LogBase
    var machine: RegisterMachine
}

/// What outlives a process: the log, the machine's durable state and the snapshot files.
struct SimulatedDisk: Sendable {
    var log: StoredLog
    var machine: RegisterMachine
    /// Oldest first.
    var snapshots: [SimulatedSnapshot] = []
    /// How much has come of a snapshot that is still arriving, in pieces.
    var partial: (position: LogPosition, pieces: Int)?
    /// Of a disk that lies: what is really there. What `log` holds beyond it goes with the power.
    var platter: StoredLog?

    /// The newest two stay, the new one, and one that is being loaded.
    mutating func add(_ snapshot: SimulatedSnapshot, loading: LogPosition?) {
        let position = snapshot.base.position
        guard !snapshots.contains(where: { $0.base.position == position }) else { return }
        snapshots.append(snapshot)
        snapshots.sort { $0.base.position.index < $1.base.position.index }
        let newest = snapshots.suffix(2).map(\.base.position)
        snapshots.removeAll { old in
            let place = old.base.position
            return !newest.contains(place) && place != position && place != loading
        }
    }
}

/// Who waits for the outcome of a token.
enum Waiter: Hashable, Sendable {
    case operation(Int)
    case administration
}

/// One server: a driver, its disk, and what is on its way between them.
final class SimulatedServer: ObservedServer {
    let id: ServerID
    let slot: Int
    var life = 0
    /// nil while the process is down.
    var driver: Driver?
    var disk: SimulatedDisk
    var writtenLog: StoredLog

    /// Asked of the disk and not durable yet; the first `syncing` of them are being written.
    var pendingWrites: [StorageWrite] = []
    var syncing = 0
    var machine: RegisterMachine
    var answers = Answers<Bool>()
    var waiters: [Token: Waiter] = [:]  // looked up, and counted
    /// Tokens whose outcome came, though who waits may still wait for the apply.
    var settled: Set<Token> = []  // looked up only
    private var lastToken: Token = Driver.internalToken
    /// What was handed to the driver and is not carried out yet.
    var backlog: Deque<Driver.Actions> = []
    var isPerforming = false
    /// Carry out so many effects, then die.
    var effectsLeft: (count: Int, down: UInt64)?
    var restoring: LogPosition?
    /// Snapshots on their way out, by receiver; one that is replaced is not heard of any more.
    var transfers: [ServerID: UInt64] = [:]  // looked up only

    /// Events that arrived and wait to be taken in one step.
    var inbox: [Event] = []
    var isPaused = false
    /// What would have happened while the process stood still.
    var held: [Happening] = []
    /// Requests that came in the meantime.
    var heldEvents: [Event] = []
    /// Between two ticks, in microseconds.
    var tickLength: UInt64
    var sync: UInt64?
    /// It may not lead, in this life and the next.
    var isBarred = false
    var wasLeader = false
    var watch = Watch()
    /// Its disk was replaced; another server has taken its slot.
    var isGone = false

    init(id: ServerID, slot: Int, base: LogBase, machine: RegisterMachine, tickLength: UInt64) {
        self.id = id
        self.slot = slot
        self.machine = machine
        self.tickLength = tickLength
        disk = SimulatedDisk(log: StoredLog(base: base), machine: machine)
        writtenLog = disk.log
    }

    var core: Core? { driver?.core }
    var durableLog: StoredLog { disk.log }
    var isUp: Bool { driver != nil }

    func register(_ waiter: Waiter) -> Token {
        lastToken += 1
        waiters[lastToken] = waiter
        return lastToken
    }

    /// The process is gone, and with it all that it held in memory.
    func forget() {
        driver = nil
        pendingWrites = []
        syncing = 0
        answers.removeAll()
        waiters = [:]
        settled = []
        backlog = []
        effectsLeft = nil
        restoring = nil
        transfers = [:]
        inbox = []
        isPaused = false
        wasLeader = false
        watch = Watch()
        held = []
        heldEvents = []
    }
}
