import Foundation
import Testing

@testable import RaftStorage

@Suite("Files without a name")
struct ScratchFileTests {
    private let temporary: TemporaryDirectory

    init() throws { temporary = try TemporaryDirectory() }

    @Test("What is written is read, and nothing of it is in the directory")
    func content() throws {
        let file = try ScratchFile(in: temporary.path)
        var writer = ScratchFile.Writer(file, roomToLeave: 0)
        var expected: [UInt8] = []
        for number in 0..<2_000 {
            let piece = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: 3_001)
            try piece.withUnsafeBytes { try writer.write($0) }
            expected += piece
        }
        #expect(Int(writer.count) == expected.count)
        #expect(try FileManager.default.contentsOfDirectory(atPath: temporary.path) == [])
        #expect(try file.read(expected.count + 10, at: 0) == expected)
        #expect(try file.read(10, at: 3_000) == Array(expected[3_000..<3_010]))
    }

    @Test("Room that others need is left to them")
    func room() throws {
        var writer = ScratchFile.Writer(try ScratchFile(in: temporary.path), roomToLeave: 1 << 60)
        let piece: [UInt8] = [1, 2, 3]
        let error = #expect(throws: StorageError.self) { try piece.withUnsafeBytes { try writer.write($0) } }
        #expect(error?.isLackOfRoom == true)
        #expect(writer.count == 0)
    }
}
