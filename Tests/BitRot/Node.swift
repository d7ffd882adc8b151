import Foundation
import KeyValue
import KeyValueService
import Logging
import NIOPosix
import Raft
import RaftDriver
import RaftNode
import RaftStorage
import Synchronization

/// A single server with a state of keys, put together as the program does it, with quick ticks.
struct Node {
    let node: RaftNode<KeyValueMachine>
    let store: Store
    let rebuild: StateOpening.Rebuild?

    /// Why the server stopped by itself, if it did.
    let fault: Fault

    final class Fault: Sendable {
        private let first = Mutex<String?>(nil)
        var text: String? { first.withLock { $0 } }
        func set(_ text: String) { first.withLock { $0 = $0 ?? text } }
    }

    /// - Parameter milliseconds: what the cluster's time advances by; it stands when none is given.
    static func start(
        _ directory: String,
        isNew: Bool = false,
        isExamined: Bool = true,
        milliseconds: @escaping @Sendable () -> UInt64 = { 0 },
        on group: MultiThreadedEventLoopGroup
    ) async throws -> Node {
        let fault = Fault()
        var storeOptions = StoreOptions()
        storeOptions.memtableBytes = 96 << 10
        storeOptions.mapSize = 1 << 30
        if !isExamined { storeOptions.verification = .testOnlyNone }
        let (store, rebuild) = try StateOpening.open(directory: directory, options: storeOptions)
        let machine = KeyValueMachine(store: store, milliseconds: milliseconds) { fault.set("\($0)") }
        var options = NodeOptions(
            directory: directory,
            name: "rot",
            listenAddress: "127.0.0.1:0",
            peerAddress: "127.0.0.1:1",
            clientAddress: "127.0.0.1:2",
            snapshotSchema: Store.snapshotSchema,
            onFailure: { fault.set($0) }
        )
        options.beginning = isNew ? .bootstrap : .mustExist
        options.tickMilliseconds = 1
        options.scrubPeriodMilliseconds = 0
        options.driver.snapshotLogBytes = 400 << 10
        options.driver.trailingLogBytes = 100 << 10
        options.driver.flushBytes = 96 << 10
        options.driver.flushTicks = 1 << 40
        options.log.testOnlySkipsExamination = !isExamined
        do {
            var logger = Logger(label: "rot") { _ in SwiftLogNoOpLogHandler() }
            logger.logLevel = .critical
            let node = try await RaftNode.start(
                options: options,
                machine: machine,
                raftLoop: group.next(),
                group: group,
                logger: logger
            )
            return Node(node: node, store: store, rebuild: rebuild, fault: fault)
        } catch {
            try? store.close()
            throw error
        }
    }

    /// Executes a command, and answers what came of it; throws when it was not executed.
    @discardableResult
    func execute(_ command: Command, _ options: CommandOptions = .none) async throws -> KeyValue.Outcome {
        for _ in 0..<2000 {
            if let text = fault.text { throw Stopped(text) }
            switch await node.propose(command.encode(options: options, timestampMilliseconds: 1_700_000_000_000)) {
            case .applied(.success(let outcome), _): return outcome
            case .applied(.failure(let error), _): throw error
            case .rejected: try await Task.sleep(for: .milliseconds(1))
            case .unknown: throw Stopped(fault.text ?? "the outcome is unknown")
            }
        }
        throw Stopped(fault.text ?? "no leader")
    }

    /// Asks again, all at once, what was asked when the directory was made.
    func askAgain() async throws -> [KeyValue.Outcome] {
        try await withThrowingTaskGroup(of: (number: Int, outcome: KeyValue.Outcome).self) { group in
            for number in Coordination.asked {
                let (command, options) = Coordination.command(number)
                group.addTask { (number, try await execute(command, options)) }
            }
            var outcomes: [Int: KeyValue.Outcome] = [:]
            for try await (number, outcome) in group { outcomes[number] = outcome }
            return outcomes.sorted { $0.key < $1.key }.map(\.value)
        }
    }

    /// Waits until a strong read may be answered.
    func confirm() async throws {
        for _ in 0..<5000 {
            if let text = fault.text { throw Stopped(text) }
            if case .ready = await node.confirmRead() { return }
            try await Task.sleep(for: .milliseconds(1))
        }
        throw Stopped(fault.text ?? "no leader")
    }

    func stop() async {
        await node.shutdown()
        for _ in 0..<100 {
            do {
                try store.close()
                return
            } catch {
                try? await Task.sleep(for: .milliseconds(1))
            }
        }
    }

    struct Stopped: Error, CustomStringConvertible {
        var description: String
        init(_ text: String) { description = text }
    }
}
