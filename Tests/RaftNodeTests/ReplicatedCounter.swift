import Foundation
import Logging
import NIOCore
import NIOPosix
import Raft
import RaftNode
import Synchronization

/// The smallest useful machine: a counter that commands add to. It shows all that an embedder writes.
///
/// Its state is one file, replaced as a whole at each flush, so that the value and the position it belongs to are one (R7).
final class Counter: StateMachine {
    private struct State {
        var value: Int64 = 0
        var position = LogPosition.zero
    }

    private let state: Mutex<State>
    private let durable: Mutex<State>
    private let path: String

    init(directory: String) throws {
        path = directory + "/counter"
        var state = State()
        if let text = try? String(contentsOfFile: path, encoding: .utf8) {
            let numbers = text.split(separator: " ").map(String.init)
            state.value = Int64(numbers[0])!
            state.position = LogPosition(index: UInt64(numbers[1])!, term: UInt64(numbers[2])!)
        }
        self.state = Mutex(state)
        self.durable = Mutex(state)
    }

    var value: Int64 { state.withLock { $0.value } }

    static func add(_ amount: Int64) -> [UInt8] { withUnsafeBytes(of: amount.littleEndian) { Array($0) } }

    // MARK: StateMachine

    var durablePosition: LogPosition { durable.withLock { $0.position } }

    var unflushedBytes: Int {
        state.withLock { $0.position.index } == durable.withLock { $0.position.index } ? 0 : 16
    }

    func apply(_ entries: ArraySlice<Entry>) -> [Int64?] {
        state.withLock { state in
            entries.map { entry in
                precondition(entry.index == state.position.index + 1, "every entry is applied once and in order")
                state.position = entry.position
                guard case .command(let bytes) = entry.payload, bytes.count == 8 else { return nil }
                state.value += bytes.withUnsafeBytes { Int64(littleEndian: $0.loadUnaligned(as: Int64.self)) }
                return state.value
            }
        }
    }

    func flush() throws -> LogPosition {
        let now = state.withLock { $0 }
        try Data("\(now.value) \(now.position.index) \(now.position.term)".utf8)
            .write(to: URL(fileURLWithPath: path), options: .atomic)
        durable.withLock { $0 = now }
        return now.position
    }

    func writeSnapshot(to write: (UnsafeRawBufferPointer) throws -> Void) throws -> LogPosition {
        let now = durable.withLock { $0 }
        try withUnsafeBytes(of: now.value.littleEndian) { try write($0) }
        return now.position
    }

    static func verifySnapshot(
        position: LogPosition,
        configuration: Configuration,
        from read: (_ maxBytes: Int) throws -> [UInt8]?
    ) throws {
        _ = try decode(read)
    }

    private static func decode(_ read: (_ maxBytes: Int) throws -> [UInt8]?) throws -> Int64 {
        var bytes: [UInt8] = []
        while let more = try read(1024) { bytes += more }
        guard bytes.count == 8 else { throw StartError(.damaged, "a counter's snapshot has 8 bytes") }
        return bytes.withUnsafeBytes { Int64(littleEndian: $0.loadUnaligned(as: Int64.self)) }
    }

    func restore(
        position: LogPosition,
        configuration: Configuration,
        from read: (_ maxBytes: Int) throws -> [UInt8]?
    ) throws {
        let value = try Self.decode(read)
        state.withLock { $0 = State(value: value, position: position) }
        _ = try flush()
    }
}

/// Nodes with counters on this machine, in temporary directories and on ports that the system chooses.
final class CounterCluster: Sendable {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)
    let root = NSTemporaryDirectory() + "kontiki-counter-\(UInt64.random(in: .min ... .max))"
    private let failures = Mutex<[String]>([])

    /// What nodes said before they gave up; empty in a good run.
    var reportedFailures: [String] { failures.withLock { $0 } }

    init() throws { try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true) }

    func start(
        _ name: String,
        _ beginning: NodeOptions.Beginning,
        at address: String? = nil,
        _ adjust: (inout NodeOptions) -> Void = { _ in }
    ) async throws -> RaftNode<Counter> {
        let directory = root + "/" + name
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        var options = options(name, beginning, at: try address ?? "127.0.0.1:\(Ports.next())")
        adjust(&options)
        return try await RaftNode.start(
            options: options,
            machine: Counter(directory: directory),
            raftLoop: group.next(),
            group: group,
            logger: logger(name)
        )
    }

    func options(_ name: String, _ beginning: NodeOptions.Beginning, at address: String) -> NodeOptions {
        var options = NodeOptions(
            directory: root + "/" + name,
            name: name,
            listenAddress: address,
            snapshotSchema: "counter-1"
        ) { reason in self.failures.withLock { $0.append("\(name): \(reason)") } }
        options.beginning = beginning
        // Debug builds on busy machines are slow; elections must not come from that. This makes four seconds.
        options.core.electionTicks = 200
        return options
    }

    func logger(_ name: String) -> Logger {
        var logger = Logger(label: name)
        logger.logLevel = ProcessInfo.processInfo.environment["KONTIKI_TEST_LOG"] == nil ? .critical : .debug
        return logger
    }

    /// The last ones find nobody to hand leadership to, and need not wait for anybody.
    func stop(_ nodes: [RaftNode<Counter>]) async {
        for node in nodes { await node.shutdown(patience: .milliseconds(300)) }
    }

    func remove() async throws {
        try await group.shutdownGracefully()
        try FileManager.default.removeItem(atPath: root)
    }
}

struct NotReached: Error {}

/// Waits until `condition` holds; a test that never gets there fails.
func eventually(_ what: String, _ condition: () async throws -> Bool) async throws {
    let deadline = NIODeadline.now() + .seconds(60)
    while NIODeadline.now() < deadline {
        if try await condition() { return }
        try await Task.sleep(for: .milliseconds(10))
    }
    print("never came about: \(what)")
    throw NotReached()
}
