import Foundation
import NIOCore
import NIOPosix
import Raft
import RaftDriver
import RaftTransport
import Synchronization
import Testing

@testable import RaftNode

/// A counter that takes its time: each entry a millisecond on the loop, and some amounts as long as the test likes, elsewhere.
private final class SlowCounter: StateMachine {
    private struct State {
        /// Entries whose work was done.
        var worked: Set<LogIndex> = []
        /// Work that was begun, and work that was given up.
        var (begun, givenUp) = (0, 0)
        var isReleased = false
        /// What happened on the loop, in order.
        var order: [String] = []
    }

    /// An amount that needs work elsewhere.
    static let long: Int64 = 1_000

    private let counter: Counter
    private let loop: any EventLoop
    private let state = Mutex(State())

    init(directory: String, loop: any EventLoop) throws {
        counter = try Counter(directory: directory)
        self.loop = loop
    }

    var value: Int64 { counter.value }
    var durablePosition: LogPosition { counter.durablePosition }
    var unflushedBytes: Int { counter.unflushedBytes }
    var begun: Int { state.withLock { $0.begun } }
    var givenUp: Int { state.withLock { $0.givenUp } }
    var order: [String] { state.withLock { $0.order } }

    func release() { state.withLock { $0.isReleased = true } }

    private func note(_ event: String) { state.withLock { $0.order.append(event) } }

    func apply(_ entries: ArraySlice<Entry>, isTimeUp: () -> Bool) -> AppliedEntries<Int64> {
        var outputs: [Int64?] = []
        for entry in entries {
            if case .command(let command) = entry.payload, command == Counter.add(Self.long),
                state.withLock({ !$0.worked.contains(entry.index) })
            {
                return AppliedEntries(outputs: outputs) { self.work(on: entry.index, $0) }
            }
            usleep(1_000)
            if case .command = entry.payload {
                if order.isEmpty { loop.scheduleTask(in: .zero) { self.note("another task") } }
                note("apply")
            }
            outputs += counter.apply([entry])
            if isTimeUp() { break }
        }
        return AppliedEntries(outputs: outputs)
    }

    private func work(on index: LogIndex, _ isGivenUp: () -> Bool) {
        state.withLock { $0.begun += 1 }
        while !state.withLock({ $0.isReleased }) {
            if isGivenUp() { return state.withLock { $0.givenUp += 1 } }
            usleep(1_000)
        }
        state.withLock { _ = $0.worked.insert(index) }
    }

    func flush() throws -> LogPosition { try counter.flush() }

    func writeSnapshot(to write: (UnsafeRawBufferPointer) throws -> Void) throws -> LogPosition {
        try counter.writeSnapshot(to: write)
    }

    func restore(
        position: LogPosition,
        configuration: Configuration,
        from read: (_ maxBytes: Int) throws -> [UInt8]?
    ) throws {
        try counter.restore(position: position, configuration: configuration, from: read)
    }
}

@Suite("Applying holds up nothing else", .serialized)
struct ApplyTests {
    private func start(
        _ cluster: CounterCluster,
        _ name: String,
        _ beginning: NodeOptions.Beginning,
        _ adjust: (inout NodeOptions) -> Void = { _ in }
    ) async throws -> RaftNode<SlowCounter> {
        let directory = cluster.root + "/" + name
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let loop = cluster.group.next()
        var options = cluster.options(name, beginning, at: "127.0.0.1:\(try Ports.next())")
        adjust(&options)
        return try await RaftNode.start(
            options: options,
            machine: SlowCounter(directory: directory, loop: loop),
            raftLoop: loop,
            group: cluster.group,
            logger: cluster.logger(name)
        )
    }

    private func block(_ peers: [RaftNode<SlowCounter>], at node: RaftNode<SlowCounter>) async throws {
        let peers = Set(peers.map { $0.status.serverID })
        try await node.engine.loop.submit { node.engine.transport.setBlocked(peers) }.get()
    }

    private func add(_ amount: Int64, on node: RaftNode<SlowCounter>) async throws -> Int64 {
        for _ in 0..<3000 {
            switch await node.propose(Counter.add(amount)) {
            case .applied(let value, _): return value
            case .rejected: try await Task.sleep(for: .milliseconds(10))
            case .unknown: throw NotReached()
            }
        }
        throw NotReached()
    }

