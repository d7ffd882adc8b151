internal import KeyValue
package import KeyValueModel
package import Raft
internal import Synchronization

/// The state behind one entry of a log as it must be, what the entry did, and the step before it.
package final class Step: Sendable {
    /// A lock as a change left it.
    struct LockChange: Sendable {
        let name: [UInt8]
        let kind: KeyValue.Event.Kind
        /// Nil when nobody holds it any more.
        let lock: LockStatus?
    }

    let previous: Step?
    package let position: LogPosition
    /// Nil for an entry that is no command.
    let request: Request?
    /// The command's bytes.
    let payload: [UInt8]
    /// What the command did; nil for an entry that is none.
    let outcome: KeyValue.Outcome?
    package let state: ReferenceModel
    /// What it changed of keys, in their order, and with what was there before.
    let changes: [KeyValue.Event]
    let lockChanges: [LockChange]
    /// The state's hash as the first store told it that stood here; all others must tell the same.
    private let hash = Mutex<[UInt8]?>(nil)

    /// The beginning.
    init() {
        (previous, position, request, payload, outcome) = (nil, .zero, nil, [], nil)
        (state, changes, lockChanges) = (ReferenceModel(), [], [])
    }

    init(behind previous: Step, _ position: LogPosition, _ payload: Entry.Payload) {
        (self.previous, self.position) = (previous, position)
        var state = previous.state
        guard case .command(let bytes) = payload, let request = try? Request(bytes) else {
            (request, self.payload, outcome, self.state, changes, lockChanges) = (nil, [], nil, state, [], [])
            return
        }
        (self.request, self.payload) = (request, bytes)
        outcome = state.apply(request)
        let kind: KeyValue.Event.Kind = if case .expireLeases = request.command { .expire } else { .delete }
        let hasChanges = state.revision > previous.state.revision
        changes = hasChanges ? Self.keyChanges(from: previous.state, to: state, kind) : []
        lockChanges = hasChanges ? Self.changesOfLocks(from: previous.state, to: state, kind) : []
        self.state = state
    }

    private static func keyChanges(
        from old: ReferenceModel,
        to new: ReferenceModel,
        _ kind: KeyValue.Event.Kind
    ) -> [KeyValue.Event] {
        var events: [KeyValue.Event] = []
        for (key, item) in new.items where old.items[key]?.modRevision != item.modRevision {
            events.append(Event(revision: new.revision, kind: .put, item: item, previous: old.items[key]))
        }
        for (key, item) in old.items where new.items[key] == nil {
            let metadata = ItemMetadata(createRevision: 0, modRevision: new.revision, version: 0)
            let gone = Item(key: key, value: [], contentType: nil, metadata: metadata)
            events.append(Event(revision: new.revision, kind: kind, item: gone, previous: item))
        }
        return events.sorted { $0.item.key.lexicographicallyPrecedes($1.item.key) }
    }

    private static func changesOfLocks(
        from old: ReferenceModel,
        to new: ReferenceModel,
        _ kind: KeyValue.Event.Kind
    ) -> [LockChange] {
        let changed = new.locks.keys.filter { old.locks[$0]?.modRevision != new.locks[$0]?.modRevision }
        let gone = old.locks.keys.filter { new.locks[$0] == nil }
        let changes =
            changed.map { LockChange(name: $0, kind: .put, lock: new.status($0)) }
            + gone.map { LockChange(name: $0, kind: kind, lock: nil) }
        return changes.sorted { $0.name.lexicographicallyPrecedes($1.name) }
    }

    /// All steps from the first on to this one: that of an entry lies under its index.
    var path: [Step] {
        var path = [self]
        while let previous = path[path.count - 1].previous { path.append(previous) }
        return path.reversed()
    }

    /// Whether a state that stands here may have this hash.
    func accepts(hash found: [UInt8]) -> Bool {
        hash.withLock { known in
            known = known ?? found
            return known == found
        }
    }
}

extension Request {
    /// From an encoded command.
    init(_ payload: [UInt8]) throws {
        let (command, options, timestamp) = try Command.decode(payload)
        self.init(command: command, options: options, timestamp: timestamp)
    }
}
