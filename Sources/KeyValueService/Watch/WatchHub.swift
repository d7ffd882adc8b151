internal import KeyValue
internal import NIOCore
internal import NIOPosix
internal import Synchronization

/// Feeds the watches of one kind of keys, on threads that may block.
///
/// Those that are up to date are live: what was applied is read once for all of them and handed to those whose keys changed. The others
/// read pages of the history, each for itself and in turn, until they are where the live ones are. `horizon` is what keeps both
/// together: everything up to it was handed to the live ones or is about to be; who joins them stands at it or beyond,
/// and is not handed again what it has.
final class WatchHub: Sendable {
    struct Options: Hashable, Sendable {
        var maximumWatches = 20_000
        /// What waits for one reader, unless one revision alone has more.
        var maximumBufferedEvents = 128
        var maximumBufferedBytes = 256 << 10
        /// What waits for all readers together, above which each has one revision in memory at most.
        var maximumTotalBytes = 128 << 20
        /// How far the state may move on while a reader leaves its full buffer as it is.
        var maximumLag: UInt64 = 100_000
    }

    private struct State {
        /// The live ones.
        var index = WatchIndex()
        /// All.
        var watches: [UInt64: Watch] = [:]
        var nextNumber: UInt64 = 1
        var horizon: UInt64 = 0
        /// Those that wait for a page of the history.
        var queue: [Watch] = []
        var isReading = false
        var isClosed = false
        /// Those with full buffers.
        var stalled: [UInt64: Watch] = [:]
    }

    private enum Pump { static let idle = 0, running = 1, wanted = 2 }

    private let space: EventFilter.Space
    private let store: Store
    private let options: Options
    /// Why nothing must be told from the state now; nil as a rule.
    private let obstacle: @Sendable () -> ServiceError?
    private let state = Mutex(State())
    /// Of each event loop the one that tells its watches; each keeps its loop.
    private let announcers = Mutex<[ObjectIdentifier: WatchAnnouncer]>([:])
    private let pump = Atomic(Pump.idle)
    private let liveCount = Atomic(0)
    private let handedOut = Atomic<UInt64>(0)
    private let totalBytes = Atomic(0)

    init(
        space: EventFilter.Space,
        store: Store,
        options: Options,
        obstacle: @escaping @Sendable () -> ServiceError?
    ) {
        self.space = space
        self.store = store
        self.options = options
        self.obstacle = obstacle
    }

    /// Everything up to here was handed to the live ones.
    var position: UInt64 { handedOut.load(ordering: .acquiring) }

    var count: Int { state.withLock { $0.watches.count } }

    var bufferedBytes: Int { totalBytes.load(ordering: .relaxed) }

    func buffered(_ bytes: Int) { totalBytes.add(bytes, ordering: .relaxed) }

    func freed(_ bytes: Int) { totalBytes.subtract(bytes, ordering: .relaxed) }

    // MARK: Beginning and ending

    func watch(
        _ filter: EventFilter,
        after revision: UInt64?,
        eventLoop: any EventLoop,
        onReady: @escaping @Sendable () -> Void
    ) throws(Watch.End) -> Watch {
        let start = revision ?? store.mark.revision
        if let error = obstacle() { throw .failed(error, resumeAfter: start) }
        let compact = store.compactRevision
        if start < compact { throw .compacted(compactRevision: compact) }
        let made = state.withLock { state -> Result<Watch, ServiceError> in
            if state.isClosed { return .failure(ServiceError(.shuttingDown)) }
            guard state.watches.count < options.maximumWatches else { return .failure(ServiceError(.overloaded)) }
            let watch = Watch(
                number: state.nextNumber,
                filter: filter,
                start: start,
                eventLoop: eventLoop,
                onReady: onReady,
                hub: self
            )
            state.nextNumber += 1
            state.watches[watch.number] = watch
            return .success(watch)
        }
        switch made {
        case .success(let watch):
            queue(watch)
            return watch
        case .failure(let error): throw .failed(error, resumeAfter: start)
        }
    }

    func remove(_ watch: Watch) {
        state.withLock { state in
            state.watches[watch.number] = nil
            state.stalled[watch.number] = nil
            if state.index.remove(watch) { liveCount.subtract(1, ordering: .relaxed) }
        }
    }

    /// Ends all watches, and refuses new ones.
    func close() {
        state.withLock { $0.isClosed = true }
        endAll(ServiceError(.shuttingDown))
    }

    private func endAll(_ error: ServiceError) {
        let all = state.withLock { Array($0.watches.values) }
        end(all) { .failed(error, resumeAfter: $0.position) }
    }

