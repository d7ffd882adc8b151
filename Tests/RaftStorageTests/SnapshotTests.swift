import Foundation
import Raft
import Synchronization
import Testing

@testable import RaftStorage

/// A directory of snapshots.
struct SnapshotWorld {
    let directory: TemporaryDirectory
    let cluster = ClusterID(0xabc)

    init() throws { directory = try TemporaryDirectory() }

    var path: String { directory.path + "/snapshots" }

    func store() throws -> SnapshotStore { try SnapshotStore(directory: path) }

    func header(_ index: LogIndex, term: Term = 3) -> SnapshotHeader {
        SnapshotHeader(
            clusterID: cluster,
            position: LogPosition(index: index, term: term),
            configuration: threeServers,
            schema: "test 1"
        )
    }

    func make(_ index: LogIndex, payload: [UInt8], in store: SnapshotStore) throws -> SnapshotDescriptor {
        let writer = try store.begin(header(index))
        try writer.write(payload)
        return try writer.finish()
    }

    var files: [String] {
        get throws { try FileManager.default.contentsOfDirectory(atPath: path).sorted() }
    }

    func file(_ descriptor: SnapshotDescriptor) -> String { "\(path)/\(descriptor.fileName).snapshot" }

    func bytes(_ descriptor: SnapshotDescriptor) throws -> [UInt8] {
        try [UInt8](Data(contentsOf: URL(fileURLWithPath: file(descriptor))))
    }

    func overwrite(_ descriptor: SnapshotDescriptor, _ bytes: [UInt8]) throws {
        try Data(bytes).write(to: URL(fileURLWithPath: file(descriptor)))
    }
}

/// Bytes of which no two pages are alike.
func pattern(_ count: Int, seed: UInt8 = 1) -> [UInt8] {
    var bytes = [UInt8](repeating: seed, count: count)
    for (page, start) in stride(from: 0, to: count - 1, by: 1024).enumerated() {
        bytes[start] = UInt8(truncatingIfNeeded: page)
        bytes[start + 1] = UInt8(truncatingIfNeeded: page >> 8)
    }
    return bytes
}

extension SnapshotReader {
    func readAll(maxBytes: Int = 1 << 20) throws -> [UInt8] {
        var all: [UInt8] = []
        while let piece = try read(maxBytes: maxBytes) { all += piece }
        return all
    }
}

private func onThread(in group: DispatchGroup, _ body: @escaping @Sendable () -> Void) {
    group.enter()
    Foundation.Thread.detachNewThread {
        body()
        group.leave()
    }
}

@Suite("Snapshot files")
struct SnapshotTests {
    @Test(
        "give back header and payload, whatever the pieces",
        arguments: [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_300_000]
    )
    func roundTrip(size: Int) throws {
        let world = try SnapshotWorld()
        let store = try world.store()
        let payload = pattern(size)
        let writer = try store.begin(world.header(9))
        for start in stride(from: 0, to: size, by: 700_001) {
            try writer.write(Array(payload[start..<min(size, start + 700_001)]))
        }
        #expect(writer.payloadBytes <= UInt64(size))
        let descriptor = try writer.finish()
        #expect(descriptor.base == base(9, 3))
        #expect(try store.latest() == descriptor)
        #expect(SnapshotDescriptor(decoding: descriptor.encode()) == descriptor)
        let reader = try store.open(descriptor)
        #expect(reader.header == world.header(9))
        #expect(try reader.readAll(maxBytes: 333_333) == payload)
        #expect(try reader.read() == nil)
        #expect(UInt64(try world.bytes(descriptor).count) == descriptor.fileSize)
        #expect(throws: StorageError.self) { try writer.write([1]) }
        #expect(throws: StorageError.self) { try writer.finish() }
    }

