package import Raft

/// A rule that the code under test, or the world around it, broke.
package struct Broken: Error, Hashable, Sendable, CustomStringConvertible {
    package var description: String

    package init(_ description: String) { self.description = description }
}

/// Throws where a condition does not hold; the message is only made then.
@inline(__always)
package func demand(_ condition: Bool, _ message: @autoclosure () -> String) throws(Broken) {
    if !condition { throw Broken(message()) }
}

/// A log as storage keeps it: what every `StorageWrite` carried out so far has made of it.
package struct StoredLog: Sendable {
    package var hardState = HardState()
    package var base: LogBase
    package var entries: [Entry] = []

    package init(base: LogBase = LogBase()) { self.base = base }

    package var lastIndex: LogIndex { base.position.index + UInt64(entries.count) }
    package var last: LogPosition { entries.last?.position ?? base.position }

    package func entry(at index: LogIndex) -> Entry? {
        guard index > base.position.index, index <= lastIndex else { return nil }
        return entries[Int(index - base.position.index - 1)]
    }

    package func term(at index: LogIndex) -> Term? {
        guard index > base.position.index, index <= lastIndex else {
            return index == base.position.index ? base.position.term : nil
        }
        return entries[Int(index - base.position.index - 1)].term
    }

    /// The entries behind `previous` up to `last`; nil where the log does not hold them all.
    package func entries(behind previous: LogIndex, upTo last: LogIndex) -> [Entry]? {
        guard previous >= base.position.index, last <= lastIndex, previous <= last else { return nil }
        return Array(entries[Int(previous - base.position.index)..<Int(last - base.position.index)])
    }

    /// The configuration in force at `index`, which lies within the log.
    package func configuration(at index: LogIndex) -> Configuration {
        for entry in entries.reversed() where entry.index <= index {
            if case .configuration(let configuration) = entry.payload { return configuration }
        }
        return base.configuration
    }

    /// Carries a write out in the order that `StorageWrite` promises, and refuses one that leaves a gap.
    package mutating func carryOut(_ write: StorageWrite) throws(Broken) {
        if let newBase = write.replaceLog {
            base = newBase
            entries = []
        }
        if let first = write.truncateFrom {
            try demand(first > base.position.index, "truncation from \(first) at or below the base \(base.position)")
            if first <= lastIndex { entries.removeLast(Int(lastIndex - first + 1)) }
        }
        for entry in write.append {
            try demand(entry.index == lastIndex + 1, "entry \(entry.position) is stored behind \(last) (R25)")
            try demand(entry.term >= last.term, "entry \(entry.position) goes back in term behind \(last)")
            entries.append(entry)
        }
        if let newBase = write.trimTo { try trim(to: newBase) }
        if let newState = write.hardState { try take(newState) }
        // R3: no entry is durable in a term that is not.
        try demand(
            last.term <= hardState.term,
            "an entry of term \(last.term) is stored while the stored term is \(hardState.term) (R3)"
        )
    }

    private mutating func trim(to newBase: LogBase) throws(Broken) {
        let position = newBase.position
        try demand(term(at: position.index) == position.term, "trim to \(position), which the log does not hold")
        try demand(
            configuration(at: position.index) == newBase.configuration,
            "trim to \(position) with a configuration that was not in force there"
        )
        entries.removeFirst(Int(position.index - base.position.index))
        base = newBase
    }

    private mutating func take(_ newState: HardState) throws(Broken) {
        try demand(newState.term >= hardState.term, "the stored term goes back from \(hardState) to \(newState)")
        try demand(
            newState.term > hardState.term || hardState.vote == nil || newState.vote == hardState.vote,
            "the stored vote changes within a term: \(hardState) to \(newState) (R11)"
        )
        hardState = newState
    }
}
