import Foundation
import NIOCore
import Raft
import RaftDriver
import RaftNode
import Testing

@Suite("A replicated counter, without the key-value part", .serialized)
struct RaftNodeTests {
    /// Adds until the node takes it; only what is certainly not executed is tried again.
    private func add(_ amount: Int64, on node: RaftNode<Counter>) async throws -> Int64 {
        for _ in 0..<3000 {
            switch await node.propose(Counter.add(amount)) {
            case .applied(let value, _): return value
            case .rejected: try await Task.sleep(for: .milliseconds(10))
            case .unknown: throw NotReached()
            }
        }
        throw NotReached()
    }

    private func read(_ node: RaftNode<Counter>) async throws -> Int64 {
        for _ in 0..<3000 {
            if case .ready = await node.confirmRead() { return node.machine.value }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw NotReached()
    }

    private func threeNodes(
        _ cluster: CounterCluster,
        _ adjust: (inout NodeOptions) -> Void = { _ in }
    ) async throws -> [RaftNode<Counter>] {
        let first = try await cluster.start("a", .bootstrap, adjust)
        let second = try await cluster.start("b", .join([first.peerAddress], replacing: nil), adjust)
        let third = try await cluster.start("c", .join([first.peerAddress], replacing: nil), adjust)
        try await eventually("three voters") {
            let configuration = first.status.configuration
            return configuration.voters.count == 3 && !configuration.isJoint
        }
        return [first, second, third]
    }

    @Test("One node counts, stops, and finds its count")
    func oneNode() async throws {
        let cluster = try CounterCluster()
        var node = try await cluster.start("a", .bootstrap)
        for amount in 1...100 { _ = try await add(Int64(amount), on: node) }
        #expect(try await read(node) == 5050)
        await node.shutdown()
        node = try await cluster.start("a", .mustExist)
        #expect(try await read(node) == 5050)
        await node.shutdown()
        try await cluster.remove()
        #expect(cluster.reportedFailures == [])
    }

    @Test("Three nodes: joined, promoted; commands and strong reads on any of them")
    func threeNodesCount() async throws {
        let cluster = try CounterCluster()
        let nodes = try await threeNodes(cluster)
        for round in 0..<60 { _ = try await add(1, on: nodes[round % 3]) }
        for node in nodes { #expect(try await read(node) == 60) }
        await cluster.stop(nodes.reversed())
        try await cluster.remove()
        #expect(cluster.reportedFailures == [])
    }

    @Test("Many at once: each command counts once, and a read after it sees it")
    func concurrentCommands() async throws {
        let cluster = try CounterCluster()
        let nodes = try await threeNodes(cluster)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for worker in 0..<30 {
                group.addTask {
                    for _ in 0..<20 {
                        let value = try await add(1, on: nodes[worker % 3])
                        #expect(try await read(nodes[(worker + 1) % 3]) >= value)
                    }
                }
            }
            try await group.waitForAll()
        }
        for node in nodes { #expect(try await read(node) == 600) }
        await cluster.stop(nodes)
        try await cluster.remove()
        #expect(cluster.reportedFailures == [])
    }

    @Test("A leader that stops hands leadership over first; the rest goes on, and it comes back")
    func handover() async throws {
        let cluster = try CounterCluster()
        var nodes = try await threeNodes(cluster)
        _ = try await add(1, on: nodes[0])
        let address = nodes[0].peerAddress
        await nodes[0].shutdown()
        _ = try await add(1, on: nodes[1])
        #expect(try await read(nodes[2]) == 2)
        nodes[0] = try await cluster.start("a", .mustExist, at: address)
        #expect(try await read(nodes[0]) == 2)
        await cluster.stop(nodes)
        try await cluster.remove()
        #expect(cluster.reportedFailures == [])
    }

    @Test("The log stays bounded, and a server that was away longer than it reaches back catches up from a snapshot")
    func compactionAndCatchUp() async throws {
        let cluster = try CounterCluster()
        let small: (inout NodeOptions) -> Void = { options in
            options.driver.snapshotLogBytes = 4_000
            options.driver.trailingLogBytes = 1_000
        }
        var nodes = try await threeNodes(cluster, small)
        let address = nodes[2].peerAddress
        await nodes[2].shutdown()
        for _ in 0..<600 { _ = try await add(1, on: nodes[0]) }
        try await eventually("a trimmed log") {
            let status = nodes[0].status
            return status.firstIndex > 300 && status.lastIndex < status.firstIndex + 400
        }
        nodes[2] = try await cluster.start("c", .mustExist, at: address, small)
        #expect(try await read(nodes[2]) == 600)
        try await eventually("the snapshot is known") { nodes[2].status.snapshotIndex > 0 }
        await cluster.stop(nodes)
        try await cluster.remove()
        #expect(cluster.reportedFailures == [])
    }

    @Test("A fourth server joins, a dead one is replaced in one operation, and a removed one falls silent")
    func membership() async throws {
        let cluster = try CounterCluster()
        let nodes = try await threeNodes(cluster)
        _ = try await add(1, on: nodes[0])
        await nodes[1].shutdown()
        let fourth = try await cluster.start("d", .join([nodes[2].peerAddress], replacing: "b"))
        try await eventually("the replacement") {
            let configuration = nodes[0].status.configuration
            return !configuration.isJoint && configuration.voters.count == 3 && configuration.member(named: "b") == nil
                && configuration.isVoter(fourth.status.serverID)
        }
        #expect(try await read(fourth) == 1)
        try await nodes[0].changeMembership(.remove(nodes[2].status.serverID), timeout: .seconds(30))
        try await eventually("the removed server knows") { nodes[2].status.fault != nil }
        let term = nodes[0].status.term
        _ = try await add(1, on: fourth)
        #expect(nodes[0].status.term == term)
        await cluster.stop([nodes[2], nodes[0], fourth])
        try await cluster.remove()
        #expect(cluster.reportedFailures == [])
    }

    @Test("R48: a change of membership that a stopping leader leaves unfinished is of unknown outcome")
    func changeAtTheEnd() async throws {
        let cluster = try CounterCluster()
        let nodes = try await threeNodes(cluster)
        let removed = nodes[2].status.serverID
        // Nobody is left to commit it.
        await cluster.stop([nodes[1], nodes[2]])
        let change = Task {
            do throws(OperationError) {
                try await nodes[0].changeMembership(.remove(removed), timeout: .hours(1))
                return nil as OperationError.Code?
            } catch {
                return error.code
            }
        }
        try await eventually("it is in the log") {
            !nodes[0].status.configuration.isVoter(removed) || nodes[0].status.configuration.isJoint
        }
        await nodes[0].shutdown(patience: .milliseconds(50))
        #expect(await change.value == .timedOut)
        try await cluster.remove()
        #expect(cluster.reportedFailures == [])
    }

    @Test("A removed server that is started again with the words that it joined by stays removed")
    func removedStaysRemoved() async throws {
        let cluster = try CounterCluster()
        let nodes = try await threeNodes(cluster)
        let removed = nodes[2].status.serverID
        try await nodes[0].changeMembership(.remove(removed), timeout: .seconds(30))
        try await eventually("the removed server knows") { nodes[2].status.fault != nil }
        let address = nodes[2].peerAddress
        await nodes[2].shutdown()
        let again = try await cluster.start("c", .join([nodes[0].peerAddress], replacing: nil), at: address)
        #expect(again.status.serverID == removed)
        // Long enough for one that asks to be taken in: it would begin after a second.
        for _ in 0..<150 {
            _ = try await add(1, on: nodes[1])
            try await Task.sleep(for: .milliseconds(20))
        }
        #expect(nodes.prefix(2).allSatisfy { !$0.status.configuration.contains(removed) })
        await cluster.stop([again, nodes[0], nodes[1]])
        try await cluster.remove()
        #expect(cluster.reportedFailures == [])
    }

    @Test("An empty directory without a word how to begin is refused, and so is a directory in use")
    func refusals() async throws {
        let cluster = try CounterCluster()
        await #expect(throws: StartError.self) { try await cluster.start("a", .mustExist) }
        let node = try await cluster.start("a", .bootstrap)
        do {
            let second = try await cluster.start("a", .mustExist)
            await second.shutdown()
            Issue.record("two nodes in one directory")
        } catch let error as StartError {
            #expect(error.code == .directoryInUse)
        }
        await node.shutdown()
        try await cluster.remove()
    }
}
