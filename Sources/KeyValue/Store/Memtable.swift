/// A sorted table of the newest changes.
///
/// It is a list of sorted chunks: a put searches the chunks and then one chunk, and moves at most one chunk's entries. As a value
/// it is copied in constant time, and what is changed afterwards is copied chunk by chunk; so a reader takes the whole
/// table as it stands and reads it without a lock. Nothing is ever removed but by ``deletePrefix(_:)``: a delete is a tombstone.
struct Memtable: Sendable {
    typealias Chunk = ContiguousArray<MemtableEntry>

    static let maximumChunkCount = 64

    /// A place in the table: an entry's, or where one would be inserted.
    struct Position: Equatable {
        var chunk: Int
        var offset: Int
    }

    private var chunks: ContiguousArray<Chunk> = []
    /// Prefixes that were deleted as a whole: they hide what lies in the levels below, and nothing in this table.
    private(set) var deletedPrefixes: [[UInt8]] = []
    private(set) var count = 0
    /// What the entries take in memory.
    private(set) var bytes = 0

    var isEmpty: Bool { count == 0 && deletedPrefixes.isEmpty }

    /// The place of `key`, and whether it is there.
    func find(_ key: UnsafeRawBufferPointer) -> (position: Position, isFound: Bool) {
        guard !chunks.isEmpty else { return (Position(chunk: 0, offset: 0), false) }
        // The last chunk whose first key is not above `key`.
        var (low, high) = (0, chunks.count)
        while high - low > 1 {
            let middle = (low + high) / 2
            if chunks[middle][0].withKey({ $0.compare(to: key) }) <= 0 { low = middle } else { high = middle }
        }
        let chunk = low
        (low, high) = (0, chunks[chunk].count)
        while low < high {
            let middle = (low + high) / 2
            let order = chunks[chunk][middle].withKey { $0.compare(to: key) }
            if order == 0 { return (Position(chunk: chunk, offset: middle), true) }
            if order < 0 { low = middle + 1 } else { high = middle }
        }
        return (Position(chunk: chunk, offset: low), false)
    }

    /// Only for a place where an entry is.
    subscript(position: Position) -> MemtableEntry { chunks[position.chunk][position.offset] }

    /// Puts `entry` at the place that ``find(_:)`` just told for its key.
    mutating func put(_ entry: MemtableEntry, at position: Position, replacing isFound: Bool) {
        bytes += entry.size
        if isFound {
            bytes -= self[position].size
            chunks[position.chunk][position.offset] = entry
            return
        }
        count += 1
        guard !chunks.isEmpty else {
            insertChunk([entry], at: 0)
            return
        }
        guard chunks[position.chunk].count == Self.maximumChunkCount else {
            chunks[position.chunk].insert(entry, at: position.offset)
            return
        }
        split(insert: entry, at: position)
    }

    mutating func put(_ entry: MemtableEntry) {
        let (position, isFound) = entry.withKey { find($0) }
        put(entry, at: position, replacing: isFound)
    }

    private mutating func split(insert entry: MemtableEntry, at position: Position) {
        // Behind the last key, as when keys are loaded in order: leave the full chunk full.
        if position.chunk == chunks.count - 1 && position.offset == Self.maximumChunkCount {
            insertChunk([entry], at: chunks.count)
            return
        }
        let half = Self.maximumChunkCount / 2
        let upper = chunks[position.chunk][half...]
        insertChunk(upper, at: position.chunk + 1)
        chunks[position.chunk].removeLast(Self.maximumChunkCount - half)
        if position.offset <= half {
            chunks[position.chunk].insert(entry, at: position.offset)
        } else {
            chunks[position.chunk + 1].insert(entry, at: position.offset - half)
        }
    }

    private mutating func insertChunk(_ entries: some Collection<MemtableEntry>, at index: Int) {
        var chunk = Chunk()
        chunk.reserveCapacity(Self.maximumChunkCount)
        chunk.append(contentsOf: entries)
        chunks.insert(chunk, at: index)
    }

    /// Forgets the table's own keys that begin with `prefix`, and hides those of the levels below.
    mutating func deletePrefix(_ prefix: [UInt8]) {
        prefix.withUnsafeBytes { prefix in
            var kept = ContiguousArray<Chunk>()
            for chunk in chunks {
                let rest = chunk.filter { !$0.withKey { $0.hasPrefix(prefix) } }
                if !rest.isEmpty { kept.append(Chunk(rest)) }
            }
            chunks = kept
            deletedPrefixes.removeAll { $0.withUnsafeBytes { $0.hasPrefix(prefix) } }
        }
        deletedPrefixes.append(prefix)
        count = chunks.reduce(0) { $0 + $1.count }
        bytes = chunks.reduce(0) { $0 + $1.reduce(0) { $0 + $1.size } }
        bytes += deletedPrefixes.reduce(0) { $0 + $1.count + 64 }
    }

    /// The deleted prefix that hides `key` in the levels below, if any.
    func deletedPrefix(of key: UnsafeRawBufferPointer) -> [UInt8]? {
        deletedPrefixes.first { $0.withUnsafeBytes { key.hasPrefix($0) } }
    }

    // MARK: In order

    var first: Position? { chunks.isEmpty ? nil : Position(chunk: 0, offset: 0) }

    var last: Position? { chunks.last.map { Position(chunk: chunks.count - 1, offset: $0.count - 1) } }

    func position(after position: Position) -> Position? {
        if position.offset + 1 < chunks[position.chunk].count {
            return Position(chunk: position.chunk, offset: position.offset + 1)
        }
        return position.chunk + 1 < chunks.count ? Position(chunk: position.chunk + 1, offset: 0) : nil
    }

    func position(before position: Position) -> Position? {
        if position.offset > 0 { return Position(chunk: position.chunk, offset: position.offset - 1) }
        guard position.chunk > 0 else { return nil }
        return Position(chunk: position.chunk - 1, offset: chunks[position.chunk - 1].count - 1)
    }

    /// The lowest key that is not below `key`.
    func position(atLeast key: UnsafeRawBufferPointer) -> Position? {
        guard !chunks.isEmpty else { return nil }
        let place = find(key).position
        if place.offset < chunks[place.chunk].count { return place }
        return place.chunk + 1 < chunks.count ? Position(chunk: place.chunk + 1, offset: 0) : nil
    }

    /// The highest key that is below `key`.
    func position(below key: UnsafeRawBufferPointer) -> Position? {
        chunks.isEmpty ? nil : position(before: find(key).position)
    }
}
