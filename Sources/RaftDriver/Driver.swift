internal import DequeModule
package import Raft

/// Everything that decides what is done when, without doing it: the core, and around it the order of sends, the entries that are to be
/// fetched or applied, and when to flush, snapshot, trim and promote. The shell moves bytes; a simulator can drive this alone.
package struct Driver: Sendable {
    package enum Fetch: Hashable, Sendable {
        case apply
        case append(ServerID)
    }

    /// What the shell is to do, field by field in this order.
    package struct Actions: Sendable {
        package var halt: Violation?
        package var writes: [StorageWrite] = []
        package var messages: [Message] = []
        /// Read these entries from storage and answer with ``Driver/fetched(_:entries:into:)``.
        package var fetches: [(purpose: Fetch, range: ClosedRange<LogIndex>, maxBytes: Int)] = []
        package var outcomes: [Outcome] = []
        /// Apply to the machine now, then ``Driver/applied(_:bytes:unflushedBytes:into:)``.
        package var apply: [Entry] = []
        /// Send the newest snapshot, which reaches that far, then say `Event.snapshotSent`.
        package var snapshotSends: [SnapshotSend] = []
        package var restore: LogBase?
        /// Make the machine's state durable, then ``Driver/flushed(_:)``.
        package var flush = false
        /// Make the machine's state durable and write a snapshot of it, then ``Driver/snapshotTaken(_:bytes:into:)``.
        package var takeSnapshot = false

        package init() {}

        /// Whether there is nothing to do, but perhaps to halt.
        package var isIdle: Bool {
            writes.isEmpty && messages.isEmpty && fetches.isEmpty && outcomes.isEmpty && apply.isEmpty
                && snapshotSends.isEmpty && restore == nil && !flush && !takeSnapshot
        }
    }

    package private(set) var core: Core
    package let options: DriverOptions
    private var cache: EntryCache
    private var deferred: [DeferredMessage] = []
    private var persisted: WriteSequence = 0
    /// Appends per follower that wait for entries from storage; the first one's are being fetched.
    private var waitingAppends: [ServerID: Deque<AppendOrder>] = [:]  // looked up by identity, never iterated

    private var applyTarget: LogIndex
    /// The last index handed to the shell for the apply.
    private var applyGiven: LogIndex
    private var isFetchingApply = false
    private var isRestoring = false
    /// A restore that begins when this write is durable: then a crash finds a log that begins at the snapshot, in either order.
    private var pendingRestore: (base: LogBase, after: WriteSequence)?

    private var tick: UInt64 = 0
    /// Durable in the machine.
    package private(set) var durableIndex: LogIndex
    /// Whether this server has been close behind its leader, and is not far behind it since; see ``lag``.
    package private(set) var keepsUp = false
    private var oldestUnflushedTick: UInt64?
    private var unflushedBytes = 0
    /// A flush, a snapshot or a restore is under way in the background.
    private var isBackgroundBusy = false
    package private(set) var snapshotIndex: LogIndex
    private var snapshotBytes: Int
    private var bytesSinceSnapshot = 0
    private var isSnapshotWanted = false
    /// The learner whose promotion was asked for last, and when that is tried again.
    private var promotionTried: ServerID?
    private var promotionTick: UInt64 = 0
    /// When what lacked room is tried again.
    private var flushRetry = Retry()
    private var snapshotRetry = Retry()
    private var snapshotSchedule = SnapshotSchedule()
    /// Set by the shell while there is no room for more: new commands are refused.
    package var lacksRoom = false

    package init(core: Core, options: DriverOptions, snapshotIndex: LogIndex, snapshotBytes: Int) {
        self.core = core
        self.options = options
        self.cache = EntryCache(bound: options.cacheBytes)
        self.applyTarget = core.appliedIndex
        self.applyGiven = core.appliedIndex
        self.durableIndex = core.appliedIndex
        self.snapshotIndex = snapshotIndex
        self.snapshotBytes = snapshotBytes
        self.bytesSinceSnapshot = core.logBytes(behind: snapshotIndex, through: core.appliedIndex)
    }

    /// A snapshot is being loaded, or will be.
    package var isLoadingSnapshot: Bool { isRestoring }

    /// Ticks since the start.
    package var ticks: UInt64 { tick }

    // MARK: Inputs

    package mutating func step(_ events: [Event], into actions: inout Actions) {
        var hasTick = false
        // A follower's own disk does not keep its clients from the leader's.
        let events =
            takesCommands || !core.isLeader ? events : events.filter { !refuse($0, into: &actions) }
        for event in events {
            switch event {
            case .tick:
                tick += 1
                hasTick = true
            case .persisted(let sequence): persisted = max(persisted, sequence)
            case .restored(let index): finishRestore(index)
            case .snapshotSent(let peer, let sent):
                snapshotSchedule.ended(peer, hasArrived: sent != nil, at: tick, options)
            default: break
            }
        }
        var effects = Effects()
        core.step(events, into: &effects)
        carryOut(effects, into: &actions)
        // Of a halted core nothing is carried on either (R6).
        guard core.violation == nil || isPlanted(.haltedDriverActs) else { return }
        if !core.isLeader { snapshotSchedule.removeAll() }
        if hasTick { handleTick(into: &actions) }
        planApply(into: &actions)
    }

    /// The machine has applied what ``Actions/apply`` gave out, up to `index`.
    package mutating func applied(_ index: LogIndex, bytes: Int, unflushedBytes: Int, into actions: inout Actions) {
        self.unflushedBytes = unflushedBytes
        bytesSinceSnapshot += bytes
        if oldestUnflushedTick == nil { oldestUnflushedTick = tick }
        step([.applied(upTo: index)], into: &actions)
        cache.evict(upTo: min(core.appliedIndex, core.stableIndex))
        planBackground(into: &actions)
    }

    /// Storage answered a fetch; nil when the entries are no longer there.
    package mutating func fetched(_ purpose: Fetch, entries: [Entry]?, into actions: inout Actions) {
        switch purpose {
        case .apply:
            isFetchingApply = false
            // A restore may have moved on meanwhile.
            let isCurrent = entries?.first?.index == applyGiven + 1 && !isRestoring
            if let entries, isCurrent || isPlanted(.givesOutLateFetch) {
                giveOut(entries, into: &actions)
            }
            planApply(into: &actions)
        case .append(let peer):
            guard var waiting = waitingAppends.removeValue(forKey: peer), let order = waiting.popFirst() else { return }
            let isVoid = waiting.first.map { !$0.belongs(with: order) } ?? false
            let count = order.last - order.previous.index
            if let entries, UInt64(entries.count) == count || isPlanted(.sendsShortAppends) {
                if !isVoid { emit(order, entries: entries, into: &actions) }
            } else if !isVoid {
                // Trimmed away, or not durable yet: the core must know that nothing was sent. It begins again where the follower is known to
                // stand, so what waited behind is void, too.
                step([.unreachable(peer)], into: &actions)
                return
            }
            // What waited behind it goes now, in order, or waits for storage itself.
            for order in waiting { handle(order, into: &actions) }
        }
    }

    package mutating func flushed(_ position: LogPosition, into actions: inout Actions) {
        isBackgroundBusy = false
        flushRetry = Retry()
        noteDurable(position.index)
        if isPlanted(.trimsBeyondSnapshot) { compact(into: &actions) }
        goOn(into: &actions)
    }

    /// A snapshot file at `position` is durable, and the machine's state at `durable`: the log is trimmed below both (R8).
    package mutating func snapshotTaken(
        _ position: LogPosition,
        durable: LogPosition,
        bytes: Int,
        into actions: inout Actions
    ) {
        isBackgroundBusy = false
        isSnapshotWanted = false
        (flushRetry, snapshotRetry) = (Retry(), Retry())
        noteDurable(durable.index)
        noteSnapshot(position.index, bytes: bytes)
        compact(into: &actions)
        goOn(into: &actions)
    }

    /// There was no room to make the machine's state durable, or, where it is durable up to `position`, no snapshot could be written
    /// of it, for want of room or whatever else may pass: nothing is lost, and it is tried again after a pause.
    package mutating func lackedRoom(durable position: LogPosition?, into actions: inout Actions) {
        isBackgroundBusy = false
        if let position {
            flushRetry = Retry()
            snapshotRetry.postpone(at: tick, options)
            noteDurable(position.index)
        } else {
            flushRetry.postpone(at: tick, options)
        }
        goOn(into: &actions)
    }

    /// A leader's snapshot arrived whole and lies durable on disk.
    package mutating func snapshotReceived(_ base: LogBase, bytes: Int, from: ServerID, into actions: inout Actions) {
        if base.position.index > snapshotIndex {
            snapshotIndex = base.position.index
            snapshotBytes = bytes
        }
        step([.snapshotReceived(base, from: from)], into: &actions)
    }

    /// A `propose` message could not be handed to a live connection: its commands were certainly not executed.
    package mutating func proposalNotSent(_ message: Message, into actions: inout Actions) {
        guard case .propose(let requestID, _) = message.body else { return }
        let answer = Message(
            from: message.to,
            to: message.from,
            term: core.term,
            body: .proposeResponse(requestID: requestID, .rejected(leader: nil))
        )
        step([.message(answer)], into: &actions)
    }

    /// The newest snapshot is of no use any more; the newest that is left stands at `index`, 0 for none. Another one is taken.
    package mutating func snapshotLost(newest index: LogIndex, bytes: Int, into actions: inout Actions) {
        (snapshotIndex, snapshotBytes) = (index, bytes)
        requestSnapshot(into: &actions)
    }

    /// Takes a snapshot as soon as the background thread is free.
    package mutating func requestSnapshot(into actions: inout Actions) {
        isSnapshotWanted = true
        planBackground(into: &actions)
    }

    // MARK: Refusals

    /// Whether new commands are taken: there is room for them, and the machine's disk keeps up.
    package var takesCommands: Bool {
        !lacksRoom && unflushedBytes / options.maxUnflushedFactor < options.flushBytes
    }

    /// Refuses commands, this server's own and those that followers send; false for every other event.
    private func refuse(_ event: Event, into actions: inout Actions) -> Bool {
        switch event {
        case .propose(let batch):
            for proposal in batch {
                actions.outcomes.append(.rejected(proposal.token, .overloaded, leader: core.leaderID))
            }
            return true
        case .message(let message):
            guard case .propose(let requestID, _) = message.body, message.term <= core.term else { return false }
            // A leader without room gives way: another one may take them soon.
            let result = lacksRoom ? ProposeResult.rejected(leader: core.leaderID) : .overloaded
            let body = Message.Body.proposeResponse(requestID: requestID, result)
            actions.messages.append(Message(from: core.id, to: message.from, term: core.term, body: body))
            return true
        default: return false
        }
    }

    // MARK: Effects

    private mutating func carryOut(_ effects: Effects, into actions: inout Actions) {
        if let halt = effects.halt {
            if !isPlanted(.haltedDriverActs) { actions = Actions() }
            actions.halt = halt
            return
        }
        for write in effects.writes { cache.take(write) }
        actions.writes += effects.writes
        releaseDeferred(into: &actions)
        for outgoing in effects.messages {
            switch outgoing {
            case .message(let message): actions.messages.append(message)
            case .append(let order): handle(order, into: &actions)
            }
        }
        for message in effects.deferred {
            if message.after <= persisted { actions.messages.append(message.message) } else { deferred.append(message) }
        }
        actions.outcomes += effects.outcomes
        if let target = effects.applyUpTo { applyTarget = max(applyTarget, target) }
        if let restore = effects.restore {
            isRestoring = true
            applyTarget = restore.position.index
            applyGiven = restore.position.index
            actions.apply = []
            pendingRestore = (restore, effects.writes.last?.sequence ?? persisted)
        }
        beginRestoreWhenDurable(into: &actions)
        for send in effects.snapshotSends { handle(send, into: &actions) }
    }

    private mutating func handle(_ send: SnapshotSend, into actions: inout Actions) {
        guard snapshotIndex < send.atLeast else {
            if snapshotSchedule.admits(send, at: tick) { actions.snapshotSends.append(send) }
            return
        }
        // None reaches that far yet: have one taken, and let the follower be asked again. Nothing was sent that could have failed.
        if !isPlanted(.takesNoSnapshotOnDemand) { requestSnapshot(into: &actions) }
        var effects = Effects()
        core.step(.snapshotSent(to: send.to, sent: nil), into: &effects)
        carryOut(effects, into: &actions)
    }

    private func isAwaitingSnapshot(_ peer: ServerID) -> Bool {
        core.peerViews.contains { $0.id == peer && $0.isReceivingSnapshot }
    }

    /// The background may be busy with a flush or a snapshot of the state that is to go: the restore waits its turn.
    private mutating func beginRestoreWhenDurable(into actions: inout Actions) {
        guard let pending = pendingRestore, pending.after <= persisted || isPlanted(.restoresBeforeTheLog),
            !isBackgroundBusy || isPlanted(.restoresDuringFlush)
        else { return }
        pendingRestore = nil
        isBackgroundBusy = true
        actions.restore = pending.base
    }

    private mutating func releaseDeferred(into actions: inout Actions) {
        let durable = isPlanted(.releasesRepliesEarly) ? persisted + 1 : persisted
        guard deferred.contains(where: { $0.after <= durable }) else { return }
        for message in deferred where message.after <= durable { actions.messages.append(message.message) }
        deferred.removeAll { $0.after <= durable }
    }

    /// Sends an append with its entries, or lets it wait its turn for storage: appends to one follower stay in order.
    private mutating func handle(_ order: AppendOrder, into actions: inout Actions) {
        if let last = waitingAppends[order.to]?.last,
            !(isPlanted(.appendsOvertake) && cache.holds(order.previous.index + 1))
        {
            // The first is being fetched. What an earlier beginning left behind it is void, and would pile up with each new one.
            if !order.belongs(with: last), let count = waitingAppends[order.to]?.count {
                waitingAppends[order.to]?.removeLast(count - 1)
            }
            waitingAppends[order.to]?.append(order)
            return
        }
        if order.isEmpty {
            emit(order, entries: [], into: &actions)
        } else if cache.holds(order.previous.index + 1), cache.holds(order.last) {
            emit(order, entries: cache.slice((order.previous.index + 1)...order.last), into: &actions)
        } else {
            waitingAppends[order.to] = [order]
            actions.fetches.append((.append(order.to), (order.previous.index + 1)...order.last, .max))
        }
    }

    private func emit(_ order: AppendOrder, entries: [Entry], into actions: inout Actions) {
        // An order of an earlier term is void.
        guard core.isLeader && core.term == order.term || isPlanted(.sendsAppendsOfEarlierTerms) else { return }
        let append = Append(
            previous: order.previous,
            entries: entries,
            commit: order.commit,
            session: order.session,
            round: order.round,
            leaderLog: order.leaderLog
        )
        actions.messages.append(Message(from: core.id, to: order.to, term: order.term, body: .append(append)))
    }

    // MARK: Apply

    private mutating func planApply(into actions: inout Actions) {
        // What is applied stays in memory until it is durable there. A follower, which can refuse nothing, falls behind instead.
        guard unflushedBytes / options.maxUnflushedFactor / 2 < options.flushBytes else { return }
        guard !isRestoring || isPlanted(.appliesDuringRestore), !isFetchingApply, actions.apply.isEmpty,
            applyGiven < applyTarget, core.appliedIndex == applyGiven || isPlanted(.appliesDuringRestore)
        else { return }
        let range = (applyGiven + 1)...applyTarget
        if cache.holds(range.lowerBound) {
            giveOut(cache.slice(range, maxBytes: options.applyBytes), into: &actions)
        } else {
            isFetchingApply = true
            actions.fetches.append((.apply, range, options.applyBytes))
        }
    }

    private mutating func giveOut(_ entries: [Entry], into actions: inout Actions) {
        guard let last = entries.last else { return }
        precondition(last.index <= applyTarget, "nothing is applied before it is committed and durable")
        applyGiven = last.index
        actions.apply = entries
    }

    private mutating func finishRestore(_ index: LogIndex) {
        isRestoring = false
        isBackgroundBusy = false
        unflushedBytes = 0
        bytesSinceSnapshot = 0
        noteDurable(index)
    }

    // MARK: Background work

    private mutating func handleTick(into actions: inout Actions) {
        noteLag()
        for send in snapshotSchedule.due(at: tick) where isAwaitingSnapshot(send.to) { handle(send, into: &actions) }
        planBackground(into: &actions)
        promoteCaughtUp(into: &actions)
    }

    private mutating func noteLag() {
        guard !isRestoring, let lag else {
            keepsUp = false
            return
        }
        keepsUp = lag <= (keepsUp ? options.keptLag : options.readyLag)
    }

    /// Background work has ended: what waited for that, or for durable state, goes on.
    private mutating func goOn(into actions: inout Actions) {
        planBackground(into: &actions)
        planApply(into: &actions)
    }

    private mutating func planBackground(into actions: inout Actions) {
        beginRestoreWhenDurable(into: &actions)
        // A snapshot begins with a flush.
        guard !isBackgroundBusy, !isRestoring, tick >= flushRetry.tick else { return }
        let snapshotBound = max(options.snapshotLogBytes, Int(options.snapshotGrowth * Double(snapshotBytes)))
        // A server that was just taken in holds entries from before it knows any member: a snapshot there would have no membership.
        if isSnapshotWanted || bytesSinceSnapshot > snapshotBound, tick >= snapshotRetry.tick,
            !core.configuration(at: core.appliedIndex).isEmpty
        {
            isBackgroundBusy = true
            actions.takeSnapshot = true
        } else if unflushedBytes >= options.flushBytes || flushRetry.isPending
            || oldestUnflushedTick.map({ tick - $0 >= options.flushTicks }) ?? false
        {
            isBackgroundBusy = true
            oldestUnflushedTick = nil
            actions.flush = true
        }
    }

    private mutating func noteDurable(_ index: LogIndex) {
        durableIndex = max(durableIndex, index)
        oldestUnflushedTick = durableIndex < core.appliedIndex ? tick : nil
        if durableIndex >= core.appliedIndex { unflushedBytes = 0 }
    }

    private mutating func noteSnapshot(_ index: LogIndex, bytes: Int) {
        guard index >= snapshotIndex else { return }
        snapshotIndex = index
        snapshotBytes = bytes
        bytesSinceSnapshot = index < core.appliedIndex ? core.logBytes(behind: index, through: core.appliedIndex) : 0
    }

    /// Trims the log below the durable snapshot and the durable state (R8), but for a tail that spares slow followers a snapshot.
    private mutating func compact(into actions: inout Actions) {
        let snapshot = isPlanted(.trimsBeyondSnapshot) ? durableIndex : snapshotIndex
        let durable = isPlanted(.trimsBeyondDurableState) ? core.appliedIndex : durableIndex
        let bound = min(snapshot, durable)
        let index = core.index(leaving: options.trailingLogBytes, before: bound)
        if index > core.base.position.index { step([.compact(upTo: index)], into: &actions) }
    }

    /// A learner that has caught up becomes what its member record says, one change at a time.
    private mutating func promoteCaughtUp(into actions: inout Actions) {
        let isSettled = core.configurationIndex <= core.commitIndex || isPlanted(.changesTwiceAtOnce)
        guard core.hasCommittedInTerm, isSettled, !core.configuration.isJoint else { return }
        for view in core.peerViews {
            guard core.configuration.isLearner(view.id), let member = core.configuration.member(view.id),
                member.promotion != .manual,
                // Heard of by this leader: a new one knows nothing of a learner that may be gone, and would wait for its vote.
                view.match > 0,
                view.match + options.promotionLag >= core.lastIndex || isPlanted(.promotesLaggingLearners),
                view.ticksSinceContact <= core.options.electionTicks,
                // What did not come about is tried again after a while; others need not wait for that.
                view.id != promotionTried || tick >= promotionTick
            else { continue }
            promotionTried = view.id
            promotionTick = tick + core.options.electionTicks
            if let target = core.configuration.promoting(member) {
                step([.changeMembership(Driver.internalToken, to: target)], into: &actions)
            }
            return
        }
    }

    /// The token of requests that the driver makes itself; nobody waits for them.
    package static let internalToken: Token = 0
}
