package import Raft

/// What a stored log looks like from outside: term, vote, base and the terms of its entries.
package struct LogShape: Hashable, Sendable {
    package var hardState = HardState()
    package var base = LogPosition.zero
    /// Of the entries behind the base.
    package var terms: [Term] = []

    package init() {}

    package var last: LogPosition {
        LogPosition(index: base.index + UInt64(terms.count), term: terms.last ?? base.term)
    }

    /// The term at an index; nil outside of base and entries.
    package func term(at index: LogIndex) -> Term? {
        if index == base.index { return base.term }
        guard index > base.index, index <= last.index else { return nil }
        return terms[Int(index - base.index) - 1]
    }

    /// Whether the entry is stored, or was compacted away.
    func holds(_ position: LogPosition) -> Bool {
        position.index < base.index || term(at: position.index) == position.term
    }

    /// Carries a write out as the storage does.
    package mutating func apply(_ write: WriteNote) {
        if let base = write.replaces {
            (self.base, terms) = (base, [])
        }
        if let index = write.cutsFrom, index <= last.index { terms.removeLast(Int(last.index - index) + 1) }
        terms += write.appendedTerms
        if let base = write.trimsTo, base.index > self.base.index {
            terms.removeFirst(Int(base.index - self.base.index))
            self.base = base
        }
        if let hardState = write.hardState { self.hardState = hardState }
    }
}

/// A write to the log, without the entries' content, as it is noted in a trace.
package struct WriteNote: Hashable, Sendable {
    package var hardState: HardState?
    package var replaces: LogPosition?
    package var cutsFrom: LogIndex?
    package var appendedTerms: [Term] = []
    package var trimsTo: LogPosition?

    package init(_ write: StorageWrite) {
        hardState = write.hardState
        replaces = write.replaceLog?.position
        cutsFrom = write.truncateFrom
        appendedTerms = write.append.map(\.term)
        trimsTo = write.trimTo?.position
    }

    package var text: String {
        var words = ["write"]
        if let hardState { words.append("hard=\(hardState.term):\(hardState.vote?.rawValue ?? 0)") }
        if let replaces { words.append("replace=\(replaces.index):\(replaces.term)") }
        if let cutsFrom { words.append("cut=\(cutsFrom)") }
        if !appendedTerms.isEmpty { words.append("append=" + appendedTerms.map(String.init).joined(separator: ":")) }
        if let trimsTo { words.append("trim=\(trimsTo.index):\(trimsTo.term)") }
        return words.joined(separator: " ")
    }

    init?(words: some Collection<Substring>) {
        for word in words {
            let parts = word.split(separator: "=")
            guard parts.count == 2 else { return nil }
            let numbers = parts[1].split(separator: ":").compactMap { UInt64($0) }
            guard let first = numbers.first else { return nil }
            let position = LogPosition(index: first, term: numbers.count > 1 ? numbers[1] : 0)
            switch parts[0] {
            case "hard": hardState = HardState(term: first, vote: position.term == 0 ? nil : ServerID(position.term))
            case "replace": replaces = position
            case "cut": cutsFrom = first
            case "append": appendedTerms = numbers
            case "trim": trimsTo = position
            default: return nil
            }
        }
    }
}
