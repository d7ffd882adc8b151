internal import Glibc
package import KeyValue
package import KeyValueService
internal import LMDB
internal import NIOCore
internal import NIOPosix
package import RaftNode
internal import RaftStorage
internal import Synchronization

/// A real node in this process.
package final class Server: Sendable {
    package let node: RaftNode<KeyValueMachine>
    package let notes: Notes
    private let group: MultiThreadedEventLoopGroup
    private let bindsAcknowledgements: Bool

    /// - Parameters:
    ///   - bindsAcknowledgements: each acknowledgement needs this server's disk, because there are no more than two voters.
    ///   - isUnsynced: its log is not flushed.
    ///   - clock: what the cluster's time advances by.
    ///   - directory: the node's data lie in `node` below it.
    package static func start(
        _ directory: String,
        _ beginning: NodeOptions.Beginning,
        port: Int,
        notes: Notes,
        bindsAcknowledgements: Bool = false,
        isUnsynced: Bool = false,
        clock: ManualClock = ManualClock()
    ) async throws -> Server {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        var options = ImageCheck.options(directory) { die("the node failed: \($0)") }
        options.beginning = beginning
        options.listenAddress = "127.0.0.1:\(port)"
        options.name = "node-\(port)"
        options.observer = notes.observer
        options.log.environment.testOnlyNoSync = isUnsynced
        try makeDirectories(options.directory)
        let store = try Store.open(directory: options.directory + "/state", options: ImageCheck.storeOptions())
        let machine = KeyValueMachine(store: store, milliseconds: { clock.milliseconds }) {
            die("the state failed: \($0)")
        }
        do {
            let node = try await RaftNode.start(
                options: options,
                machine: machine,
                raftLoop: group.next(),
                group: group,
                logger: ImageCheck.logger
            )
            return Server(node, notes, group, bindsAcknowledgements)
        } catch {
            try? store.close()
            try? await group.shutdownGracefully()
            throw error
        }
    }

    private init(
        _ node: RaftNode<KeyValueMachine>,
        _ notes: Notes,
        _ group: MultiThreadedEventLoopGroup,
        _ bindsAcknowledgements: Bool
    ) {
        (self.node, self.notes, self.group) = (node, notes, group)
        self.bindsAcknowledgements = bindsAcknowledgements
    }

    package var address: String { node.peerAddress }

    package func stop() async throws {
        await node.shutdown()
        try node.machine.store.close()
        try await group.shutdownGracefully()
    }

    /// Proposes until it is done.
    @discardableResult
    package func carryOut(_ command: Command, _ options: CommandOptions = .none) async throws -> KeyValue.Outcome {
        let bytes = command.encode(options: options, timestampMilliseconds: 1)
        let deadline = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < deadline {
            if let outcome = try await propose(bytes) { return outcome }
            try await Task.sleep(for: .milliseconds(5))
        }
        throw Violation("a command was not carried out in a minute")
    }

    /// What came of it; nil when it is not known to be done.
    private func propose(_ bytes: [UInt8]) async throws -> KeyValue.Outcome? {
        let output: KeyValueMachine.Output? = await withCheckedContinuation { continuation in
            node.propose(bytes) { [self] outcome in
                guard case .applied(let output, let position) = outcome else {
                    return continuation.resume(returning: nil)
                }
                if bindsAcknowledgements, case .success(let answer) = output { notes.acknowledge(position, answer) }
                continuation.resume(returning: output)
            }
        }
        return try output?.get()
    }

    package func put(_ key: String, _ value: [UInt8]) async throws {
        try await carryOut(.put(key: Array(key.utf8)[...], value: value[...]))
    }

    package func delete(_ key: String) async throws { try await carryOut(.delete(key: Array(key.utf8)[...])) }
}

/// A clock that stands until it is told to go on.
package final class ManualClock: Sendable {
    private let time = Atomic<UInt64>(0)

    package init() {}

    package var milliseconds: UInt64 { time.load(ordering: .relaxed) }

    package func advance(milliseconds: UInt64) { time.wrappingAdd(milliseconds, ordering: .relaxed) }
}

private func die(_ reason: String) -> Never {
    let line = Array((reason + "\n").utf8)
    _ = write(2, line, line.count)
    _exit(70)
}

/// Waits for a condition.
package func eventually(_ what: String, _ condition: () async throws -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(60)
    while !(try await condition()) {
        guard ContinuousClock.now < deadline else { throw Violation("in a minute it did not come about that \(what)") }
        try await Task.sleep(for: .milliseconds(5))
    }
}

/// A port that nobody listens on just now.
package func freePort() throws -> Int {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { throw FileFailure("socket", "") }
    defer { Glibc.close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let result = withUnsafeMutablePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
            bind(descriptor, pointer, size) == 0 && getsockname(descriptor, pointer, &size) == 0
        }
    }
    guard result else { throw FileFailure("bind", "127.0.0.1:0") }
    return Int(UInt16(bigEndian: address.sin_port))
}
