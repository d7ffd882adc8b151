import KeyValueModel
import Testing

@testable import KeyValue

@Suite struct LeaseTests {
    private func withFixture(_ body: (StoreFixture) throws -> Void) throws {
        try withTemporaryDirectory { directory in try body(try StoreFixture(directory: directory + "/s")) }
    }

    @Test(
        "A lease ends no more than 1,000 keys by one command; the rest stay due, and nobody can use the lease any more"
    )
    func manyKeys() throws {
        try withFixture { fixture in
            let store = fixture.store
            var index: UInt64 = 0
            func apply(_ command: Command, at time: UInt64) throws -> Outcome {
                index += 1
                return try store.apply(index: index, term: 1, payload: command.encode(timestampMilliseconds: time))
            }
            _ = try apply(.grantLease(id: 7, ttlMilliseconds: 5_000), at: 100)
            for number in 0..<2_500 {
                _ = try apply(.put(Put(key: "k\(number)".bytes, value: [], lease: .attached(7))), at: 100)
                if number == 1_200 { try store.flush() }
            }
            #expect(try store.lease(id: 7).lease?.keys == 2_500)
            #expect(store.dueLeases(at: 5_099, limit: 10) == [])
            #expect(try apply(.expireLeases([7]), at: 5_099) == .leasesExpired(revision: 2_500, leases: 0, keys: 0))
            #expect(store.nextLeaseDeadline == 5_100)
            #expect(store.dueLeases(at: 5_100, limit: 10) == [7])
            let first = try apply(.expireLeases([7]), at: 5_100)
            #expect(first == .leasesExpired(revision: 2_501, leases: 0, keys: 1_000))
            #expect(try store.lease(id: 7).lease == nil)
            #expect(store.dueLeases(at: 5_100, limit: 10) == [7])
            #expect(try apply(.keepLeasesAlive([7]), at: 5_100) == .leasesKept([nil]))
            #expect(try apply(.revokeLease(7), at: 5_100) == .leaseNotFound(7))
            let put = Command.put(Put(key: "new".bytes, value: [], lease: .attached(7)))
            #expect(try apply(put, at: 5_100) == .leaseNotFound(7))
            guard case .leaseExists = try apply(.grantLease(id: 7, ttlMilliseconds: 5_000), at: 5_100) else {
                Issue.record("a lease that is ending was granted anew")
                return
            }
            #expect(
                try apply(.expireLeases([7]), at: 5_100) == .leasesExpired(revision: 2_502, leases: 0, keys: 1_000)
            )
            #expect(try apply(.expireLeases([7]), at: 5_100) == .leasesExpired(revision: 2_503, leases: 1, keys: 500))
            #expect(store.dueLeases(at: .max, limit: 10) == [])
            #expect(try store.count(prefix: []).count == 0)
            #expect(store.leaseCount == 0)
        }
    }

    @Test("Many leases that end at once are due in their order, also after a restart, and leave nothing behind")
    func manyLeases() throws {
        try withFixture { fixture in
            try fixture.append(
                (0..<600).map { number in
                    let put = Put(
                        key: "k\(number)".bytes,
                        value: [],
                        lease: .ttl(milliseconds: 1_000 + UInt64(number % 7))
                    )
                    return .put(put)
                }
            )
            try fixture.store.flush()
            try fixture.reopen()
            let due = fixture.store.dueLeases(at: 1_003, limit: 1_000)
            #expect(due.count == fixture.model.leases.values.count { $0.deadline <= 1_003 })
            #expect(
                due
                    == due.sorted {
                        (fixture.model.leases[$0]?.deadline ?? 0, $0) < (fixture.model.leases[$1]?.deadline ?? 0, $1)
                    }
            )
            #expect(Array(due.prefix(5)) == fixture.store.dueLeases(at: 1_003, limit: 5))
            var rest = fixture.store.dueLeases(at: 2_000, limit: 1_000)
            while !rest.isEmpty {
                try fixture.append([Request(command: .expireLeases(Array(rest.prefix(250))), timestamp: 2_000)])
                rest = fixture.store.dueLeases(at: 2_000, limit: 1_000)
            }
            #expect(fixture.store.state.withLock { $0.record.recordCount } == 0)
            #expect(fixture.store.stateHash.hash.prefix(16).allSatisfy { $0 == 0 })
        }
    }

    @Test("A put without a choice detaches a key, another lease takes it over, and an increment leaves it where it is")
    func attachments() throws {
        try withFixture { fixture in
            let store = fixture.store
            let key = "k".bytes
            try fixture.append([.grantLease(id: 1, ttlMilliseconds: 1_000), .grantLease(id: 2, ttlMilliseconds: 1_000)])
            try fixture.append([.put(Put(key: key, value: "1".bytes, lease: .attached(1)))])
            try fixture.append([.increment(key: key, by: 1)])
            #expect(try store.get(key).item?.lease == 1)
            try fixture.append([.put(Put(key: key, value: "1".bytes, lease: .attached(2)))])
            #expect(try store.attachedKeys(of: 1, limit: 9).keys == [])
            #expect(try store.attachedKeys(of: 2, limit: 9).keys == [Array(key)])
            try fixture.append([.put(key: key, value: "1".bytes)])
            #expect(try store.lease(id: 2).lease?.keys == 0)
            try fixture.append([.revokeLease(2)])
            #expect(try store.get(key).item != nil)
            // One of its own ends with the key's next put, and nobody else can attach to it.
            try fixture.append([.put(Put(key: key, value: [], lease: .ttl(milliseconds: 1_000)))])
            let own = try store.get(key).item?.lease ?? 0
            #expect(try store.lease(id: own).lease?.isOwnOfKey == true)
            #expect(
                try fixture.append([Request(command: .put(Put(key: "l".bytes, value: [], lease: .attached(own))))])
                    == [.leaseNotFound(own)]
            )
            try fixture.append([.put(Put(key: key, value: [], lease: .ttl(milliseconds: 2_000)))])
            #expect(try store.lease(id: own).lease == nil)
            try fixture.append([.deletePrefix([])])
            #expect(store.leaseCount == 1)
        }
    }

    @Test("A prefix deleted as a whole, with more keys than get tombstones, takes its keys from their leases")
    func deletedPrefix() throws {
        try withFixture { fixture in
            try fixture.append([.grantLease(id: 1, ttlMilliseconds: 1_000)])
            try fixture.append(
                (0..<40).map { number in
                    let lease: LeaseChoice = number.isMultiple(of: 2) ? .attached(1) : .ttl(milliseconds: 1_000)
                    return .put(Put(key: "p/\(number)".bytes, value: [], lease: lease))
                }
            )
            try fixture.store.flush()
            try fixture.append([.put(Put(key: "q".bytes, value: [], lease: .attached(1))), .deletePrefix("p/".bytes)])
            #expect(try fixture.store.leases(limit: 9).leases.map(\.keys) == [1])
            try fixture.store.flush()
            try fixture.reopen()
            #expect(try fixture.store.attachedKeys(of: 1, limit: 9).keys == [Array("q".utf8)])
            guard case .matches = try fixture.store.verifyHash() else {
                Issue.record("the hash is not what the records make")
                return
            }
        }
    }
}
