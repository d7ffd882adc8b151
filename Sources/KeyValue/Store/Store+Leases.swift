internal import LMDB

extension Store {
    /// A lease, and the mark of the cut that it was read from; nil when there is none, or it is ending.
    public func lease(id: UInt64) throws -> (lease: LeaseStatus?, mark: StateMark) {
        let (item, mark) = try record(.leases, id.bigEndianBytes[...])
        guard let item else { return (nil, mark) }
        let record = try leaseRecord(item)
        return (record.isEnding ? nil : record.status(id: id, now: mark.timestampMilliseconds), mark)
    }

    /// The leases behind an id, in the order of their ids, at most `limit`; with those that belong to keys and locks.
    public func leases(after id: UInt64? = nil, limit: Int) throws -> (leases: [LeaseStatus], mark: StateMark) {
        let view = try state.withLock { try $0.makeView() }
        var bounds = KeyBounds(prefix: [Space.leases.rawValue])
        if let id { bounds.raise(toAtLeast: Space.leases.raw(id, [0])) }
        var leases: [LeaseStatus] = []
        try view.scan(bounds) { scanned in
            guard leases.count < limit else { return .stop }
            let item = try scanned.item(keysOnly: false)
            let record = try leaseRecord(item)
            if !record.isEnding, let id = UInt64(bigEndianBytes: item.key) {
                leases.append(record.status(id: id, now: view.mark.timestampMilliseconds))
            }
            return .next
        }
        return (leases, view.mark)
    }

    /// The keys that end with a lease, in their order, at most `limit`, behind `key`.
    public func attachedKeys(
        of lease: UInt64,
        after key: [UInt8]? = nil,
        limit: Int
    ) throws -> (keys: [[UInt8]], mark: StateMark) {
        let view = try state.withLock { try $0.makeView() }
        var bounds = KeyBounds(prefix: Space.attachments.raw(lease, [Space.keys.rawValue]))
        if let key { bounds.raise(toAtLeast: Space.attachments.raw(lease, Space.keys.raw(key + [0]))) }
        var keys: [[UInt8]] = []
        try view.scan(bounds) { scanned in
            guard keys.count < limit else { return .stop }
            keys.append(scanned.withKey { Array($0.dropFirst(10)) })
            return .next
        }
        return (keys, view.mark)
    }

    /// Leases whose deadline is at or before `time`, first the one that came first; at most `limit`. Cheap: reads no disk.
    public func dueLeases(at time: UInt64, limit: Int) -> [UInt64] {
        state.withLock { $0.leaseClock.due(at: time, limit: limit) }
    }

    /// The first deadline of all leases in the cluster's time; nil when there is no lease. Cheap.
    public var nextLeaseDeadline: UInt64? { state.withLock { $0.leaseClock.next() } }

    /// How many leases there are. Cheap.
    public var leaseCount: Int { state.withLock { Int(clamping: $0.record.leaseCount) } }

    /// A lock by its name; nil when nobody holds it.
    public func lock(name: [UInt8]) throws -> (lock: LockStatus?, mark: StateMark) {
        guard Command.validate(lockName: name) == nil else { return (nil, mark) }
        let (item, mark) = try record(.locks, name[...])
        return (try item.map { try lockStatus($0) }, mark)
    }

    /// The locks whose names begin with `prefix`, in the order of their names, at most `limit`, behind `name`.
    public func locks(
        prefix: [UInt8] = [],
        after name: [UInt8]? = nil,
        limit: Int
    ) throws -> (locks: [LockStatus], mark: StateMark) {
        let view = try state.withLock { try $0.makeView() }
        var bounds = KeyBounds(prefix: Space.locks.raw(prefix))
        if let name { bounds.raise(toAtLeast: Space.locks.raw(name + [0])) }
        var locks: [LockStatus] = []
        try view.scan(bounds) { scanned in
            guard locks.count < limit else { return .stop }
            locks.append(try lockStatus(try scanned.item(keysOnly: false)))
            return .next
        }
        return (locks, view.mark)
    }

    private func leaseRecord(_ item: Item) throws -> LeaseRecord {
        guard let record = LeaseRecord(decoding: item.value) else {
            throw StoreError.malformedRecord(.leases, item.key, path: directory.path)
        }
        return record
    }

    private func lockStatus(_ item: Item) throws -> LockStatus {
        guard let status = LockStatus(item) else {
            throw StoreError.malformedRecord(.locks, item.key, path: directory.path)
        }
        return status
    }
}

extension StoreError {
    /// The checksums of a record are right, but its content makes no sense.
    static func malformedRecord(_ space: Space, _ key: ArraySlice<UInt8>, path: String) -> StoreError {
        space.raw(key).withUnsafeBytes { .corruptItem($0, path: path) }
    }
}
