import Testing

@testable import KeyValue

@Suite struct MemtableTests {
    private func entry(_ key: [UInt8], revision: UInt64) -> MemtableEntry {
        let metadata = ItemMetadata(createRevision: 1, modRevision: revision, version: 1)
        return MemtableEntry(rawKey: key, value: [1, 2], metadata: metadata)
    }

    private func contents(_ table: Memtable) -> [(key: [UInt8], revision: UInt64)] {
        var result: [(key: [UInt8], revision: UInt64)] = []
        var position = table.first
        while let current = position {
            result.append((Array(table[current].rawKey), table[current].metadata.modRevision))
            position = table.position(after: current)
        }
        return result
    }

    private func key(_ number: Int) -> [UInt8] { Array("key\(number)".utf8) }

    @Test("Keys in ascending, descending and random order come out sorted, the last put of each", arguments: 0..<3)
    func order(kind: Int) throws {
        var generator = SeededGenerator(seed: 3)
        var numbers = Array(10_000..<15_000)
        if kind == 1 { numbers.reverse() }
        if kind == 2 { numbers = (0..<8_000).map { _ in Int.random(in: 10_000..<15_000, using: &generator) } }
        var table = Memtable()
        var expected: [[UInt8]: UInt64] = [:]
        for (revision, number) in numbers.enumerated() {
            table.put(entry(key(number), revision: UInt64(revision)))
            expected[key(number)] = UInt64(revision)
        }
        let sorted = expected.sorted { $0.key.lexicographicallyPrecedes($1.key) }
        #expect(table.count == sorted.count)
        #expect(table.bytes == sorted.count * MemtableEntry.minimumSize)
        #expect(contents(table).map(\.key) == sorted.map(\.key))
        #expect(contents(table).map(\.revision) == sorted.map(\.value))
        var backwards: [[UInt8]] = []
        var position = table.last
        while let current = position {
            backwards.append(Array(table[current].rawKey))
            position = table.position(before: current)
        }
        #expect(backwards == sorted.map(\.key).reversed())
    }

    @Test("A place at or below any key is the one that a search through all keys finds")
    func seeking() throws {
        var generator = SeededGenerator(seed: 4)
        var table = Memtable()
        var keys: Set<[UInt8]> = []
        for _ in 0..<700 {
            let key = Command.randomKey(using: &generator)
            keys.insert(key)
            table.put(entry(key, revision: 1))
        }
        let sorted = keys.sorted { $0.lexicographicallyPrecedes($1) }
        for _ in 0..<500 {
            let probe = Array(
                Command.randomKey(using: &generator).dropLast(Int.random(in: 0...1, using: &generator))
            )
            let (atLeast, below, isFound) = probe.withUnsafeBytes {
                (table.position(atLeast: $0), table.position(below: $0), table.find($0).isFound)
            }
            #expect(atLeast.map { Array(table[$0].rawKey) } == sorted.first { !$0.lexicographicallyPrecedes(probe) })
            #expect(below.map { Array(table[$0].rawKey) } == sorted.last { $0.lexicographicallyPrecedes(probe) })
            #expect(isFound == keys.contains(probe))
        }
    }

    @Test("A copy does not see what is put afterwards")
    func copies() throws {
        var table = Memtable()
        var copies: [(table: Memtable, expected: [[UInt8]])] = []
        for number in 0..<2_000 {
            table.put(entry(key(number), revision: 1))
            if number.isMultiple(of: 100) { copies.append((table, contents(table).map(\.key))) }
        }
        for number in 0..<2_000 { table.put(entry(key(number), revision: 2)) }
        table.deletePrefix([])
        #expect(table.first == nil)
        for copy in copies {
            #expect(contents(copy.table).map(\.key) == copy.expected)
            #expect(contents(copy.table).allSatisfy { $0.revision == 1 })
        }
    }

    @Test("A deleted prefix takes its keys out, hides those below, and takes smaller prefixes in")
    func deletedPrefixes() throws {
        var table = Memtable()
        for number in 0..<500 { table.put(entry(key(number), revision: 1)) }
        table.deletePrefix(key(12))
        table.deletePrefix(key(1))
        table.deletePrefix(key(44))
        #expect(table.deletedPrefixes == [key(1), key(44)])
        let expected = (0..<500).map(key).filter { !$0.starts(with: key(1)) && !$0.starts(with: key(44)) }
        #expect(Set(contents(table).map(\.key)) == Set(expected))
        #expect(table.count == expected.count)
        func hides(_ key: [UInt8]) -> Bool { key.withUnsafeBytes { table.deletedPrefix(of: $0) != nil } }
        #expect(hides(key(12)) && hides(key(440)) && !hides(key(2)))
    }
}