    @Test("stay as the newest two, and an open one can be read to its end")
    func retention() throws {
        let world = try SnapshotWorld()
        let store = try world.store()
        let first = try world.make(1, payload: pattern(2_000_000), in: store)
        let reader = try store.open(first)
        let others = try (2...4).map { try world.make($0, payload: pattern(10), in: store) }
        #expect(try store.list() == [others[2], others[1]])
        #expect(try world.files.count == 2)
        #expect(try reader.readAll().count == 2_000_000)
        #expect(#expect(throws: StorageError.self) { try store.open(first) }?.code == .missing)
    }

    @Test("leave nothing behind when they are given up, and what a crash left is swept at start")
    func temporaries() throws {
        let world = try SnapshotWorld()
        let store = try world.store()
        let writer = try store.begin(world.header(1))
        try writer.write(pattern(100))
        #expect(try world.files.count == 1)
        writer.abort()
        #expect(try world.files == [])
        do { try store.begin(world.header(2)).write([1]) }
        #expect(try world.files == [])
        #expect(
            FileManager.default.createFile(atPath: world.path + "/0-1.tmp", contents: Data([1, 2, 3]))
        )
        #expect(try world.store().list() == [])
        #expect(try world.files == [])
    }

    @Test("a changed byte anywhere is noticed")
    func everyByte() throws {
        let world = try SnapshotWorld()
        let store = try world.store()
        let descriptor = try world.make(5, payload: pattern(100), in: store)
        let good = try world.bytes(descriptor)
        for offset in good.indices {
            var bad = good
            bad[offset] ^= 0x40
            try world.overwrite(descriptor, bad)
            #expect(throws: StorageError.self) { try store.open(descriptor).verify() }
        }
        for count in stride(from: 0, to: good.count, by: 7) {
            try world.overwrite(descriptor, Array(good[..<count]))
            #expect(throws: StorageError.self) { try store.open(descriptor).verify() }
            let (snapshots, damaged) = try store.scan()
            #expect(snapshots.isEmpty && damaged.count == 1)
        }
        try world.overwrite(descriptor, good + [0])
        #expect(throws: StorageError.self) { try store.open(descriptor).verify() }
        try world.overwrite(descriptor, good)
        try store.open(descriptor).verify()
    }

    @Test("random bytes and lengths are errors, never traps", arguments: 1...20)
    func fuzz(seed: UInt64) throws {
        let world = try SnapshotWorld()
        let store = try world.store()
        let descriptor = try world.make(5, payload: pattern(3000, seed: UInt8(seed)), in: store)
        let good = try world.bytes(descriptor)
        var state = seed
        func random(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % bound
        }
        for _ in 0..<40 {
            var bad = good
            for _ in 0...random(4) { bad[random(bad.count)] = [0, 0xff, 0x7f, UInt8(random(256))][random(4)] }
            if random(3) == 0 { bad.removeSubrange(random(bad.count)..<bad.count) }
            guard bad != good else { continue }
            try world.overwrite(descriptor, bad)
            #expect(throws: StorageError.self) { try store.open(descriptor).verify() }
            _ = try store.scan()
            _ = SnapshotDescriptor(decoding: bad)
            var encoded = descriptor.encode()
            encoded[random(encoded.count)] ^= UInt8(1 + random(255))
            _ = SnapshotDescriptor(decoding: encoded)
            #expect(SnapshotDescriptor(decoding: Array(encoded.dropLast(1 + random(encoded.count)))) == nil)
        }
    }

    @Test("that no state could be loaded from do not come about, and those before stay")
    func unsound() throws {
        struct Unreadable: Error {}
        let world = try SnapshotWorld()
        let contents = SnapshotContents(schema: "test 1") { _, read in
            while let piece = try read(1000) { if piece.contains(13) { throw Unreadable() } }
        }
        let store = try SnapshotStore(directory: world.path, contents: contents)
        let good = try world.make(1, payload: [1, 2], in: store)
        #expect(
            #expect(throws: StorageError.self) { try world.make(2, payload: [12, 13], in: store) }?.code == .unsound
        )
        #expect(try store.list() == [good])
        #expect(try world.files.count == 1)
    }

    @Test("a file of a newer version is told from a damaged one")
    func newerFormat() throws {
        let world = try SnapshotWorld()
        let store = try world.store()
        let descriptor = try world.make(5, payload: [1], in: store)
        var bytes = try world.bytes(descriptor)
        bytes[8] = 2
        let length = Int(bytes[12]) | Int(bytes[13]) << 8
        let sum = SnapshotFormat.headerChecksum(version: 2, body: Array(bytes[20..<20 + length]))
        withUnsafeBytes(of: sum.littleEndian) { bytes.replaceSubrange(16..<20, with: $0) }
        try world.overwrite(descriptor, bytes)
        #expect(#expect(throws: StorageError.self) { try store.open(descriptor) }?.code == .newerFormat)
    }
}

