import Foundation
import Glibc
import LMDB
import Testing

@Suite("An LMDB environment")
struct EnvironmentTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func open(_ change: (inout Environment.Options) -> Void = { _ in }) throws -> Environment {
        var options = Environment.Options()
        change(&options)
        return try Environment(path: directory.path + "/env", options: options)
    }

    @Test("keeps what was committed, across a reopening")
    func reopening() throws {
        do {
            let environment = try open()
            let database = try environment.openDatabase()
            try environment.write { try $0.put([1, 2, 3], forKey: Array("key".utf8), in: database) }
        }
        let environment = try open()
        let database = try environment.openDatabase()
        #expect(try environment.read { try $0.get(Array("key".utf8), in: database) } == [1, 2, 3])
        #expect(try environment.read { try $0.get(Array("other".utf8), in: database) } == nil)
    }

    @Test("undoes a write transaction whose body throws")
    func undo() throws {
        struct Stop: Error {}
        let environment = try open()
        let database = try environment.openDatabase("named")
        #expect(throws: Stop.self) {
            try environment.write { transaction in
                try transaction.put([9], forKey: [1], in: database)
                #expect(try transaction.get([1], in: database) == [9])
                throw Stop()
            }
        }
        #expect(try environment.read { try $0.get([1], in: database) } == nil)
    }

    @Test("refuses a second opening in the same process, and frees the directory when closed")
    func secondOpening() throws {
        let environment = try open()
        let error = #expect(throws: LMDBError.self) { try open() }
        #expect(error?.isInUse == true)
        #expect(error?.processID == getpid())
        try environment.close()
        try environment.close()
        #expect(throws: LMDBError.self) { try environment.read { _ in } }
        let second = try open()
        try second.read { _ in }
    }

    @Test("names the process that has the directory open")
    func otherProcess() throws {
        let path = directory.path + "/env"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        let holder = Process()
        holder.executableURL = URL(fileURLWithPath: "/bin/sh")
        holder.arguments = ["-c", "exec 9>'\(path)/LOCK'; flock 9; echo $$ >&9; echo ready; read line"]
        let (input, output) = (Pipe(), Pipe())
        holder.standardInput = input
        holder.standardOutput = output
        try holder.run()
        _ = output.fileHandleForReading.availableData
        let error = #expect(throws: LMDBError.self) { try open() }
        #expect(error?.processID == holder.processIdentifier)
        input.fileHandleForWriting.closeFile()
        holder.waitUntilExit()
        _ = try open()
    }

    @Test("leaves no descriptor that a child program would inherit")
    func closeOnExec() throws {
        let environment = try open()
        var seen = 0
        for name in try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd") {
            guard let descriptor = Int32(name),
                let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(name)"),
                target.hasPrefix(environment.path)
            else { continue }
            seen += 1
            #expect(fcntl(descriptor, F_GETFD) & FD_CLOEXEC != 0, "\(target)")
        }
        #expect(seen >= 3)
    }

    @Test("cannot be closed while a snapshot is held")
    func closeWhileReading() throws {
        let environment = try open()
        do {
            let snapshot = try environment.beginRead()
            #expect(throws: LMDBError.self) { try environment.close() }
            _ = snapshot.transactionID
        }
        try environment.close()
    }

    @Test("shows a snapshot that later commits do not change, until it is refreshed")
    func snapshotIsolation() throws {
        let environment = try open()
        let database = try environment.openDatabase()
        try environment.write { try $0.put([1], forKey: [7], in: database) }
        var snapshot = try environment.beginRead()
        try environment.write { try $0.put([2], forKey: [7], in: database) }
        #expect(try snapshot.get([7], in: database) == [1])
        try snapshot.refresh()
        #expect(try snapshot.get([7], in: database) == [2])
        #expect(try environment.read { try $0.get([7], in: database) } == [2])
    }

    @Test("refuses the reader beyond its limit and takes readers again after some ended")
    func readersFull() throws {
        let environment = try open { $0.maxReaders = 2 }
        do {
            let first = try environment.beginRead()
            let second = try environment.beginRead()
            let error = #expect(throws: LMDBError.self) { try environment.read { _ in } }
            #expect(error?.code == .readersFull)
            _ = (first.transactionID, second.transactionID)
        }
        for _ in 0..<10 { try environment.read { _ in } }
    }

    @Test("reports a full map, keeps the state before it, and goes on")
    func mapFull() throws {
        let environment = try open { $0.mapSize = 256 << 10 }
        let database = try environment.openDatabase(hasIntegerKeys: true)
        try environment.write { try $0.put([1], forKey: UInt64(1), in: database) }
        let error = #expect(throws: LMDBError.self) {
            try environment.write { transaction in
                for key in 2..<UInt64(100) {
                    try transaction.put([UInt8](repeating: 7, count: 8192), forKey: key, in: database)
                }
            }
        }
        #expect(error?.isMapFull == true)
        #expect(try environment.read { try $0.statistics(of: database).entries } == 1)
        try environment.write { try $0.put([2], forKey: UInt64(2), in: database) }
        #expect(try environment.spaceUsage().mapFraction > 0)
    }

    @Test("refuses a data file that was cut off, and a file that is none of LMDB's")
    func damagedFile() throws {
        let file = directory.path + "/env/data.mdb"
        do {
            let environment = try open()
            let database = try environment.openDatabase()
            try environment.write { try $0.put([UInt8](repeating: 7, count: 100_000), forKey: [1], in: database) }
        }
        truncate(file, 40_000)
        #expect(#expect(throws: LMDBError.self) { try open() }?.code == .truncatedFile)
        try Data(repeating: 0x55, count: 40_000).write(to: URL(fileURLWithPath: file))
        #expect(#expect(throws: LMDBError.self) { try open() }?.code == .invalid)
    }

    @Test("fills zeros ahead of the used pages once, and commits go on after it")
    func zeroFill() throws {
        let environment = try open()
        let database = try environment.openDatabase()
        #expect(try environment.zeroFillAhead(minimum: 1 << 20, target: 3 << 20) == 3 << 20)
        let length = try environment.spaceUsage().fileBytes
        #expect(try environment.zeroFillAhead(minimum: 1 << 20, target: 3 << 20) == 3 << 20)
        #expect(try environment.spaceUsage().fileBytes == length)
        let usage = try environment.spaceUsage()
        #expect(usage.fileBytes >= usage.usedBytes + 1 << 20)
        #expect(usage.availableDiskBytes > 0)
        let value = [UInt8](repeating: 3, count: 2 << 20)
        try environment.write { try $0.put(value, forKey: [1], in: database) }
        #expect(try environment.zeroFillAhead(minimum: 2 << 20, target: 3 << 20) == 3 << 20)
        #expect(try environment.read { try $0.get([1], in: database) } == value)
    }

    @Test("copies itself")
    func copying() throws {
        let environment = try open()
        let database = try environment.openDatabase()
        try environment.write { try $0.put([5], forKey: [1], in: database) }
        let destination = directory.path + "/copy"
        try environment.copy(to: destination)
        let copy = try Environment(path: destination)
        let copied = try copy.openDatabase()
        #expect(try copy.read { try $0.get([1], in: copied) } == [5])
        #expect(try environment.checkStaleReaders() == 0)
    }

    @Test("opens with the address space that the system grants")
    func halving() throws {
        let environment = try open { $0.mapSize = 1 << 52 }
        #expect(environment.mapSize < 1 << 52)
        #expect(environment.mapSize >= 1 << 40)
    }

    @Test("takes concurrent readers beside a writer")
    func concurrency() async throws {
        let environment = try open { $0.testOnlyNoSync = true }
        let database = try environment.openDatabase(hasIntegerKeys: true)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for round in 1...300 {
                    try environment.write { transaction in
                        for key in 0..<UInt64(10) {
                            try transaction.put(UInt64(round), forKey: key, in: database)
                        }
                    }
                }
            }
            for _ in 0..<3 {
                group.addTask {
                    for _ in 0..<1000 {
                        let values = try environment.read { transaction in
                            try (0..<UInt64(10)).map { try transaction.get($0, in: database) }
                        }
                        #expect(Set(values).count == 1)
                    }
                }
            }
            try await group.waitForAll()
        }
    }
}
