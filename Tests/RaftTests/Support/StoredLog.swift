@testable import Raft

/// A rule that the code under test, or the world around it, broke.
struct Broken: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) { self.description = description }
}

/// Throws where a condition does not hold; the message is only made then.
func demand(_ condition: Bool, _ message: @autoclosure () -> String) throws {
    if !condition { throw Broken(message()) }
}

/// A log as storage keeps it: what every ``StorageWrite`` carried out so far has made of it.
struct StoredLog {
    var hardState = HardState()
    var base = LogBase()
    var entries: [Entry] = []

    var lastIndex: LogIndex { base.position.index + UInt64(entries.count) }
    var last: LogPosition { entries.last?.position ?? base.position }

    func entry(at index: LogIndex) -> Entry? {
        guard index > base.position.index, index <= lastIndex else { return nil }
        return entries[Int(index - base.position.index - 1)]
    }

    func term(at index: LogIndex) -> Term? {
        index == base.position.index ? base.position.term : entry(at: index)?.term
    }

    /// The entries behind `previous` up to `last`; nil where the log does not reach back that far.
    func entries(behind previous: LogIndex, upTo last: LogIndex) -> [Entry]? {
        guard previous >= base.position.index, last <= lastIndex, previous <= last else { return nil }
        return Array(entries[Int(previous - base.position.index)..<Int(last - base.position.index)])
    }

    func configuration(at index: LogIndex) -> Configuration {
        var configuration = base.configuration
        for entry in entries where entry.index <= index {
            if case .configuration(let newer) = entry.payload { configuration = newer }
        }
        return configuration
    }

    /// Carries a write out in the order that ``StorageWrite`` promises, and refuses one that leaves a gap.
    mutating func carryOut(_ write: StorageWrite) throws {
        if let newBase = write.replaceLog {
            base = newBase
            entries = []
        }
        if let first = write.truncateFrom {
            try demand(first > base.position.index, "truncation from \(first) at or below the base \(base.position)")
            entries.removeAll { $0.index >= first }
        }
        for entry in write.append {
            try demand(entry.index == lastIndex + 1, "entry \(entry.position) is stored behind \(last)")
            try demand(entry.term >= last.term, "entry \(entry.position) goes back in term behind \(last)")
            entries.append(entry)
        }
        if let newBase = write.trimTo {
            try demand(
                term(at: newBase.position.index) == newBase.position.term,
                "trim to \(newBase.position), which the log does not hold"
            )
            try demand(
                configuration(at: newBase.position.index) == newBase.configuration,
                "trim to \(newBase.position) with a configuration that was not in force there"
            )
            entries.removeFirst(Int(newBase.position.index - base.position.index))
            base = newBase
        }
        if let newState = write.hardState {
            try demand(newState.term >= hardState.term, "the stored term goes back from \(hardState) to \(newState)")
            try demand(
                newState.term > hardState.term || hardState.vote == nil || newState.vote == hardState.vote,
                "the stored vote changes within a term: \(hardState) to \(newState) (R11)"
            )
            hardState = newState
        }
        // R3: no entry is durable in a term that is not.
        try demand(last.term <= hardState.term, "an entry of term \(last.term) is stored at term \(hardState.term)")
    }
}
