public import KeyValue
internal import NIOCore
internal import Synchronization

/// One reader of the changes of a key, or of all keys with a prefix; made by ``KeyValueNode/watch(_:after:eventLoop:onReady:)``.
///
/// The reader takes what there is when it can use it. What it does not take waits in a small buffer, and beyond that in the node's
/// history, not in memory. Every event after the start comes exactly once, in the order of the revisions.
public final class Watch: Sendable {
    /// Why a watch is over, or cannot begin.
    public enum End: Error, Hashable, Sendable {
        /// The history after the watch's position is gone: reads at `compactRevision` and above are possible, and events after it.
        case compacted(compactRevision: UInt64)
        /// The reader left its buffer full for too long: a new watch may go on after `revision`.
        case tooSlow(resumeAfter: UInt64)
        /// The node cannot serve it any more, for the reason that the error tells: a new watch may go on after `revision`, on another node.
        case failed(ServiceError, resumeAfter: UInt64)
    }

    /// What was taken.
    public struct Batch: Sendable {
        /// In the order of their revisions, those of one revision in the order of their keys; all those of a revision in one batch.
        public var events: [Event]
        /// Every event up to here is in this batch or was in one before it: a watch that resumes goes on after it.
        public var through: UInt64
        /// Set when nothing comes any more.
        public var end: End?
    }

    struct State {
        /// Whole revisions.
        var events: [Event] = []
        var bytes = 0
        /// All events up to here are in the buffer or were taken.
        var position: UInt64
        /// All events up to here were taken.
        var taken: UInt64
        /// Fed by what is applied, not by reading the history.
        var isLive = false
        /// It waits for its next page of the history.
        var isQueued = true
        /// Where the hub stood when the buffer had no more room and nothing was taken since.
        var stalledAt: UInt64?
        var end: End?
        /// Cancelled, or its end was taken.
        var isOver = false
        /// The reader was told that there is something, and has not taken all.
        var isAnnounced = false
    }

    /// What it is of.
    public let filter: EventFilter
    /// The revision behind which it began.
    public let start: UInt64
    let number: UInt64
    let eventLoop: any EventLoop
    private let onReady: @Sendable () -> Void
    let state: Mutex<State>
    private let hub: WatchHub

    init(
        number: UInt64,
        filter: EventFilter,
        start: UInt64,
        eventLoop: any EventLoop,
        onReady: @escaping @Sendable () -> Void,
        hub: WatchHub
    ) {
        self.number = number
        self.filter = filter
        self.start = start
        self.eventLoop = eventLoop
        self.onReady = onReady
        self.hub = hub
        state = Mutex(State(position: start, taken: start))
    }

    /// Takes what waits, at most `maximumEvents` (but all of a revision). After a batch that took everything, and after an empty one, `onReady`
    /// is called when there is more. Any thread, one at a time.
    public func take(maximumEvents: Int = .max) -> Batch {
        // Read before the buffer: what was live up to here is in the buffer by then.
        let live = hub.position
        var freed = 0
        var wantsMore = false
        let batch = state.withLock { state -> Batch in
            let events = state.takeEvents(maximumEvents)
            freed = events.reduce(0) { $0 + $1.size }
            state.bytes -= freed
            if !events.isEmpty { state.stalledAt = nil }
            guard state.events.isEmpty else {
                state.taken = events.last?.revision ?? state.taken
                return Batch(events: events, through: state.taken, end: nil)
            }
            if state.isLive { state.position = max(state.position, live) }
            state.taken = state.position
            state.isAnnounced = false
            state.isOver = state.isOver || state.end != nil
            if !state.isLive, !state.isQueued, !state.isOver {
                state.isQueued = true
                wantsMore = true
            }
            return Batch(events: events, through: state.taken, end: state.end)
        }
        hub.freed(freed)
        // The history goes on where the buffer ended.
        if wantsMore { hub.queue(self) }
        return batch
    }

