extension LiveState {
    // MARK: Records

    func find(_ rawKey: [UInt8], withItem: Bool, _ reader: inout BatchReader) throws -> CurrentKey {
        try rawKey.withUnsafeBytes { try find($0, withItem: withItem, &reader) }
    }

    /// The value of a record; nil when it is not there.
    func value(of rawKey: [UInt8], _ reader: inout BatchReader) throws -> ArraySlice<UInt8>? {
        try find(rawKey, withItem: true, &reader).item?.value
    }

    /// Sets a record that is no user key.
    mutating func setRecord(
        _ rawKey: [UInt8],
        _ value: [UInt8],
        metadata: ItemMetadata = ItemMetadata(createRevision: 0, modRevision: 0, version: 0),
        _ reader: inout BatchReader
    ) throws {
        let current = try find(rawKey, withItem: false, &reader)
        set(MemtableEntry(rawKey: rawKey, value: value, metadata: metadata), over: current)
    }

    /// Removes a record that is no user key. Nothing when it is not there.
    mutating func removeRecord(
        _ rawKey: [UInt8],
        revision: UInt64 = 0,
        kind: Event.Kind = .delete,
        _ reader: inout BatchReader
    ) throws {
        let current = try find(rawKey, withItem: false, &reader)
        guard current.metadata != nil else { return }
        let tombstone = MemtableEntry(tombstoneIn: rawKey, key: 0..<rawKey.count, revision: revision, kind: kind)
        set(tombstone, over: current)
    }

    // MARK: User keys

    mutating func execute(_ put: Put, _ reader: inout BatchReader) throws -> Outcome {
        let current = try find(Space.keys.raw(put.key), withItem: put.returnsPrevious, &reader)
        guard put.condition.holds(modRevision: current.metadata?.modRevision) else {
            return .conditionFailed(revision: priorRevision, current: current.metadata)
        }
        let metadata = try self.put(put, over: current, &reader)
        return .put(
            revision: metadata.modRevision,
            createRevision: metadata.createRevision,
            version: metadata.version,
            created: current.metadata == nil,
            previous: current.item
        )
    }

    /// Puts a key with its lease.
    mutating func put(_ put: Put, over current: CurrentKey, _ reader: inout BatchReader) throws -> ItemMetadata {
        var lease: UInt64 = 0
        switch put.lease {
        case .none: break
        case .attached(let id):
            guard try attachableLease(id, &reader) != nil else { throw Refusal(.leaseNotFound(id)) }
            lease = id
        case .ttl: lease = try chooseLease(&reader)
        }
        try reader.spend(hashing: put.value.count)
        let rawKey = Space.keys.raw(put.key)
        let metadata = nextMetadata(of: current, lease: lease)
        set(
            MemtableEntry(rawKey: rawKey, value: put.value, contentType: put.contentType, metadata: metadata),
            over: current
        )
        let old = current.metadata?.lease ?? 0
        guard old != lease else { return metadata }
        if old != 0 { try detach(rawKey, from: old, &reader) }
        if case .ttl(let ttl) = put.lease {
            try setLease(lease, .init(ttlMilliseconds: ttl, now: now, owner: .key), &reader)
        }
        if lease != 0 { try attach(rawKey, to: lease, &reader) }
        return metadata
    }

    private mutating func nextMetadata(of current: CurrentKey, lease: UInt64) -> ItemMetadata {
        let revision = takeRevision()
        return ItemMetadata(
            createRevision: current.metadata?.createRevision ?? revision,
            modRevision: revision,
            version: (current.metadata?.version ?? 0) + 1,
            lease: lease
        )
    }

    /// Deletes a key and takes it from its lease; answers whether it was there.
    mutating func delete(_ rawKey: [UInt8], _ current: CurrentKey, _ reader: inout BatchReader) throws -> Bool {
        guard let metadata = current.metadata else { return false }
        let revision = takeRevision()
        set(MemtableEntry(tombstoneIn: rawKey, key: 0..<rawKey.count, revision: revision), over: current)
        if metadata.lease != 0 { try detach(rawKey, from: metadata.lease, &reader) }
        return true
    }

