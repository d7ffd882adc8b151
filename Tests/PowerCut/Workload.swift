internal import KeyValue
internal import KeyValueService
internal import NIOCore
internal import Raft
internal import RaftNode

/// What a node does while its disk is recorded.
package enum Workload: String, CaseIterable, Sendable {
    /// The first start, puts and deletes one by one, and restarts.
    case single
    /// Many clients at once: groups of entries in one commit.
    case groups
    /// Values of some tens of kilobytes.
    case values
    /// Flushes, snapshots and trims.
    case compaction
    /// A server that led comes back to a log that went another way.
    case truncation
    /// A server joins by a snapshot, and comes back to one that is far ahead of its log.
    case snapshot
    /// A second voter is taken in, removed and taken in again.
    case membership
    /// Transactions, increments, leases, locks and idempotency keys, and the past of all that.
    case coordination
    /// The start on what a power cut left, for a cut in the middle of it.
    case recovery

    /// Plays it; the first server's data lie in `directory`/disk.
    ///
    /// - Parameter isUnsynced: the logs are not flushed, which must be noticed.
    package func play(in directory: String, seed: UInt64, isUnsynced: Bool = false) async throws {
        let stage = try Stage(directory: directory, seed: seed, isUnsynced: isUnsynced)
        switch self {
        case .single: try await stage.single()
        case .groups: try await stage.groups()
        case .values: try await stage.values()
        case .compaction: try await stage.compaction()
        case .truncation: try await stage.truncation()
        case .snapshot: try await stage.snapshot()
        case .membership: try await stage.membership()
        case .coordination: try await stage.coordination()
        case .recovery: try await stage.recovery()
        }
    }
}

/// The servers of a run and what they are asked to do.
final class Stage {
    let directory: String
    private let isUnsynced: Bool
    private let book: EntryBookWriter
    private let subject: Notes
    private let ports: [Int]
    private var random: SeededNumbers
    let clock = ManualClock()

    init(directory: String, seed: UInt64, isUnsynced: Bool) throws {
        self.directory = directory
        self.isUnsynced = isUnsynced
        book = try EntryBookWriter(path: directory + "/book")
        subject = Notes(isSubject: true, book: book)
        ports = try (0..<3).map { _ in try Ports.next() }
        random = SeededNumbers(seed: seed)
    }

    // MARK: Servers

    /// The one whose disk is recorded.
    func startSubject(
        _ beginning: NodeOptions.Beginning,
        binds: Bool = true,
        isPatient: Bool = false
    ) async throws -> Server {
        try await Server.start(
            directory + "/disk",
            beginning,
            port: ports[0],
            notes: subject,
            bindsAcknowledgements: binds,
            isUnsynced: isUnsynced,
            isPatient: isPatient,
            clock: clock
        )
    }

    private func startOther(
        _ number: Int,
        _ beginning: NodeOptions.Beginning,
        isPatient: Bool = false
    ) async throws -> Server {
        let path = directory + "/other-\(number)"
        try makeDirectories(path)
        return try await Server.start(
            path,
            beginning,
            port: ports[number],
            notes: Notes(isSubject: false, book: book),
            isUnsynced: isUnsynced,
            isPatient: isPatient,
            clock: clock
        )
    }

    private func awaitVoters(_ count: Int, on server: Server) async throws {
        try await eventually("there are \(count) voters") {
            let configuration = server.node.status.configuration
            return configuration.voters.count == count && !configuration.isJoint
        }
    }

    /// Asks again where nobody led, or it was not seen to succeed.
    private func remove(_ id: ServerID, through server: Server) async throws {
        var mayBeDone = false
        try await eventually("a server is removed") {
            guard server.node.status.configuration.contains(id) else { return true }
            do throws(OperationError) {
                try await server.node.changeMembership(.remove(id), timeout: .seconds(30))
                return true
            } catch {
                // The status may be a tick old: one that is gone by now is not known.
                guard error.code != .invalid || mayBeDone else { throw error }
                mayBeDone = true
                return false
            }
        }
    }

    private func awaitAgreement(_ server: Server, with leader: Server) async throws {
        try await eventually("a server has caught up") {
            server.node.machine.store.mark.index >= leader.node.machine.store.mark.index
        }
    }

    // MARK: Commands

    private func key() -> String { "key-\(random.next() % 12)" }

    private func value(_ size: Int) -> [UInt8] {
        let first = UInt8(truncatingIfNeeded: random.next())
        return [UInt8](repeating: first, count: size) + Array(String(random.next(), radix: 16).utf8)
    }