@Suite("Snapshot transfers")
struct IncomingSnapshotTests {
    let from: SnapshotWorld
    let to: SnapshotWorld
    let source: SnapshotStore
    let descriptor: SnapshotDescriptor
    let payload = pattern(3_500_000)

    init() throws {
        from = try SnapshotWorld()
        to = try SnapshotWorld()
        source = try from.store()
        descriptor = try from.make(7, payload: payload, in: source)
    }

    /// Sends pieces until the file is complete or `limit` bytes of it are there.
    private func send(to incoming: IncomingSnapshot, limit: UInt64 = .max) throws {
        let reader = try source.open(descriptor)
        while !incoming.isComplete, incoming.offset < limit {
            let offset = incoming.offset
            try incoming.append(reader.rawChunk(offset: offset, maxBytes: 100_000), at: offset)
        }
    }

    @Test("arrive whole and become a snapshot of the receiver")
    func whole() throws {
        let store = try to.store()
        let incoming = try store.receive(descriptor, clusterID: to.cluster)
        #expect(incoming.offset == 0)
        #expect(#expect(throws: StorageError.self) { try incoming.finish() }?.code == .outOfOrder)
        try send(to: incoming)
        #expect(try incoming.finish() == descriptor)
        #expect(try store.latest() == descriptor)
        #expect(try store.open(descriptor).readAll() == payload)
        #expect(try to.files.count == 1)
        #expect(throws: StorageError.self) { try incoming.append([1], at: 0) }
        #expect(try source.open(descriptor).rawChunk(offset: descriptor.fileSize, maxBytes: 10) == [])
    }

    @Test("go on after a restart where the last whole chunk ended (R41)")
    func resume() throws {
        try send(to: try to.store().receive(descriptor, clusterID: to.cluster), limit: 2_500_000)
        let store = try to.store()
        let incoming = try store.receive(descriptor, clusterID: to.cluster)
        #expect(incoming.offset > 2 << 20)
        #expect(incoming.offset < 2_500_000)
        try send(to: incoming)
        _ = try incoming.finish()
        #expect(try store.open(descriptor).readAll() == payload)
    }

    @Test("drop what a crash damaged of the part that is there")
    func resumeDamaged() throws {
        try send(to: try to.store().receive(descriptor, clusterID: to.cluster), limit: 2_500_000)
        let path = to.path + "/" + descriptor.fileName + ".incoming"
        var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        bytes[1_500_000] ^= 1
        try bytes.write(to: URL(fileURLWithPath: path))
        let incoming = try to.store().receive(descriptor, clusterID: to.cluster)
        #expect(incoming.offset > 1 << 20)
        #expect(incoming.offset < 1_500_000)
        bytes[30] ^= 1
        try bytes.write(to: URL(fileURLWithPath: path))
        let again = try to.store().receive(descriptor, clusterID: to.cluster)
        #expect(again.offset == 0)
        try send(to: again)
        _ = try again.finish()
    }

