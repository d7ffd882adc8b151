/// The changes since a memtable was begun, in the order of their revisions, those of one revision in the order of their keys.
///
/// The entries are shared with the memtable: here are also those that it replaced. Like the memtable it is a list of chunks, which
/// is copied in constant time, so a reader takes it as it stands.
struct EventLog: Sendable {
    struct Entry: Sendable {
        /// The key as the change left it; its modify revision is the change's.
        var entry: MemtableEntry
        /// The revision of the key's previous change in this log; 0 when there is none.
        var previous: UInt64

        var revision: UInt64 { entry.metadata.modRevision }
        var kind: Event.Kind { entry.kind }
    }

    private typealias Chunk = ContiguousArray<Entry>

    private static let chunkCount = 64

    /// Every change after this revision is in this log or in a newer one.
    let base: UInt64
    private var chunks: ContiguousArray<Chunk> = []
    private(set) var count = 0
    /// What it takes in memory beside the memtable, and will take in the flush.
    private(set) var bytes = 0
    /// What of ``bytes`` the flush takes to keep what the changes replaced.
    private var previousBytes = 0
    /// The last revision has more than one change.
    private var isUnsettled = false

    init(base: UInt64) { self.base = base }

    subscript(index: Int) -> Entry {
        get { chunks[index / Self.chunkCount][index % Self.chunkCount] }
        set { chunks[index / Self.chunkCount][index % Self.chunkCount] = newValue }
    }

    private func revision(at index: Int) -> UInt64 {
        chunks[index / Self.chunkCount][index % Self.chunkCount].entry.metadata.modRevision
    }

    /// Adds a change. Call ``settle()`` behind the last one of its revision, before anybody reads.
    ///
    /// - Parameters:
    ///   - replaced: what the memtable held of the key; nil when it held nothing.
    ///   - previousSize: bytes of key and value before the change.
    mutating func append(_ entry: MemtableEntry, replaced: MemtableEntry?, previousSize: Int) {
        if count > 0, revision(at: count - 1) == entry.metadata.modRevision { isUnsettled = true }
        if count % Self.chunkCount == 0 {
            var chunk = Chunk()
            chunk.reserveCapacity(Self.chunkCount)
            chunks.append(chunk)
        }
        chunks[chunks.count - 1].append(Entry(entry: entry, previous: replaced?.metadata.modRevision ?? 0))
        count += 1
        bytes += MemoryLayout<Entry>.stride + 128 + previousSize + (replaced?.memorySize ?? 0)
        previousBytes += previousSize
    }

    /// Nothing of what the changes so far have replaced will be flushed: the history begins behind them.
    mutating func forgetPrevious() {
        bytes -= previousBytes
        previousBytes = 0
    }

    /// Brings the changes of the last revision in the order of their keys; of several changes of one key it makes one.
    mutating func settle() {
        guard isUnsettled else { return }
        isUnsettled = false
        let start = index(after: self[count - 1].revision - 1)
        var run = (start..<count).map { self[$0] }
        let isInOrder = zip(run, run.dropFirst()).allSatisfy { $0.entry.isBelow($1.entry) }
        if isInOrder { return }
        run = run.enumerated().sorted { left, right in
            if left.element.entry.isBelow(right.element.entry) { return true }
            return !right.element.entry.isBelow(left.element.entry) && left.offset < right.offset
        }.map(\.element)
        var merged: [Entry] = []
        for var change in run {
            if let last = merged.last, !last.entry.isBelow(change.entry) {
                change.previous = last.previous
                merged[merged.count - 1] = change
            } else {
                merged.append(change)
            }
        }
        for (offset, change) in merged.enumerated() { self[start + offset] = change }
        for _ in 0..<run.count - merged.count {
            chunks[chunks.count - 1].removeLast()
            if chunks[chunks.count - 1].isEmpty { chunks.removeLast() }
            count -= 1
        }
    }

    /// The place of the first change after `revision`; ``count`` when there is none.
    func index(after revision: UInt64) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if self.revision(at: middle) <= revision { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// The place of the change of `key` in `revision`.
    func find(_ key: UnsafeRawBufferPointer, in revision: UInt64) -> Int? {
        guard revision > 0 else { return nil }
        var (low, high) = (index(after: revision - 1), count)
        while low < high {
            let middle = (low + high) / 2
            let order =
                self.revision(at: middle) > revision
                ? 1
                : chunks[middle / Self.chunkCount][middle % Self.chunkCount].entry.withKey { $0.compare(to: key) }
            if order == 0 { return middle }
            if order < 0 { low = middle + 1 } else { high = middle }
        }
        return nil
    }
}

extension MemtableEntry {
    fileprivate func isBelow(_ other: MemtableEntry) -> Bool {
        withKey { key in other.withKey { key.compare(to: $0) < 0 } }
    }
}