    private func writes(_ count: Int, on server: Server, size: Int = 40) async throws {
        for number in 0..<count {
            if number % 7 == 6 {
                try await server.delete(key())
            } else {
                try await server.put(key(), value(size))
            }
        }
    }

    private func concurrentWrites(_ clients: Int, _ each: Int, on server: Server) async throws {
        let plans = (0..<clients).map { _ in (0..<each).map { _ in (key(), value(30)) } }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for plan in plans {
                group.addTask { for (key, value) in plan { try await server.put(key, value) } }
            }
            try await group.waitForAll()
        }
    }

    // MARK: Workloads

    func single() async throws {
        for start in 0..<4 {
            let server = try await startSubject(start == 0 ? .bootstrap : .mustExist)
            try await writes(12, on: server)
            try await server.carryOut(.deletePrefix(Array("key-1".utf8)[...]))
            try await server.stop()
        }
    }

    func groups() async throws {
        let server = try await startSubject(.bootstrap)
        try await concurrentWrites(16, 12, on: server)
        try await server.stop()
    }

    func values() async throws {
        let server = try await startSubject(.bootstrap)
        for _ in 0..<12 { try await server.put(key(), value(2_000 + Int(random.next() % 30_000))) }
        try await server.stop()
    }

    func compaction() async throws {
        let server = try await startSubject(.bootstrap)
        for _ in 0..<6 {
            try await writes(20, on: server, size: 200)
            try await concurrentWrites(8, 4, on: server)
        }
        try await server.stop()
    }

    func truncation() async throws {
        var server = try await startSubject(.bootstrap, binds: false)
        var others = try await [
            startOther(1, .join([server.address], replacing: nil)),
            startOther(2, .join([server.address], replacing: nil)),
        ]
        for _ in 0..<3 {
            try await awaitVoters(3, on: server)
            try await writes(6, on: server)
            if server.node.vitals.leader?.id != server.node.status.serverID {
                try? await server.node.transferLeadership(to: server.node.status.serverID, timeout: .seconds(5))
            }
            for other in others { try await other.stop() }
            // Nobody answers: these stay at the end of this log alone, when it leads.
            for number in 0..<5 {
                let command = Command.put(key: Array("lonely".utf8)[...], value: value(number)[...])
                server.node.propose(command.encode(timestampMilliseconds: 1)) { _ in }
            }
            try await server.stop()
            others = [try await startOther(1, .mustExist), try await startOther(2, .mustExist)]
            try await writes(8, on: others[0])
            server = try await startSubject(.mustExist, binds: false)
            try await awaitAgreement(server, with: others[0])
            try await writes(4, on: others[1])
        }
        try await server.stop()
        for other in others { try await other.stop() }
    }

    func snapshot() async throws {
        // The first one leads to the end: another leader need not know of the time that went by, and an answer may be lost with the old one.
        // The recorded one may lose sight of it, which neither of these believes.
        let first = try await startOther(1, .bootstrap, isPatient: true)
        let second = try await startOther(2, .join([first.address], replacing: nil), isPatient: true)
        try await awaitVoters(2, on: first)
        try await coordinate(on: first, 0)
        for _ in 0..<3 { try await concurrentWrites(8, 8, on: first) }
        var server = try await startSubject(.join([first.address], replacing: nil), binds: false)
        try await awaitVoters(3, on: first)
        for round in 0..<3 {
            try await writes(5, on: server)
            try await server.stop()
            for _ in 0..<3 { try await concurrentWrites(8, 8, on: first) }
            if round == 0 { try await coordinate(on: first, 2) }
            server = try await startSubject(.mustExist, binds: false)
            try await awaitAgreement(server, with: first)
        }
        try await server.stop()
        try await second.stop()
        try await first.stop()
    }

    func recovery() async throws {
        let server = try await startSubject(.bootstrap)
        let status = server.node.status
        let isAlone = status.configuration.voters == [status.serverID] && !status.configuration.isJoint
        if isAlone { try await writes(6, on: server) }
        try await server.stop()
    }

    func membership() async throws {
        let server = try await startSubject(.bootstrap, isPatient: true)
        try await writes(4, on: server)
        for round in 0..<2 {
            let other = try await startOther(1 + round, .join([server.address], replacing: nil))
            try await awaitVoters(2, on: server)
            try await writes(6, on: server)
            try await remove(other.node.status.serverID, through: server)
            try await awaitVoters(1, on: server)
            try await writes(4, on: server)
            try await other.stop()
        }
        try await server.stop()
    }
}