    @Test("take repeated bytes as known, and refuse gaps and bytes beyond the end")
    func order() throws {
        let incoming = try to.store().receive(descriptor, clusterID: to.cluster)
        let reader = try source.open(descriptor)
        try incoming.append(reader.rawChunk(offset: 0, maxBytes: 1000), at: 0)
        #expect(try incoming.append(reader.rawChunk(offset: 0, maxBytes: 500), at: 0) == 1000)
        #expect(try incoming.append(reader.rawChunk(offset: 500, maxBytes: 1000), at: 500) == 1500)
        #expect(throws: StorageError.self) { try incoming.append([1], at: 1501) }
        #expect(throws: StorageError.self) { try incoming.append([1], at: .max) }
        #expect(throws: StorageError.self) { try incoming.append([1], at: descriptor.fileSize) }
        #expect(incoming.offset == 1500)
        try send(to: incoming)
        _ = try incoming.finish()
    }

    @Test("are thrown away when the file is not what was announced")
    func wrongContent() throws {
        let store = try to.store()
        let incoming = try store.receive(descriptor, clusterID: to.cluster)
        try send(to: incoming, limit: 3_000_000)
        try incoming.append([0x55], at: incoming.offset)
        try send(to: incoming)
        #expect(#expect(throws: StorageError.self) { try incoming.finish() }?.code == .corrupt)
        #expect(try to.files == [])
        // Of another cluster: known as soon as the header is here.
        let other = try store.receive(descriptor, clusterID: ClusterID(0xdef))
        #expect(#expect(throws: StorageError.self) { try send(to: other) }?.code == .clusterMismatch)
        #expect(other.offset == 100_000)
        #expect(try to.files == [])
    }

    private struct Unreadable: Error {}

    /// A store of which the payloads of `from` are known to be good or bad.
    private func knowing(schema: String = "test 1", isSound: Bool) throws -> SnapshotStore {
        let expected = payload
        return try SnapshotStore(
            directory: to.path,
            contents: SnapshotContents(schema: schema) { header, read in
                var bytes: [UInt8] = []
                // Not to its end, which has to be looked at all the same.
                while bytes.count < 3 << 20, let piece = try read(300_000) { bytes += piece }
                #expect(expected.starts(with: bytes))
                #expect(header.position.index == 7)
                guard isSound else { throw Unreadable() }
            }
        )
    }

    @Test("whose payload no state could be loaded from are refused at their end, and leave nothing")
    func unsoundContent() throws {
        let incoming = try knowing(isSound: false).receive(descriptor, clusterID: to.cluster)
        try send(to: incoming)
        #expect(#expect(throws: StorageError.self) { try incoming.finish() }?.code == .unsound)
        #expect(try to.files == [])
        let sound = try knowing(isSound: true)
        let again = try sound.receive(descriptor, clusterID: to.cluster)
        try send(to: again)
        #expect(try again.finish() == descriptor)
        try sound.verify(descriptor)
        #expect(#expect(throws: StorageError.self) { try knowing(isSound: false).verify(descriptor) }?.code == .unsound)
    }

    @Test("of a form that is not known are refused with their first bytes, and such a file is none of the snapshots")
    func unknownSchema() throws {
        let store = try knowing(schema: "test 0", isSound: true)
        let incoming = try store.receive(descriptor, clusterID: to.cluster)
        let error = #expect(throws: StorageError.self) { try send(to: incoming) }
        #expect(error?.code == .newerFormat)
        #expect(error?.message.contains("'test 1'") == true)
        #expect(incoming.offset == 100_000)
        #expect(try to.files == [])
        let whole = try to.store().receive(descriptor, clusterID: to.cluster)
        try send(to: whole)
        _ = try whole.finish()
        #expect(try store.list() == [])
        #expect(try store.scan().damaged.map(\.code) == [.newerFormat])
        #expect(try store.setDamagedAside() == [])
        #expect(#expect(throws: StorageError.self) { try store.open(descriptor) }?.code == .newerFormat)
        #expect(try to.files.count == 1, "a version that knows it may use it")
    }

