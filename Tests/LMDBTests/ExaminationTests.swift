import Foundation
import Glibc
import LMDB
import Testing

@Suite("Examination of a data file")
struct ExaminationTests {
    /// A state-like environment: two named databases, long values, prefixes deleted, pages freed and used again.
    private func makeNamed(_ path: String, commits: Int, seed: UInt64) throws -> [[UInt8]: Int] {
        var generator = Generator(state: seed)
        var model: [[UInt8]: Int] = [:]
        let environment = try Environment(path: path)
        let items = try environment.openDatabase("items")
        let meta = try environment.openDatabase("meta")
        for commit in 0..<commits {
            var next = model
            try environment.write { transaction in
                if commit % 17 == 16 {
                    try transaction.deleteAll(in: items)
                    next = [:]
                }
                for _ in 0..<Int.random(in: 1...200, using: &generator) {
                    let key = Array("key\(Int.random(in: 0..<4000, using: &generator))".utf8)
                    if Int.random(in: 0..<3, using: &generator) == 0 {
                        try transaction.delete(key, in: items)
                        next[key] = nil
                    } else {
                        let isBig = Int.random(in: 0..<20, using: &generator) == 0
                        let length = Int.random(in: 0...(isBig ? 30_000 : 300), using: &generator)
                        try transaction.put([UInt8](repeating: 7, count: length), forKey: key, in: items)
                        next[key] = length
                    }
                }
                let stamp = withUnsafeBytes(of: UInt64(transaction.transactionID)) { [UInt8]($0) }
                try transaction.put(stamp, forKey: Array("commit".utf8), in: meta)
            }
            model = next
        }
        try environment.close()
        return model
    }

