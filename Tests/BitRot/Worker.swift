import DataDirectory
import Foundation
import Glibc
import KeyValue
import KeyValueService
import NIOPosix
import RaftNode
import RaftStorage
import Synchronization

/// Makes the data directory that is damaged, and starts servers on damaged copies of it. In a process of its own: LMDB may end it.
struct Worker {
    private static let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)

    /// A log with entries of all kinds; a state with small and big items, leases, locks, idempotency keys and a past, all of it
    /// after several flushes; two snapshots, and one that comes in.
    static func makeBase(_ directory: String) async throws {
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let live = directory + ".live"
        try FileManager.default.createDirectory(atPath: live, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: live) }
        let time = Mutex<UInt64>(0)
        let server = try await Node.start(live, isNew: true, milliseconds: { time.withLock { $0 } }, on: group)
        var generator = Generator(state: 1)
        try await server.confirm()
        for round in 0..<900 {
            if round % 8 == 5, round / 8 < Coordination.count - 10 {
                time.withLock { $0 += 500 }
                let (command, options) = Coordination.command(round / 8)
                try await server.execute(command, options)
                continue
            }
            let key = Array("key/\(Int.random(in: 0..<400, using: &generator))".utf8)
            let length = round % 60 == 59 ? 40_000 : Int.random(in: 0..<900, using: &generator)
            let value = (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
            if round % 7 == 6 {
                try await server.execute(.delete(key: key[...]))
            } else {
                try await server.execute(
                    .put(key: key[...], value: value[...], contentType: round % 5 == 0 ? "text/plain" : nil)
                )
            }
            if round == 300 { try await server.execute(.deletePrefix(Array("key/1".utf8)[...])) }
        }
        for number in Coordination.count - 10..<Coordination.count {
            let (command, options) = Coordination.command(number)
            try await server.execute(command, options)
        }
        // More than a second snapshot needs, however late the first one came.
        for number in 0..<5 {
            try await server.execute(
                .put(key: Array("big".utf8)[...], value: [UInt8](repeating: UInt8(number), count: 40_000)[...])
            )
        }
        // Let what is under way in the background come to its end, then write what stays in the log only.
        for _ in 0..<60_000 where try Self.snapshots(live).count < 2 { try await Task.sleep(for: .milliseconds(1)) }
        // The memtable is filled until it is flushed: then it has room for what follows, and the log is not trimmed behind that.
        for _ in 0..<5_000 where server.store.pendingBytes > 48 << 10 {
            try await server.execute(.put(key: Array("fill".utf8)[...], value: [1]))
            try await Task.sleep(for: .milliseconds(5))
        }
        try await Self.awaitSilence(live)
        // The last commit of the log changes keys: without it, the state is another.
        for number in 0..<20 {
            try await server.execute(
                .put(key: Array("last/\(number)".utf8)[...], value: Array("value \(number)".utf8)[...])
            )
        }
        try await Self.awaitSilence(live)
        // Everything acknowledged is durable, nothing is being written: what lies there now is what kill -9 leaves.
        try Image(reading: live).write(to: directory, nil)
        await server.stop()
        let names = try Self.snapshots(directory)
        if let newest = names.max() {
            let whole = try Data(contentsOf: URL(fileURLWithPath: "\(directory)/snapshots/\(newest)"))
            let incoming = newest.replacingOccurrences(of: ".snapshot", with: ".incoming")
            try whole.prefix(whole.count / 2).write(to: URL(fileURLWithPath: "\(directory)/snapshots/f\(incoming)"))
        }
        guard names.count == 2 else { throw Node.Stopped("there are \(names.count) snapshots, not 2") }
        try Self.checkKinds(directory)
    }

    /// There is something of all kinds in the state's file and in the newest snapshot, without what the log adds.
    private static func checkKinds(_ directory: String) throws {
        let copy = directory + ".copy"
        try Image(reading: directory).write(to: copy, nil)
        defer { try? FileManager.default.removeItem(atPath: copy) }
        let state = try Store.open(directory: copy + "/state")
        defer { try? state.close() }
        try checkKinds(state, "the state")
        let snapshots = try SnapshotStore(directory: copy + "/snapshots")
        guard let newest = try snapshots.latest() else { throw Node.Stopped("there is no snapshot") }
        let reader = try snapshots.open(newest)
        try FileManager.default.createDirectory(atPath: copy + "/restored", withIntermediateDirectories: true)
        let restored = try Store.open(directory: copy + "/restored")
        defer { try? restored.close() }
        try KeyValueMachine(store: restored) { _ in }.restore(
            position: newest.position,
            configuration: newest.configuration,
            from: { try reader.read(maxBytes: $0) }
        )
        try checkKinds(restored, "the snapshot")
    }

    private static func checkKinds(_ store: Store, _ name: String) throws {
        let events = try store.events(after: store.compactRevision, maximumEvents: .max, maximumBytes: .max).events
        let locks = try store.events(after: store.compactRevision, EventFilter(space: .locks)).events
        let mark = store.mark
        let (command, options) = Coordination.command(Coordination.asked[0])
        let answer = try store.apply(
            index: mark.index + 1,
            term: mark.term,
            payload: command.encode(options: options, timestampMilliseconds: 1)
        )
        guard try store.leases(limit: .max).leases.count > 2, try store.locks(limit: .max).locks.count > 1,
            Set(events.map(\.kind)) == [.put, .delete, .expire], !locks.isEmpty, case .replayed = answer
        else { throw Node.Stopped("\(name) does not hold something of each kind") }
    }

    /// Waits until there are two snapshots and no file has changed for a while.
    private static func awaitSilence(_ directory: String) async throws {
        var (before, unchanged) = ([String](), 0)
        for _ in 0..<6_000 where unchanged < 10 {
            try await Task.sleep(for: .milliseconds(20))
            let now = (FileManager.default.enumerator(atPath: directory)?.allObjects as? [String] ?? []).sorted().map {
                var information = stat()
                stat("\(directory)/\($0)", &information)
                let time = information.st_mtim
                return "\($0) \(information.st_size) \(time.tv_sec).\(time.tv_nsec)"
            }
            unchanged = try now == before && snapshots(directory).count == 2 ? unchanged + 1 : 0
            before = now
        }
    }

    private static func snapshots(_ directory: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: directory + "/snapshots").filter {
            $0.hasSuffix(".snapshot")
        }
    }

    let image: Image
    let scratch: String
    let expected: Content
    let isExamined: Bool

    init(base: String, scratch: String, isExamined: Bool) async throws {
        image = try Image(reading: base)
        self.scratch = scratch
        self.isExamined = isExamined
        try image.write(to: scratch, nil)
        let server = try await Node.start(scratch, on: Self.group)
        try await server.confirm()
        var content = try Content.read(server.store, expecting: nil).listed
        content.answers = try await server.askAgain()
        for answer in content.answers {
            guard case .replayed = answer else { throw Node.Stopped("a request is executed twice: \(answer)") }
        }
        expected = content
        await server.stop()
    }

    /// What came of a damage.
    enum Verdict {
        /// Everything is right, and nothing was noticed.
        case harmless
        /// It was noticed, and everything is right: what was damaged was not needed, or was built anew.
        case mended(String)
        /// The server does not start, and says why.
        case refused(String)
        /// The server, or a read, stops, and says why.
        case stopped(String)
        /// A wrong answer, or a message without content.
        case wrong(String)

        var line: String {
            switch self {
            case .harmless: "harmless -"
            case .mended(let text): "mended \(text)"
            case .refused(let text): "refused \(text)"
            case .stopped(let text): "stopped \(text)"
            case .wrong(let text): "WRONG \(text)"
            }
        }
    }

    func play(_ damage: Damaging) async throws -> Verdict {
        try image.write(to: scratch, damage)
        var noticed: String?
        if isExamined {
            let report = try DataDirectory.examine(scratch)
            if !report.isSound {
                noticed =
                    report.parts.flatMap { part in part.damages.map { "\(part.name): \($0)" } }.first ?? "(no message)"
            }
        }
        let server: Node
        do {
            server = try await Node.start(scratch, isExamined: isExamined, on: Self.group)
        } catch {
            return .refused("\(error)")
        }
        if let rebuild = server.rebuild { noticed = noticed ?? rebuild.reason }
        let verdict: Verdict
        do {
            try await server.confirm()
            var (listed, asked) = try Content.read(server.store, expecting: expected)
            listed.answers = try await server.askAgain()
            asked.answers = listed.answers
            if listed == expected, asked == expected {
                try await server.execute(.put(key: Array("after".utf8)[...], value: [1]))
                verdict = noticed.map { .mended($0) } ?? .harmless
            } else {
                let wrong = listed == expected ? asked : listed
                verdict = .wrong("other \(wrong.difference(from: expected)); noticed: \(noticed ?? "nothing")")
            }
        } catch {
            verdict = .stopped("\(error)")
        }
        await server.stop()
        return verdict
    }
}
