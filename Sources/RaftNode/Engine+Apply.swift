internal import NIOCore
internal import Raft
internal import RaftDriver
internal import RaftStorage
internal import Synchronization

/// Committed entries are applied on the loop in slices of milliseconds, between which messages, heartbeats and reads go on.
extension Engine {
    /// What was given out to be applied and is not yet.
    struct Applying {
        var rest: ArraySlice<Entry> = []
        /// Ends what is done for the next entry on another thread; nil while nothing is.
        var work: Work?
        var isScheduled = false
        /// How long the loop has been applying since it last looked for events.
        var unpaused = Duration.zero
    }

    /// What an entry needs before it can be applied.
    final class Work: Sendable {
        private let givenUp = Atomic(false)

        var isGivenUp: Bool { givenUp.load(ordering: .relaxed) }

        func giveUp() { givenUp.store(true, ordering: .relaxed) }
    }

    /// How long the loop applies before it looks for other events.
    private static var slice: Duration { .milliseconds(4) }
    /// A task without a delay would run before any event does.
    private static var pause: TimeAmount { .microseconds(50) }

    /// Applies entries, beginning in a task of its own: those that flush what was sent in this step stand before it.
    func beginApply(_ entries: [Entry]) {
        precondition(applying.rest.isEmpty, "no second apply begins while one is under way")
        applying.rest = entries[...]
        scheduleSlice()
    }

    /// Nothing more is applied of what was given out.
    func giveUpApply() {
        applying.work?.giveUp()
        applying.work = nil
        applying.rest = []
    }

    private func scheduleSlice() {
        guard !applying.isScheduled else { return }
        applying.isScheduled = true
        if applying.unpaused < Self.slice {
            loop.execute { self.applySlice() }
        } else {
            applying.unpaused = .zero
            loop.scheduleTask(in: Self.pause) { self.applySlice() }
        }
    }

    private func applySlice() {
        applying.isScheduled = false
        guard isRunning, applying.work == nil, !applying.rest.isEmpty else { return }
        holdingLoop {
            let start = ContinuousClock.now
            let end = start + Self.slice - applying.unpaused
            let applied = applyNoting(applying.rest) { ContinuousClock.now >= end }
            // A machine that fails may end the node meanwhile.
            guard isRunning else { return }
            settle(applied)
            applying.unpaused += start.duration(to: .now)
            guard isRunning, !applying.rest.isEmpty else { return }
            if let work = applied.work { begin(work) } else { scheduleSlice() }
        }
    }

    private func settle(_ applied: AppliedEntries<Machine.Output>) {
        let entries = applying.rest.prefix(applied.outputs.count)
        precondition(applied.outputs.count == entries.count, "a machine answers one element for each entry")
        guard let last = entries.last else { return }
        applying.rest = applying.rest.dropFirst(entries.count)
        let keeps = driver.core.awaitsForwardedProposals
        var bytes = 0
        for (entry, output) in zip(entries, applied.outputs) {
            bytes += entry.size
            guard let output, let token = answers.applied(entry.position, output, keeps: keeps) else { continue }
            finish(token, .applied(output, at: entry.position))
        }
        act { $0.applied(last.index, bytes: bytes, unflushedBytes: machine.unflushedBytes, into: &$1) }
    }

    /// Does on another thread what the next entry needs, and goes on with that entry.
    private func begin(_ body: @escaping @Sendable (_ isGivenUp: () -> Bool) -> Void) {
        let work = Work()
        applying.work = work
        let isQueued = applier.submit {
            body { work.isGivenUp }
            self.loop.execute { self.end(work) }
        }
        // Much was given up that has not ended yet.
        if !isQueued { loop.scheduleTask(in: .milliseconds(10)) { self.end(work) } }
    }

    private func end(_ work: Work) {
        guard applying.work === work else { return }
        applying.work = nil
        scheduleSlice()
    }
}
