import KeyValueModel
import Testing

@testable import KeyValue

/// How often commands about locks found a ticket that was there before, and changed nothing.
private struct TicketCount {
    /// Asked again with the lease that holds.
    var holding = 0
    /// Asked again with a lease in the queue.
    var queued = 0
    /// To be given back only while they wait, and held.
    var kept = 0

    mutating func add(_ command: Command, _ outcome: Outcome, after revision: UInt64) {
        guard case .lock(let status) = outcome, status.token <= revision else { return }
        if case .releaseLock = command {
            kept += 1
        } else if status.holds {
            holding += 1
        } else {
            queued += 1
        }
    }
}

@Suite struct ServiceModelTests {
    private func options() -> StoreOptions {
        var options = StoreFixture.options
        options.testOnlyMaximumIdempotencyRecords = 8
        return options
    }

    private func fixture(_ directory: String) throws -> StoreFixture {
        let fixture = try StoreFixture(directory: directory, options: options())
        fixture.model.maximumAnswered = 8
        return fixture
    }

    /// Leases and locks as they can be read agree with the model.
    private func check(_ fixture: StoreFixture) throws {
        let model = fixture.model
        #expect(
            try fixture.store.leases(limit: .max).leases == model.leases.keys.sorted().compactMap { model.status($0) }
        )
        let locks = try fixture.store.locks(limit: .max).locks
        #expect(locks.map(\.name) == model.locks.keys.sorted { $0.lexicographicallyPrecedes($1) })
        for lock in locks {
            #expect([lock.holder] + lock.waiters == model.locks[lock.name]?.tickets)
            #expect(try fixture.store.lock(name: lock.name).lock == lock)
        }
        #expect(fixture.store.nextLeaseDeadline == model.leases.values.map(\.deadline).min())
        let due = model.leases.filter { $0.value.deadline <= model.now }
        #expect(Set(fixture.store.dueLeases(at: model.now, limit: .max)) == Set(due.keys))
        for id in model.leases.keys {
            let keys = model.sorted.filter { $0.lease == id }.map { Array($0.key) }
            #expect(try fixture.store.attachedKeys(of: id, limit: .max).keys == keys)
            #expect(try fixture.store.lease(id: id).lease == model.status(id))
        }
        let record = fixture.store.state.withLock { $0.record }
        #expect(record.idempotencyCount == UInt64(model.answered.count))
        #expect(record.leaseCount == UInt64(model.leases.count) && record.lockCount == UInt64(model.locks.count))
    }

    @Test(
        "Random commands of all kinds give the model's outcomes and contents on two replicas with equal hashes, across flushes, restarts and snapshots",
        arguments: [UInt64.random(in: .min ... .max), .random(in: .min ... .max), 1, 2]
    )
    func randomCommands(seed: UInt64) throws {
        print("ServiceModelTests: seed \(seed)")
        try withTemporaryDirectory { directory in
            var generator = SeededGenerator(seed: seed)
            let one = try fixture(directory + "/1")
            // The other applies in pieces.
            var cheap = options()
            cheap.commandAllowance = 8
            let two = try StoreFixture(directory: directory + "/2", options: cheap)
            (two.model.maximumAnswered, two.pieces) = (8, SeededGenerator(seed: seed &+ 1))
            var repeats = TicketCount()
            for round in 0..<120 {
                for _ in 0..<Int.random(in: 1..<40, using: &generator) {
                    var request = Request.random(using: &generator, one.model)
                    if round % 4 == 0 { request.command = .randomOfLocks(using: &generator, one.model) }
                    let revision = one.model.revision
                    let outcomes = try one.append([request])
                    #expect(try two.append([request]) == outcomes)
                    repeats.add(request.command, outcomes[0], after: revision)
                }
                switch Int.random(in: 0..<8, using: &generator) {
                case 0, 1: try two.store.flush()
                case 2: try two.crashAndReplay()
                case 3:
                    try two.store.flush()
                    try two.reopen()
                case 4: try two.install(one)
                default: break
                }
                #expect(one.store.stateHash.hash == two.store.stateHash.hash, "seed \(seed), round \(round)")
                if round % 10 == 9 {
                    for fixture in [one, two] {
                        try check(fixture)
                        #expect(try fixture.store.range(RangeQuery(limit: .max)).items == fixture.model.sorted)
                        guard case .matches = try fixture.store.verifyHash() else {
                            Issue.record("the hash is not what the records make, seed \(seed)")
                            return
                        }
                    }
                    #expect(try one.store.checksum().checksum == two.store.checksum().checksum)
                    let floor = max(one.store.compactRevision, two.store.compactRevision)
                    #expect(try one.store.events(after: floor).events == two.store.events(after: floor).events)
                    let now = one.model.now + 20_000
                    #expect(one.store.dueLeases(at: now, limit: 99) == two.store.dueLeases(at: now, limit: 99))
                }
            }
            #expect(two.putOff > 100, "\(two.putOff), seed \(seed)")
            #expect(repeats.holding > 0 && repeats.queued > 0 && repeats.kept > 0, "\(repeats), seed \(seed)")
            try one.store.flush()
            try one.store.close()
            let findings = try Store.examine(directory: directory + "/1")
            #expect(findings.isSound, "\(findings.damages)")
        }
    }

    @Test(
        "What commands draft is what they do: many changes of a few keys with leases, locks, prefixes and outcomes in each",
        arguments: [UInt64.random(in: .min ... .max), 3]
    )
    func drafts(seed: UInt64) throws {
        print("ServiceModelTests: seed \(seed)")
        try withTemporaryDirectory { directory in
            var generator = SeededGenerator(seed: seed)
            var options = options()
            // Prefixes are hidden or not, by number and by bytes.
            options.maximumTombstones = 2
            options.maximumReplacedBytes = 40
            options.commandAllowance = 20
            let fixture = try StoreFixture(directory: directory + "/s", options: options)
            (fixture.model.maximumAnswered, fixture.pieces) = (8, SeededGenerator(seed: seed &+ 1))
            for step in 0..<2_500 {
                var request = Request.random(using: &generator, fixture.model)
                switch Int.random(in: 0..<10, using: &generator) {
                case 0..<5: request.command = .transaction(.random(using: &generator, fixture.model, operations: 24))
                case 5, 6:
                    request.command = .deletePrefix(["", "a", "a/", "n"].randomElement(using: &generator)!.bytes)
                default: break
                }
                try fixture.append([request])
                if step % 61 == 0 { try fixture.store.flush() }
                guard step % 250 == 249 else { continue }
                try check(fixture)
                guard case .matches = try fixture.store.verifyHash() else {
                    Issue.record("the hash is not what the records make, seed \(seed)")
                    return
                }
            }
        }
    }

    @Test("Every command, options and outcome comes back from its bytes")
    func roundTrips() throws {
        let seed = UInt64.random(in: .min ... .max)
        print("ServiceModelTests: seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        var model = ReferenceModel()
        var kinds: Set<UInt8> = []
        for _ in 0..<6_000 {
            let request = Request.random(using: &generator, model)
            let bytes = request.command.encode(options: request.options, timestampMilliseconds: request.timestamp)
            if let reason = request.command.validate() {
                #expect(throws: reason) { try Command.decode(bytes) }
            } else {
                let decoded = try Command.decode(bytes)
                #expect(decoded.command == request.command)
                #expect(decoded.options == request.options)
                #expect(decoded.timestampMilliseconds == request.timestamp)
            }
            let outcome = model.apply(request)
            #expect(Outcome(decoding: outcome.encode()) == outcome)
            kinds.insert(outcome.encode()[0])
        }
        // All but what is too large.
        #expect(kinds == Set(1...21).subtracting([18]), "seed \(seed)")
    }

    @Test("Any bytes are decoded or refused, and what is decoded encodes to the same bytes")
    func fuzz() {
        let seed = UInt64.random(in: .min ... .max)
        print("ServiceModelTests: seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        var model = ReferenceModel()
        func damage(_ bytes: inout [UInt8]) {
            if Int.random(in: 0..<4, using: &generator) == 0 {
                bytes = Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &generator)))
            }
            for _ in 0..<Int.random(in: 1..<4, using: &generator) where !bytes.isEmpty {
                let offset = Int.random(in: 0..<bytes.count, using: &generator)
                bytes[offset] = Bool.random(using: &generator) ? UInt8.random(in: 0...255, using: &generator) : 0xff
            }
        }
        for _ in 0..<6_000 {
            let request = Request.random(using: &generator, model)
            var bytes = request.command.encode(options: request.options, timestampMilliseconds: request.timestamp)
            damage(&bytes)
            if let decoded = try? Command.decode(bytes) {
                #expect(decoded.command.validate() == nil)
                let again = decoded.command.encode(
                    options: decoded.options,
                    timestampMilliseconds: decoded.timestampMilliseconds
                )
                #expect(again == bytes)
            }
            var outcome = model.apply(request).encode()
            damage(&outcome)
            if let decoded = Outcome(decoding: outcome) { #expect(decoded.encode() == outcome) }
        }
    }
}
