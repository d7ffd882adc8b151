package import KeyValue
internal import KeyValueModel
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
            snapshotSchema: Store.snapshotSchema,
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
    private let isThorough: Bool
    private var random: SeededNumbers

    /// - Parameters:
    ///   - isThorough: reads the past of each state, not only of some.
    ///   - seed: chooses those, what of the past is read, and which commands are asked again.
    package init(directory: String, isThorough: Bool = true, seed: UInt64 = 1) {
        self.isThorough = isThorough
        options = Self.options(directory) { _ in }
        random = SeededNumbers(seed: seed)
    }

    /// - Returns: how the log was found.
    /// - Throws: ``Violation``.
    package mutating func run(_ expectation: Expectation, _ book: inout EntryBook) throws -> LogShape {
        do {
            try checkSnapshotFiles()
            let (shape, end) = try firstStart(expectation, &book)
            try secondStart(end)
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
        // No time goes by: a check may take as long as it likes.
        let machine = KeyValueMachine(store: store, milliseconds: { 0 }) { _ in }
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

    /// - Returns: how the log was found, and the step of what was written then.
    private mutating func firstStart(
        _ expectation: Expectation,
        _ book: inout EntryBook
    ) throws -> (LogShape, end: Step) {
        var random = random
        defer { self.random = random }
        return try open { recovery, machine in
            let shape = LogShape(recovery.recovered)
            let identity = recovery.recovered.identity
            if let wrong = expectation.verdict(on: shape, serverID: identity.serverID, clusterID: identity.clusterID) {
                throw Violation(wrong)
            }
            try checkSnapshots(recovery)
            guard let end = book.step(at: shape.last) else { throw Violation("no server ever stored \(shape.last)") }
            try replay(recovery, machine, to: end)
            try StateCheck(machine.store, against: end).run(isThorough: isThorough, &random)
            try AnswerCheck(machine.store, expectation.acknowledged, end: end).run()
            return (shape, try goOn(recovery, machine, from: shape, end, &random))
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

    /// Applies what the log holds behind the durable state: each command has the outcome that it had before the power cut.
    private func replay(_ recovery: NodeRecovery, _ machine: KeyValueMachine, to end: Step) throws {
        let path = end.path
        var next = machine.durablePosition.index + 1
        while next <= end.position.index {
            let entries = try recovery.store.read(from: next, through: end.position.index, maxBytes: 1 << 20)
            guard !entries.isEmpty else { throw Violation("the log has no entry \(next)") }
            try apply(entries, to: machine, expecting: path[Int(next)..<Int(next) + entries.count])
            next += UInt64(entries.count)
        }
    }

    private func apply(_ entries: [Entry], to machine: KeyValueMachine, expecting steps: ArraySlice<Step>) throws {
        let outputs = machine.apply(entries[...])
        if let fault = machine.fault { throw Violation("the log cannot be applied: \(fault)") }
        for (output, step) in zip(outputs, steps) {
            let outcome = try output?.get()
            guard outcome == step.outcome else {
                let (found, expected) = (String(describing: outcome), String(describing: step.outcome))
                throw Violation("the command \(step.position) has the outcome \(found), not \(expected)")
            }
        }
    }

    /// Writes on, as a leader of a new term would: clients ask again what they asked before under the same idempotency keys,
    /// one puts a key, and one takes a lock.
    private func goOn(
        _ recovery: NodeRecovery,
        _ machine: KeyValueMachine,
        from shape: LogShape,
        _ end: Step,
        _ random: inout SeededNumbers
    ) throws -> Step {
        let asked = AnswerCheck.remembered(end, limit: 12, &random)
        let put = Command.put(key: Array("after".utf8)[...], value: Array("the power cut".utf8)[...])
        let lock = Command.acquireLock(
            LockRequest(name: Array("after".utf8), lease: .ttl(milliseconds: 10_000), waits: true)
        )
        let commands = asked.map(\.payload) + [put, lock].map { $0.encode(timestampMilliseconds: 1) }
        let term = shape.hardState.term + 1
        let payloads = [Entry.Payload.noop] + commands.map { .command($0) }
        let entries = payloads.enumerated().map { offset, payload in
            Entry(index: shape.last.index + 1 + UInt64(offset), term: term, payload: payload)
        }
        try recovery.store.write([StorageWrite(sequence: 1, hardState: HardState(term: term), append: entries)])
        var steps: [Step] = []
        for entry in entries { steps.append(Step(behind: steps.last ?? end, entry.position, entry.payload)) }
        try apply(entries, to: machine, expecting: steps[...])
        for (again, first) in zip(steps.dropFirst(), asked) {
            guard let outcome = first.outcome, again.outcome == .replayed(outcome),
                again.state.revision == end.state.revision
            else { throw Violation("the command \(first.position) is executed twice") }
        }
        let last = steps[steps.count - 1]
        let before = end.state.locks.values.flatMap(\.tickets).map(\.token).max() ?? 0
        guard case .lock(let ticket) = last.outcome, ticket.token > before, ticket.token > end.state.revision else {
            throw Violation("a new ticket is not behind the old ones")
        }
        _ = try machine.flush()
        return last
    }

    private mutating func secondStart(_ end: Step) throws {
        var random = random
        defer { self.random = random }
        try open { recovery, machine in
            let found = LogShape(recovery.recovered)
            guard found.last == end.position, found.hardState == HardState(term: end.position.term) else {
                throw Violation("what was written after the recovery is not there after another: \(found.summary)")
            }
            try replay(recovery, machine, to: end)
            do {
                try StateCheck(machine.store, against: end).run(isThorough: isThorough, &random)
            } catch let violation as Violation {
                throw Violation("after a second start: \(violation)")
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
