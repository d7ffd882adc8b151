import Foundation
import PowerCut
import Testing

/// What the model of a disk says of small traces.
@Suite("The disk that loses power")
struct DiskStateTests {
    private static func record(_ number: UInt64, _ event: TraceEvent) -> Trace.Record {
        Trace.Record(sequence: number, event: event)
    }

    /// All that 400 power cuts behind the events leave: of each, the files with their contents.
    private func images(_ events: [TraceEvent]) throws -> Set<[String: String]> {
        let disk = try DiskState()
        for (number, event) in events.enumerated() { disk.advance(Self.record(UInt64(number + 1), event)) }
        var found: Set<[String: String]> = []
        var hashes: Set<UInt64> = []
        for number in 0..<400 {
            let image = disk.image(number: number, seed: 1)
            guard hashes.insert(image.hash).inserted else { continue }
            let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString).path
            defer { removeTree(directory) }
            try image.write(to: directory)
            var files: [String: String] = [:]
            for name in try FileManager.default.subpathsOfDirectory(atPath: directory) {
                let content = FileManager.default.contents(atPath: directory + "/" + name) ?? Data()
                files[name] = String(decoding: content.map { $0 == 0 ? 0x2e : $0 }, as: UTF8.self)
            }
            found.insert(files)
        }
        #expect(found.count == hashes.count, "equal images have equal hashes, others do not")
        return found
    }

    private static func write(
        _ text: String,
        at offset: Int = 0,
        file: UInt64 = 1,
        isSynchronous: Bool = false
    ) -> TraceEvent {
        .write(file: file, offset: offset, bytes: Array(text.utf8), isSynchronous: isSynchronous)
    }

    private static let create = TraceEvent.created(file: 1, path: "a")
    private static let sync = TraceEvent.syncBegan(file: 1, path: "a", isDirectory: false)
    private static let directorySync = TraceEvent.syncBegan(file: 9, path: "", isDirectory: true)

    @Test("A file without syncs may be gone, empty, or hold zeros or what was written")
    func nothingIsSynced() throws {
        let found = try images([Self.create, Self.write("xy")])
        #expect(found == [[:], ["a": ""], ["a": ".."], ["a": "xy"]])
    }

    @Test("A file's sync makes its content durable and not its name; a directory's does the reverse")
    func syncsAreOfOneKind() throws {
        let content = try images([Self.create, Self.write("xy"), Self.sync, .syncEnded(reference: 3, error: 0)])
        #expect(content == [[:], ["a": "xy"]])
        let name = try images([Self.create, Self.write("xy"), Self.directorySync, .syncEnded(reference: 3, error: 0)])
        #expect(name == [["a": ""], ["a": ".."], ["a": "xy"]])
    }

    @Test("A sync that failed, or has not ended, or began before a write, makes nothing of it durable")
    func syncsThatDoNotCount() throws {
        let open = [Self.create, Self.directorySync, .syncEnded(reference: 2, error: 0)]
        let all: Set<[String: String]> = [["a": ""], ["a": ".."], ["a": "xy"]]
        #expect(try images(open + [Self.write("xy"), Self.sync]) == all)
        #expect(try images(open + [Self.write("xy"), Self.sync, .syncEnded(reference: 5, error: 5)]) == all)
        #expect(try images(open + [Self.sync, Self.write("xy"), .syncEnded(reference: 4, error: 0)]) == all)
    }

    @Test("A write through O_DSYNC is durable alone")
    func synchronousWrites() throws {
        let found = try images([
            Self.create, Self.directorySync, .syncEnded(reference: 2, error: 0), Self.write("one", at: 4096),
            Self.write("two", isSynchronous: true), .syncEnded(reference: 5, error: 0),
        ])
        #expect(found.allSatisfy { $0["a"]?.hasPrefix("two") ?? false })
        #expect(found.contains { $0["a"]?.hasSuffix("one") ?? false })
        #expect(found.contains { !($0["a"]?.hasSuffix("one") ?? true) })
    }

    @Test("A write is torn between sectors, and a later one of the same sector does not come without the earlier")
    func pieces() throws {
        let begin = [Self.create, Self.directorySync, .syncEnded(reference: 2, error: 0)]
        let long = String(repeating: "x", count: 512) + String(repeating: "y", count: 512)
        let torn = try images(begin + [Self.write(long)])
        #expect(torn.contains(["a": String(repeating: ".", count: 512) + long.suffix(512)]))
        let twice = try images(begin + [Self.write("ab"), Self.write("c", at: 1)])
        #expect(twice == [["a": ""], ["a": ".."], ["a": "ab"], ["a": "ac"]])
    }

    @Test("A rename is lost or kept as one")
    func renames() throws {
        let found = try images([
            Self.create, Self.directorySync, .syncEnded(reference: 2, error: 0), .renamed(from: "a", to: "b"),
        ])
        #expect(found == [["a": ""], ["b": ""]])
    }
}
