import KeyValue
import KeyValueModel

extension Command {
    /// A random command of any kind, over few keys, leases and locks, so that commands meet.
    static func randomOfAny(using generator: inout SeededGenerator, _ model: ReferenceModel) -> Command {
        switch Int.random(in: 0..<100, using: &generator) {
        case 0..<30: return .random(using: &generator, latestRevision: model.revision)
        case 30..<45:
            var put = Put(key: fewKeys(using: &generator), value: fewValues(using: &generator))
            put.lease = lease(using: &generator, model)
            put.returnsPrevious = Bool.random(using: &generator)
            return .put(put)
        case 45..<53:
            return .increment(
                key: fewKeys(using: &generator),
                by: [1, -3, .max, .min, 1_000].randomElement(using: &generator)!,
                condition: Int.random(in: 0..<5, using: &generator) == 0 ? .exists : .none
            )
        case 53..<65: return .transaction(.random(using: &generator, model))
        case 65..<70:
            let id = UInt64.random(in: 0..<12, using: &generator)
            return .grantLease(id: id, ttlMilliseconds: ttl(using: &generator))
        case 70..<74: return .keepLeasesAlive((0..<3).map { _ in leaseID(using: &generator, model) })
        case 74..<78: return .revokeLease(leaseID(using: &generator, model))
        case 78..<83:
            return .expireLeases((model.leases.keys.sorted() + [999]).shuffled(using: &generator))
        case 83..<92:
            return .acquireLock(.random(using: &generator, model))
        default: return randomRelease(using: &generator, model)
        }
    }

    /// A random command about locks, more often one that asks than one that gives back, so that there are queues.
    static func randomOfLocks(using generator: inout SeededGenerator, _ model: ReferenceModel) -> Command {
        switch Int.random(in: 0..<10, using: &generator) {
        case 0: .grantLease(id: UInt64.random(in: 0..<12, using: &generator), ttlMilliseconds: 10_000)
        case 1..<8: .acquireLock(.random(using: &generator, model))
        default: randomRelease(using: &generator, model)
        }
    }

    private static func randomRelease(using generator: inout SeededGenerator, _ model: ReferenceModel) -> Command {
        let name = lockName(using: &generator)
        let token = model.locks[name]?.tickets.randomElement(using: &generator)?.token
        return .releaseLock(name: name, token: token ?? 1, onlyWhileWaiting: Bool.random(using: &generator))
    }

    static func fewKeys(using generator: inout SeededGenerator) -> ArraySlice<UInt8> {
        ["a", "a/1", "a/2", "n/1", "n/2", "z"].randomElement(using: &generator)!.bytes
    }

    static func fewValues(using generator: inout SeededGenerator) -> ArraySlice<UInt8> {
        ["", "1", "-7", "+5", "9223372036854775807", "x", "1 "].randomElement(using: &generator)!.bytes
    }

    fileprivate static func ttl(using generator: inout SeededGenerator) -> UInt64 {
        [1_000, 2_000, 10_000, 999].randomElement(using: &generator)!
    }

    fileprivate static func leaseID(using generator: inout SeededGenerator, _ model: ReferenceModel) -> UInt64 {
        if Int.random(in: 0..<4, using: &generator) == 0 { return UInt64.random(in: 0..<14, using: &generator) }
        return model.leases.keys.sorted().randomElement(using: &generator) ?? 3
    }

    fileprivate static func lease(using generator: inout SeededGenerator, _ model: ReferenceModel) -> LeaseChoice {
        switch Int.random(in: 0..<5, using: &generator) {
        case 0: .none
        case 1, 2: .ttl(milliseconds: ttl(using: &generator))
        default: .attached(leaseID(using: &generator, model))
        }
    }

    static func lockName(using generator: inout SeededGenerator) -> [UInt8] {
        Array(["l", "l/1", "m"].randomElement(using: &generator)!.utf8)
    }
}

