import KeyValueModel
import Testing

@testable import KeyValue

@Suite struct TransactionTests {
    private func withFixture(_ body: (StoreFixture) throws -> Void) throws {
        try withTemporaryDirectory { directory in try body(try StoreFixture(directory: directory + "/s")) }
    }

    private func run(_ fixture: StoreFixture, _ operations: [Transaction.Operation]) throws -> Outcome {
        try fixture.append([Request(command: .transaction(Transaction(success: operations)))])[0]
    }

    @Test("Later operations see earlier ones, all with one revision, and each changed key is one event")
    func order() throws {
        try withFixture { fixture in
            try fixture.append([.put(key: "a".bytes, value: "1".bytes), .put(key: "b".bytes, value: [])])
            let outcome = try run(
                fixture,
                [
                    .increment(key: "a".bytes, by: 1), .increment(key: "a".bytes, by: 1), .delete("b".bytes),
                    .put(Put(key: "c".bytes, value: [])), .get("a".bytes), .range(prefix: [], limit: 1),
                    .deletePrefix("c".bytes),
                ]
            )
            guard case .transaction(let done) = outcome else {
                Issue.record("\(outcome)")
                return
            }
            #expect(done.revision == 3 && done.succeeded)
            #expect(done.results[1] == .incremented(value: 3, createRevision: 1, version: 3))
            guard case .item(let item) = done.results[4], case .range(let items, let more) = done.results[5] else {
                Issue.record("\(done.results)")
                return
            }
            #expect(item?.value == "3".bytes && items == [item] && more)
            let events = try fixture.store.events(after: 2, EventFilter(), maximumEvents: 9, maximumBytes: 9_999).events
            #expect(events.map(\.item.key) == ["a".bytes, "b".bytes])
            #expect(events.map(\.kind) == [.put, .delete])
            #expect(fixture.store.mark.revision == 3)
        }
    }

    @Test("An operation that cannot be executed leaves nothing of the others")
    func atomic() throws {
        try withFixture { fixture in
            try fixture.append([
                .put(key: "a".bytes, value: "x".bytes), .put(key: "max".bytes, value: "9223372036854775807".bytes),
            ])
            let before = fixture.store.stateHash.hash
            let puts: [Transaction.Operation] = [
                .put(Put(key: "b".bytes, value: [], lease: .ttl(milliseconds: 1_000))), .deletePrefix([]),
                .put(Put(key: "a".bytes, value: "x".bytes)),
                .put(Put(key: "max".bytes, value: "9223372036854775807".bytes)),
            ]
            #expect(
                try run(fixture, puts + [.increment(key: "a".bytes, by: 1)])
                    == .notANumber(revision: 2, .notANumber, operation: 4)
            )
            #expect(
                try run(fixture, puts + [.increment(key: "max".bytes, by: 1)])
                    == .notANumber(revision: 2, .overflow, operation: 4)
            )
            let attached = Put(key: "c".bytes, value: [], lease: .attached(99))
            #expect(try run(fixture, puts + [.put(attached)]) == .leaseNotFound(99))
            #expect(fixture.store.stateHash.hash == before)
            #expect(fixture.store.nextLeaseDeadline == nil)
        }
    }

    @Test(
        "A transaction answers 10,000 keys at most, in all its ranges and gets together, and what counts is the same on every replica"
    )
    func answeredKeys() throws {
        try withFixture { fixture in
            let store = fixture.store
            func apply(_ operations: [Transaction.Operation]) throws -> Outcome {
                let payload = Command.transaction(Transaction(success: operations)).encode(timestampMilliseconds: 0)
                return try store.apply(index: store.mark.index + 1, term: 1, payload: payload)
            }
            for part in 0..<10 {
                for start in stride(from: 0, to: 500, by: 100) {
                    let numbers = start..<start + 100
                    _ = try apply(numbers.map { .put(Put(key: "p/\(part)/\($0)".bytes, value: "x".bytes)) })
                }
                if part % 4 == 3 { try store.flush() }
            }
            let all = Transaction.Operation.range(prefix: "p/".bytes, limit: 10_000)
            let one = Transaction.Operation.get("p/0/0".bytes)
            let none = Transaction.Operation.get("q".bytes)
            guard case .transaction(let done) = try apply([all, none, all]),
                case .range(let items, false) = done.results[2]
            else {
                Issue.record("10,000 keys are not answered")
                return
            }
            #expect(items.count == 5_000)
            #expect(try apply([all, all, one]) == .tooLarge(.resultItems))
            #expect(try apply([one, all, all]) == .tooLarge(.resultItems))
            #expect(try apply(Array(repeating: all, count: 128)) == .tooLarge(.resultItems))
        }
    }

    @Test("Limits are refused, and nothing is executed")
    func limits() throws {
        try withFixture { fixture in
            let get = Transaction.Operation.get("a".bytes)
            let many = Transaction(success: Array(repeating: get, count: 129))
            #expect(Command.transaction(many).validate() == .tooManyOperations)
            #expect(throws: InvalidCommand.tooManyOperations) {
                try Command.decode(Command.transaction(many).encode(timestampMilliseconds: 0))
            }
            let compare = Transaction.Compare(key: "a".bytes, .less, .exists(true))
            #expect(Command.transaction(Transaction(compares: [compare])).validate() == .unfitCompare)
            let large = [UInt8](repeating: 1, count: (1 << 20) - 100)[...]
            try fixture.append((0..<9).map { .put(key: "large/\($0)".bytes, value: large) })
            let range = Transaction.Operation.range(prefix: "large/".bytes, limit: 100)
            let store = fixture.store
            func apply(_ operations: [Transaction.Operation], _ options: CommandOptions = .none) throws -> Outcome {
                let command = Command.transaction(Transaction(success: operations))
                let payload = command.encode(options: options, timestampMilliseconds: 0)
                return try store.apply(index: store.mark.index + 1, term: 1, payload: payload)
            }
            #expect(try apply([.delete("large/0".bytes), range, get]) != .tooLarge(.resultBytes))
            #expect(try apply([.put(Put(key: "large/0".bytes, value: large)), range]) == .tooLarge(.resultBytes))
            #expect(try store.get("large/0".bytes).item == nil)
            // With an idempotency key the answer must be small enough to keep.
            let options = CommandOptions(idempotency: IdempotencyKey(key: [1], fingerprint: 1))
            let read = [Transaction.Operation.put(Put(key: "b".bytes, value: [])), .get("large/1".bytes)]
            #expect(try apply(read, options) == .tooLarge(.outcomeBytes))
            #expect(try store.get("b".bytes).item == nil)
            for part in 0..<101 {
                let puts = (0..<100).map { Transaction.Operation.put(Put(key: "many/\(part)/\($0)".bytes, value: [])) }
                _ = try apply(puts)
            }
            #expect(try apply([.deletePrefix("many/".bytes)]) == .tooLarge(.deletedKeys))
            #expect(
                try apply([.deletePrefix("many/1".bytes), .deletePrefix("many/".bytes)]) == .tooLarge(.deletedKeys)
            )
            guard case .transaction(let done) = try apply([.deletePrefix("many/1".bytes)]) else {
                Issue.record("a prefix of few keys was refused")
                return
            }
            #expect(done.results == [.deleted(count: 1_200)])
        }
    }
}
