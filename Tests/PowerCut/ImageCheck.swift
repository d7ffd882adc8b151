package import KeyValue
internal import KeyValueService
internal import LMDB
internal import Logging
internal import Raft
internal import RaftDriver
package import RaftNode
package import RaftStorage

/// What is wrong with what a recovery made of an image.
package struct Violation: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}

/// Starts the real recovery on a directory and compares what it finds with what must be there.
package struct ImageCheck {
    /// The node's directory below the one that is recorded; that itself may be lost too.
    package static let nodeDirectory = "node"
    static let logger = Logger(label: "power-cut") { _ in SwiftLogNoOpLogHandler() }

    /// Bounds so small that a short run has many commits, flushes, snapshots and trims.
    package static func options(_ directory: String, onFailure: @escaping @Sendable (String) -> Void) -> NodeOptions {
        var options = NodeOptions(
            directory: directory + "/" + nodeDirectory,
            name: "node",
            listenAddress: "127.0.0.1:0",
            snapshotSchema: "kontiki-kv-1",
            onFailure: onFailure
        )
        options.beginning = .bootstrap
        options.tickMilliseconds = 5
        options.core.electionTicks = 20
        options.core.heartbeatTicks = 4
        options.driver.snapshotLogBytes = 6 << 10
        options.driver.snapshotGrowth = 0.5
        options.driver.trailingLogBytes = 2 << 10
        options.driver.flushBytes = 24 << 10
        options.driver.flushTicks = 40
        options.log.zeroFillBytes = 64 << 10
        options.log.environment.maxReaders = 32
        return options
    }

    package static func storeOptions() -> StoreOptions {
        var options = StoreOptions()
        options.memtableBytes = 24 << 10
        options.maximumReaders = 32
        return options
    }

    private let options: NodeOptions

    package init(directory: String) {
        options = Self.options(directory) { _ in }
    }

    /// - Returns: how the log was found.
    /// - Throws: ``Violation``.
    package func run(_ expectation: Expectation, _ book: inout EntryBook) throws -> LogShape {
        do {
            try checkSnapshotFiles()
            let (shape, added) = try firstStart(expectation, &book)
            try secondStart(shape, added, &book)
            return shape
        } catch let violation as Violation {
            throw violation
        } catch {
            throw Violation("the start fails: \(error)")
        }
    }

    private func open<Result>(_ body: (NodeRecovery, KeyValueMachine) throws -> Result) throws -> Result {
        try makeDirectories(options.directory)
        let store = try Store.open(directory: options.directory + "/state", options: Self.storeOptions())
        let machine = KeyValueMachine(store: store) { _ in }
        let recovery: NodeRecovery
        do {
            recovery = try NodeRecovery.run(options, machine: machine, logger: Self.logger)
        } catch {
            try? store.close()
            throw error
        }
        let result = Swift.Result { try body(recovery, machine) }
        try recovery.store.close()
        try store.close()
        return try result.get()
    }

    private func firstStart(
        _ expectation: Expectation,
        _ book: inout EntryBook
    ) throws -> (LogShape, added: [Entry]) {
        try open { recovery, machine in
            let shape = LogShape(recovery.recovered)
            let identity = recovery.recovered.identity
            if let wrong = expectation.verdict(on: shape, serverID: identity.serverID, clusterID: identity.clusterID) {
                throw Violation(wrong)
            }
            try checkSnapshots(recovery)
            try replay(recovery, machine, to: shape.last)
            guard let model = book.state(at: shape.last) else { throw Violation("no server ever stored \(shape.last)") }
            if let difference = try model.difference(from: machine.store) { throw Violation(difference) }
            return (shape, try goOn(recovery, machine, from: shape))
        }
    }

    /// Who has a snapshot's name is whole. Before the start, which sets others aside.
    private func checkSnapshotFiles() throws {
        let directory = options.directory + "/snapshots"
        guard isDirectory(directory) else { return }
        let damaged = try SnapshotStore(directory: directory).scan().damaged
        if let first = damaged.first { throw Violation("a snapshot has its name and is damaged: \(first)") }
    }

    /// The snapshots that are listed are whole to the end, and the log begins behind none that is not there.
    private func checkSnapshots(_ recovery: NodeRecovery) throws {
        let found = try recovery.snapshots.list()
        for descriptor in found { try recovery.snapshots.open(descriptor).verify() }
        let base = recovery.recovered.base.position
        guard base.index > 0 else { return }
        let newest = found.first?.position ?? .zero
        guard newest.index >= base.index else {
            throw Violation("the log begins behind \(base), the newest snapshot stands at \(newest)")
        }
    }

    private func replay(_ recovery: NodeRecovery, _ machine: KeyValueMachine, to last: LogPosition) throws {
        var next = machine.durablePosition.index + 1
        while next <= last.index {
            let entries = try recovery.store.read(from: next, through: last.index, maxBytes: 1 << 20)
            guard !entries.isEmpty else { throw Violation("the log has no entry \(next)") }
            _ = machine.apply(entries[...])
            next += UInt64(entries.count)
        }
        if let fault = machine.fault { throw Violation("the log cannot be applied: \(fault)") }
    }

    /// Writes on, as a leader of a new term would.
    private func goOn(_ recovery: NodeRecovery, _ machine: KeyValueMachine, from shape: LogShape) throws -> [Entry] {
        let term = shape.hardState.term + 1
        let command = Command.put(key: Array("after".utf8)[...], value: Array("the power cut".utf8)[...])
        let entries = [
            Entry(index: shape.last.index + 1, term: term, payload: .noop),
            Entry(
                index: shape.last.index + 2,
                term: term,
                payload: .command(command.encode(timestampMilliseconds: 1))
            ),
        ]
        try recovery.store.write([StorageWrite(sequence: 1, hardState: HardState(term: term), append: entries)])
        _ = machine.apply(entries[...])
        _ = try machine.flush()
        return entries
    }

    private func secondStart(_ shape: LogShape, _ added: [Entry], _ book: inout EntryBook) throws {
        try open { recovery, machine in
            let last = added[added.count - 1].position
            let found = LogShape(recovery.recovered)
            guard found.last == last, found.hardState == HardState(term: last.term) else {
                throw Violation("what was written after the recovery is not there after another: \(found.summary)")
            }
            try replay(recovery, machine, to: last)
            guard var model = book.state(at: shape.last) else { return }
            for case .command(let command) in added.map(\.payload) { model.apply(command) }
            if let difference = try model.difference(from: machine.store) {
                throw Violation("after a second start: \(difference)")
            }
        }
    }
}

extension LogShape {
    package init(_ recovered: Recovered) {
        self.init()
        hardState = recovered.hardState
        base = recovered.base.position
        terms = recovered.entries.map(\.term)
    }
}