extension LockRequest {
    fileprivate static func random(using generator: inout SeededGenerator, _ model: ReferenceModel) -> LockRequest {
        let name = Command.lockName(using: &generator)
        let clients = Set(model.leases.filter { $0.value.owner == .client }.keys)
        // Often who has a ticket already asks again.
        let there = model.locks[name]?.tickets.map(\.lease).filter { clients.contains($0) } ?? []
        let again = there.randomElement(using: &generator)
        let lease: LeaseChoice =
            switch Int.random(in: 0..<20, using: &generator) {
            case 0: .none
            case 1..<9: .attached(again ?? clients.sorted().randomElement(using: &generator) ?? 3)
            case 9..<12: .attached(clients.sorted().randomElement(using: &generator) ?? 3)
            case 12..<15: .attached(Command.leaseID(using: &generator, model))
            default: .ttl(milliseconds: Command.ttl(using: &generator))
            }
        return LockRequest(
            name: name,
            lease: lease,
            waits: Int.random(in: 0..<3, using: &generator) > 0,
            value: Array(Command.fewValues(using: &generator))
        )
    }
}

extension Transaction {
    static func random(
        using generator: inout SeededGenerator,
        _ model: ReferenceModel,
        operations: Int = 6
    ) -> Transaction {
        func some<Value>(_ most: Int, _ make: (inout SeededGenerator) -> Value) -> [Value] {
            (0..<Int.random(in: 0...most, using: &generator)).map { _ in make(&generator) }
        }
        return Transaction(
            compares: some(2) { .random(using: &$0, model) },
            success: some(operations) { .random(using: &$0, model) },
            failure: some(3) { .random(using: &$0, model) }
        )
    }
}

extension Transaction.Compare {
    fileprivate static func random(using generator: inout SeededGenerator, _ model: ReferenceModel) -> Self {
        let key = Command.fewKeys(using: &generator)
        let item = model.items[key]
        let target: Target =
            switch Int.random(in: 0..<6, using: &generator) {
            case 0: .value(Array(item?.value ?? Command.fewValues(using: &generator)))
            case 1: .version(UInt64.random(in: 0..<3, using: &generator))
            case 2: .createRevision(item?.createRevision ?? 0)
            case 3: .modRevision(item?.modRevision ?? 0)
            case 4: .lease(item?.lease ?? 0)
            default: .exists(Bool.random(using: &generator))
            }
        return Self(key: key, Relation.allCases.randomElement(using: &generator)!, target)
    }
}

extension Transaction.Operation {
    fileprivate static func random(using generator: inout SeededGenerator, _ model: ReferenceModel) -> Self {
        let key = Command.fewKeys(using: &generator)
        switch Int.random(in: 0..<20, using: &generator) {
        case 0..<7:
            var put = Put(key: key, value: Command.fewValues(using: &generator))
            put.contentType = [nil, "text/plain", "x/\u{fc}"].randomElement(using: &generator)!
            if Bool.random(using: &generator) { put.lease = Command.lease(using: &generator, model) }
            return .put(put)
        case 7..<10: return .delete(key)
        case 10: return .deletePrefix(["", "a", "n/"].randomElement(using: &generator)!.bytes)
        case 11..<14: return .get(key)
        case 14..<16:
            let limit = Int.random(in: 1..<5, using: &generator)
            return .range(prefix: ["", "a"].randomElement(using: &generator)!.bytes, limit: limit)
        default: return .increment(key: key, by: Int64.random(in: -2...2, using: &generator))
        }
    }
}

extension Request {
    /// A random request, at the model's time or later.
    static func random(using generator: inout SeededGenerator, _ model: ReferenceModel) -> Request {
        var request = Request(command: .randomOfAny(using: &generator, model))
        let step: UInt64 =
            switch Int.random(in: 0..<100, using: &generator) {
            case 0: KeyValueLimits.idempotencyAgeMilliseconds / 2
            case 1..<20: UInt64.random(in: 0..<1_500, using: &generator)
            default: 0
            }
        // Sometimes one that went back.
        request.timestamp = Int.random(in: 0..<10, using: &generator) == 0 ? 0 : model.now + step
        if Int.random(in: 0..<5, using: &generator) == 0 {
            let number = UInt8.random(in: 0..<30, using: &generator)
            let fingerprint = UInt128(Int.random(in: 0..<4, using: &generator) == 0 ? 1 : 0)
            request.options.idempotency = IdempotencyKey(key: [number], fingerprint: fingerprint)
        }
        if Int.random(in: 0..<8, using: &generator) == 0 {
            let name = Command.lockName(using: &generator)
            let token = model.locks[name]?.tickets.randomElement(using: &generator)?.token ?? 7
            request.options.fence = Fence(lock: name, token: token)
        }
        return request
    }
}