    mutating func increment(
        _ key: ArraySlice<UInt8>,
        _ by: Int64,
        _ condition: Condition = .none,
        operation: Int? = nil,
        _ reader: inout BatchReader
    ) throws -> Outcome {
        let rawKey = Space.keys.raw(key)
        var current = try find(rawKey, withItem: false, &reader)
        guard condition.holds(modRevision: current.metadata?.modRevision) else {
            return .conditionFailed(revision: priorRevision, current: current.metadata)
        }
        var old: Int64 = 0
        if current.metadata != nil {
            // No number is as long as a value may be, which need not be read then.
            if current.contentSize - key.count <= Self.maximumDigits {
                current = try find(rawKey, withItem: true, &reader)
            }
            guard let item = current.item, let number = Self.number(item.value) else {
                throw Refusal(.notANumber(revision: priorRevision, .notANumber, operation: operation))
            }
            old = number
        }
        let (value, isOverflow) = old.addingReportingOverflow(by)
        guard !isOverflow else {
            throw Refusal(.notANumber(revision: priorRevision, .overflow, operation: operation))
        }
        let metadata = nextMetadata(of: current, lease: current.metadata?.lease ?? 0)
        let entry = MemtableEntry(
            rawKey: rawKey,
            value: Array(String(value).utf8),
            contentType: current.item.map(\.contentType) ?? "text/plain",
            metadata: metadata
        )
        set(entry, over: current)
        return .incremented(
            revision: metadata.modRevision,
            value: value,
            createRevision: metadata.createRevision,
            version: metadata.version
        )
    }

    /// A decimal number: digits, with a sign or without; nil for anything else, and for more than 64 bits.
    private static func number(_ bytes: ArraySlice<UInt8>) -> Int64? { Int64(String(decoding: bytes, as: UTF8.self)) }

    /// With leading zeros.
    private static let maximumDigits = 64

    // MARK: Prefixes

    /// A user key that goes with a deleted prefix.
    struct DoomedKey: Sendable {
        var rawKey: [UInt8]
        var metadata: ItemMetadata
        var contentSize: Int
        var hash: UInt128
    }

    /// What goes with a deleted prefix.
    struct Doomed: Sendable {
        var count = 0
        var contentBytes: UInt64 = 0
        var hash: UInt128 = 0
        /// The first of them.
        var keys: [DoomedKey] = []
        /// All that have a lease.
        var leased: [(rawKey: [UInt8], lease: UInt64)] = []
    }

    /// Deletes all user keys that begin with a prefix, and answers how many there were.
    mutating func deletePrefix(_ rawPrefix: [UInt8], _ reader: inout BatchReader) throws -> Int {
        let doomed = try collectAll(rawPrefix, &reader) ?? collect(rawPrefix, first: maximumTombstones, &reader)
        guard doomed.leased.count <= KeyValueLimits.maximumDeletedLeasedKeys else {
            throw Refusal(.tooLarge(.deletedKeys))
        }
        guard doomed.count > 0 else { return 0 }
        if doomed.count <= maximumTombstones, doomed.contentBytes <= maximumReplacedBytes {
            try bury(doomed.keys, &reader)
        } else {
            // The memtable is gone through.
            try reader.spend(active.count / 8)
            if scratch == nil { undo = nil }
            _ = takeNewRevision()
            hide(rawPrefix, doomed)
        }
        if !doomed.leased.isEmpty { try detach(doomed.leased, &reader) }
        return doomed.count
    }

