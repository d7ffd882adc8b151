import Foundation
import LMDB
import Raft
import Testing

@testable import RaftStorage

@Suite("The log store")
struct LogStoreTests {
    @Test("gives back at start what was written: identity, hard state, base and entries")
    func roundTrip() throws {
        let world = try LogWorld()
        let entries = [
            Entry(index: 1, term: 1, payload: .noop), Entry(index: 2, term: 1, payload: .configuration(threeServers)),
            command(3, []), command(4, term: 2, [UInt8](repeating: 9, count: 100_000)),
        ]
        let hardState = HardState(term: 2, vote: ServerID(7))
        try world.write([StorageWrite(sequence: 1, hardState: hardState, append: entries)])
        let (store, recovered) = try world.open()
        #expect(recovered.identity == world.identity)
        #expect(recovered.hardState == hardState)
        #expect(recovered.base == LogBase())
        #expect(recovered.entries == entries.map { EntryInfo($0) })
        #expect(try store.read(from: 1, through: 4, maxBytes: .max) == entries)
        #expect(store.lastPosition == LogPosition(index: 4, term: 2))
        #expect(store.usedBytes > 100_000)
    }

    @Test("knows whether a directory holds a log, and makes only one in it")
    func creation() throws {
        let world = try LogWorld(create: false)
        #expect(try !LogStore.exists(directory: world.log))
        #expect(#expect(throws: StorageError.self) { try world.open() }?.code == .missing)
        // What a creation leaves that was cut short before its commit.
        _ = try Environment(path: world.log)
        #expect(try !LogStore.exists(directory: world.log))
        #expect(#expect(throws: StorageError.self) { try world.open() }?.code == .missing)
        try LogStore.create(directory: world.log, identity: world.identity, base: base(5, 2))
        #expect(try LogStore.exists(directory: world.log))
        let again = #expect(throws: StorageError.self) {
            try LogStore.create(directory: world.log, identity: world.identity)
        }
        #expect(again?.code == .alreadyExists)
        let recovered = try world.recover()
        #expect(recovered.base == base(5, 2))
        #expect(recovered.hardState.term == 2)
    }

    @Test("refuses a directory that is in use")
    func inUse() throws {
        let world = try LogWorld()
        let (store, _) = try world.open()
        #expect(#expect(throws: StorageError.self) { try world.open() }?.code == .inUse)
        try store.close()
        _ = try world.open()
    }

    @Test("becomes a part of one cluster only")
    func adoption() throws {
        let world = try LogWorld()
        let (store, _) = try world.open()
        try store.adopt(clusterID: ClusterID(5))
        try store.adopt(clusterID: ClusterID(5))
        let error = #expect(throws: StorageError.self) { try store.adopt(clusterID: ClusterID(6)) }
        #expect(error?.code == .clusterMismatch)
        try store.update(name: "other", peerAddress: "b:1", clientAddress: "b:2")
        try store.close()
        let identity = try world.recover().identity
        #expect(identity.clusterID == ClusterID(5))
        #expect(identity.serverID == world.identity.serverID)
        #expect([identity.name, identity.peerAddress, identity.clientAddress] == ["other", "b:1", "b:2"])
    }

    @Test("truncates and appends in one write (R4)")
    func truncateAndAppend() throws {
        let world = try LogWorld()
        try world.write(
            [.of(append: commands(1...5))],
            [.of(2, term: 2, append: commands(4...4, term: 2), truncateFrom: 4)]
        )
        #expect(try world.recover().entries == (commands(1...3) + commands(4...4, term: 2)).map { EntryInfo($0) })
        try world.write([.of(3, term: 2, truncateFrom: 1), .of(4, term: 2, append: commands(1...1, term: 2))])
        #expect(try world.recover().entries == commands(1...1, term: 2).map { EntryInfo($0) })
    }

    @Test("writes all of a group or nothing of it")
    func atomicity() throws {
        let world = try LogWorld()
        let (store, _) = try world.open()
        try store.write([.of(append: commands(1...2))])
        let error = #expect(throws: StorageError.self) {
            try store.write([
                .of(2, term: 2, append: commands(3...9, term: 2), trimTo: base(1, 1)),
                .of(3, append: commands(11...11)),
            ])
        }
        #expect(error?.code == .outOfOrder)
        #expect(store.lastPosition.index == 2)
        #expect(store.base == LogBase())
        try store.write([.of(2, append: commands(3...3))])
        try store.close()
        let recovered = try world.recover()
        #expect(recovered.entries == commands(1...3).map { EntryInfo($0) })
        #expect(recovered.hardState.term == 1)
        #expect(recovered.base == LogBase())
    }

    @Test(
        "refuses what breaks the order of a log",
        arguments: [
            StorageWrite.of(append: commands(5...5)), .of(append: commands(2...2)),
            .of(append: commands(4...4, term: 1)),
            .of(truncateFrom: 0), .of(trimTo: base(4, 2)), .of(trimTo: base(3, 1)),
            .of(term: 1), .of(append: commands(4...4, term: 3)),
            StorageWrite(sequence: 1, hardState: HardState(term: 2, vote: ServerID(2))),
            StorageWrite(sequence: 1, hardState: HardState(term: 2)),
        ]
    )
    func order(write: StorageWrite) throws {
        let world = try LogWorld()
        let (store, _) = try world.open()
        let voted = HardState(term: 2, vote: ServerID(1))
        try store.write([StorageWrite(sequence: 1, hardState: voted, append: commands(1...3, term: 2))])
        #expect(#expect(throws: StorageError.self) { try store.write([write]) }?.code == .outOfOrder)
        #expect(store.hardState == voted)
    }

    @Test("begins again behind a snapshot that replaces the log (R38)")
    func replacement() throws {
        let world = try LogWorld()
        try world.write(
            [.of(append: commands(1...20))],
            [.of(2, term: 4, append: commands(101...103, term: 4), replaceLog: base(100, 3))]
        )
        let (store, recovered) = try world.open()
        #expect(recovered.base == base(100, 3))
        #expect(recovered.entries.map(\.index) == [101, 102, 103])
        #expect(try store.read(from: 5, through: 9, maxBytes: .max) == [])
        try store.close()
        #expect(try world.storedKeys() == [0, 101, 102, 103])
    }

    @Test("trims in steps, and what lies below the base is gone at once for readers")
    func trimming() throws {
        let world = try LogWorld()
        let (store, _) = try world.open()
        try store.write([.of(append: commands(1...25_000))])
        try store.write([.of(2, trimTo: base(24_000, 1))])
        #expect(store.base == base(24_000, 1))
        #expect(try store.read(from: 24_000, through: 24_002, maxBytes: .max) == [])
        #expect(try store.read(from: 24_001, through: 24_002, maxBytes: .max).count == 2)
        var steps = 0
        while try store.maintain() { steps += 1 }
        #expect(steps == 2)
        #expect(!store.needsMaintenance)
        // One that was decided before the last is harmless.
        try store.write([.of(3, trimTo: base(10, 1))])
        try store.write([.of(4, append: commands(25_001...25_001))])
        try store.close()
        #expect(try world.storedKeys() == [0] + Array(24_001...25_001))
        #expect(try world.recover().entries.count == 1001)
    }

    @Test("finishes a trim that a crash interrupted after the base was recorded (R8)")
    func interruptedTrim() throws {
        let world = try LogWorld()
        try world.write([.of(append: commands(1...5000))], [.of(2, trimTo: base(4000, 1))])
        // Only the first step had been made.
        #expect(try world.storedKeys().dropFirst().first == 1001)
        #expect(try world.recover().entries.map(\.index) == Array(4001...5000))
        #expect(try world.storedKeys() == [0] + Array(4001...5000))
        try world.write([.of(3, trimTo: base(5000, 1))])
        let recovered = try world.recover()
        #expect(recovered.entries.isEmpty)
        #expect(recovered.base == base(5000, 1))
    }

    @Test("reads within a bound of bytes, and at least one entry")
    func boundedReads() throws {
        let world = try LogWorld()
        let (store, _) = try world.open()
        try store.write([.of(append: commands(1...10, size: 68))])
        #expect(try store.read(from: 3, through: 9, maxBytes: 0).map(\.index) == [3])
        #expect(try store.read(from: 3, through: 9, maxBytes: 250).map(\.index) == [3, 4])
        #expect(try store.read(from: 3, through: 9, maxBytes: .max).map(\.index) == Array(3...9))
        #expect(try store.read(from: 11, through: 12, maxBytes: .max) == [])
        #expect(try store.scrub(from: 0, limit: 6) == 6)
        #expect(try store.scrub(from: 6, limit: 6) == nil)
    }

    @Test("keeps zeros ahead of the used pages")
    func zeroFill() throws {
        var world = try LogWorld()
        world.options.zeroFillBytes = 1 << 20
        let (store, _) = try world.open()
        let usage = try store.spaceUsage()
        #expect(usage.fileBytes >= usage.usedBytes + 1 << 19)
        try store.write([.of(append: commands(1...10, size: 100_000))])
        try store.extendFile()
        let after = try store.spaceUsage()
        #expect(after.fileBytes >= after.usedBytes + 1 << 19)
    }
}
