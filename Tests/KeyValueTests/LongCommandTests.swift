import KeyValueModel
import Synchronization
import Testing

@testable import KeyValue

/// Commands that cost more than others should wait for.
@Suite struct LongCommandTests {
    private func withFixture(keys: Int, _ body: (StoreFixture) throws -> Void) throws {
        try withTemporaryDirectory { directory in
            let fixture = try StoreFixture(directory: directory + "/s")
            fixture.model.maximumAnswered = 8
            for start in stride(from: 0, to: keys, by: 1_000) {
                let numbers = start..<min(keys, start + 1_000)
                try fixture.append(numbers.map { .put(key: "p/\($0)".bytes, value: "x".bytes) })
                if start % 4_000 == 0 { try fixture.store.flush() }
            }
            try body(fixture)
        }
    }

    // Closures inside of expectations are mixed up with others by the compiler.
    private func never() -> Bool { false }
    private func always() -> Bool { true }

    private func step(_ store: Store, _ entries: ArraySlice<CommittedEntry>) throws -> AppliedCommands {
        try store.apply(entries, isTimeUp: never)
    }

    private func entry(_ command: Command, behind store: Store) -> CommittedEntry {
        let payload = command.encode(timestampMilliseconds: 5_000)
        return .command(index: store.mark.index + 1, term: 1, payload: payload)
    }

    @Test(
        "While a long delete is executed everything is as it was before, and can be read and flushed; then all of it is done at once"
    )
    func deletedPrefix() throws {
        try withFixture(keys: 9_000) { fixture in
            let store = fixture.store
            let (mark, hash) = (store.mark, store.stateHash.hash)
            let entries = [entry(.deletePrefix("p/".bytes), behind: store)]
            let applied = try step(store, entries[...])
            let command = try #require(applied.longCommand)
            #expect(applied.outcomes.isEmpty)
            let asked = Mutex(0)
            command.execute {
                // Between any two steps.
                asked.withLock { $0 += 1 }
                #expect((try? store.get("p/7".bytes).item) != nil && store.mark == mark && store.stateHash.hash == hash)
                return false
            }
            #expect(asked.withLock { $0 } > 0)
            #expect(store.mark == mark)
            #expect(try store.count(prefix: "p/".utf8.map { $0 }).count == 9_000)
            let done = try step(store, entries[...])
            #expect(done.outcomes == [.deleted(revision: mark.revision + 1, count: 9_000, previous: nil)])
            #expect(done.longCommand == nil && store.mark.index == mark.index + 1)
            #expect(try store.count(prefix: []).count == 0)
            try store.flush()
            guard case .matches = try store.verifyHash() else {
                Issue.record("the hash is not what the records make")
                return
            }
        }
    }

    @Test(
        "A flush that sets aside what a long command began with has it executed once more; one that is given up leaves nothing"
    )
    func flushedMeanwhile() throws {
        try withFixture(keys: 9_000) { fixture in
            let store = fixture.store
            try fixture.append([.put(key: "p/last".bytes, value: "x".bytes)])
            let entries = [entry(.deletePrefix("p/".bytes), behind: store)]
            let first = try #require(try step(store, entries[...]).longCommand)
            first.execute(isGivenUp: always)
            let hash = store.stateHash.hash
            #expect(try step(store, entries[...]).longCommand === first)
            first.execute(isGivenUp: never)
            #expect(try store.flush().index == store.mark.index)
            let second = try #require(try step(store, entries[...]).longCommand)
            #expect(second !== first && store.stateHash.hash == hash)
            second.execute(isGivenUp: never)
            // Nothing was applied since.
            try store.flush()
            #expect(try step(store, entries[...]).outcomes.count == 1)
            #expect(try store.count(prefix: []).count == 0)
        }
    }