    @Test(
        "of which a second one begins end with their next bytes, whether it is of the same snapshot or of another",
        arguments: [true, false]
    )
    func superseded(isSame: Bool) throws {
        let store = try to.store()
        let first = try store.receive(descriptor, clusterID: to.cluster)
        try send(to: first, limit: 1_500_000)
        let next = isSame ? descriptor : try from.make(8, payload: payload, in: source)
        let second = try store.receive(next, clusterID: to.cluster)
        #expect(isSame == (second.offset > 1 << 20), "the same file goes on")
        #expect(#expect(throws: StorageError.self) { try send(to: first) }?.code == .stopped)
        #expect(#expect(throws: StorageError.self) { try first.finish() }?.code == .stopped)
        let reader = try source.open(next)
        while !second.isComplete {
            try second.append(reader.rawChunk(offset: second.offset, maxBytes: 1 << 20), at: second.offset)
        }
        #expect(try second.finish() == next)
        #expect(try store.list() == [next])
    }

    @Test("whose file is gone end with an error that tells so")
    func vanished() throws {
        let incoming = try to.store().receive(descriptor, clusterID: to.cluster)
        try send(to: incoming)
        try FileManager.default.removeItem(atPath: to.path + "/" + descriptor.fileName + ".incoming")
        #expect(#expect(throws: StorageError.self) { try incoming.finish() }?.code == .missing)
    }

    @Test("and snapshots of its own at the same time: nobody who lists or reads them stumbles over one that goes")
    func listedMeanwhile() throws {
        let store = try to.store()
        let failures = Mutex<[String]>([])
        let isOver = Atomic(false)
        let readers = DispatchGroup()
        for _ in 0..<3 {
            onThread(in: readers) {
                while !isOver.load(ordering: .relaxed) {
                    do {
                        for descriptor in try store.list() {
                            do throws(StorageError) { try store.verify(descriptor) } catch {
                                if error.code != .missing { failures.withLock { $0.append("\(error)") } }
                            }
                        }
                    } catch {
                        failures.withLock { $0.append("\(error)") }
                    }
                }
            }
        }
        let writers = DispatchGroup()
        for writer in 0..<2 {
            onThread(in: writers) {
                for number in 1...100 {
                    do {
                        _ = try to.make(LogIndex(2 * number + writer), payload: [1], in: store)
                        if number % 10 == 0, let oldest = try store.list().last { try store.setAside(oldest) }
                    } catch {
                        failures.withLock { $0.append("\(error)") }
                    }
                }
            }
        }
        writers.wait()
        isOver.store(true, ordering: .relaxed)
        readers.wait()
        #expect(failures.withLock { $0 } == [])
    }

    @Test("give way to a transfer of another snapshot")
    func replaced() throws {
        let store = try to.store()
        try send(to: try store.receive(descriptor, clusterID: to.cluster), limit: 1_500_000)
        let newer = try from.make(8, payload: [1], in: source)
        let incoming = try store.receive(newer, clusterID: .none)
        #expect(try to.files.count == 1)
        try incoming.append(source.open(newer).rawChunk(offset: 0, maxBytes: 1 << 20), at: 0)
        _ = try incoming.finish()
        try store.receive(descriptor, clusterID: .none).discard()
        #expect(try to.files.count == 1)
    }

    @Test("refuse a size that no snapshot or no disk can have")
    func sizes() throws {
        let store = try to.store()
        for (size, code) in [(UInt64(10), StorageError.Code.invalid), (.max, .invalid), (1 << 46, .diskFull)] {
            var wrong = descriptor
            wrong.fileSize = size
            let error = #expect(throws: StorageError.self) { try store.receive(wrong, clusterID: to.cluster) }
            #expect(error?.code == code)
        }
    }
}