    /// Up to which revision the reader has everything, for progress events: it moves on while other keys change. Any thread.
    public var progress: UInt64 {
        let live = hub.position
        return state.withLock { state in
            guard state.events.isEmpty else { return state.taken }
            if state.isLive { state.position = max(state.position, live) }
            state.taken = state.position
            return state.taken
        }
    }

    /// Ends it. Any thread; `onReady` may be under way meanwhile, unless this is called on the watch's event loop.
    public func cancel() {
        let bytes = state.withLock { state in
            defer { (state.events, state.bytes) = ([], 0) }
            state.isOver = true
            return state.bytes
        }
        hub.freed(bytes)
        hub.remove(self)
    }

    // MARK: For the hub

    enum Admission {
        /// The reader must be told.
        case announce
        case silent
        /// The buffer has no room: the watch is not live any more, and reads the history when the reader has taken what there is.
        case full
    }

    /// Takes in all events of one revision that it is of, as long as it is live.
    func offer(_ events: [Event], revision: UInt64, bounds: WatchHub.Options, isTight: Bool) -> Admission {
        let bytes = events.reduce(0) { $0 + $1.size }
        let admission = state.withLock { state -> Admission in
            guard state.isLive, !state.isOver, state.end == nil, revision > state.position else { return .silent }
            let isFull =
                state.events.count + events.count > bounds.maximumBufferedEvents
                || state.bytes + bytes > bounds.maximumBufferedBytes || isTight
            if isFull, !state.events.isEmpty {
                state.position = revision - 1
                state.isLive = false
                state.stalledAt = revision
                return .full
            }
            state.fill(with: events, bytes)
            state.position = revision
            return state.announce() ? .announce : .silent
        }
        if case .full = admission {} else { hub.buffered(bytes) }
        return admission
    }

    /// Takes in a page of the history. Answers whether the reader must be told, and whether it needs a next page at once.
    func append(_ page: EventPage) -> (announces: Bool, needsMore: Bool) {
        let bytes = page.events.reduce(0) { $0 + $1.size }
        let isTaken = state.withLock { state -> (announces: Bool, needsMore: Bool)? in
            guard !state.isOver, state.end == nil else { return nil }
            state.fill(with: page.events, bytes)
            state.position = max(state.position, page.through)
            return (state.announce(), page.events.isEmpty)
        }
        guard let isTaken else { return (false, false) }
        hub.buffered(bytes)
        return isTaken
    }

    /// Whether the reader must be told.
    func finish(_ reason: (State) -> End) -> Bool {
        var dropped = 0
        let announces = state.withLock { state -> Bool in
            guard !state.isOver, state.end == nil else { return false }
            let end = reason(state)
            state.end = end
            state.isLive = false
            if case .tooSlow = end {
                // What it did not take goes: it is read again by whoever resumes.
                (dropped, state.bytes, state.events) = (state.bytes, 0, [])
                state.position = state.taken
            }
            defer { state.isAnnounced = true }
            return !state.isAnnounced
        }
        hub.freed(dropped)
        return announces
    }

    /// On the watch's event loop.
    func announce() {
        guard state.withLock({ !$0.isOver }) else { return }
        onReady()
    }
}

extension Watch.State {
    fileprivate mutating func fill(with more: [Event], _ size: Int) {
        if events.isEmpty { events = more } else { events += more }
        bytes += size
    }

    fileprivate mutating func announce() -> Bool {
        guard !events.isEmpty, !isAnnounced else { return false }
        isAnnounced = true
        return true
    }

    fileprivate mutating func takeEvents(_ maximum: Int) -> [Event] {
        guard events.count > maximum else {
            defer { events = [] }
            return events
        }
        var count = max(1, maximum)
        let revision = events[count - 1].revision
        while count < events.count, events[count].revision == revision { count += 1 }
        defer { events.removeFirst(count) }
        return Array(events[..<count])
    }
}

extension Event {
    /// What it counts against bounds in bytes.
    var size: Int {
        128 + item.key.count + item.value.count + (previous.map { 64 + $0.key.count + $0.value.count } ?? 0)
    }
}
