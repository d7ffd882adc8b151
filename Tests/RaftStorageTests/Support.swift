import Foundation
import LMDB
import Raft
import Synchronization

@testable import RaftStorage

/// A directory that is removed with its last reference.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("kontiki-storage-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: false)
        path = url.path
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// A log in a directory of its own.
struct LogWorld {
    let directory: TemporaryDirectory
    var options = LogStore.Options()
    let identity = Identity.new(name: "n1", peerAddress: "localhost:1", clientAddress: "localhost:2")

    init(create: Bool = true, base: LogBase = LogBase()) throws {
        directory = try TemporaryDirectory()
        options.zeroFillBytes = 0
        if create { try LogStore.create(directory: log, identity: identity, base: base, options: options) }
    }

    var log: String { directory.path + "/log" }

    func open() throws -> (LogStore, Recovered) { try LogStore.open(directory: log, options: options) }

    /// Opens, writes the groups, closes.
    func write(_ groups: [StorageWrite]...) throws {
        let (store, _) = try open()
        for group in groups { try store.write(group) }
        try store.close()
    }

    func recover() throws -> Recovered {
        let (store, recovered) = try open()
        try store.close()
        return recovered
    }

    /// Opens the environment below the store, as a fault would reach it.
    func tamper(_ body: (borrowing WriteTransaction, Database) throws -> Void) throws {
        let environment = try Environment(path: log)
        let database = try environment.openDatabase(hasIntegerKeys: true)
        try environment.write { transaction in
            try body(transaction, database)
            // As every transaction of the store does, this one tells its number, where the record is there and readable.
            if let record = try transaction.value(forKey: UInt64(0), in: database),
                let metadata = try? MetadataRecord(verifying: record)
            {
                let encoded = metadata.encode(transactionID: UInt64(transaction.transactionID))
                try transaction.put(encoded, forKey: UInt64(0), in: database)
            }
        }
        try environment.close()
    }

    func storedKeys() throws -> [UInt64] {
        var keys: [UInt64] = []
        try tamper { transaction, database in
            try transaction.withCursor(in: database) { cursor in
                while let item = try cursor.next() { keys.append(item.integerKey) }
            }
        }
        return keys
    }
}

func command(_ index: LogIndex, term: Term = 1, _ bytes: [UInt8] = [1, 2, 3]) -> Entry {
    Entry(index: index, term: term, payload: .command(bytes))
}

func commands(_ range: ClosedRange<LogIndex>, term: Term = 1, size: Int = 3) -> [Entry] {
    range.map { command($0, term: term, [UInt8](repeating: UInt8(truncatingIfNeeded: $0), count: size)) }
}

func base(_ index: LogIndex, _ term: Term, _ configuration: Configuration = threeServers) -> LogBase {
    LogBase(position: LogPosition(index: index, term: term), configuration: configuration)
}

let threeServers = Configuration(
    voters: (1...3).map { Member(id: ServerID($0), name: "n\($0)", peerAddress: "host\($0):1") }
)

extension StorageWrite {
    /// A write in term 1.
    static func of(
        _ sequence: WriteSequence = 1,
        term: Term? = 1,
        append: [Entry] = [],
        truncateFrom: LogIndex? = nil,
        trimTo: LogBase? = nil,
        replaceLog: LogBase? = nil
    ) -> StorageWrite {
        StorageWrite(
            sequence: sequence,
            hardState: term.map { HardState(term: $0) },
            replaceLog: replaceLog,
            truncateFrom: truncateFrom,
            append: append,
            trimTo: trimTo
        )
    }
}

/// Collects what threads report, and waits for it.
final class Reports<Value: Sendable>: Sendable {
    private let values = Mutex<[Value]>([])

    var all: [Value] { values.withLock { $0 } }

    func add(_ value: Value) { values.withLock { $0.append(value) } }

    func wait(until isEnough: ([Value]) -> Bool) async -> [Value] {
        while !isEnough(all) { await Task.yield() }
        return all
    }
}

private let fileSizeLimit = Mutex(())

/// Runs `body` while no file may grow beyond 16 MiB, which stands for a full disk. It is so for the whole process, but no other
/// test has files of that size.
func withFullDisk<Result>(_ body: () throws -> sending Result) rethrows -> sending Result {
    try fileSizeLimit.withLock { _ in
        signal(SIGXFSZ, SIG_IGN)
        let resource = __rlimit_resource_t(1)
        var limit = rlimit()
        getrlimit(resource, &limit)
        var lower = limit
        lower.rlim_cur = 16 << 20
        setrlimit(resource, &lower)
        defer { setrlimit(resource, &limit) }
        return try body()
    }
}
