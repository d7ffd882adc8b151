internal import DequeModule

/// What the core knows of the log: terms as runs, sizes, configurations. Payloads stay with the driver.
struct Log: Hashable, Sendable {
    private struct Run: Hashable, Sendable {
        var first: LogIndex
        var term: Term
    }

    struct ConfigurationAt: Hashable, Sendable {
        var index: LogIndex
        var configuration: Configuration
    }

    /// The position right before the first entry.
    private(set) var base: LogPosition
    /// Where terms begin, behind the base.
    private var runs: [Run] = []
    private var sizes: Deque<UInt32> = []
    /// The configuration at the base and each one behind it; never empty.
    private(set) var configurations: [ConfigurationAt]

    init(base: LogBase, entries: [EntryInfo]) {
        self.base = base.position
        self.configurations = [ConfigurationAt(index: base.position.index, configuration: base.configuration)]
        for entry in entries { append(entry) }
    }

    var firstIndex: LogIndex { base.index + 1 }
    var lastIndex: LogIndex { base.index + UInt64(sizes.count) }
    var last: LogPosition { LogPosition(index: lastIndex, term: runs.last?.term ?? base.term) }
    var configuration: Configuration { configurations[configurations.count - 1].configuration }
    var configurationIndex: LogIndex { configurations[configurations.count - 1].index }

    /// The term of the entry at `index`; nil before the base and beyond the end.
    func term(at index: LogIndex) -> Term? {
        if index == base.index { return base.term }
        guard index > base.index, index <= lastIndex else { return nil }
        return runs[runIndex(of: index)].term
    }

    func matches(_ position: LogPosition) -> Bool { term(at: position.index) == position.term }

    /// The best position at or below `index` whose term is at most `term`; nil when it would lie before the base.
    func lastPosition(atOrBelow index: LogIndex, term: Term) -> LogPosition? {
        let index = min(index, lastIndex)
        guard index >= base.index else { return nil }
        var bound = index
        for run in runs.reversed() where run.first <= bound {
            if run.term <= term { return LogPosition(index: bound, term: run.term) }
            bound = run.first - 1
        }
        return base.term <= term ? base : nil
    }

    /// The configuration in force at `index`: the newest one at or below it. `index` must not lie before the base.
    func configuration(at index: LogIndex) -> Configuration {
        precondition(index >= base.index, "the configuration before the log's base is not known")
        return configurations.last { $0.index <= index }!.configuration  // the base's own is always there
    }

    /// Whether `id` votes in the configuration in force at `index` or in any newer one.
    func hasVoter(_ id: ServerID, inForceSince index: LogIndex) -> Bool {
        for item in configurations.reversed() {
            if item.configuration.isVoter(id) { return true }
            if item.index <= index { return false }
        }
        return false
    }

    /// The last index of a piece that begins at `first` and holds at most `bytes`, but at least one entry.
    func lastIndex(from first: LogIndex, bytes: Int, count: Int) -> (last: LogIndex, bytes: Int) {
        precondition(first > base.index && first <= lastIndex)
        var sum = 0
        var index = first
        while index <= lastIndex, index - first < UInt64(count) {
            let size = Int(sizes[Int(index - firstIndex)])
            if index > first, sum + size > bytes { break }
            sum += size
            index += 1
        }
        return (index - 1, sum)
    }

    /// The bytes of the entries in `range`, as far as the log holds them.
    func bytes(in range: ClosedRange<LogIndex>) -> Int {
        let clamped = max(range.lowerBound, firstIndex)
        guard clamped <= min(range.upperBound, lastIndex) else { return 0 }
        return sizes[Int(clamped - firstIndex)...Int(min(range.upperBound, lastIndex) - firstIndex)]
            .reduce(0) { $0 + Int($1) }
    }

    /// The index before which about `bytes` of entries end at `bound`; at least the base.
    func index(leaving bytes: Int, before bound: LogIndex) -> LogIndex {
        var index = min(bound, lastIndex)
        var sum = 0
        while index > base.index {
            sum += Int(sizes[Int(index - firstIndex)])
            if sum > bytes { return index }
            index -= 1
        }
        return base.index
    }

    mutating func append(_ entry: EntryInfo) {
        precondition(entry.index == lastIndex + 1, "entries are appended without a gap")
        precondition(entry.term >= last.term, "terms never go back in a log")
        if runs.last?.term != entry.term { runs.append(Run(first: entry.index, term: entry.term)) }
        sizes.append(UInt32(clamping: entry.size))
        if let configuration = entry.configuration {
            configurations.append(ConfigurationAt(index: entry.index, configuration: configuration))
        }
    }

    /// Drops the entry at `index` and all behind it; terms and configurations go with them (R10).
    mutating func truncate(from index: LogIndex) {
        precondition(index > base.index && index <= lastIndex)
        sizes.removeLast(Int(lastIndex - index + 1))
        while let run = runs.last, run.first >= index { runs.removeLast() }
        while configurationIndex >= index, !isPlanted(.keepsTruncatedMembership) { configurations.removeLast() }
    }

    /// Drops the entries up to `index`, which becomes the base.
    mutating func trim(upTo index: LogIndex) {
        guard index > base.index else { return }
        guard let term = term(at: index) else { preconditionFailure("the log is trimmed where it holds entries") }
        let configuration = configuration(at: index)
        sizes.removeFirst(Int(index - base.index))
        base = LogPosition(index: index, term: term)
        runs.removeAll { run in run.first <= index }
        // The run that spans the new base begins behind it now.
        if sizes.count > 0, runs.first?.first != index + 1 { runs.insert(Run(first: index + 1, term: term), at: 0) }
        configurations.removeAll { $0.index <= index }
        configurations.insert(ConfigurationAt(index: index, configuration: configuration), at: 0)
    }

    var logBase: LogBase { LogBase(position: base, configuration: configurations[0].configuration) }

    private func runIndex(of index: LogIndex) -> Int {
        // Recent entries are asked for most: look from the end.
        var position = runs.count - 1
        while runs[position].first > index { position -= 1 }
        return position
    }
}
