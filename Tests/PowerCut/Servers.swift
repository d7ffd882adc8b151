internal import Glibc
package import KeyValue
package import KeyValueService
internal import LMDB
internal import NIOCore
internal import NIOPosix
internal import Raft
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
    ///   - isPatient: it goes on leading, and hears its leader, for a minute without a word of the others: who leads does not change where a
    ///     machine is slow. For runs that need no election; a lone voter's takes one tick all the same.
    package static func start(
        _ directory: String,
        _ beginning: NodeOptions.Beginning,
        port: Int,
        notes: Notes,
        bindsAcknowledgements: Bool = false,
        isUnsynced: Bool = false,
        isPatient: Bool = false,
        clock: ManualClock = ManualClock()
    ) async throws -> Server {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        var options = ImageCheck.options(directory) { die("the node failed: \($0)") }
        options.beginning = beginning
        options.listenAddress = "127.0.0.1:\(port)"
        options.name = "node-\(port)"
        options.observer = notes.observer
        options.log.environment.testOnlyNoSync = isUnsynced
        if isPatient { options.core.electionTicks = UInt64(60_000 / options.tickMilliseconds) }
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
        // What the servers have by themselves that are not patient; to hand leadership over to one that is gone needs no longer.
        await node.shutdown(patience: .milliseconds(400))
        try node.machine.store.close()
        try await group.shutdownGracefully()
    }

    /// Proposes until it is done.
    ///
    /// - Parameter isRepeated: the client was told the answer before, and asks again under the same idempotency key.
    /// - Returns: what came of the command; also where an attempt of this call whose outcome was not known had done it, and the next was
    ///   told of that one's.
    @discardableResult
    package func carryOut(
        _ command: Command,
        _ options: CommandOptions = .none,
        isRepeated: Bool = false
    ) async throws -> KeyValue.Outcome {
        let bytes = command.encode(options: options, timestampMilliseconds: 1)
        let deadline = ContinuousClock.now + .seconds(60)
        var mayBeDone = false
        while ContinuousClock.now < deadline {
            switch await propose(bytes) {
            case .applied(let output, _):
                let outcome = try output.get()
                guard case .replayed(let first) = outcome, mayBeDone, !isRepeated else { return outcome }
                return first
            case .rejected: break
            case .unknown: mayBeDone = true
            }
            try await Task.sleep(for: .milliseconds(5))
        }
        throw Violation("a command was not carried out in a minute")
    }

    private func propose(_ bytes: [UInt8]) async -> ProposalOutcome<KeyValueMachine.Output> {
        await withCheckedContinuation { continuation in
            node.propose(bytes) { [self] outcome in
                if bindsAcknowledgements, case .applied(.success(let answer), let position) = outcome {
                    notes.acknowledge(position, answer)
                }
                continuation.resume(returning: outcome)
            }
        }
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
