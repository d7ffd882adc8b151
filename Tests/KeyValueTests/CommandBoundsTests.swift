import KeyValueModel
import LMDB
import Testing

@testable import KeyValue

/// What one command may do at most.
@Suite struct CommandBoundsTests {
    private func withFixture(
        _ change: (inout StoreOptions) -> Void = { _ in },
        _ body: (StoreFixture) throws -> Void
    ) throws {
        try withTemporaryDirectory { directory in
            var options = StoreFixture.options
            change(&options)
            try body(try StoreFixture(directory: directory + "/s", options: options))
        }
    }

    @Test(
        "A prefix with more keys that have leases than one command may detach is refused, and smaller ones are deleted"
    )
    func leasedPrefix() throws {
        try withFixture { fixture in
            let store = fixture.store
            func apply(_ command: Command) throws -> Outcome {
                let payload = command.encode(timestampMilliseconds: 0)
                return try store.apply(index: store.mark.index + 1, term: 1, payload: payload)
            }
            let count = KeyValueLimits.maximumDeletedLeasedKeys + 1
            for start in stride(from: 0, to: count, by: KeyValueLimits.maximumOperations) {
                let numbers = start..<min(count, start + KeyValueLimits.maximumOperations)
                let puts = numbers.map { number in
                    Transaction.Operation.put(
                        Put(key: "p/\(number)".bytes, value: [], lease: .ttl(milliseconds: 60_000))
                    )
                }
                _ = try apply(.transaction(Transaction(success: puts)))
            }
            try store.flush()
            let before = store.stateHash.hash
            #expect(try apply(.deletePrefix("p".bytes)) == .tooLarge(.deletedKeys))
            #expect(try apply(.deletePrefix([])) == .tooLarge(.deletedKeys))
            #expect(store.stateHash.hash == before)
            #expect(store.leaseCount == count)
            guard case .deleted(_, let smaller, _) = try apply(.deletePrefix("p/9".bytes)),
                case .deleted(_, let rest, _) = try apply(.deletePrefix([]))
            else {
                Issue.record("smaller prefixes are not deleted")
                return
            }
            #expect(smaller > 1_000 && smaller + rest == count)
            #expect(store.leaseCount == 0)
            #expect(store.state.withLock { $0.record.recordCount } == 0)
        }
    }

    /// Keys of 3,000 bytes that go with each of the commands, at once.
    private func deletions() -> [(name: String, command: Command)] {
        let all = Transaction(success: [.deletePrefix("k/".bytes)])
        let each = Transaction(success: (0..<5).map { .put(Put(key: "k/\($0)".bytes, value: "new".bytes)) })
        return [
            ("prefix", .deletePrefix("k/".bytes)), ("transaction", .transaction(all)), ("puts", .transaction(each)),
            ("revoke", .revokeLease(1)), ("expire", .expireLeases([1])),
        ]
    }

    @Test(
        "A command that replaces more bytes than a flush should copy ends the history, and changes the same state as ever"
    )
    func replacedBytes() throws {
        for (name, command) in deletions() {
            try withFixture { bounded in
                try withFixture({ $0.maximumReplacedBytes = 16_000 }) { fixture in
                    try checkReplaced(command, name, by: fixture, asBy: bounded, ending: false)
                }
                try withFixture({ $0.maximumReplacedBytes = 15_000 }) { fixture in
                    try checkReplaced(command, name, by: fixture, asBy: nil, ending: true)
                }
            }
        }
    }

