import Foundation
import Logging
import NIOPosix
import Raft
import RaftNode
import Synchronization

/// A counter whose replicas can be compared, and made to differ.
final class HashedCounter: StateMachine {
    let counter: Counter
    /// Added to the value that counts for the comparison: what a fault would do to a state.
    let error = Mutex<Int64>(0)

    init(directory: String) throws { counter = try Counter(directory: directory) }

    var value: Int64 { counter.value }
    var durablePosition: LogPosition { counter.durablePosition }
    var unflushedBytes: Int { counter.unflushedBytes }

    func apply(_ entries: ArraySlice<Entry>) -> [Int64?] { counter.apply(entries) }
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

    func stateHash() -> [UInt8]? {
        withUnsafeBytes(of: (value &+ error.withLock { $0 }).littleEndian) { Array($0) }
    }
}

extension CounterCluster {
    func startHashed(
        _ name: String,
        _ beginning: NodeOptions.Beginning,
        at address: String? = nil,
        _ adjust: (inout NodeOptions) -> Void = { _ in }
    ) async throws -> RaftNode<HashedCounter> {
        let directory = root + "/" + name
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        var options = options(name, beginning, at: try address ?? "127.0.0.1:\(Ports.next())")
        // An election disturbs none of these tests, and some wait for one.
        options.core.electionTicks = 40
        options.comparisonEntries = 8
        options.comparisonMilliseconds = 50
        adjust(&options)
        return try await RaftNode.start(
            options: options,
            machine: HashedCounter(directory: directory),
            raftLoop: group.next(),
            group: group,
            logger: logger(name)
        )
    }
}
