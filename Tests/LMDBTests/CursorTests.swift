import LMDB
import Testing

@Suite("Keys and cursors")
struct CursorTests {
    let directory: TemporaryDirectory
    let environment: Environment

    init() throws {
        directory = try TemporaryDirectory()
        var options = Environment.Options()
        options.testOnlyNoSync = true
        environment = try Environment(path: directory.path + "/env", options: options)
    }

    @Test("integer keys are ordered as numbers")
    func integerOrder() throws {
        let database = try environment.openDatabase(hasIntegerKeys: true)
        try environment.write { transaction in
            for key in [UInt64(256), 1, 65_536, 255, 2] { try transaction.put(key, forKey: key, in: database) }
        }
        let keys = try environment.read { try $0.integerKeys(in: database) }
        #expect(keys == [1, 2, 255, 256, 65_536])
    }

    @Test("a cursor seeks at, at least and below a key")
    func seeking() throws {
        let database = try environment.openDatabase("names")
        try environment.write { transaction in
            for key in ["b", "d", "f"] { try transaction.put([], forKey: Array(key.utf8), in: database) }
        }
        func name(_ item: Cursor.Item?) -> String? { item.map { String(decoding: $0.key, as: UTF8.self) } }
        try environment.read { (transaction) throws in
            try transaction.withCursor(in: database) { (cursor) throws in
                #expect(try name(cursor.first()) == "b")
                #expect(try name(cursor.previous()) == nil)
                #expect(try name(cursor.last()) == "f")
                #expect(try name(cursor.next()) == nil)
                #expect(try name(cursor.seek(Array("d".utf8))) == "d")
                #expect(try name(cursor.next()) == "f")
                #expect(try name(cursor.seek(Array("c".utf8))) == nil)
                #expect(try name(cursor.seek(atLeast: Array("c".utf8))) == "d")
                #expect(try name(cursor.seek(atLeast: Array("g".utf8))) == nil)
                #expect(try name(cursor.seek(below: Array("d".utf8))) == "b")
                #expect(try name(cursor.seek(below: Array("z".utf8))) == "f")
                #expect(try name(cursor.seek(below: Array("b".utf8))) == nil)
            }
        }
    }

    @Test("append demands a key beyond the last")
    func appending() throws {
        let database = try environment.openDatabase(hasIntegerKeys: true)
        try environment.write { try $0.put([1], forKey: UInt64(5), in: database, mode: .append) }
        let error = #expect(throws: LMDBError.self) {
            try environment.write { try $0.put([1], forKey: UInt64(5), in: database, mode: .append) }
        }
        #expect(error?.code == .keyExists)
    }

    @Test("a value can be written in place, and be empty")
    func inPlace() throws {
        let database = try environment.openDatabase()
        try environment.write { transaction in
            try transaction.put(count: 5, forKey: [1], in: database) { $0.copyBytes(from: [5, 4, 3, 2, 1]) }
            try transaction.put([], forKey: [2], in: database)
        }
        try environment.read { (transaction) throws in
            #expect(try transaction.get([1], in: database) == [5, 4, 3, 2, 1])
            #expect(try transaction.get([2], in: database) == [])
        }
    }

    @Test("a key that is empty or too long is an error")
    func badKeys() throws {
        let database = try environment.openDatabase()
        for key in [[], [UInt8](repeating: 1, count: 512)] {
            let error = #expect(throws: LMDBError.self) {
                try environment.write { try $0.put([1], forKey: key, in: database) }
            }
            #expect(error?.code == .badValueSize)
        }
    }

    @Test("ranges of numbers are deleted like in a sorted set", arguments: 0..<8)
    func deleteRanges(seed: UInt64) throws {
        var random = Generator(state: seed + 1)
        let database = try environment.openDatabase(hasIntegerKeys: true)
        var model = Set<UInt64>()
        for _ in 0..<40 {
            try environment.write { transaction in
                for _ in 0..<50 {
                    let key = UInt64.random(in: 0..<2000, using: &random)
                    let size = Int.random(in: 0..<3000, using: &random)
                    try transaction.put([UInt8](repeating: 1, count: size), forKey: key, in: database)
                    model.insert(key)
                }
                let low = UInt64.random(in: 0..<2000, using: &random)
                let range = low...(low + UInt64.random(in: 0..<400, using: &random))
                let limit = Int.random(in: 1..<60, using: &random)
                let expected = model.filter { range.contains($0) }.sorted().prefix(limit)
                #expect(try transaction.delete(range, in: database, limit: limit) == expected.count)
                model.subtract(expected)
                if let one = model.min(), Bool.random(using: &random) {
                    #expect(try transaction.delete(one, in: database))
                    #expect(try !transaction.delete(one, in: database))
                    model.remove(one)
                }
            }
            #expect(try environment.read { try $0.integerKeys(in: database) } == model.sorted())
        }
        try environment.write { try $0.deleteAll(in: database) }
        #expect(try environment.read { try $0.statistics(of: database).entries } == 0)
    }
}

extension Transaction where Self: ~Copyable {
    func integerKeys(in database: Database) throws -> [UInt64] {
        try withCursor(in: database) { cursor in
            var keys: [UInt64] = []
            while let item = try cursor.next() { keys.append(item.integerKey) }
            return keys
        }
    }
}

/// SplitMix64.
struct Generator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
