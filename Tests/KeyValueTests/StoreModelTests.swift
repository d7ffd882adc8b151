import KeyValueModel
import Testing

@testable import KeyValue

@Suite struct StoreModelTests {
    @Test(
        "Random commands give the model's outcomes and contents, across flushes, crashes and snapshots",
        arguments: 0..<6
    )
    func randomCommands(seed: UInt64) throws {
        try withTemporaryDirectory { directory in
            var generator = SeededGenerator(seed: seed)
            let fixture = try StoreFixture(directory: directory + "/0")
            var replicas = 0
            for _ in 0..<100 {
                switch Int.random(in: 0..<100, using: &generator) {
                case 0..<62:
                    let count = Int.random(in: 1..<100, using: &generator)
                    try fixture.append(
                        (0..<count).map { _ in
                            Command.random(using: &generator, latestRevision: fixture.model.revision)
                        }
                    )
                case 62..<64: try fixture.append(membership: [1, 2, UInt8.random(in: 0...255, using: &generator)])
                case 64: try fixture.append(membership: nil)
                case 65..<80: #expect(try fixture.store.flush().index == fixture.lastIndex)
                case 80..<85: try fixture.crashAndReplay()
                case 85..<87:
                    try fixture.store.flush()
                    try fixture.reopen()
                case 87..<89:
                    replicas += 1
                    let replica = try StoreFixture(directory: directory + "/\(replicas)")
                    try replica.append([Command.put(key: "old".bytes, value: "old".bytes)])
                    try replica.install(fixture)
                    try replica.check(using: &generator)
                    #expect(try replica.store.checksum() == fixture.store.checksum())
                    #expect(replica.store.durableMembership == fixture.store.durableMembership)
                    try replica.crashAndReplay()
                    try replica.append([Command.put(key: "new".bytes, value: "new".bytes)])
                    try replica.check(using: &generator)
                default: try fixture.check(using: &generator)
                }
            }
            try fixture.check(using: &generator)
        }
    }

    @Test("A frozen memtable whose flush failed is read, overwritten and flushed later", arguments: 0..<2)
    func failedFlush(seed: UInt64) throws {
        try withTemporaryDirectory { directory in
            var generator = SeededGenerator(seed: seed)
            var options = StoreFixture.options
            // Too small for what is put at once: the transaction is undone.
            options.mapSize = 2 << 20
            let fixture = try StoreFixture(directory: directory + "/state", options: options)
            func commands(_ count: Int) -> [Command] {
                (0..<count).map { _ in Command.random(using: &generator, latestRevision: fixture.model.revision) }
            }
            try fixture.append(commands(100))
            try fixture.store.flush()
            let durable = fixture.store.durablePosition
            let large = [UInt8](repeating: 1, count: 600_000)[...]
            try fixture.append(commands(100))
            try fixture.append((0..<5).map { Command.put(key: "large/\($0)".bytes, value: large) })
            #expect(throws: (any Error).self) { try fixture.store.flush() }
            #expect(fixture.store.durablePosition == durable)
            try fixture.check(using: &generator)
            // Now there are three levels.
            for _ in 0..<4 {
                try fixture.append(commands(60))
                try fixture.check(using: &generator)
            }
            try fixture.append([.deletePrefix("large/".bytes)])
            try fixture.check(using: &generator)
            #expect(throws: (any Error).self) { try fixture.store.flush() }
            try fixture.crashAndReplay()
            // There is room for what is left of it, but not for its history.
            try fixture.store.flush()
            try fixture.check(using: &generator)
            #expect(fixture.store.compactRevision == fixture.model.revision)
        }
    }
}
