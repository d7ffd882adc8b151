import Foundation
import NIOCore
import Raft
import RaftDriver
import Synchronization
import Testing

@testable import RaftNode

@Suite("The servers compare their states", .serialized)
struct ComparisonTests {
    private typealias Node = RaftNode<HashedCounter>

    // MARK: The judgement

    private static func member(_ id: UInt64) -> Member {
        Member(id: ServerID(id), name: "n\(id)", peerAddress: "h:\(id)", clientAddress: "")
    }

    private func judge(_ configuration: Configuration, _ hashes: [UInt64: [LogIndex: UInt8]]) -> Comparison {
        Comparison(
            configuration,
            hashes.sorted { $0.key < $1.key }.map { id, notes in
                (ServerID(id), notes.sorted { $0.key < $1.key }.map { StateNote(index: $0.key, hash: [$0.value]) })
            }
        )
    }

    @Test("Who differs from a majority of all voters is found; without one nobody is")
    func judgement() {
        let three = Configuration(voters: (1...3).map(Self.member))
        #expect(judge(three, [1: [8: 1], 2: [8: 1], 3: [8: 1]]) == judge(three, [2: [8: 2], 3: [8: 2]]))
        let found = judge(three, [1: [8: 1, 16: 5], 2: [8: 1, 16: 6], 3: [8: 2]])
        #expect(found.compared == [8, 16])
        #expect(found.culprits.map(\.server) == [ServerID(3)])
        #expect(found.culprits.first?.expected == [1])
        #expect(found.undecided == 16)
        // Two that answer are no majority of three when they differ, and learners do not count.
        #expect(judge(three, [1: [8: 1], 2: [8: 2]]).undecided == 8)
        #expect(judge(three, [1: [8: 1], 2: [16: 2]]).compared == [])
        let learners = Configuration(voters: (1...2).map(Self.member), learners: (3...5).map(Self.member))
        #expect(judge(learners, [1: [8: 1], 3: [8: 2], 4: [8: 2], 5: [8: 2]]).undecided == 8)
        #expect(judge(learners, [1: [8: 1], 2: [8: 1], 3: [8: 2]]).culprits.map(\.server) == [ServerID(3)])
        #expect(judge(learners, [1: [8: 1], 2: [8: 2]]).culprits == [])
        // Five voters, of whom three answer.
        let five = Configuration(voters: (1...5).map(Self.member))
        #expect(judge(five, [1: [8: 1], 2: [8: 1], 3: [8: 2]]).culprits == [])
        #expect(judge(five, [1: [8: 1], 2: [8: 1], 3: [8: 2], 4: [8: 1]]).culprits.map(\.server) == [ServerID(3)])
    }

