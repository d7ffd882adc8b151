public import KeyValue
public import NIOCore
internal import Synchronization

extension KeyValueNode {
    /// Watches a key or a prefix, from `revision` on (excluded), or from now on.
    ///
    /// - Parameters:
    ///   - revision: may lie ahead of what this node has applied: then it begins when the node is there.
    ///   - onReady: called on `eventLoop` when ``Watch/take(maximumEvents:)`` has something again: after the beginning, and after it took all.
    /// - Throws: ``Watch/End/compacted(compactRevision:)`` when the history does not reach back so far, ``Watch/End/failed(_:resumeAfter:)``
    ///   when the node takes no watches now.
    public func watch(
        _ filter: EventFilter,
        after revision: UInt64? = nil,
        eventLoop: any EventLoop,
        onReady: @escaping @Sendable () -> Void
    ) throws(Watch.End) -> Watch {
        let hub = filter.space == .keys ? keyWatches : lockWatches
        return try hub.watch(filter, after: revision, eventLoop: eventLoop, onReady: onReady)
    }

    /// How many watches there are.
    public var watchCount: Int { keyWatches.count + lockWatches.count }

    /// Waits for the first events after `revision`.
    ///
    /// - Parameter completion: called once, on `eventLoop`: with the events of a revision or more, or with none when the time was up first.
    /// - Returns: what ends the waiting without an answer, for a client that went away.
    public func firstEvents(
        _ filter: EventFilter,
        after revision: UInt64,
        deadline: NIODeadline,
        eventLoop: any EventLoop,
        completion: @escaping @Sendable (Result<Watch.Batch, Watch.End>) -> Void
    ) -> LongPoll {
        let poll = LongPoll(timers, completion)
        do throws(Watch.End) {
            let watch = try watch(filter, after: revision, eventLoop: eventLoop) { poll.look() }
            poll.begin(watch, deadline: deadline)
        } catch {
            eventLoop.execute { poll.finish(.failure(error)) }
        }
        return poll
    }
}

/// Somebody who waits for the next change.
public final class LongPoll: Sendable {
    private struct State {
        var watch: Watch?
        var timer: SharedTimers.Timer?
        var completion: (@Sendable (Result<Watch.Batch, Watch.End>) -> Void)?
    }

    private let state: Mutex<State>
    private let timers: SharedTimers

    init(_ timers: SharedTimers, _ completion: @escaping @Sendable (Result<Watch.Batch, Watch.End>) -> Void) {
        self.timers = timers
        state = Mutex(State(completion: completion))
    }

    /// Ends it without an answer. Any thread.
    public func cancel() { _ = end() }

    func begin(_ watch: Watch, deadline: NIODeadline) {
        let isOver = state.withLock { state -> Bool in
            guard state.completion != nil else { return true }
            state.watch = watch
            return false
        }
        guard !isOver else { return watch.cancel() }
        // It may have been told before it knew of its watch.
        watch.eventLoop.execute { self.look() }
        let timer = timers.schedule(at: deadline) { watch.eventLoop.execute { self.giveUp() } }
        let isWaiting = state.withLock { state -> Bool in
            guard state.completion != nil else { return false }
            state.timer = timer
            return true
        }
        if !isWaiting { timers.cancel(timer) }
    }

    func look() {
        guard let watch = state.withLock({ $0.watch }) else { return }
        let batch = watch.take()
        if !batch.events.isEmpty {
            finish(.success(batch))
        } else if let end = batch.end {
            finish(.failure(end))
        }
    }

    func giveUp() {
        guard let watch = state.withLock({ $0.watch }) else { return }
        finish(.success(watch.take()))
    }

    func finish(_ result: Result<Watch.Batch, Watch.End>) { end()?(result) }

    private func end() -> (@Sendable (Result<Watch.Batch, Watch.End>) -> Void)? {
        let before = state.withLock { state in
            defer { state = State() }
            return state
        }
        before.watch?.cancel()
        if let timer = before.timer { timers.cancel(timer) }
        return before.completion
    }
}
