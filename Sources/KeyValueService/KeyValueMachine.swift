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
    private let failure = Mutex<StoreError?>(nil)
    private let onFailure: @Sendable (StoreError) -> Void

    /// - Parameter onFailure: called once, on the Raft loop, when a committed entry could not be applied because a stored record is
    ///   unreadable. Nothing is applied from then on. The program should say why and stop: a replica that skips an entry is wrong.
    public init(store: Store, onFailure: @escaping @Sendable (StoreError) -> Void) {
        self.store = store
        self.onFailure = onFailure
    }

    /// Why nothing is applied any more; nil while all is well.
    public var fault: StoreError? { failure.withLock { $0 } }

    public var durablePosition: LogPosition {
        let (index, term) = store.durablePosition
        return LogPosition(index: index, term: term)
    }

    public func apply(_ entries: ArraySlice<Entry>) -> [Output?] {
        var outputs: [Output?] = []
        outputs.reserveCapacity(entries.count)
        for entry in entries { outputs.append(apply(entry)) }
        return outputs
    }

    private func apply(_ entry: Entry) -> Output? {
        if let fault { return .failure(fault) }
        switch entry.payload {
        case .noop:
            store.applyOther(index: entry.index, term: entry.term, membership: nil)
            return nil
        case .configuration:
            store.applyOther(index: entry.index, term: entry.term, membership: entry.payload.encoded.bytes)
            return nil
        case .command(let payload):
            do {
                return .success(try store.apply(index: entry.index, term: entry.term, payload: payload))
            } catch {
                let fault =
                    error as? StoreError
                    ?? StoreError(
                        code: .system,
                        path: "",
                        message: "entry \(entry.index) could not be applied: \(error)"
                    )
                failure.withLock { $0 = fault }
                onFailure(fault)
                return .failure(fault)
            }
        }
    }

    public var unflushedBytes: Int { store.pendingBytes }

    public func flush() throws -> LogPosition {
        if let fault { throw fault }
        let (index, term) = try store.flush()
        return LogPosition(index: index, term: term)
    }

    public func writeSnapshot(to write: (UnsafeRawBufferPointer) throws -> Void) throws -> LogPosition {
        let (index, term, _) = try store.writeSnapshot(flushesFirst: false, to: write)
        return LogPosition(index: index, term: term)
    }

    public func restore(
        position: LogPosition,
        configuration: Configuration,
        from read: (_ maxBytes: Int) throws -> [UInt8]?
    ) throws {
        try store.restore(
            index: position.index,
            term: position.term,
            membership: Entry.Payload.configuration(configuration).encoded.bytes,
            from: read
        )
    }
}