    private func checkReplaced(
        _ command: Command,
        _ name: String,
        by fixture: StoreFixture,
        asBy other: StoreFixture?,
        ending: Bool
    ) throws {
        let value = [UInt8](repeating: 7, count: 3_000)
        for fixture in [fixture, other].compactMap({ $0 }) {
            try fixture.append([.grantLease(id: 1, ttlMilliseconds: 1_000)])
            try fixture.append((0..<5).map { .put(Put(key: "k/\($0)".bytes, value: value[...], lease: .attached(1))) })
            try fixture.store.flush()
            try fixture.append([Request(command: command, timestamp: 2_000)])
        }
        let store = fixture.store
        if let other { #expect(other.store.stateHash.hash == store.stateHash.hash, "\(name)") }
        #expect(store.compactRevision == (ending ? store.mark.revision : 0), "\(name)")
        #expect((store.pendingBytes < 30_000) == ending, "\(name): \(store.pendingBytes)")
        try store.flush()
        let backend = store.state.withLock { $0.backend }
        let extent = try backend.environment.read { try backend.readHistory(in: $0).extent }
        #expect(extent.records == (ending ? 0 : 10), "\(name)")
        guard case .matches = try store.verifyHash() else {
            Issue.record("the hash is not what the records make after \(name)")
            return
        }
        // What comes next has a history again.
        let revision = store.mark.revision
        try fixture.append([.put(key: "k/0".bytes, value: "1".bytes), .put(key: "k/0".bytes, value: "2".bytes)])
        #expect(try store.item(forKey: "k/0".bytes, at: revision + 1).item?.value == "1".bytes)
        #expect(try store.events(after: revision).events.count == 2)
    }

    @Test("All keys are deleted as the record of the state counts them, with locks, leases and outcomes beside them")
    func allKeys() throws {
        try withFixture { fixture in
            let lock = LockRequest(name: Array("l".utf8), lease: .ttl(milliseconds: 9_000), waits: false)
            try fixture.append([.grantLease(id: 1, ttlMilliseconds: 1_000), .acquireLock(lock)])
            for round in 0..<3 {
                try fixture.append((0..<30).map { .put(key: "k\($0)".bytes, value: "\($0 + round)".bytes) })
                let leased = Put(key: "leased".bytes, value: [1], lease: round == 1 ? .none : .attached(1))
                let own = Put(key: "own".bytes, value: [1], lease: .ttl(milliseconds: 5_000))
                var request = Request(command: .put(leased))
                request.options.idempotency = IdempotencyKey(key: [UInt8(round)], fingerprint: 1)
                try fixture.append([request, Request(command: .put(own))])
                if round == 0 { try fixture.store.flush() }
                try fixture.append([.deletePrefix([]), .put(key: "k".bytes, value: "v".bytes)])
                #expect(fixture.store.leaseCount == 2)
                guard case .matches = try fixture.store.verifyHash() else {
                    Issue.record("the hash is not what the records make")
                    return
                }
            }
            try fixture.store.flush()
            try fixture.store.close()
            #expect(try Store.examine(directory: fixture.directory).damages == [])
        }
    }
    @Test("A page of the past ends after some keys that were looked at, and the pages together are all there was")
    func visits() throws {
        try withTemporaryDirectory { directory in
            var generator = SeededGenerator(seed: 9)
            let fixture = try HistoryFixture(directory: directory + "/s")
            for _ in 0..<12 {
                try fixture.append((0..<40).map { _ in Command.randomChange(using: &generator) })
                try fixture.append((0..<20).map { _ in .delete(key: Command.randomKey(using: &generator)[...]) })
                if Bool.random(using: &generator) { try fixture.store.flush() }
            }
            let store = fixture.store
            var emptyPages = 0
            for _ in 0..<300 {
                var query = RangeQuery.random(using: &generator)
                (query.limit, query.maximumBytes, query.after) = (.max, .max, nil)
                query.revision = UInt64.random(in: store.compactRevision..<fixture.revision, using: &generator)
                let whole = try store.range(query, maximumVisits: .max)
                #expect(!whole.more)
                var (items, groups) = ([Item](), [[UInt8]]())
                while true {
                    let page = try store.range(query, maximumVisits: 3)
                    (items, groups) = (items + page.items, groups + page.groups)
                    #expect(page.items.count + page.groups.count <= whole.items.count + whole.groups.count)
                    if page.items.isEmpty, page.groups.isEmpty, page.more { emptyPages += 1 }
                    guard page.more, let last = page.last, query.after != last else { break }
                    query.after = last
                }
                #expect(items == whole.items && groups == whole.groups, "\(query)")
            }
            #expect(emptyPages > 0)
        }
    }
}
