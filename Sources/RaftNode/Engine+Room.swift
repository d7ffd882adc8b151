internal import Logging
internal import Raft
internal import RaftDriver

/// What the node does without room on its disks: it refuses commands, goes on reading, and looks for room again and again.
extension Engine {
    /// What there is no room for, in words; nil where there is.
    struct Lack: Equatable {
        var log: String?
        var state: String?
        var snapshot: String?

        var description: String? {
            let parts = [log, state, snapshot].compactMap { $0 }
            return parts.isEmpty ? nil : parts.joined(separator: "; ")
        }
    }

    /// Something was tried that needs room: `detail` says what is lacking, nil that there was room.
    func noteRoom(_ part: WritableKeyPath<Lack, String?>, _ detail: String?) {
        var now = lackOfRoom
        now[keyPath: part] = detail
        if now != lackOfRoom { noteRoom(now) }
    }

    private func noteRoom(_ now: Lack) {
        let before = lackOfRoom
        lackOfRoom = now
        // Once at the beginning and once at the end, however often it is tried.
        switch (before.description, now.description) {
        case (nil, let detail?):
            logger.error("there is no room; reads go on", metadata: ["reason": "\(detail)"])
        case (_?, nil): logger.notice("there is room again")
        default: break
        }
        updateAdmission()
        publishRoom()
    }

    /// While there is no room for snapshots only, the log grows until it has none. While only the state cannot be made durable, commands are taken as long as memory has room for what they leave there.
    private var mustRefuse: Bool {
        if lackOfRoom.log != nil { return true }
        return lackOfRoom.state != nil && machine.unflushedBytes / 2 >= options.driver.flushBytes
    }

    /// On every tick while room is lacking, and when that changes.
    func updateAdmission() {
        let refuses = mustRefuse
        guard driver.lacksRoom != refuses else { return }
        driver.lacksRoom = refuses
        publishRoom()
        // Others may have room.
        step([.giveWay(refuses)])
    }

    func publishRoom() {
        board.update {
            $0.lackOfRoom = lackOfRoom.description
            $0.refusesWrites = driver.lacksRoom
        }
    }

    /// What a client's command is told while there is no room for it; nil while there is.
    var rejectionForLackOfRoom: Rejection? {
        guard driver.lacksRoom, driver.core.isLeader, let detail = lackOfRoom.description else { return nil }
        return Rejection(.storageFull, leader: driver.core.leaderID, detail: detail)
    }
}
