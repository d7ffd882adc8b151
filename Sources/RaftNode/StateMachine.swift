public import Raft

/// What a replicated log drives: a deterministic machine with its own durable state.
///
/// The node applies every committed entry exactly once and in order, on its Raft loop (see ``apply(_:)``), and calls the methods that touch
/// the disk on one background thread. Reads by the embedding program may come from any thread, at any time.
public protocol StateMachine: AnyObject, Sendable {
    /// What applying a command answers.
    associatedtype Output: Sendable

    /// The last applied position that is durable. At start the log is replayed from the entry behind it.
    ///
    /// It must be stored in the same transaction as the data that it describes (R7).
    var durablePosition: LogPosition { get }

    /// Applies committed entries, contiguous and in order; answers one element for each, nil for entries that are no commands.
    ///
    /// Called on the Raft loop: it must not wait for the disk. It must be a pure function of the state and the entries.
    ///
    /// A machine has this or ``apply(_:isTimeUp:)``; each has a default that is made of the other.
    func apply(_ entries: ArraySlice<Entry>) -> [Output?]

    /// Applies the first of some committed entries, as ``apply(_:)`` does, and answers one element for each that it applied, the rest of them is
    /// given again: messages, heartbeats and reads go on in between.
    ///
    /// It should stop soon after `isTimeUp` answers true (milliseconds after the call), and applies at least one entry, or names the work that
    /// the next one needs and that takes longer. Called on the Raft loop, with no less than what was left the last time, unless
    /// ``restore(position:configuration:from:)`` has replaced the state meanwhile. The default calls ``apply(_:)`` with a few entries at once.
    func apply(_ entries: ArraySlice<Entry>, isTimeUp: () -> Bool) -> AppliedEntries<Output>

    /// This node leads in `term` from now on. Its state may not have all that earlier leaders committed yet: it has once the first
    /// entry of `term` is applied. Raft loop; the default does nothing.
    func leadershipBegan(term: Term)

    /// This node leads no more. Raft loop; the default does nothing.
    func leadershipEnded()

    /// Called on the leader's Raft loop for every command, its own clients' or a follower's, right before it is appended to the log:
    /// the place to put in what only a leader may decide, such as the time. It must leave a command that can be applied, of about the same
    /// size, and be quick. The command may yet be refused, and come again then. The default leaves it as it is.
    func prepare(_ command: inout [UInt8])

    /// How much has been applied that is not durable yet, in bytes. The node calls ``flush()`` when it reaches its bound.
    var unflushedBytes: Int { get }

    /// Makes everything that was applied before the call durable and answers the position up to which it is.
    /// Background thread; ``apply(_:)`` goes on meanwhile. It throws ``NoRoomError`` where only room is lacking: it is called again
    /// later then. After any other error the node ends.
    func flush() throws -> LogPosition

    /// Writes the state exactly as it stood at the last flush, and answers its position.
    /// Background thread; ``apply(_:)`` goes on meanwhile, ``flush()`` does not. Throws ``StateDifferenceError`` when what it
    /// wrote is not the state whose hash it keeps: then the node has ``verifyState(pause:)`` look, and tries again.
    func writeSnapshot(to write: (UnsafeRawBufferPointer) throws -> Void) throws -> LogPosition

    /// Looks at what is durable of the state behind `key` for some milliseconds, to find what the disk has damaged, and throws when something
    /// is. Answers where to go on (opaque to the node), nil at the end. Background thread; the default has nothing to look at.
    func scrub(behind key: [UInt8]?, milliseconds: Int) throws -> [UInt8]?

    /// Replaces the state by the one that a snapshot holds, durably, with `position` as the applied position.
    ///
    /// `read` answers up to as many bytes as asked for, nil at the end. When it throws, the old state must remain.
    /// Background thread; nothing is applied meanwhile, reads may go on.
    func restore(
        position: LogPosition,
        configuration: Configuration,
        from read: (_ maxBytes: Int) throws -> [UInt8]?
    ) throws

