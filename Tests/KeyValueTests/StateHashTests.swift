import KeyValueModel
import Testing

@testable import KeyValue

@Suite struct StateHashTests {
    /// The hash that the store kept up, after it was seen to be what its items make.
    private func verified(_ store: Store) throws -> [UInt8] {
        let (hash, mark) = store.stateHash
        let found = try store.verifyHash(sliceBytes: 300)
        #expect(found == .matches(items: UInt64(try store.count(prefix: []).count), mark: mark))
        return hash
    }

    @Test(
        "After random changes, flushes, crashes and snapshots the hash is what the items make, alike on two replicas",
        arguments: 0..<6
    )
    func randomCommands(seed: UInt64) throws {
        try withTemporaryDirectory { directory in
            var generator = SeededGenerator(seed: seed)
            let one = try StoreFixture(directory: directory + "/1")
            let two = try StoreFixture(directory: directory + "/2")
            for round in 0..<60 {
                let commands = (0..<Int.random(in: 1..<60, using: &generator)).map { _ in
                    Command.random(using: &generator, latestRevision: one.model.revision)
                }
                try one.append(commands)
                // The other one takes them in other batches, and flushes, crashes and restarts at other times.
                var rest = commands[...]
                while !rest.isEmpty {
                    let batch = rest.prefix(Int.random(in: 1...rest.count, using: &generator))
                    try two.append(Array(batch))
                    rest = rest.dropFirst(batch.count)
                }
                for fixture in [one, two] {
                    switch Int.random(in: 0..<6, using: &generator) {
                    case 0, 1: try fixture.store.flush()
                    case 2: try fixture.crashAndReplay()
                    case 3:
                        try fixture.store.flush()
                        try fixture.reopen()
                    default: break
                    }
                }
                if round % 20 == 19 { try two.install(one) }
                let hash = try verified(one.store)
                #expect(try verified(two.store) == hash)
            }
        }
    }

    @Test("Equal contents on different ways are equal sums; every part of an item counts")
    func everyPartCounts() throws {
        func hash(
            _ key: String = "k",
            _ value: String = "v",
            type: UInt8 = 0,
            spelled: String = "",
            revisions: [UInt64] = [1, 2, 3, 4]
        ) -> UInt128 {
            Array(key.utf8).withUnsafeBytes { key in
                Array(value.utf8).withUnsafeBytes { value in
                    Array(spelled.utf8).withUnsafeBytes { spelled in
                        ItemHash.of(
                            .init(
                                key: key,
                                contentType: type,
                                spelledContentType: spelled,
                                value: value,
                                metadata: ItemMetadata(
                                    createRevision: revisions[0],
                                    modRevision: revisions[1],
                                    version: revisions[2],
                                    lease: revisions[3]
                                )
                            )
                        )
                    }
                }
            }
        }
        let all = [
            hash(), hash("l"), hash("kv", ""), hash("", "kv"), hash("k", "w"), hash(type: 1), hash(spelled: "x"),
            hash("kx"), hash("k", "xv"), hash(revisions: [0, 2, 3, 4]), hash(revisions: [1, 0, 3, 4]),
            hash(revisions: [1, 2, 0, 4]), hash(revisions: [1, 2, 3, 0]),
            hash(revisions: [2, 1, 3, 4]),
        ]
        #expect(Set(all).count == all.count)
        #expect(hash() == hash())
    }

