internal import Glibc
internal import KeyValue
internal import Raft
package import RaftNode
internal import RaftStorage
internal import Synchronization

/// Puts what a node does, promises and acknowledges into the trace of the preloaded recorder, in its exact place.
package final class Notes: Sendable {
    private struct State {
        var shape = LogShape()
        var term: Term = 0
        var vote: HardState?
        var match: LogIndex = 0
    }

    /// Other servers of the run only fill the book.
    private let isSubject: Bool
    private let book: EntryBookWriter
    private let state = Mutex(State())

    package init(isSubject: Bool, book: EntryBookWriter) {
        self.isSubject = isSubject
        self.book = book
    }

    /// For the node's options.
    package var observer: NodeObserver {
        NodeObserver(
            recovered: { [self] in recovered($0) },
            writes: { [self] in write($0) },
            sends: { [self] in send($0) }
        )
    }

    /// A client is about to be told that its command is done, and what came of it.
    func acknowledge(_ position: LogPosition, _ answer: KeyValue.Outcome) {
        note("ack \(position.index) \(position.term) \(answer.hexadecimal)")
    }

    private func recovered(_ found: Recovered) {
        let shape = LogShape(found)
        state.withLock { $0 = State(shape: shape, match: shape.base.index) }
        let (hard, identity) = (shape.hardState, found.identity)
        note(
            "recovered \(hard.term) \(hard.vote?.rawValue ?? 0) \(shape.base.index) \(shape.base.term) "
                + "\(shape.last.index) \(shape.last.term) \(identity.serverID.rawValue) \(identity.clusterID.rawValue)"
        )
    }

    private func write(_ write: StorageWrite) {
        let note = WriteNote(write)
        var before = note
        before.appendedTerms = []
        let previous = state.withLock { state in
            var cut = state.shape
            cut.apply(before)
            // A trim in the same write may go beyond what is there without the new entries.
            let previous = cut.last.term
            state.shape.apply(note)
            return previous
        }
        if !write.append.isEmpty { book.add(write.append, after: previous) }
        self.note(note.text)
    }

    private func send(_ message: Message) {
        guard isSubject else { return }
        switch message.body {
        case .preVoteRequest, .preVoteResponse: return
        case .voteRequest: vote(HardState(term: message.term, vote: message.from))
        case .voteResponse(granted: true): vote(HardState(term: message.term, vote: message.to))
        case .appendResponse(let response):
            term(message.term)
            if case .accepted(let match) = response.result { self.match(match) }
        default: term(message.term)
        }
    }

    private func term(_ term: Term) {
        let isNew = state.withLock { state in
            defer { state.term = max(state.term, term) }
            return term > state.term
        }
        if isNew { note("term \(term)") }
    }

    private func vote(_ vote: HardState) {
        term(vote.term)
        let isNew = state.withLock { state in
            defer { state.vote = vote }
            return state.vote != vote
        }
        if isNew { note("vote \(vote.term) \(vote.vote?.rawValue ?? 0)") }
    }

    private func match(_ match: LogIndex) {
        let isNew = state.withLock { state in
            defer { state.match = match }
            return state.match != match
        }
        if isNew { note("match \(match)") }
    }

    private func note(_ text: String) { if isSubject { Self.recorder?(text) } }

    /// The recorder's own function; nil when it is not preloaded.
    private static let recorder: (@convention(c) (UnsafePointer<CChar>) -> Void)? = {
        // RTLD_DEFAULT is the null handle.
        dlsym(nil, "disk_recorder_note").map {
            unsafeBitCast($0, to: (@convention(c) (UnsafePointer<CChar>) -> Void).self)
        }
    }()
}
