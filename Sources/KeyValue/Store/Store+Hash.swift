/// What a look at every item found of the state's hash.
public enum HashVerification: Hashable, Sendable {
    /// The items make the hash that was kept up with the changes.
    case matches(items: UInt64, mark: StateMark)
    /// They do not: something else than applying entries changed the state. `items` are some of those, in the order of their
    /// keys, whose content does not make the hash that was stored with them; there may be none, when the change took care of that.
    case differs(StateDifference)
    /// It ended before the last item: `pause` said so, or the state was replaced.
    case interrupted
}

/// A state whose items do not make the hash that was kept up with the changes.
public struct StateDifference: Hashable, Sendable {
    public var mark: StateMark
    /// 16 bytes each.
    public var kept: [UInt8]
    public var recomputed: [UInt8]
    /// Up to eight keys whose content is not what was stored with them.
    public var keys: [[UInt8]]
}

/// A recomputation of the state's hash in slices, while changes go on.
///
/// It sums the items in the order of their keys. Below the cursor the sum follows each change; above it the items are still to be
/// seen; and what changes while a slice is looked at, in a cut taken before, is noted and settled with the slice's end.
struct Audit: Sendable {
    let number: UInt64
    /// Items below it are in the sum.
    private(set) var cursor: [UInt8] = []
    private(set) var sum: UInt128 = 0
    private(set) var items: UInt64 = 0
    /// Changes at and above the cursor since the present slice's cut.
    private(set) var changes: [(key: [UInt8], change: UInt128)] = []

    init(number: UInt64) { self.number = number }

    mutating func note(_ key: UnsafeRawBufferPointer, change: UInt128) {
        if cursor.withUnsafeBytes({ key.compare(to: $0) < 0 }) {
            sum &+= change
        } else {
            changes.append((Array(key), change))
        }
    }

    mutating func beginSlice() { changes.removeAll(keepingCapacity: true) }

    /// `next` is nil behind the last item.
    mutating func endSlice(sum slice: UInt128, items count: UInt64, next: [UInt8]?) {
        sum &+= slice
        items += count
        for (key, change) in changes where next.map({ key.lexicographicallyPrecedes($0) }) ?? true { sum &+= change }
        changes.removeAll(keepingCapacity: true)
        if let next { cursor = next }
    }
}

/// What a slice is read from, and where it begins.
private struct SliceCut: ~Copyable {
    let view: ReadView
    let cursor: [UInt8]
}

extension Store {
    /// The hash of the whole state as it stands, and where that is: equal for equal states, and, but for accidents of 1 in 2^128,
    /// for those only. 24 bytes: the sum of the items' hashes and the revision. Cheap.
    public var stateHash: (hash: [UInt8], mark: StateMark) {
        let record = state.withLock { $0.record }
        return (record.hash.littleEndianBytes + record.mark.revision.littleEndianBytes, record.mark)
    }

    /// Recomputes the state's hash from the content of every item and compares it with the one that was kept up with the changes.
    ///
    /// On any thread but the one that applies, one such call at a time. Applying, flushing and reading go on: the items are looked
    /// at in slices, each under a short read transaction. Between two slices `pause` is called with what the last one read, in
    /// bytes; it may wait, to go easy on the disk, and answers false to give up. Throws ``StoreError/Code/corrupt`` for a record
    /// whose checksum is wrong.
    ///
    /// After ``HashVerification/differs(_:)`` the state goes on with the hash that its items make, so that whoever compares it with
    /// other replicas' sees the difference.
    public func verifyHash(
        sliceBytes: Int = 1 << 20,
        pause: (_ bytes: Int) -> Bool = { _ in true }
    ) throws -> HashVerification {
        let number = monotonicNanoseconds()
        var differing: [[UInt8]] = []
        while true {
            // A prefix deleted as a whole voids what was summed so far: begin again.
            state.withLock { $0.audit = Audit(number: number) }
            let generation = state.withLock { ObjectIdentifier($0.backend) }
            defer { state.withLock { if $0.audit?.number == number { $0.audit = nil } } }
            differing = []
            while let (slice, end) = try auditSlice(number, sliceBytes, &differing) {
                if let end { return end }
                if !pause(slice) { return .interrupted }
            }
            guard state.withLock({ ObjectIdentifier($0.backend) }) == generation, pause(0) else { return .interrupted }
        }
    }

    /// Sums one slice. Answers the bytes that it read, and the end of it all behind the last item; nil when the audit is void.
    private func auditSlice(
        _ number: UInt64,
        _ sliceBytes: Int,
        _ differing: inout [[UInt8]]
    ) throws -> (bytes: Int, end: HashVerification?)? {
        let begun = try state.withLock { state throws -> SliceCut? in
            guard var audit = state.audit, audit.number == number else { return nil }
            audit.beginSlice()
            state.audit = audit
            return SliceCut(view: try state.makeView(), cursor: audit.cursor)
        }
        guard let begun else { return nil }
        let cursor = begun.cursor
        var slice = (sum: UInt128(0), items: UInt64(0), bytes: 0, next: nil as [UInt8]?)
        var bounds = KeyBounds(prefix: [])
        bounds.raise(toAtLeast: cursor)
        try begun.view.scan(bounds) { item in
            let hash = try item.hash(isRecomputed: true)
            item.withKey { key in
                slice.bytes += 128 + key.count + item.valueLength
                if slice.bytes >= sliceBytes { slice.next = Array(key) + [0] }
            }
            if item.storedHash != hash, differing.count < 8 { differing.append(item.withUserKey { Array($0) }) }
            slice.sum &+= hash
            slice.items += 1
            return slice.next == nil ? .next : .stop
        }
        let (sum, items, next, keys) = (slice.sum, slice.items, slice.next, differing)
        return state.withLock { state -> (bytes: Int, end: HashVerification?)? in
            guard var audit = state.audit, audit.number == number else { return nil }
            audit.endSlice(sum: sum, items: items, next: next)
            state.audit = audit
            if next != nil { return (slice.bytes, nil) }
            state.audit = nil
            return (slice.bytes, state.finish(audit, keys))
        }
    }
}

extension LiveState {
    /// Judges a complete audit, and goes on with what it found.
    fileprivate mutating func finish(_ audit: Audit, _ keys: [[UInt8]]) -> HashVerification {
        guard audit.sum != record.hash else { return .matches(items: audit.items, mark: record.mark) }
        let difference = StateDifference(
            mark: record.mark,
            kept: record.hash.littleEndianBytes,
            recomputed: audit.sum.littleEndianBytes,
            keys: keys
        )
        record.hash = audit.sum
        return .differs(difference)
    }
}
