public import KeyValue
public import Raft
public import RaftNode
import Synchronization

/// Makes a ``KeyValue/Store`` what a ``RaftNode/RaftNode`` drives.
public final class KeyValueMachine: StateMachine {
    /// The outcome, or why the state could not be read: the node must not go on then.
    public typealias Output = Result<KeyValue.Outcome, StoreError>

    /// The state, for reads.
    public let store: Store
    /// The time that is stamped into commands while this node leads.
    let clock: ClusterClock
    private let observers = Mutex<[@Sendable (UInt64) -> Void]>([])
    private let failure = Mutex<StoreError?>(nil)
    private let onFailure: @Sendable (StoreError) -> Void

    /// - Parameter onFailure: called once, on the Raft loop, when a committed entry could not be applied because a stored record is
    ///   unreadable. Nothing is applied from then on. The program should say why and stop: a replica that skips an entry is wrong.
    ///   One machine only may be made of a store.
    public convenience init(store: Store, onFailure: @escaping @Sendable (StoreError) -> Void) {
        self.init(store: store, milliseconds: ClusterClock.systemMilliseconds, onFailure: onFailure)
    }

    /// - Parameter milliseconds: the clock that the time of the cluster advances by: it never goes back, and counts suspension.
    package init(
        store: Store,
        milliseconds: @escaping @Sendable () -> UInt64,
        onFailure: @escaping @Sendable (StoreError) -> Void
    ) {
        self.store = store
        self.onFailure = onFailure
        clock = ClusterClock(machineMilliseconds: milliseconds)
        store.onApplied { [weak self] revision in
            guard let self else { return }
            for observer in observers.withLock({ $0 }) { observer(revision) }
        }
    }

    /// Has `body` called with the state's revision whenever it has moved on, on the thread that applied or restored.
    func observe(_ body: @escaping @Sendable (_ revision: UInt64) -> Void) { observers.withLock { $0.append(body) } }

    // MARK: Time

    public func leadershipBegan(term: Term) { clock.begin(term: term) }

    public func leadershipEnded() { clock.end() }

    public func prepare(_ command: inout [UInt8]) { clock.stamp(&command) }

    /// Why nothing is applied any more; nil while all is well.
    public var fault: StoreError? { failure.withLock { $0 } }

    public var durablePosition: LogPosition {
        let (index, term) = store.durablePosition
        return LogPosition(index: index, term: term)
    }

    public func apply(
        _ entries: ArraySlice<Entry>,
        isTimeUp: () -> Bool
    ) -> AppliedEntries<Output> {
        if let fault { return AppliedEntries(outputs: refuse(entries, fault)) }
        do {
            let applied = try store.apply(entries.lazy.map { CommittedEntry($0) }, isTimeUp: isTimeUp)
            if let last = entries.prefix(applied.outcomes.count).last {
                clock.applied(term: last.term, clusterMilliseconds: store.mark.timestampMilliseconds)
            }
            let outputs = applied.outcomes.map { outcome in outcome.map { Output.success($0) } }
            if applied.isFull {
                return AppliedEntries(outputs: outputs) { [store] in store.waitForFlush(isGivenUp: $0) }
            }
            guard let command = applied.longCommand else { return AppliedEntries(outputs: outputs) }
            return AppliedEntries(outputs: outputs) { command.execute(isGivenUp: $0) }
        } catch {
            let message = "an entry from \(entries.first?.index ?? 0) on could not be applied: \(error)"
            let fault = error as? StoreError ?? StoreError(code: .system, path: "", message: message)
            failure.withLock { $0 = fault }
            onFailure(fault)
            return AppliedEntries(outputs: refuse(entries, fault))
        }
    }

    private func refuse(_ entries: ArraySlice<Entry>, _ fault: StoreError) -> [Output?] {
        entries.map { entry in
            if case .command = entry.payload { .failure(fault) } else { nil }
        }
    }

    public var unflushedBytes: Int { store.pendingBytes }

    public func flush() throws -> LogPosition {
        if let fault { throw fault }
        do {
            let (index, term) = try store.flush()
            return LogPosition(index: index, term: term)
        } catch let error as StoreError where error.code == .noRoom {
            throw NoRoomError("\(error)")
        }
    }

    public func writeSnapshot(to write: (UnsafeRawBufferPointer) throws -> Void) throws -> LogPosition {
        do {
            let (index, term, _) = try store.writeSnapshot(flushesFirst: false, to: write)
            return LogPosition(index: index, term: term)
        } catch let error as StoreError where error.code == .stateDiffers {
            throw StateDifferenceError("\(error)")
        }
    }

    public func stateHash() -> [UInt8]? { fault == nil ? store.stateHash.hash : nil }

    public func verifyState(pause: (_ bytes: Int) -> Bool) throws -> StateVerification {
        switch try store.verifyHash(pause: pause) {
        case .matches: return .sound
        case .interrupted: return .interrupted
        case .differs(let difference):
            let keys = difference.keys.map { "'\(String(decoding: $0, as: UTF8.self))'" }.joined(separator: ", ")
            return .differs(
                "at revision \(difference.mark.revision) its items do not make the hash that was kept"
                    + (keys.isEmpty ? "." : "; changed are \(keys).")
            )
        }
    }

    public func scrub(behind key: [UInt8]?, milliseconds: Int) throws -> [UInt8]? {
        switch try store.scrub(behind: key, milliseconds: milliseconds) {
        case .more(let key): key
        case .end: nil
        }
    }

    public static func verifySnapshot(
        position: LogPosition,
        configuration: Configuration,
        from read: (_ maxBytes: Int) throws -> [UInt8]?
    ) throws {
        try Store.verifySnapshot(index: position.index, term: position.term, from: read)
    }

    public func restore(
        position: LogPosition,
        configuration: Configuration,
        from read: (_ maxBytes: Int) throws -> [UInt8]?
    ) throws {
        do {
            try store.restore(
                index: position.index,
                term: position.term,
                membership: Entry.Payload.configuration(configuration).encoded.bytes,
                from: read
            )
        } catch let error as StoreError where error.code == .noRoom {
            throw NoRoomError("\(error)")
        }
    }
}

extension CommittedEntry {
    fileprivate init(_ entry: Entry) {
        switch entry.payload {
        case .noop: self = .other(index: entry.index, term: entry.term, membership: nil)
        case .configuration(let configuration):
            self = .other(index: entry.index, term: entry.term, membership: configuration.encode())
        case .command(let payload): self = .command(index: entry.index, term: entry.term, payload: payload)
        }
    }
}
