internal import DequeModule
internal import Raft

/// The newest entries of the log, for followers that keep up and for the apply; older ones are read from storage.
struct EntryCache: Sendable {
    private var entries: Deque<Entry> = []
    private var bytes = 0
    /// What the cache may hold beyond the entries that must stay, in bytes.
    private let bound: Int

    init(bound: Int) { self.bound = bound }

    /// Takes in what a write changes in the log.
    mutating func take(_ write: StorageWrite) {
        if write.replaceLog != nil { removeAll() }
        if let index = write.truncateFrom, !isPlanted(.cachesTruncatedEntries) {
            while let last = entries.last, last.index >= index { bytes -= entries.removeLast().size }
        }
        if let first = write.append.first, let last = entries.last, first.index != last.index + 1,
            !isPlanted(.cachesTruncatedEntries)
        {
            removeAll()
        }
        for entry in write.append {
            entries.append(entry)
            bytes += entry.size
        }
    }

    /// Drops the oldest entries while there are too many bytes, but none behind `index`: those are not applied or not durable yet.
    mutating func evict(upTo index: LogIndex) {
        while bytes > bound, let first = entries.first, first.index <= index { bytes -= entries.removeFirst().size }
    }

    /// Whether the entry at `index` is here.
    func holds(_ index: LogIndex) -> Bool {
        guard let first = entries.first, let last = entries.last else { return false }
        return index >= first.index && index <= last.index
    }

    /// The entries of a range that the cache holds whole, up to `maxBytes` of them but at least one.
    func slice(_ range: ClosedRange<LogIndex>, maxBytes: Int = .max) -> [Entry] {
        guard let first = entries.first else { preconditionFailure("the cache holds the range") }
        var result: [Entry] = []
        var sum = 0
        for entry in entries[Int(range.lowerBound - first.index)...Int(range.upperBound - first.index)] {
            sum += entry.size
            if !result.isEmpty, sum > maxBytes { break }
            result.append(entry)
        }
        return result
    }

    private mutating func removeAll() {
        entries.removeAll()
        bytes = 0
    }
}
