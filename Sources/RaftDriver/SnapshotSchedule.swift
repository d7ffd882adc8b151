internal import Raft

/// When snapshots are sent: where one did not arrive, whatever the reason, the next waits, longer each time, until one does.
struct SnapshotSchedule: Sendable {
    private struct Peer: Sendable {
        var id: ServerID
        var retry = Retry()
        /// Waits for its time.
        var waiting: SnapshotSend?
    }

    /// Those to which one did not arrive, in the order in which that happened first.
    private var peers: [Peer] = []

    /// Whether a snapshot may be sent now; otherwise ``due(at:)`` names it when its time has come.
    mutating func admits(_ send: SnapshotSend, at tick: UInt64) -> Bool {
        guard let place = peers.firstIndex(where: { $0.id == send.to }), tick < peers[place].retry.tick else {
            return true
        }
        peers[place].waiting = send
        return false
    }

    /// A transfer that was begun has come to its end.
    mutating func ended(_ peer: ServerID, hasArrived: Bool, at tick: UInt64, _ options: DriverOptions) {
        let place = peers.firstIndex { $0.id == peer }
        if hasArrived {
            if let place { peers.remove(at: place) }
            return
        }
        if place == nil { peers.append(Peer(id: peer)) }
        peers[place ?? peers.count - 1].retry.postpone(at: tick, options)
    }

    /// Those that waited and may be sent now.
    mutating func due(at tick: UInt64) -> [SnapshotSend] {
        var due: [SnapshotSend] = []
        for place in peers.indices where tick >= peers[place].retry.tick {
            if let send = peers[place].waiting.take() { due.append(send) }
        }
        return due
    }

    /// This server leads no more: what waited is void, and whoever leads again begins anew.
    mutating func removeAll() { peers.removeAll() }
}

/// When something is tried again that failed or lacked room.
struct Retry: Sendable {
    /// Not before this tick.
    private(set) var tick: UInt64 = 0
    private var pause: UInt64 = 0

    /// The last try failed.
    var isPending: Bool { pause > 0 }

    mutating func postpone(at now: UInt64, _ options: DriverOptions) {
        pause = min(max(2 * pause, options.retryTicks), options.maxRetryTicks)
        tick = now + pause
    }
}