    private var namedOptions: ExaminationOptions {
        var options = ExaminationOptions(layout: .named(["items", "meta"]))
        options.stamp = { commit in
            commit.value(forKey: Array("commit".utf8), in: "meta")
                .map { $0.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) } }
        }
        return options
    }

    @Test("finds every page of a sound file in use once or free, whatever was written", arguments: 1...12)
    func sound(seed: UInt64) throws {
        let directory = try TemporaryDirectory()
        let model = try makeNamed(directory.path, commits: Int(seed) * 9, seed: seed)
        var found: [[UInt8]: Int] = [:]
        var options = namedOptions
        options.visit = { database, key, value in if database == 0 { found[Array(key)] = value.count } }
        let report = try DataFile.examine(directory: directory.path, options)
        #expect(report.damages == [])
        #expect(report.notes == [])
        #expect(report.entries == [UInt64(model.count), 1])
        #expect(found == model)
    }

    @Test("finds a log-like file with integer keys sound while its head is trimmed and its tail cut")
    func soundIntegers() throws {
        let directory = try TemporaryDirectory()
        var generator = Generator(state: 5)
        let environment = try Environment(path: directory.path)
        let database = try environment.openDatabase(hasIntegerKeys: true)
        var (first, last): (UInt64, UInt64) = (1, 0)
        for round in 0..<300 {
            try environment.write { transaction in
                try transaction.put([1, 2, 3], forKey: UInt64(0), in: database)
                for _ in 0..<Int.random(in: 1...40, using: &generator) {
                    last += 1
                    let length = Int.random(in: 14...3000, using: &generator)
                    try transaction.put([UInt8](repeating: 1, count: length), forKey: last, in: database, mode: .append)
                }
                if round % 5 == 4, last > first + 20 {
                    try transaction.delete(first...(first + 15), in: database)
                    first += 16
                }
                if round % 7 == 6, last > first + 5 {
                    try transaction.delete((last - 4)...last, in: database)
                    last -= 5
                }
            }
        }
        try environment.close()
        let report = try DataFile.examine(
            directory: directory.path,
            ExaminationOptions(layout: .unnamed(hasIntegerKeys: true))
        )
        #expect(report.damages == [])
        #expect(report.notes == [])
        #expect(report.entries == [last - first + 2])
    }

    @Test("answers with a report whatever the file holds, and what it calls sound has every key")
    func flips() throws {
        let directory = try TemporaryDirectory()
        let model = try makeNamed(directory.path, commits: 32, seed: 99)
        let file = directory.path + "/data.mdb"
        let original = [UInt8](try Data(contentsOf: URL(fileURLWithPath: file)))
        var generator = Generator(state: 3)
        var (detected, harmless) = (0, 0)
        let handle = try FileHandle(forUpdating: URL(fileURLWithPath: file))
        for round in 0..<1500 {
            // Meta pages, heads of pages with their record's places, and anything.
            let page = 4096 * Int.random(in: 0..<original.count / 4096, using: &generator)
            let offset =
                switch round % 3 {
                case 0: 4096 * (round % 2) + Int.random(in: 0..<152, using: &generator)
                case 1: page + Int.random(in: 0..<40, using: &generator)
                default: Int.random(in: 0..<original.count, using: &generator)
                }
            let length = round % 10 == 9 ? min(512, original.count - offset) : 1
            var changed = Array(original[offset..<offset + length])
            for index in changed.indices {
                changed[index] = length == 1 ? changed[index] ^ 1 << UInt8.random(in: 0..<8, using: &generator) : 0
            }
            try handle.seek(toOffset: UInt64(offset))
            try handle.write(contentsOf: Data(changed))
            var found: [[UInt8]: Int] = [:]
            var options = namedOptions
            options.visit = { database, key, value in if database == 0 { found[Array(key)] = value.count } }
            let report = try DataFile.examine(directory: directory.path, options)
            if report.isSound {
                harmless += 1
                #expect(found == model, "flip at \(offset)")
            } else {
                detected += 1
            }
            try handle.seek(toOffset: UInt64(offset))
            try handle.write(contentsOf: Data(original[offset..<offset + length]))
        }
        #expect(detected > 100)
        #expect(harmless > 100)
    }

    @Test("every single bit of a transaction number that changes is noticed, and put right", arguments: 4...7)
    func transactionNumbers(commits: Int) throws {
        let directory = try TemporaryDirectory()
        let model = try makeNamed(directory.path, commits: commits, seed: UInt64(commits))
        let file = directory.path + "/data.mdb"
        let original = [UInt8](try Data(contentsOf: URL(fileURLWithPath: file)))
        let number = try DataFile.examine(directory: directory.path, namedOptions).transactionID
        for bit in 0..<128 where bit % 64 < 6 || bit % 64 > 61 {
            var changed = original
            changed[(bit < 64 ? 0 : 4096) + 144 + bit % 64 / 8] ^= 1 << (bit % 8)
            try Data(changed).write(to: URL(fileURLWithPath: file))
            #expect(try !DataFile.examine(directory: directory.path, namedOptions).isSound, "bit \(bit)")
            let lock = try DirectoryLock(directory: directory.path)
            let (report, corrected) = try DataFile.examineForOpening(
                directory: directory.path,
                holding: lock,
                namedOptions
            )
            lock.release()
            #expect(report.damages == [], "bit \(bit)")
            #expect(!corrected.isEmpty)
            #expect(report.transactionID == number)
            #expect(report.entries[0] == UInt64(model.count))
        }
    }

    @Test("a commit whose last pages are free and were never written leaves a file that opens")
    func unwrittenTail() throws {
        let directory = try TemporaryDirectory()
        for round in 0..<30 {
            let lock = try DirectoryLock(directory: directory.path)
            if round > 0 {
                let options = ExaminationOptions(layout: .named(["items"]))
                #expect(try DataFile.examine(directory: directory.path, options).damages == [])
            }
            let environment = try Environment(path: directory.path, holding: lock)
            let items = try environment.openDatabase("items")
            try environment.write { transaction in
                for key in 0..<200 + round {
                    try transaction.put(
                        [UInt8](repeating: 1, count: 900),
                        forKey: Array("k\(round)-\(key)".utf8),
                        in: items
                    )
                }
                for key in 0..<150 + round { try transaction.delete(Array("k\(round)-\(key)".utf8), in: items) }
            }
            try environment.close()
        }
    }
}
