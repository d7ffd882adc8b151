import KeyValueModel
import LMDB
import Testing

@testable import KeyValue

@Suite struct HistoryTests {
    @Test(
        "Reads, listings and events of every revision are the model's, across flushes, crashes and snapshots",
        arguments: 0..<8
    )
    func randomChanges(seed: UInt64) throws {
        try withTemporaryDirectory { directory in
            var generator = SeededGenerator(seed: 1_000 + seed)
            var options = HistoryFixture.options
            if seed % 4 == 1 { options.historyEvents = 150 }
            if seed % 4 == 2 { options.historyBytes = 60_000 }
            if seed % 4 == 3 { options.historyMilliseconds = 5_000 }
            var fixture = try HistoryFixture(directory: directory + "/0", options: options)
            for step in 1...40 {
                switch Int.random(in: 0..<20, using: &generator) {
                case 0..<11:
                    for _ in 0..<Int.random(in: 1..<4, using: &generator) {
                        fixture.pass(milliseconds: UInt64.random(in: 0..<400, using: &generator))
                        let isHot = Int.random(in: 0..<3, using: &generator) == 0
                        let count = Int.random(in: 1..<25, using: &generator)
                        try fixture.append(
                            (0..<count).map { _ in Command.randomChange(using: &generator, hot: isHot) }
                        )
                    }
                case 11..<15: try fixture.store.flush()
                case 15, 16: try fixture.crashAndReplay()
                case 17:
                    let replica = try HistoryFixture(directory: directory + "/\(step)", options: options)
                    try replica.append([.put(key: "old".bytes, value: "old".bytes)])
                    let floor = fixture.store.compactRevision
                    try replica.install(fixture)
                    #expect(replica.store.compactRevision == floor)
                    try replica.check(using: &generator)
                    fixture = replica
                default: try fixture.check(using: &generator)
                }
            }
            try fixture.check(using: &generator, revisions: 8)
            try fixture.store.flush()
            try fixture.store.close()
            #expect(try Store.examine(directory: fixture.directory).damages == [])
        }
    }

    @Test("Without bounds in reach nothing of the past is lost but by prefixes deleted as a whole")
    func nothingIsLost() throws {
        try withTemporaryDirectory { directory in
            var generator = SeededGenerator(seed: 5)
            var options = HistoryFixture.options
            options.maximumTombstones = 10_000
            let fixture = try HistoryFixture(directory: directory + "/s", options: options)
            for round in 0..<12 {
                try fixture.append((0..<60).map { _ in Command.randomChange(using: &generator) })
                if round % 3 == 0 { try fixture.store.flush() }
            }
            #expect(fixture.store.compactRevision == 0)
            try fixture.check(using: &generator, revisions: 10)
        }
    }

    @Test("A key that changes without end: old revisions are found, events are read, memory and file stay bounded")
    func hotKey() throws {
        try withTemporaryDirectory { directory in
            var options = HistoryFixture.options
            options.historyEvents = 20_000
            let store = try Store.open(directory: directory + "/s", options: options)
            var index: UInt64 = 0
            func put(_ count: Int) throws {
                for _ in 0..<count {
                    index += 1
                    let command = Command.put(key: "hot".bytes, value: "\(index)".bytes)
                    _ = try store.apply(index: index, term: 1, payload: command.encode(timestampMilliseconds: 0))
                }
            }
            try put(100)
            let few = store.pendingBytes
            try put(900)
            #expect(store.pendingBytes > few + 900 * 200)
            for _ in 0..<30 {
                try put(1_000)
                try store.flush()
            }
            #expect(store.pendingBytes == 0)
            let floor = store.compactRevision
            #expect(index - floor <= 20_000 && index - floor > 19_000)
            for revision in stride(from: floor, through: index, by: 997) {
                #expect(try store.item(forKey: "hot".bytes, at: revision).item?.value == "\(revision)".bytes)
            }
            var after = floor
            while after < index {
                let page = try store.events(after: after, maximumEvents: 700)
                #expect(page.events.map(\.revision) == Array(after + 1...page.through))
                #expect(page.events.allSatisfy { $0.item.value == "\($0.revision)".bytes })
                after = page.through
            }
            // What is below the floor goes with the flushes.
            try put(1)
            try store.flush()
            let backend = store.state.withLock { $0.backend }
            let extent = try backend.environment.read { try backend.readHistory(in: $0).extent }
            #expect(extent.records == index - store.compactRevision)
        }
    }

    @Test("Deleted keys are remembered no longer than their deletes")
    func deletionsGo() throws {
        try withTemporaryDirectory { directory in
            var options = HistoryFixture.options
            options.historyEvents = 100
            let fixture = try HistoryFixture(directory: directory + "/s", options: options)
            let backend = fixture.store.state.withLock { $0.backend }
            for round in 0..<5 {
                try fixture.append((0..<50).map { .put(key: "key\(round)/\($0)".bytes, value: "v".bytes) })
                try fixture.append((0..<50).map { .delete(key: "key\(round)/\($0)".bytes) })
                try fixture.store.flush()
            }
            try fixture.append((0..<101).map { .put(key: "other".bytes, value: "\($0)".bytes) })
            try fixture.store.flush()
            let extent = try backend.environment.read { try backend.readHistory(in: $0).extent }
            #expect(extent.deletions == 0)
            #expect(extent.records == fixture.revision - fixture.store.compactRevision)
        }
    }

    @Test("The callback tells the last revision of each batch that changed something")
    func callback() throws {
        try withTemporaryDirectory { directory in
            let one = try HistoryFixture(directory: directory + "/1")
            let two = try HistoryFixture(directory: directory + "/2")
            let told = Guarded<[UInt64]>([])
            one.store.onApplied { revision in told.withLock { $0.append(revision) } }
            try one.append((0..<200).map { .put(key: "k".bytes, value: "\($0)".bytes) })
            try one.append([.delete(key: "absent".bytes)])
            try one.append([.delete(key: "k".bytes)])
            try two.append((0..<300).map { .put(key: "k".bytes, value: "\($0)".bytes) })
            try one.install(two)
            #expect(told.withLock { $0 } == [200, 201, 300])
        }
    }

    @Test("The callback costs the millionth time what it costs the first")
    func callbackStaysShallow() throws {
        try withTemporaryDirectory { directory in
            let fixture = try HistoryFixture(directory: directory)
            let places = Guarded<[Int]>([])
            fixture.store.onApplied { _ in
                // Where the stack is.
                var here = 0
                let place = withUnsafeMutablePointer(to: &here) { Int(bitPattern: $0) }
                places.withLock { $0.append(place) }
            }
            for revision in 1...1000 { fixture.store.didApply(through: UInt64(revision)) }
            #expect(Set(places.withLock { $0 }).count == 1)
        }
    }
}