    @Test("What was changed behind the store's back, checksums and all, is found, named, and goes into the hash")
    func changedBehindTheBack() throws {
        try withTemporaryDirectory { directory in
            let fixture = try StoreFixture(directory: directory + "/s")
            try fixture.append((0..<50).map { Command.put(key: "key\($0)".bytes, value: "value\($0)".bytes) })
            try fixture.store.flush()
            let before = try verified(fixture.store)
            let backend = fixture.store.state.withLock { $0.backend }
            try backend.testOnlyReplaceValue(of: Array("key7".utf8), by: Array("other".utf8), keepsHash: true)
            guard case .differs(let named) = try fixture.store.verifyHash(sliceBytes: 500) else {
                Issue.record("the change was not found")
                return
            }
            #expect(named.keys == [Array("key7".utf8)])
            #expect(fixture.store.stateHash.hash != before)
            // Its hash is what its items make now.
            guard case .matches = try fixture.store.verifyHash() else {
                Issue.record("the hash does not follow what was found")
                return
            }
            try backend.testOnlyReplaceValue(of: Array("key8".utf8), by: Array("other".utf8), keepsHash: false)
            guard case .differs(let unnamed) = try fixture.store.verifyHash(sliceBytes: 500) else {
                Issue.record("the change was not found")
                return
            }
            #expect(unnamed.keys == [Array("key7".utf8)])
        }
    }

    @Test("Changes while the hash is recomputed raise no false alarm", arguments: 0..<8)
    func changesDuringTheScan(seed: UInt64) throws {
        try withTemporaryDirectory { directory in
            var generator = SeededGenerator(seed: 100 + seed)
            let fixture = try StoreFixture(directory: directory + "/s")
            try fixture.append((0..<300).map { Command.put(key: "a/\($0)".bytes, value: "value\($0)".bytes) })
            try fixture.store.flush()
            var slices = 0
            let found = try fixture.store.verifyHash(sliceBytes: 600) { _ in
                slices += 1
                guard slices < 400 else { return true }
                do {
                    try fixture.append(
                        (0..<3).map { _ in
                            Command.random(using: &generator, latestRevision: fixture.model.revision)
                        }
                    )
                    if slices % 5 == 0 { try fixture.store.flush() }
                } catch {
                    Issue.record("\(error)")
                }
                return true
            }
            #expect(slices > 10)
            guard case .matches = found else {
                Issue.record("\(found)")
                return
            }
            _ = try verified(fixture.store)
        }
    }

    @Test("A restore in the middle ends the recomputation without a verdict")
    func restoreInTheMiddle() throws {
        try withTemporaryDirectory { directory in
            let one = try StoreFixture(directory: directory + "/1")
            let two = try StoreFixture(directory: directory + "/2")
            for fixture in [one, two] {
                try fixture.append((0..<100).map { Command.put(key: "a/\($0)".bytes, value: "value\($0)".bytes) })
                try fixture.store.flush()
            }
            try two.append([.put(key: "b".bytes, value: "b".bytes)])
            var isInstalled = false
            let found = try one.store.verifyHash(sliceBytes: 1_000) { _ in
                if !isInstalled {
                    isInstalled = true
                    do { try one.install(two) } catch { Issue.record("\(error)") }
                }
                return true
            }
            #expect(found == .interrupted)
            #expect(try verified(one.store) == verified(two.store))
        }
    }

    @Test("A snapshot whose items do not make its hash is not installed")
    func wrongSnapshot() throws {
        try withTemporaryDirectory { directory in
            let fixture = try StoreFixture(directory: directory + "/s")
            try fixture.append((0..<20).map { Command.put(key: "key\($0)".bytes, value: "value\($0)".bytes) })
            try fixture.store.flush()
            let backend = fixture.store.state.withLock { $0.backend }
            try backend.testOnlyReplaceValue(of: Array("key7".utf8), by: Array("other".utf8), keepsHash: false)
            #expect(throws: StoreError.self) { try fixture.store.writeSnapshot { _ in } }
            var bytes: [UInt8] = []
            _ = try backend.writeSnapshot(isChecked: false) { bytes += $0 }
            let other = try StoreFixture(directory: directory + "/o")
            var source = PieceSource(bytes)
            let (index, term) = fixture.store.durablePosition
            #expect(throws: StoreError.self) {
                try other.store.restore(index: index, term: term, membership: [], from: { _ in source.next() })
            }
            #expect(other.store.mark.index == 0)
        }
    }
}
