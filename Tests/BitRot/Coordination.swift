import KeyValue

/// The commands about leases, locks, transactions and idempotency keys among those that make the directory.
enum Coordination {
    static let count = 120
    private static let kinds = 12

    /// The command with a number below ``count``, and what goes with it; the same each time.
    static func command(_ number: Int) -> (command: Command, options: CommandOptions) {
        let (round, kind) = (number / kinds, number % kinds)
        let lease = UInt64(1_000 + round)
        switch kind {
        case 0: return (.grantLease(id: lease, ttlMilliseconds: 50_000), .none)
        case 1: return (put("leased/\(round)", .attached(lease)), .none)
        case 2: return (put("short/\(round)", .ttl(milliseconds: 2_000)), keyed(number))
        case 3: return (.increment(key: bytes("counter"), by: Int64(round + 1)), keyed(number))
        case 4: return (lock(round, .attached(lease)), keyed(number))
        case 5: return (lock(round, .ttl(milliseconds: 40_000)), .none)
        case 6: return (.transaction(transaction(round, lease)), keyed(number))
        case 7: return (.keepLeasesAlive([lease, lease - 1]), .none)
        case 8: return (.delete(key: bytes("deleted/\(round)")), .none)
        // Every other lease ends, and who waits behind it holds the lock.
        case 9 where round % 2 == 0: return (.revokeLease(lease), .none)
        case 9: return (put("deleted/\(round + 1)", .ttl(milliseconds: 60_000)), .none)
        case 10: return (put("fenced", .none), CommandOptions(fence: Fence(lock: Array("lock/0".utf8), token: 1)))
        default: return (.expireLeases((1...200).map { UInt64($0) }), .none)
        }
    }

    /// The numbers of those with an idempotency key, at most 16, the youngest of which may lie in the log only.
    static var asked: [Int] {
        let all = (0..<count).filter { command($0).options.idempotency != nil }
        return stride(from: 0, to: all.count, by: max(1, all.count / 15)).map { all[$0] }
    }

    private static func bytes(_ text: String) -> ArraySlice<UInt8> { Array(text.utf8)[...] }

    private static func keyed(_ number: Int) -> CommandOptions {
        CommandOptions(idempotency: IdempotencyKey(key: Array("request-\(number)".utf8), fingerprint: 7))
    }

    private static func put(_ key: String, _ lease: LeaseChoice) -> Command {
        .put(Put(key: bytes(key), value: bytes("of \(key)"), lease: lease))
    }

    private static func lock(_ round: Int, _ lease: LeaseChoice) -> Command {
        .acquireLock(
            LockRequest(name: Array("lock/\(round / 3)".utf8), lease: lease, waits: true, value: Array("\(round)".utf8))
        )
    }

    private static func transaction(_ round: Int, _ lease: UInt64) -> Transaction {
        var put = Put(key: bytes("deleted/\(round)"), value: bytes("by a transaction"))
        put.lease = .attached(lease)
        return Transaction(
            compares: [.init(key: bytes("counter"), .greater, .version(0))],
            success: [.put(put), .increment(key: bytes("sum"), by: 2), .get(bytes("counter"))],
            failure: [.get(bytes("sum"))]
        )
    }
}