    private func end(_ watches: [Watch], _ reason: (Watch.State) -> Watch.End) {
        var told: [Watch] = []
        for watch in watches {
            if watch.finish(reason) { told.append(watch) }
            remove(watch)
        }
        announce(told)
    }

    private func announce(_ watches: [Watch]) {
        guard !watches.isEmpty else { return }
        for group in Dictionary(grouping: watches, by: { ObjectIdentifier($0.eventLoop) }).values {
            let loop = group[0].eventLoop
            announcers.withLock { announcers in
                let announcer = announcers[ObjectIdentifier(loop)] ?? WatchAnnouncer(eventLoop: loop)
                announcers[ObjectIdentifier(loop)] = announcer
                return announcer
            }.announce(group)
        }
    }

    // MARK: Live

    /// Something was applied. Never waits; any thread.
    func wake() {
        guard liveCount.load(ordering: .sequentiallyConsistent) > 0 else { return }
        guard pump.exchange(Pump.wanted, ordering: .sequentiallyConsistent) == Pump.idle else { return }
        NIOThreadPool.singleton.submit { _ in self.runPump() }
    }

    private func runPump() {
        while true {
            pump.store(Pump.running, ordering: .sequentiallyConsistent)
            while pumpPage() {}
            endStalled()
            let (isDone, _) = pump.compareExchange(
                expected: Pump.running,
                desired: Pump.idle,
                ordering: .sequentiallyConsistent
            )
            if isDone { return }
        }
    }

    /// Hands one page of events to the live ones. False when there is nothing more.
    private func pumpPage() -> Bool {
        if let error = obstacle() {
            endAll(error)
            return false
        }
        let (from, hasLive, hasWishes) = state.withLock {
            ($0.horizon, !$0.index.isEmpty, $0.index.wantingPrevious > 0)
        }
        guard hasLive, store.mark.revision > from else { return false }
        let page: EventPage
        // Of which events it was read what was there before: it may cost a read of the disk for each.
        var withPrevious: [Bool] = []
        do {
            let filter = EventFilter(.prefix([]), space: space)
            page = try store.events(after: from, filter, maximumEvents: 1_000, maximumBytes: 1 << 20) { key in
                let isWanted = hasWishes && self.state.withLock { $0.index.wantsPrevious(of: key) }
                withPrevious.append(isWanted)
                return isWanted
            }
        } catch let error as HistoryError {
            sendLiveBack(error)
            return false
        } catch {
            // The node is about to stop: its state cannot be read.
            endAll(ServiceError(.quarantined))
            return false
        }
        let isWhole = state.withLock { state -> Bool in
            // While the page was read, one may have joined that wants what was there before: then it is read again, with that.
            let isMissing = zip(page.events, withPrevious).contains { event, isRead in
                !isRead && state.index.wantsPrevious(of: event.item.key)
            }
            if isMissing { return false }
            state.horizon = max(state.horizon, page.through)
            return true
        }
        guard isWhole else { return true }
        var position = page.events.startIndex
        while position < page.events.endIndex {
            let revision = page.events[position].revision
            let end = page.events[position...].firstIndex { $0.revision != revision } ?? page.events.endIndex
            handOut(page.events[position..<end], revision)
            position = end
        }
        handedOut.max(page.through, ordering: .releasing)
        return page.through > from
    }

    private func handOut(_ events: ArraySlice<Event>, _ revision: UInt64) {
        var told: [Watch] = []
        var full: [Watch] = []
        let isTight = bufferedBytes > options.maximumTotalBytes
        func offer(_ watch: Watch, _ events: [Event]) {
            let events = watch.filter.withPrevious ? events : events.map(\.withoutPrevious)
            switch watch.offer(events, revision: revision, bounds: options, isTight: isTight) {
            case .announce: told.append(watch)
            case .silent: break
            case .full: full.append(watch)
            }
        }
        state.withLock { state in
            if events.count == 1, let event = events.first {
                state.index.forEach(of: event.item.key) { offer($0, [event]) }
            } else {
                var shares: [UInt64: (watch: Watch, events: [Event])] = [:]
                for event in events {
                    state.index.forEach(of: event.item.key) { watch in
                        shares[watch.number, default: (watch, [])].events.append(event)
                    }
                }
                for share in shares.values { offer(share.watch, share.events) }
            }
            for watch in full {
                if state.index.remove(watch) { liveCount.subtract(1, ordering: .relaxed) }
                if state.watches[watch.number] != nil { state.stalled[watch.number] = watch }
            }
        }
        announce(told)
        // The reader may have taken all between then and now, when nobody was to queue it yet.
        for watch in full { requeue(watch) }
    }