    @Test("Calls and answers come back as they were sent, and any bytes are read or refused")
    func codec() {
        let calls: [ComparisonCall] = [
            .notes(term: 7, alarm: "what"), .notes(term: 1, alarm: ""),
            .differs(term: 9, index: 17, hash: [1, 2], expected: [3]),
        ]
        for call in calls { #expect(ComparisonCall(decoding: call.encode()) == call) }
        let answer = ComparisonCall.Answer(isQuarantined: true, notes: [StateNote(index: 5, hash: [1, 2, 3])])
        #expect(ComparisonCall.Answer(decoding: answer.encode()) == answer)
        for _ in 0..<20_000 {
            var bytes = (Bool.random() ? calls[2].encode() : answer.encode()).prefix(.random(in: 0...40))
            if let index = bytes.indices.randomElement() { bytes[index] = .random(in: 0...255) }
            _ = ComparisonCall(decoding: Array(bytes))
            _ = ComparisonCall.Answer(decoding: Array(bytes))
        }
    }

    @Test("A quarantine survives in its directory, and a file that cannot be understood is one as well")
    func persistence() throws {
        let directory = NSTemporaryDirectory() + "kontiki-quarantine-\(UInt64.random(in: .min ... .max))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        #expect(try Quarantine.load(directory) == nil)
        let quarantine = Quarantine(index: 12, ownHash: "aa", expectedHash: "bb", reason: "It differs: so it is.")
        try quarantine.store(directory)
        #expect(try Quarantine.load(directory) == quarantine)
        for text in ["", "x", "kontiki quarantine 1\nindex: x\n"] {
            try Data(text.utf8).write(to: URL(fileURLWithPath: directory + "/quarantine"))
            #expect(try Quarantine.load(directory) != nil)
        }
    }

    // MARK: Nodes

    private func add(_ node: Node, _ count: Int = 1) async throws {
        for _ in 0..<count {
            var tries = 0
            while true {
                if case .applied = await node.propose(Counter.add(1)) { break }
                tries += 1
                guard tries < 3000 else { throw NotReached() }
                try await Task.sleep(for: .milliseconds(10))
            }
        }
    }

    private func nodes(
        _ count: Int,
        _ cluster: CounterCluster,
        _ adjust: (inout NodeOptions) -> Void = { _ in }
    ) async throws -> [Node] {
        var nodes = [try await cluster.startHashed("a", .bootstrap, adjust)]
        for name in ["b", "c"].prefix(count - 1) {
            let beginning = NodeOptions.Beginning.join([nodes[0].peerAddress], replacing: nil)
            nodes.append(try await cluster.startHashed(name, beginning, adjust))
        }
        try await eventually("the voters") {
            let configuration = nodes[0].status.configuration
            return configuration.voters.count == count && !configuration.isJoint
        }
        return nodes
    }

    /// The place of the one that leads; waits for one.
    private func leader(of nodes: [Node]) async throws -> Int {
        var found: Int?
        try await eventually("one leads") {
            found = nodes.firstIndex { $0.status.role == .leader }
            return found != nil
        }
        return try #require(found)
    }

    private func stop(_ nodes: [Node], _ cluster: CounterCluster) async throws {
        for node in nodes { await node.shutdown() }
        try await cluster.remove()
    }

    @Test("A follower that differs is put in quarantine, stays there over restarts, never leads, and the rest goes on")
    func follower() async throws {
        let cluster = try CounterCluster()
        var nodes = try await nodes(3, cluster)
        try await add(nodes[0], 20)
        try await eventually("comparisons") { nodes[0].status.comparison.made > 0 }
        let follower = try #require(nodes.firstIndex { $0.status.role == .follower })
        nodes[follower].machine.error.withLock { $0 = 5 }
        try await add(nodes[0], 20)
        try await eventually("the quarantine") { nodes[follower].isQuarantined }
        try await eventually("its reason") {
            nodes[follower].status.quarantine?.description.contains("--rejoin") == true
        }
        try await eventually("the file") { try Quarantine.load(cluster.root + "/" + ["a", "b", "c"][follower]) != nil }
        let address = nodes[follower].peerAddress
        await nodes[follower].shutdown()
        nodes[follower] = try await cluster.startHashed(["a", "b", "c"][follower], .mustExist, at: address)
        #expect(nodes[follower].isQuarantined)
        // It votes: with the leader gone, one of the others leads, never this one.
        let leader = try await leader(of: nodes)
        let other = try #require(nodes.indices.first { $0 != leader && $0 != follower })
        await nodes[leader].shutdown()
        try await eventually("the other one leads") { nodes[other].status.role == .leader }
        try await add(nodes[other], 3)
        #expect(!nodes[other].isQuarantined)
        #expect(nodes[follower].status.role != .leader)
        try await stop([nodes[other], nodes[follower]], cluster)
        #expect(cluster.reportedFailures == [])
    }

    @Test("A leader that differs puts itself in quarantine, and another one leads")
    func leader() async throws {
        let cluster = try CounterCluster()
        let nodes = try await nodes(3, cluster)
        try await add(nodes[0], 20)
        let leader = try await leader(of: nodes)
        nodes[leader].machine.error.withLock { $0 = -3 }
        try await add(nodes[0], 10)
        try await eventually("the quarantine") { nodes[leader].isQuarantined }
        try await eventually("another leader") {
            nodes.indices.contains { $0 != leader && nodes[$0].status.role == .leader }
        }
        try await add(nodes[(leader + 1) % 3], 10)
        #expect(nodes.count { $0.isQuarantined } == 1)
        try await stop(nodes, cluster)
        #expect(cluster.reportedFailures == [])
    }

    @Test("Two servers that differ both say so, and go on")
    func twoServers() async throws {
        let cluster = try CounterCluster()
        let nodes = try await nodes(2, cluster)
        try await add(nodes[0], 10)
        nodes[1].machine.error.withLock { $0 = 1 }
        try await add(nodes[0], 10)
        try await eventually("both say so") { nodes.allSatisfy { $0.status.comparison.alarm != nil } }
        try await add(nodes[1], 10)
        #expect(nodes.allSatisfy { !$0.isQuarantined })
        try await stop(nodes, cluster)
        #expect(cluster.reportedFailures == [])
    }

    @Test("Servers that stand still are compared where they stand")
    func idle() async throws {
        let cluster = try CounterCluster()
        let nodes = try await nodes(3, cluster) { $0.comparisonEntries = 1_000_000 }
        try await add(nodes[0], 3)
        try await eventually("a comparison where all stand") {
            nodes.contains { $0.status.comparison.comparedIndex == nodes[0].status.lastIndex }
        }
        #expect(nodes.allSatisfy { !$0.isQuarantined && $0.status.comparison.alarm == nil })
        try await stop(nodes, cluster)
        #expect(cluster.reportedFailures == [])
    }

    @Test("No false alarm: leaders that change, restarts, servers that lag and are sent snapshots")
    func noFalseAlarm() async throws {
        let cluster = try CounterCluster()
        let small: (inout NodeOptions) -> Void = { options in
            options.comparisonEntries = 3
            options.driver.snapshotLogBytes = 2_000
            options.driver.trailingLogBytes = 200
        }
        var nodes = try await nodes(3, cluster, small)
        let addresses = nodes.map(\.peerAddress)
        for round in 0..<6 {
            let away = round % 3
            await nodes[away].shutdown()
            let present = nodes[(away + 1) % 3]
            try await add(present, 120)
            nodes[away] = try await cluster.startHashed(
                ["a", "b", "c"][away],
                .mustExist,
                at: addresses[away],
                small
            )
            try await add(nodes[away], 5)
            _ = try? await present.transferLeadership(to: nil, timeout: .seconds(5))
            try await add(present, 5)
            #expect(nodes.allSatisfy { !$0.isQuarantined && $0.status.comparison.alarm == nil })
        }
        #expect(nodes.contains { $0.status.snapshotIndex > 0 })
        try await eventually("a comparison at the end") {
            nodes.contains { $0.status.comparison.comparedIndex == $0.status.lastIndex }
        }
        #expect(nodes.allSatisfy { !$0.isQuarantined && $0.status.comparison.alarm == nil })
        #expect(nodes.allSatisfy { $0.status.comparison.differing == 0 })
        try await stop(nodes, cluster)
        #expect(cluster.reportedFailures == [])
    }
}
