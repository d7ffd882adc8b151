import KeyValueModel
import Testing

@testable import KeyValue

@Suite struct IdempotencyTests {
    private func increment(_ key: UInt8, fingerprint: UInt128 = 1, at time: UInt64 = 0) -> Request {
        var request = Request(command: .increment(key: "n".bytes, by: 1), timestamp: time)
        request.options.idempotency = IdempotencyKey(key: [key], fingerprint: fingerprint)
        return request
    }

    @Test(
        "A retry gets the first answer, also after a restart, after a crash and on a replica made from a snapshot; another request gets none"
    )
    func retries() throws {
        try withTemporaryDirectory { directory in
            let fixture = try StoreFixture(directory: directory + "/1")
            let first = try fixture.append([increment(1)])[0]
            try fixture.append([increment(2)])
            func check(_ fixture: StoreFixture) throws {
                #expect(try fixture.append([increment(1)]) == [.replayed(first)])
                #expect(try fixture.append([increment(1, fingerprint: 2)]) == [.idempotencyMismatch])
                #expect(try fixture.store.get("n".bytes).item?.value == "2".bytes)
            }
            try check(fixture)
            try fixture.crashAndReplay()
            try check(fixture)
            try fixture.store.flush()
            try fixture.reopen()
            try check(fixture)
            let other = try StoreFixture(directory: directory + "/2")
            try other.install(fixture)
            try check(other)
        }
    }

    @Test("A failed condition is an answer to keep; a fence that does not hold, is not")
    func refusals() throws {
        try withTemporaryDirectory { directory in
            let fixture = try StoreFixture(directory: directory + "/s")
            var create = Request(command: .put(key: "k".bytes, value: [], condition: .exists))
            create.options.idempotency = IdempotencyKey(key: [1], fingerprint: 1)
            let failed = try fixture.append([create])[0]
            try fixture.append([.put(key: "k".bytes, value: [])])
            #expect(try fixture.append([create]) == [.replayed(failed)])
            var fenced = increment(2)
            fenced.options.fence = Fence(lock: [0x6c], token: 1)
            guard case .fenced = try fixture.append([fenced])[0] else {
                Issue.record("a fence without a lock held")
                return
            }
            guard case .incremented = try fixture.append([increment(2)])[0] else {
                Issue.record("what was fenced off was kept as an answer")
                return
            }
        }
    }

    @Test("Answers are forgotten after an hour of the cluster's time, a few at each command, and leave nothing behind")
    func age() throws {
        try withTemporaryDirectory { directory in
            let fixture = try StoreFixture(directory: directory + "/s")
            for key in 0..<20 as Range<UInt8> { try fixture.append([increment(key, at: 1_000 + UInt64(key % 3))]) }
            let age = KeyValueLimits.idempotencyAgeMilliseconds
            try fixture.append([increment(0, at: 999 + age)])
            let read = Command.delete(key: "absent".bytes)
            for round in 0..<8 {
                if round == 3 {
                    try fixture.store.flush()
                    try fixture.reopen()
                }
                try fixture.append([read], timestamp: 1_002 + age)
                #expect(
                    fixture.store.state.withLock { $0.record.idempotencyCount } == UInt64(fixture.model.answered.count)
                )
            }
            #expect(fixture.model.answered.isEmpty)
            #expect(fixture.store.state.withLock { $0.record.recordCount } == 1)
        }
    }
}
