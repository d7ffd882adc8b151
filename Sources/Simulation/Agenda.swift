import HeapModule
import Raft
import RaftDriver

/// Something that is going to happen. Servers are named by their identity and their life: what belongs to an earlier one is void.
enum Happening: Sendable {
    case tick(ServerID, life: Int)
    case arrival(Message)
    case drain(ServerID, life: Int)
    case synced(ServerID, life: Int)
    case fetched(ServerID, life: Int, Driver.Fetch, ClosedRange<LogIndex>, maxBytes: Int)
    case background(ServerID, life: Int, BackgroundWork)
    case snapshotPiece(SnapshotTransfer)
    case transferEnded(ServerID, life: Int, to: ServerID, number: UInt64, sent: LogIndex?)
    case unreachable(ServerID, life: Int, ServerID)
    case clientWakes(Int)
    case clientTimesOut(Int, operation: Int)
    case fault(Int)
    case crash(ServerID, life: Int, down: UInt64)
    case restart(ServerID)
    case resume(ServerID, life: Int)
    case partitionHeals(Int)
    case stormEnds
    case diskRecovers(ServerID)
    case mayLeadAgain(ServerID)
    case rescue

    /// The process that has to be running, and awake, for it to happen.
    var process: (id: ServerID, life: Int)? {
        switch self {
        case .tick(let id, let life), .drain(let id, let life), .synced(let id, let life),
            .fetched(let id, let life, _, _, _), .background(let id, let life, _),
            .transferEnded(let id, let life, _, _, _), .unreachable(let id, let life, _):
            (id, life)
        default: nil
        }
    }
}

/// What a background thread finishes.
enum BackgroundWork: Sendable {
    case flushed(RegisterMachine)
    /// The state is durable; its snapshot is to be written next.
    case flushedForSnapshot(RegisterMachine)
    case snapshotWritten(SimulatedSnapshot, durable: LogPosition)
    case restored(LogBase)
}

struct SnapshotTransfer: Sendable {
    var number: UInt64
    var from: ServerID
    var fromLife: Int
    var to: ServerID
    var toLife: Int
    var snapshot: SimulatedSnapshot
    static let pieces = 4
}

/// What is going to happen, by time; what is due at the same time happens in the order it was put in.
struct Agenda: Sendable {
    private struct Slot: Comparable, Sendable {
        var time: UInt64
        var number: UInt64
        var place: Int

        static func < (left: Slot, right: Slot) -> Bool {
            left.time != right.time ? left.time < right.time : left.number < right.number
        }
    }

    private var heap = Heap<Slot>()
    private var happenings: [Happening?] = []
    private var free: [Int] = []
    private var lastNumber: UInt64 = 0

    mutating func add(_ happening: Happening, at time: UInt64) {
        lastNumber += 1
        let place: Int
        if let last = free.popLast() {
            place = last
            happenings[place] = happening
        } else {
            place = happenings.count
            happenings.append(happening)
        }
        heap.insert(Slot(time: time, number: lastNumber, place: place))
    }

    mutating func next() -> (time: UInt64, happening: Happening)? {
        guard let slot = heap.popMin(), let happening = happenings[slot.place].take() else { return nil }
        free.append(slot.place)
        return (slot.time, happening)
    }
}