    /// Throws unless ``restore(position:configuration:from:)`` could load a state from a snapshot with this payload. It changes nothing.
    ///
    /// The node asks before it gives up anything for a snapshot: for one that a leader has sent, before it answers for having it and before
    /// the log is touched; for one that it has written, before it counts; at start and when a receiver found one damaged, before it is used.
    /// `read` answers up to as many bytes as asked for, nil at the end; it waits to keep the work slow, and throws to have it given up: such
    /// an error is to be passed on. Background threads, several at a time. The default takes every payload for good.
    static func verifySnapshot(
        position: LogPosition,
        configuration: Configuration,
        from read: (_ maxBytes: Int) throws -> [UInt8]?
    ) throws

    /// A hash of the whole state as it stands, of at most 64 bytes: the same on every replica that has applied the same entries. The
    /// nodes of a cluster compare them, and one that differs from a majority is put in quarantine; see ``Quarantine``. Nil, which is the default,
    /// for a machine that has none: nothing is compared then.
    ///
    /// Called on the Raft loop, between applies; it must be kept up with the changes, not made on request.
    func stateHash() -> [UInt8]?

    /// Recomputes the hash from what is stored, to find what was changed there by anything but ``apply(_:)``. From then on
    /// ``stateHash()`` must answer the hash of what is stored, so that the comparison with other replicas finds it, too.
    ///
    /// On a thread of its own, while all else goes on. It calls `pause` every now and then with the bytes that it has read since
    /// the last time, which waits, to keep the work slow, and answers false when it is to be given up. The default does nothing.
    func verifyState(pause: (_ bytes: Int) -> Bool) throws -> StateVerification
}

/// What ``StateMachine/apply(_:isTimeUp:)`` did.
public struct AppliedEntries<Output: Sendable>: Sendable {
    /// For the entries that were applied, from the first on; nil for those that are no commands.
    public var outputs: [Output?]
    /// What is to be done before the next entry can be applied. The node does it on a thread of its own, and then calls again. A machine that is
    /// closed waits for it to end: it should ask every few milliseconds whether it is given up. What it does must not be seen before the entry is applied.
    public var work: (@Sendable (_ isGivenUp: () -> Bool) -> Void)?

    public init(outputs: [Output?], work: (@Sendable (_ isGivenUp: () -> Bool) -> Void)? = nil) {
        self.outputs = outputs
        self.work = work
    }
}

extension StateMachine {
    public func apply(_ entries: ArraySlice<Entry>) -> [Output?] {
        var outputs: [Output?] = []
        while outputs.count < entries.count {
            let applied = apply(entries.dropFirst(outputs.count)) { false }
            outputs += applied.outputs
            applied.work? { false }
        }
        return outputs
    }

    public func apply(_ entries: ArraySlice<Entry>, isTimeUp: () -> Bool) -> AppliedEntries<Output> {
        var outputs: [Output?] = []
        repeat {
            outputs += apply(entries.dropFirst(outputs.count).prefix(16))
        } while outputs.count < entries.count && !isTimeUp()
        return AppliedEntries(outputs: outputs)
    }

    public func leadershipBegan(term: Term) {}

    public func leadershipEnded() {}

    public func prepare(_ command: inout [UInt8]) {}

    public static func verifySnapshot(
        position: LogPosition,
        configuration: Configuration,
        from read: (_ maxBytes: Int) throws -> [UInt8]?
    ) throws {}

    public func stateHash() -> [UInt8]? { nil }

    public func verifyState(pause: (_ bytes: Int) -> Bool) throws -> StateVerification { .sound }
}

/// What ``StateMachine/verifyState(pause:)`` found.
public enum StateVerification: Hashable, Sendable {
    case sound
    /// What is stored does not make the hash that was kept; what is known of it, for people.
    case differs(String)
    /// It was given up.
    case interrupted
}

/// What ``StateMachine/writeSnapshot(to:)`` throws when what is stored does not make the hash of the state.
public struct StateDifferenceError: Error, Hashable, Sendable, CustomStringConvertible {
    public var description: String

    public init(_ description: String) { self.description = description }
}

/// That a file system, a quota or a map has no room for what was to be written. Nothing is lost, and the same may be tried again.
public struct NoRoomError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Which directory has no room, and how much it needs.
    public var description: String

    public init(_ description: String) { self.description = description }
}

extension StateMachine {
    public func scrub(behind key: [UInt8]?, milliseconds: Int) throws -> [UInt8]? { nil }
}
