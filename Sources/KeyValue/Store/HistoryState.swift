internal import Checksum

/// How far back the history goes, and by which revisions it can be shortened. Each replica's own.
struct HistoryState: Hashable, Sendable {
    /// All that was changed up to and with a revision.
    struct Mark: Hashable, Sendable {
        var revision: UInt64 = 0
        /// The state's clock then, milliseconds.
        var time: UInt64 = 0
        var events: UInt64 = 0
        var bytes: UInt64 = 0
    }

    /// The bounds of the history.
    struct Bounds: Hashable, Sendable {
        var milliseconds: UInt64
        var events: UInt64
        var bytes: UInt64

        init(_ options: StoreOptions) {
            milliseconds = options.historyMilliseconds
            events = UInt64(clamping: options.historyEvents)
            bytes = UInt64(clamping: options.historyBytes)
        }
    }

    /// How fine the bounds are kept: a 64th of each.
    private static let parts: UInt64 = 64

    /// What is gone: nothing after its revision.
    private(set) var floor = Mark()
    /// All there is.
    private(set) var last = Mark()
    /// Revisions that the floor can be raised to, in ascending order.
    private var marks: [Mark] = []

    /// The history begins behind `revision`.
    init(empty revision: UInt64 = 0) { forget(upTo: revision) }

    var events: UInt64 { last.events - floor.events }
    var bytes: UInt64 { last.bytes - floor.bytes }

    /// Takes note of one change; `bytes` are those that it keeps of what was before.
    mutating func note(revision: UInt64, time: UInt64, bytes: Int, _ bounds: Bounds) {
        if revision != last.revision {
            let mark = marks.last ?? floor
            if last.revision > mark.revision,
                time &- mark.time >= bounds.milliseconds / Self.parts
                    || last.events - mark.events >= bounds.events / Self.parts
                    || last.bytes - mark.bytes >= bounds.bytes / Self.parts
            {
                marks.append(last)
            }
            last.revision = revision
            last.time = time
        }
        last.events += 1
        last.bytes += UInt64(bytes)
    }

    /// Raises the floor as far as the bounds ask for.
    mutating func enforce(_ bounds: Bounds, now: UInt64) {
        var gone = 0
        while gone < marks.count, exceeds(bounds, now, next: marks[gone]) {
            floor = marks[gone]
            gone += 1
        }
        if gone > 0 { marks.removeFirst(gone) }
        if marks.isEmpty, last.revision > floor.revision, exceeds(bounds, now, next: last) { floor = last }
    }

    private func exceeds(_ bounds: Bounds, _ now: UInt64, next: Mark) -> Bool {
        events > bounds.events || bytes > bounds.bytes || now - min(now, next.time) >= bounds.milliseconds
    }

    /// Gives up what happened up to and with a mark that was ``last`` once.
    mutating func raise(to mark: Mark) {
        guard mark.revision > floor.revision else { return }
        floor = mark
        marks.removeAll { $0.revision <= mark.revision }
    }

    /// Nothing up to and with `revision`, which is the present one, can be told any more.
    mutating func forget(upTo revision: UInt64) {
        last.revision = revision
        floor = last
        marks = []
    }

    // MARK: On disk

    private static let version: UInt32 = 1

    /// Version, number of marks, the marks (floor and last first), what of the history is in the file, and a CRC-32C over all before it.
    func encode(_ extent: HistoryExtent = HistoryExtent()) -> [UInt8] {
        var bytes = Self.version.littleEndianBytes + UInt32(marks.count).littleEndianBytes
        for mark in [floor, last] + marks {
            for number in [mark.revision, mark.time, mark.events, mark.bytes] { bytes += number.littleEndianBytes }
        }
        for number in [extent.records, extent.deletions, extent.sum] { bytes += number.littleEndianBytes }
        return bytes + CRC32C.checksum(bytes).littleEndianBytes
    }

    /// Nil when the bytes are corrupt.
    static func decode(_ bytes: UnsafeRawBufferPointer) -> (state: HistoryState, extent: HistoryExtent)? {
        guard bytes.count >= 12 else { return nil }
        let covered = UnsafeRawBufferPointer(rebasing: bytes.dropLast(4))
        let stored = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: covered.count, as: UInt32.self))
        var reader = BufferReader(covered)
        guard stored == CRC32C.checksum(covered), reader.read(UInt32.self) == version,
            let count = reader.read(UInt32.self), covered.count == 8 + (Int(count) + 2) * 32 + 24
        else { return nil }
        var numbers: [UInt64] = []
        while let number = reader.read(UInt64.self) { numbers.append(number) }
        let marks = (0..<Int(count) + 2).map { mark in
            let part = numbers[mark * 4..<mark * 4 + 4].map { $0 }
            return Mark(revision: part[0], time: part[1], events: part[2], bytes: part[3])
        }
        guard zip(([marks[0]] + marks[2...]), marks[2...] + [marks[1]]).allSatisfy({ $0.isNotBeyond($1) }) else {
            return nil
        }
        var state = HistoryState()
        (state.floor, state.last, state.marks) = (marks[0], marks[1], Array(marks[2...]))
        let rest = numbers.suffix(3).map { $0 }
        return (state, HistoryExtent(records: rest[0], deletions: rest[1], sum: rest[2]))
    }
}

extension HistoryState.Mark {
    fileprivate func isNotBeyond(_ next: HistoryState.Mark) -> Bool {
        revision <= next.revision && events <= next.events && bytes <= next.bytes
    }
}

/// What of the history is in the environment, to be held against what is found there.
struct HistoryExtent: Hashable, Sendable {
    var records: UInt64 = 0
    /// Keys that are deleted.
    var deletions: UInt64 = 0
    /// The sum of the checksums of both.
    var sum: UInt64 = 0

    mutating func add(record checksum: UInt32) {
        records += 1
        sum &+= UInt64(checksum)
    }

    mutating func remove(record checksum: UInt32) {
        records &-= 1
        sum &-= UInt64(checksum)
    }

    mutating func add(deletion revision: UInt64, _ key: UnsafeRawBufferPointer) {
        deletions += 1
        sum &+= UInt64(DeletionRecord.checksum(revision, key))
    }

    mutating func remove(deletion revision: UInt64, _ key: UnsafeRawBufferPointer) {
        deletions &-= 1
        sum &-= UInt64(DeletionRecord.checksum(revision, key))
    }
}
