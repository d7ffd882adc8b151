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

    static func start(
        _ directory: String,
        isNew: Bool = false,
        isExamined: Bool = true,
        on group: MultiThreadedEventLoopGroup
    ) async throws -> Node {
        let fault = Fault()
        var storeOptions = StoreOptions()
        storeOptions.memtableBytes = 96 << 10
        storeOptions.mapSize = 1 << 30
        if !isExamined { storeOptions.verification = .testOnlyNone }
        let (store, rebuild) = try StateOpening.open(directory: directory, options: storeOptions)
        let machine = KeyValueMachine(store: store) { fault.set("\($0)") }
        var options = NodeOptions(
            directory: directory,
            name: "rot",
            listenAddress: "127.0.0.1:0",
            peerAddress: "127.0.0.1:1",
            clientAddress: "127.0.0.1:2",
            snapshotSchema: "kontiki-kv-1",
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

    /// Executes a command, and throws when its outcome is not success.
    func execute(_ command: Command) async throws {
        for _ in 0..<2000 {
            if let text = fault.text { throw Stopped(text) }
            switch await node.propose(command.encode(timestampMilliseconds: 1_700_000_000_000)) {
            case .applied(.success, _): return
            case .applied(.failure(let error), _): throw error
            case .rejected: try await Task.sleep(for: .milliseconds(1))
            case .unknown: throw Stopped(fault.text ?? "the outcome is unknown")
            }
        }
        throw Stopped(fault.text ?? "no leader")
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