    @Test("Many entries are applied in slices, between which the loop does what else there is")
    func slices() async throws {
        let cluster = try CounterCluster()
        let node = try await start(cluster, "a", .bootstrap)
        // Leads.
        try await eventually("it leads") { node.status.role == .leader }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<300 { group.addTask { _ = try await add(1, on: node) } }
            try await group.waitForAll()
        }
        #expect(node.machine.value == 300)
        let order = node.machine.order
        let place = try #require(order.firstIndex(of: "another task"))
        #expect(place < 100, "it waited for \(place) entries")
        await node.shutdown(patience: .milliseconds(300))
        try await cluster.remove()
        #expect(cluster.reportedFailures == [])
    }

    @Test(
        "While an entry's work is done elsewhere, on all servers, others are committed, nobody is elected, and then all are applied in order"
    )
    func longWork() async throws {
        let cluster = try CounterCluster()
        let first = try await start(cluster, "a", .bootstrap)
        let nodes = [
            first, try await start(cluster, "b", .join([first.peerAddress], replacing: nil)),
            try await start(cluster, "c", .join([first.peerAddress], replacing: nil)),
        ]
        try await eventually("three voters") {
            let configuration = first.status.configuration
            return configuration.voters.count == 3 && !configuration.isJoint
        }
        _ = try await add(1, on: first)
        let term = first.status.term
        let long = Task { try await add(SlowCounter.long, on: first) }
        // What the status says of the commit is a little old.
        try await eventually("all work") {
            nodes.allSatisfy { $0.machine.begun > 0 } && first.status.commitIndex > first.status.appliedIndex
        }
        let before = first.status.commitIndex
        let others = (0..<5).map { _ in Task { try await add(1, on: nodes[1]) } }
        // Of a loop that stood nothing would be heard.
        try await eventually("what comes behind it is committed everywhere") {
            nodes.allSatisfy { $0.status.commitIndex >= before + 5 }
        }
        for node in nodes {
            #expect(node.machine.value == 1)
            #expect(node.status.appliedIndex < before)
        }
        #expect(nodes.allSatisfy { $0.status.term == term })
        for node in nodes { node.machine.release() }
        #expect(try await long.value == 1_001)
        for other in others { #expect(try await other.value > 1_001) }
        try await eventually("all is applied") { nodes.allSatisfy { $0.machine.value == 1_006 } }
        for node in nodes.reversed() { await node.shutdown(patience: .milliseconds(300)) }
        try await cluster.remove()
        #expect(cluster.reportedFailures == [])
    }

    @Test("A node that stops gives up the work of an entry, and applies the entry when it comes back")
    func stopsMeanwhile() async throws {
        let cluster = try CounterCluster()
        let node = try await start(cluster, "a", .bootstrap)
        _ = try await add(1, on: node)
        let long = Task { await node.propose(Counter.add(SlowCounter.long)) }
        try await eventually("it works") { node.machine.begun > 0 }
        await node.shutdown(patience: .milliseconds(50))
        guard case .unknown = await long.value else {
            Issue.record("what was given up had an outcome")
            return
        }
        #expect(node.machine.givenUp == 1 && node.machine.value == 1)
        let again = try await start(cluster, "a", .mustExist)
        again.machine.release()
        try await eventually("it is applied") { again.machine.value == 1_001 }
        await again.shutdown(patience: .milliseconds(300))
        try await cluster.remove()
        #expect(cluster.reportedFailures == [])
    }

    @Test("A snapshot that comes while an entry's work is done takes its place")
    func snapshotMeanwhile() async throws {
        let cluster = try CounterCluster()
        let small: (inout NodeOptions) -> Void = { options in
            options.driver.snapshotLogBytes = 4_000
            options.driver.trailingLogBytes = 100
        }
        let first = try await start(cluster, "a", .bootstrap, small)
        first.machine.release()
        let second = try await start(cluster, "b", .join([first.peerAddress], replacing: nil), small)
        let third = try await start(cluster, "c", .join([first.peerAddress], replacing: nil), small)
        second.machine.release()
        try await eventually("three voters") {
            let configuration = first.status.configuration
            return configuration.voters.count == 3 && !configuration.isJoint
        }
        _ = try await add(SlowCounter.long, on: first)
        try await eventually("the third works") { third.machine.begun > 0 }
        // It hears of nothing until the leader has only a snapshot for it.
        try await block([first, second], at: third)
        try await eventually("a trimmed log") {
            _ = try await add(1, on: first)
            return first.status.firstIndex > third.status.lastIndex + 1
        }
        try await block([], at: third)
        try await eventually("the snapshot is installed") { third.machine.value == first.machine.value }
        #expect(third.machine.givenUp == 1)
        for node in [third, second, first] { await node.shutdown(patience: .milliseconds(300)) }
        try await cluster.remove()
        #expect(cluster.reportedFailures == [])
    }
}