    /// As ``deletePrefix(_:_:)``, but each for itself, and no more than `limit`.
    mutating func deletePrefix(_ rawPrefix: [UInt8], limit: Int, _ reader: inout BatchReader) throws -> Int {
        let doomed = try collect(rawPrefix, first: limit, isBounded: true, &reader)
        guard doomed.count <= limit else { throw Refusal(.tooLarge(.deletedKeys)) }
        guard doomed.count > 0 else { return 0 }
        try bury(doomed.keys, &reader)
        if !doomed.leased.isEmpty { try detach(doomed.leased, &reader) }
        return doomed.count
    }

    /// The revision of a command that may be executed without a scratch.
    private mutating func takeNewRevision() -> UInt64 {
        if scratch != nil { return takeRevision() }
        record.mark.revision += 1
        return record.mark.revision
    }

    /// A tombstone for each.
    private mutating func bury(_ keys: [DoomedKey], _ reader: inout BatchReader) throws {
        try reader.spend(3 * keys.count)
        if scratch == nil { undo = nil }
        let revision = takeNewRevision()
        for doomed in keys {
            let tombstone = MemtableEntry(tombstoneIn: doomed.rawKey, key: 0..<doomed.rawKey.count, revision: revision)
            let (position, isInActive) = tombstone.withKey { active.find($0) }
            var current = CurrentKey(position: position, isInActive: isInActive)
            current.metadata = doomed.metadata
            (current.contentSize, current.hash) = (doomed.contentSize, doomed.hash)
            set(tombstone, over: current)
        }
    }

    /// What goes when all user keys go and are too many for a tombstone each: what the record of the state counts, less what else is
    /// there. Nil when that would be no quicker than a look at each key, and for any other prefix.
    private func collectAll(_ rawPrefix: [UInt8], _ reader: inout BatchReader) throws -> Doomed? {
        let others = record.recordCount - record.keyCount
        guard rawPrefix == [Space.keys.rawValue], record.keyCount > UInt64(maximumTombstones), others < record.keyCount,
            let next = KeyBounds.successor(ofPrefix: rawPrefix)
        else { return nil }
        var doomed = Doomed()
        doomed.count = Int(record.keyCount)
        doomed.contentBytes = record.contentBytes
        doomed.hash = record.hash
        var bounds = KeyBounds(prefix: [])
        bounds.raise(toAtLeast: next)
        try makeView().scan(bounds, passing: { try reader.spend(1) }) { item in
            doomed.hash &-= try item.hash(isRecomputed: false)
            // Each key with a lease has an attachment: the lease's id and the raw key.
            item.withKey { key in
                guard key[0] == Space.attachments.rawValue, key.count > 9, key[9] == Space.keys.rawValue else { return }
                let lease = UInt64(bigEndianBytes: UnsafeRawBufferPointer(rebasing: key[1..<9])) ?? 0
                doomed.leased.append((Array(key[9...]), lease))
            }
            return doomed.leased.count > KeyValueLimits.maximumDeletedLeasedKeys ? .stop : .next
        }
        return doomed
    }

    /// - Parameter isBounded: stop when there are more than the first.
    private func collect(
        _ rawPrefix: [UInt8],
        first limit: Int,
        isBounded: Bool = false,
        _ reader: inout BatchReader
    ) throws -> Doomed {
        var doomed = Doomed()
        try makeView().scan(KeyBounds(prefix: rawPrefix), passing: { try reader.spend(1) }) { item in
            let hash = try item.hash(isRecomputed: false)
            let metadata = item.metadata
            item.withKey { key in
                let contentSize = key.count - 1 + item.valueLength
                if doomed.count < limit {
                    doomed.keys.append(
                        DoomedKey(rawKey: Array(key), metadata: metadata, contentSize: contentSize, hash: hash)
                    )
                }
                if metadata.lease != 0 { doomed.leased.append((Array(key), metadata.lease)) }
                doomed.contentBytes += UInt64(contentSize)
            }
            doomed.hash &+= hash
            doomed.count += 1
            if doomed.leased.count > KeyValueLimits.maximumDeletedLeasedKeys { return .stop }
            return isBounded && doomed.count > limit ? .stop : .next
        }
        return doomed
    }
}