    /// The events behind the horizon are not to be had, after a restore: each looks for itself.
    private func sendLiveBack(_ error: HistoryError) {
        let revision = store.mark.revision
        let live = state.withLock { state -> [Watch] in
            let live = state.index.all
            for watch in live where state.index.remove(watch) { liveCount.subtract(1, ordering: .relaxed) }
            for watch in live {
                watch.state.withLock { watch in
                    // What was live had everything up to the horizon.
                    watch.position = max(watch.position, state.horizon)
                    watch.isLive = false
                }
            }
            state.horizon = max(state.horizon, revision)
            return live
        }
        handedOut.max(revision, ordering: .releasing)
        for watch in live { requeue(watch) }
    }

    private func endStalled() {
        let horizon = state.withLock { $0.stalled.isEmpty ? nil : $0.horizon }
        guard let horizon else { return }
        let late = state.withLock { state -> [Watch] in
            var late: [Watch] = []
            for (number, watch) in state.stalled {
                let stalledAt = watch.state.withLock { $0.stalledAt }
                guard let stalledAt else {
                    state.stalled[number] = nil
                    continue
                }
                if horizon > stalledAt, horizon - stalledAt > options.maximumLag { late.append(watch) }
            }
            return late
        }
        end(late) { .tooSlow(resumeAfter: $0.taken) }
    }

    // MARK: Catching up

    /// Has the watch read its next page, when nothing waits for its reader.
    private func requeue(_ watch: Watch) {
        let isDue = watch.state.withLock { state -> Bool in
            guard state.events.isEmpty, !state.isLive, !state.isQueued, !state.isOver else { return false }
            state.isQueued = true
            return true
        }
        if isDue { queue(watch) }
    }

    /// `watch` is marked as queued.
    func queue(_ watch: Watch) {
        let begins = state.withLock { state -> Bool in
            guard !state.isClosed else { return false }
            state.queue.append(watch)
            defer { state.isReading = true }
            return !state.isReading
        }
        if begins { NIOThreadPool.singleton.submit { _ in self.runReader() } }
    }

    private func runReader() {
        while true {
            let round = state.withLock { state -> [Watch] in
                defer { state.queue = [] }
                if state.queue.isEmpty { state.isReading = false }
                return state.queue
            }
            if round.isEmpty { return }
            for watch in round { readPage(for: watch) }
        }
    }

    private func readPage(for watch: Watch) {
        let position = watch.state.withLock { $0.isOver ? nil : $0.position }
        guard let position else { return }
        if let error = obstacle() { return end([watch]) { .failed(error, resumeAfter: $0.position) } }
        let page: EventPage
        do {
            page = try store.events(
                after: position,
                watch.filter,
                maximumEvents: min(options.maximumBufferedEvents, 64),
                maximumBytes: options.maximumBufferedBytes
            )
        } catch HistoryError.compacted(let revision) {
            return end([watch]) { _ in .compacted(compactRevision: revision) }
        } catch HistoryError.future(let revision) {
            // It begins behind what this node has applied.
            page = EventPage(events: [], through: position, mark: StateMark(revision: revision))
        } catch {
            return end([watch]) { .failed(ServiceError(.quarantined), resumeAfter: $0.position) }
        }
        let (announces, isEmpty) = watch.append(page)
        if announces { announce([watch]) }
        if !join(watch), isEmpty {
            queue(watch)
        } else {
            watch.state.withLock { $0.isQueued = false }
            requeue(watch)
        }
    }

    /// Makes it live if it stands where the live ones do.
    private func join(_ watch: Watch) -> Bool {
        let isLive = state.withLock { state -> Bool in
            let horizon = state.horizon
            let position = watch.state.withLock { watch -> UInt64? in
                guard !watch.isOver, watch.end == nil, watch.position >= horizon else { return nil }
                watch.isLive = true
                return watch.position
            }
            guard let position else { return watch.state.withLock { $0.isOver || $0.end != nil } }
            guard state.watches[watch.number] != nil else { return true }
            // Without live ones it stood still.
            if state.index.isEmpty { state.horizon = max(horizon, min(position, store.mark.revision)) }
            state.index.insert(watch)
            liveCount.add(1, ordering: .sequentiallyConsistent)
            return true
        }
        if isLive { wake() }
        return isLive
    }
}

extension Event {
    var withoutPrevious: Event { previous == nil ? self : Event(revision: revision, kind: kind, item: item) }
}
