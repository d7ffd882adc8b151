import Checksum
import Crypto
import Foundation
import Raft
import Testing

@testable import RaftStorage

@Suite("Snapshot files whose bytes were changed")
struct SnapshotFuzzTests {
    /// A pseudo-random generator, so that a case can be played again.
    private struct Generator: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var mixed = state
            mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
            return mixed ^ (mixed >> 31)
        }
    }

    /// A snapshot as it was written, and what belongs to it.
    private struct Original {
        var bytes: [UInt8]
        var descriptor: SnapshotDescriptor
        var payload: [UInt8]

        /// Where header, the chunks and the trailer begin.
        var headerSize: Int {
            bytes.withUnsafeBytes {
                20 + Int(UInt32(littleEndian: $0.loadUnaligned(fromByteOffset: 12, as: UInt32.self)))
            }
        }
    }

    private func originals(_ world: SnapshotWorld) throws -> [Original] {
        let store = try world.store()
        return try [0, 1, 100, 700, 1_500].enumerated().map { number, size in
            let payload = pattern(size, seed: UInt8(number + 3))
            let descriptor = try world.make(LogIndex(number + 1), payload: payload, in: store)
            return Original(bytes: try world.bytes(descriptor), descriptor: descriptor, payload: payload)
        }
    }

    /// One to three changes: flipped and replaced bytes, extreme numbers where lengths and counts stand, parts cut out, doubled, zeroed,
    /// taken from another file, the end cut off, bytes behind it. Then, often, checksums that fit again.
    private func mutate(_ original: Original, _ other: Original, _ generator: inout Generator) -> [UInt8] {
        var bytes = original.bytes
        for _ in 0..<Int.random(in: 1...3, using: &generator) {
            guard !bytes.isEmpty else { break }
            let at = Int.random(in: bytes.indices, using: &generator)
            let end = min(bytes.count, at + Int.random(in: 1...64, using: &generator))
            switch Int.random(in: 0..<10, using: &generator) {
            case 0, 1: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            case 2: bytes[at] = .random(in: 0...255, using: &generator)
            case 3: putExtreme(&bytes, &generator, original.headerSize)
            case 4: bytes.removeSubrange(at..<end)
            case 5: bytes.insert(contentsOf: bytes[at..<end], at: at)
            case 6: for index in at..<end { bytes[index] = 0 }
            case 7: bytes.removeLast(bytes.count - at)
            case 8: bytes += (0..<Int.random(in: 1...100, using: &generator)).map { UInt8(truncatingIfNeeded: $0) }
            default:
                let from = other.bytes.dropFirst(min(at, other.bytes.count)).prefix(end - at)
                bytes.replaceSubrange(at..<min(bytes.count, at + from.count), with: from)
            }
        }
        if Bool.random(using: &generator) { mend(&bytes) }
        return bytes
    }

    private func putExtreme(_ bytes: inout [UInt8], _ generator: inout Generator, _ headerSize: Int) {
        // Version, length of the body, a chunk's sequence and length, the trailer's counts.
        let places = [8, 12, headerSize, headerSize + 4, bytes.count - 52, bytes.count - 48, bytes.count - 44]
        let values: [UInt32] = [0, 1, 2, 19, 1 << 16, 1 << 20, (1 << 20) + 1, 1 << 31, .max, .max - 1]
        let place = places.randomElement(using: &generator)!
        guard place >= 0, place + 4 <= bytes.count else { return }
        let value = values.randomElement(using: &generator)!
        withUnsafeBytes(of: value.littleEndian) { bytes.replaceSubrange(place..<place + 4, with: $0) }
    }

    /// Makes the checksums of the header, of the first chunk, and of the trailer with its digest right again, where they lie.
    private func mend(_ bytes: inout [UInt8]) {
        func number(_ at: Int) -> Int {
            bytes.withUnsafeBytes { Int(UInt32(littleEndian: $0.loadUnaligned(fromByteOffset: at, as: UInt32.self))) }
        }
        func put(_ value: UInt32, _ at: Int) {
            withUnsafeBytes(of: value.littleEndian) { bytes.replaceSubrange(at..<at + 4, with: $0) }
        }
        guard bytes.count >= 72 else { return }
        let header = 20 + number(12)
        guard header <= bytes.count - 52 else { return }
        put(CRC32C.checksum(Array(bytes[8..<16] + bytes[20..<header])), 16)
        if header + 12 < bytes.count - 52 {
            let end = header + 12 + number(header + 4)
            if end <= bytes.count - 52 {
                put(CRC32C.checksum(Array(bytes[header..<header + 8] + bytes[header + 12..<end])), header + 8)
            }
        }
        let trailer = bytes.count - 52
        bytes.replaceSubrange(trailer + 16..<trailer + 48, with: Array(SHA256.hash(data: bytes[..<trailer])))
        put(CRC32C.checksum(Array(bytes[trailer..<trailer + 48])), trailer + 48)
    }

    @Test(
        "20,000 of them are refused, or are exactly what was written; none traps, hangs, or takes much memory",
        arguments: 0..<4
    )
    func reader(part: UInt64) throws {
        let world = try SnapshotWorld()
        let originals = try originals(world)
        let path = world.directory.path + "/fuzz"
        var generator = Generator(state: part)
        var (refused, accepted) = (0, 0)
        for number in 0..<5_000 {
            let original = originals.randomElement(using: &generator)!
            let bytes = mutate(original, originals.randomElement(using: &generator)!, &generator)
            try write(bytes, path)
            do {
                // By itself: what it says it is, it must be.
                let reader = try SnapshotReader(file: File.read(path))
                let payload = try reader.readAll(maxBytes: Int.random(in: 300...4_096, using: &generator))
                if payload.count >= bytes.count || reader.descriptor.fileSize != UInt64(bytes.count) {
                    Issue.record("case \(number) of part \(part)")
                }
            } catch is StorageError {}
            do {
                // As the snapshot that it should be: only with the very content.
                let reader = try SnapshotReader(file: File.read(path), expecting: original.descriptor)
                if try reader.readAll() != original.payload { Issue.record("case \(number) of part \(part)") }
                accepted += 1
            } catch is StorageError {
                refused += 1
            }
        }
        #expect(refused > 4_500)
        #expect(accepted < 500)
    }

    @Test(
        "What a transfer left is taken up only as far as it is sound, and what is completed is what was offered",
        arguments: 0..<2
    )
    func incoming(part: UInt64) throws {
        let world = try SnapshotWorld()
        let originals = try originals(world)
        let store = try SnapshotStore(directory: world.directory.path + "/incoming")
        var generator = Generator(state: 100 + part)
        for number in 0..<250 {
            let original = originals.randomElement(using: &generator)!
            let bytes = mutate(original, originals.randomElement(using: &generator)!, &generator)
            try write(bytes, "\(store.directory)/\(original.descriptor.fileName).incoming")
            do {
                let incoming = try store.receive(original.descriptor, clusterID: world.cluster)
                let offset = incoming.offset
                try incoming.append(Array(original.bytes[Int(offset)...]), at: offset)
                let descriptor = try incoming.finish()
                if try store.open(descriptor).readAll() != original.payload {
                    Issue.record("case \(number) of part \(part)")
                }
            } catch let error as StorageError {
                // A sound header of another snapshot goes unnoticed until the end, and then all is fetched anew.
                if ![.corrupt, .clusterMismatch, .newerFormat].contains(error.code) { Issue.record("\(error)") }
            }
        }
    }

    private func write(_ bytes: [UInt8], _ path: String) throws {
        // Not cut to nothing first: a file system that sees that writes the new bytes to the disk at once.
        let file = try File.openOrCreate(path)
        try file.truncate(to: UInt64(bytes.count))
        if !bytes.isEmpty { try file.write(bytes, at: 0) }
    }
}
