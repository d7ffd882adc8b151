import Glibc
import KeyValue
import KeyValueService
import Logging
import NIOCore
import NIOPosix
import Raft
import RaftDriver
import RaftNode

/// A node of its own cluster with small bounds, which does a little work by itself and ends: what the sweep of failing calls runs some
/// hundred times. It says on standard output, line by line, what became of each write, and on standard error why it failed.
///
///     disk-fault-node run DIR      work through the workload on what DIR holds, then stop in good order
///     disk-fault-node check DIR    print what DIR holds, then stop
///     disk-fault-node lie DIR      like run, but acknowledge each write before it is done: the sweep must find that out
@main
enum DiskFaultNode {
    static func main() async {
        let arguments = CommandLine.arguments
        guard arguments.count == 3, let mode = Mode(rawValue: arguments[1]) else {
            complain("usage: disk-fault-node run|check DIR")
            exit(64)
        }
        do {
            let node = try await FaultedNode(directory: arguments[2])
            switch mode {
            case .run: await node.work(lies: false)
            case .lie: await node.work(lies: true)
            case .check: try await node.printContents()
            }
            await node.stop()
        } catch {
            // As `kontiki serve` does when it cannot start.
            complain("Error: \(error)")
            exit(74)
        }
        say("stopped")
        exit(0)
    }

    private enum Mode: String { case run, check, lie }

    static func say(_ line: String) { write(line, to: STDOUT_FILENO) }

    static func complain(_ line: String) { write(line, to: STDERR_FILENO) }

    /// One call for each line, so that what was said is said whatever comes after it.
    private static func write(_ line: String, to descriptor: Int32) {
        let bytes = Array((line + "\n").utf8)
        _ = Glibc.write(descriptor, bytes, bytes.count)
    }
}

/// The node, put together as the program does it, without HTTP.
struct FaultedNode {
    private let node: RaftNode<KeyValueMachine>
    private let service: KeyValueNode
    private let store: Store

    init(directory: String) async throws {
        let onFailure: @Sendable (String) -> Void = { reason in
            DiskFaultNode.complain("the node cannot go on: \(reason)")
            _exit(70)
        }
        guard mkdir(directory, 0o755) == 0 || errno == EEXIST else { throw SystemFailure(errno, "mkdir", directory) }
        var storeOptions = StoreOptions()
        storeOptions.memtableBytes = Workload.flushBytes
        store = try Store.open(directory: directory + "/state", options: storeOptions)
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        node = try await RaftNode.start(
            options: Self.options(directory, onFailure),
            machine: KeyValueMachine(store: store) { onFailure("\($0)") },
            raftLoop: group.next(),
            group: group,
            logger: Logger(label: "node") { _ in SwiftLogNoOpLogHandler() }
        )
        var serviceOptions = KeyValueNode.Options()
        // A busy machine is no fault.
        serviceOptions.defaultTimeout = .seconds(30)
        service = KeyValueNode(node: node, eventLoop: group.next(), options: serviceOptions)
    }

    private static func options(_ directory: String, _ onFailure: @escaping @Sendable (String) -> Void) -> NodeOptions {
        var options = NodeOptions(
            directory: directory,
            name: "node",
            listenAddress: "127.0.0.1:0",
            snapshotSchema: Store.snapshotSchema,
            onFailure: onFailure
        )
        options.beginning = .bootstrap
        options.tickMilliseconds = 2
        options.core.electionTicks = 10
        options.core.heartbeatTicks = 2
        options.driver.flushBytes = Workload.flushBytes
        options.driver.snapshotLogBytes = Workload.snapshotLogBytes
        options.driver.snapshotGrowth = 0
        options.driver.trailingLogBytes = 1 << 10
        return options
    }

    // MARK: The work

    func work(lies: Bool) async {
        for step in Workload.steps {
            let began = ContinuousClock.now
            while await carryOut(step, lies: lies), ContinuousClock.now - began < .seconds(60) {
                // Refused for lack of room: reads must go on meanwhile.
                if step.key != Workload.steps[0].key { await readBack() }
                try? await Task.sleep(for: .milliseconds(20))
            }
            if step.awaitsDisk { await settle() }
        }
        await readBack()
    }

    /// Says what became of a step; true when it was refused and is to be tried again.
    private func carryOut(_ step: Workload.Step, lies: Bool) async -> Bool {
        let key = Array(step.key.utf8)
        DiskFaultNode.say("\(lies ? "put" : "begun") \(step.key)")
        do throws(ServiceError) {
            if step.isDelete {
                _ = try await service.delete(key: key)
            } else {
                _ = try await service.put(key: key, value: ByteBuffer(bytes: step.value))
            }
            DiskFaultNode.say("\(step.isDelete ? "deleted" : "put") \(step.key)")
            return false
        } catch {
            DiskFaultNode.say("\(error.mayHaveExecuted ? "unknown" : "refused") \(step.key) \(error.code.rawValue)")
            return error.code == .storageFull
        }
    }

    /// A strong read of the first key, which is never removed.
    private func readBack() async {
        do {
            try await service.confirmRead()
            let value = try store.get(Array(Workload.steps[0].key.utf8)[...]).item?.value
            if value.map(Array.init) != Workload.steps[0].value { DiskFaultNode.say("misread") }
        } catch {
            DiskFaultNode.say("unread \(error)")
        }
    }

    /// Waits until flush and snapshot have caught up, so that each run makes much the same calls.
    private func settle() async {
        for _ in 0..<2_000 {
            let status = service.status
            if status.durableIndex == status.appliedIndex, status.snapshotIndex == status.appliedIndex { return }
            try? await Task.sleep(for: .milliseconds(1))
        }
    }

    // MARK: What is there

    func printContents() async throws {
        try await service.confirmRead(timeout: .seconds(20))
        let page = try store.range(RangeQuery(limit: 1_000))
        for item in page.items {
            let key = String(decoding: item.key, as: UTF8.self)
            let isRight = Workload.steps.contains { !$0.isDelete && $0.key == key && $0.value == Array(item.value) }
            DiskFaultNode.say("\(isRight ? "has" : "foreign") \(key)")
        }
    }

    func stop() async {
        service.close()
        await node.shutdown()
        try? store.close()
    }
}

/// What every run does.
enum Workload {
    struct Step: Sendable {
        var key: String
        var bytes = 0
        var isDelete = false
        /// A flush and a snapshot are due behind it.
        var awaitsDisk = false

        var value: [UInt8] { Array((key + "=").utf8) + [UInt8](repeating: 0x78, count: bytes) }
    }

    static let flushBytes = 24 << 10
    static let snapshotLogBytes = 20 << 10

    static let steps: [Step] = [
        Step(key: "small/1"), Step(key: "small/2", bytes: 100), Step(key: "doomed"), Step(key: "big/1", bytes: 9_000),
        Step(key: "doomed", isDelete: true), Step(key: "big/2", bytes: 13_000, awaitsDisk: true),
        Step(key: "small/3"), Step(key: "big/3", bytes: 27_000, awaitsDisk: true), Step(key: "small/4"),
    ]
}

struct SystemFailure: Error, CustomStringConvertible {
    var description: String

    init(_ code: Int32, _ call: String, _ path: String) {
        description = "\(path): \(call): \(String(cString: strerror(code)))"
    }
}
