internal import Raft

extension SmallWorld {
    /// A log from index 1 on, together with the hard state: what a disk holds, or what it will hold when all is
    /// written.
    struct Disk: Hashable {
        var hardState = HardState()
        var entries: [Entry] = []

        func entry(at index: LogIndex) -> Entry? {
            index >= 1 && index <= UInt64(entries.count) ? entries[Int(index) - 1] : nil
        }

        /// Carries a write out. Terms never go back and a vote never changes within its term; a gap in the log is the
        /// core's mistake.
        mutating func carryOut(_ write: StorageWrite) throws(Broken) {
            guard write.replaceLog == nil, write.trimTo == nil else {
                throw Broken("a write about snapshots, of which there are none")
            }
            if let first = write.truncateFrom {
                guard first >= 1, first <= UInt64(entries.count) else {
                    throw Broken("a truncation from \(first) of a log that ends at \(entries.count)")
                }
                entries.removeLast(entries.count + 1 - Int(first))
            }
            for entry in write.append {
                guard entry.index == UInt64(entries.count) + 1 else {
                    throw Broken("entry \(entry.position) is appended to a log that ends at \(entries.count)")
                }
                entries.append(entry)
            }
            if let state = write.hardState {
                if state.term < hardState.term {
                    throw Broken("the term goes back from \(hardState.term) to \(state.term)")
                }
                if state.term == hardState.term, let vote = hardState.vote, state.vote != vote {
                    throw Broken("the vote of term \(state.term) changes")
                }
                hardState = state
            }
            if let last = entries.last, last.term > hardState.term {
                throw Broken("entry \(last.position) is durable before its term (R3)")
            }
        }
    }
}