    @Test("A snapshot that is installed takes the place of what a long command was to change")
    func restoredMeanwhile() throws {
        try withFixture(keys: 9_000) { fixture in
            try withFixture(keys: 3) { other in
                let store = fixture.store
                let command = try #require(
                    try step(store, [entry(.deletePrefix("p/".bytes), behind: store)][...]).longCommand
                )
                try fixture.install(other)
                command.execute(isGivenUp: never)
                try fixture.append([.put(key: "next".bytes, value: "x".bytes)])
                #expect(try store.count(prefix: []).count == 4)
            }
        }
    }

    @Test("What a scan passes without seeing it costs, too: tombstones, and keys below a deleted prefix")
    func hiddenKeys() throws {
        try withFixture(keys: 9_000) { fixture in
            let store = fixture.store
            for start in stride(from: 0, to: 9_000, by: 1_000) {
                try fixture.append((start..<start + 1_000).map { .delete(key: "p/\($0)".bytes) })
            }
            let ranges = Array(repeating: Transaction.Operation.range(prefix: "p/".bytes, limit: 1), count: 3)
            let entries = [entry(.transaction(Transaction(success: ranges)), behind: store)]
            let command = try #require(try step(store, entries[...]).longCommand)
            command.execute(isGivenUp: never)
            let outcomes = try step(store, entries[...]).outcomes
            #expect(
                outcomes == [
                    .transaction(
                        TransactionOutcome(
                            succeeded: true,
                            revision: store.mark.revision,
                            results: Array(repeating: .range(items: [], more: false), count: 3)
                        )
                    )
                ]
            )
        }
    }

    @Test("A large value is hashed elsewhere, and a plain put stays where it is")
    func largeValue() throws {
        try withFixture(keys: 1) { fixture in
            let store = fixture.store
            let value = [UInt8](repeating: 7, count: 8 << 20)
            let entries = [
                entry(.put(key: "small".bytes, value: value[..<1_000_000]), behind: store),
                .command(
                    index: store.mark.index + 2,
                    term: 1,
                    payload: Command.put(key: "large".bytes, value: value[...]).encode(timestampMilliseconds: 0)
                ),
            ]
            let applied = try step(store, entries[...])
            #expect(applied.outcomes.count == 1)
            try #require(applied.longCommand).execute(isGivenUp: never)
            #expect(try step(store, entries[1...]).outcomes.count == 1)
            #expect(try store.get("large".bytes).item?.value.count == value.count)
        }
    }

    @Test(
        "A memtable whose flush would change too many pages takes no more before it is set aside, and asks for that before"
    )
    func fullMemtable() throws {
        try withTemporaryDirectory { directory in
            var options = StoreFixture.options
            options.maximumFlushPages = 400
            // Never reached by bytes.
            options.memtableBytes = 1 << 40
            let fixture = try StoreFixture(directory: directory + "/s", options: options)
            let store = fixture.store
            let entries = (1...300).map { number in
                let command = Command.put(key: "k\(number * 7_919 % 10_007)".bytes, value: "x".bytes)
                let payload = command.encode(timestampMilliseconds: 0)
                return CommittedEntry.command(index: UInt64(number), term: 1, payload: payload)
            }
            let applied = try step(store, entries[...])
            #expect(applied.isFull && (80...100).contains(applied.outcomes.count), "\(applied.outcomes.count)")
            #expect(store.pendingBytes >= options.memtableBytes && store.shouldFlush)
            #expect(try step(store, entries[applied.outcomes.count...]).outcomes.isEmpty)
            try store.flush()
            store.waitForFlush(isGivenUp: never)
            #expect(!store.shouldFlush)
            #expect(try step(store, entries[applied.outcomes.count...]).outcomes.count > 50)
            // What changes a key that is there, or the same key again, changes fewer pages.
            var (count, rounds) = (Int(store.mark.index), 0)
            while count < entries.count {
                try store.flush()
                count += try step(store, entries[count...]).outcomes.count
                rounds += 1
            }
            #expect(rounds < 5)
            try store.flush()
            let index = store.mark.index
            let again = entries.enumerated().map { offset, entry in
                guard case .command(_, _, let payload) = entry else { preconditionFailure("all are") }
                return CommittedEntry.command(index: index + 1 + UInt64(offset), term: 1, payload: payload)
            }
            #expect(try step(store, again[...]).outcomes.count > 150)
        }
    }

    @Test("Entries are applied in slices: at least one each time, however soon the time is up")
    func slices() throws {
        try withFixture(keys: 1) { fixture in
            let store = fixture.store
            var index = store.mark.index
            let entries = (0..<500).map { number in
                index += 1
                let command = Command.put(key: "k\(number)".bytes, value: "x".bytes)
                return CommittedEntry.command(index: index, term: 1, payload: command.encode(timestampMilliseconds: 0))
            }
            var (done, calls) = (0, 0)
            while done < entries.count {
                let applied = try store.apply(entries[done...]) { true }
                #expect((1...64).contains(applied.outcomes.count))
                done += applied.outcomes.count
                calls += 1
            }
            #expect(calls > 1 && store.mark.index == index)
        }
    }
}
