extension LiveState {
    // MARK: Records

    /// Keeps the order of the deadlines up with a changed record of a lease.
    mutating func noteDeadline(_ entry: MemtableEntry) {
        guard let id = UInt64(bigEndianBytes: entry.rawKey.dropFirst()) else { return }
        if entry.isTombstone {
            leaseClock.remove(id)
        } else if let lease = LeaseRecord(decoding: entry.item().value) {
            leaseClock.set(id, deadline: lease.deadline)
        }
    }

    private func lease(_ id: UInt64, _ reader: inout BatchReader) throws -> LeaseRecord? {
        let rawKey = Space.leases.raw(id)
        guard let value = try value(of: rawKey, &reader) else { return nil }
        guard let record = LeaseRecord(decoding: value) else {
            throw StoreError.malformedRecord(.leases, rawKey.dropFirst(), path: backend.path)
        }
        return record
    }

    mutating func setLease(_ id: UInt64, _ lease: LeaseRecord, _ reader: inout BatchReader) throws {
        try setRecord(Space.leases.raw(id), lease.encode(), &reader)
    }

    /// A lease that a client may attach to; nil when there is none.
    func attachableLease(_ id: UInt64, _ reader: inout BatchReader) throws -> LeaseRecord? {
        guard let lease = try lease(id, &reader), lease.owner == .client, !lease.isEnding else { return nil }
        return lease
    }

    /// The next id that is free.
    mutating func chooseLease(_ reader: inout BatchReader) throws -> UInt64 {
        repeat { record.lastLease &+= 1 } while try record.lastLease == 0 || lease(record.lastLease, &reader) != nil
        return record.lastLease
    }

    // MARK: Attachments

    /// Makes a key or lock end with a lease, which is there.
    mutating func attach(_ rawKey: [UInt8], to id: UInt64, _ reader: inout BatchReader) throws {
        let attachment = Space.attachments.raw(id, rawKey)
        guard try find(attachment, withItem: false, &reader).metadata == nil,
            var lease = try lease(id, &reader)
        else { return }
        try setRecord(attachment, [], &reader)
        if rawKey.first == Space.locks.rawValue { lease.locks += 1 } else { lease.keys += 1 }
        try setLease(id, lease, &reader)
    }

    /// Takes a key or lock from its lease. A lease of its own ends.
    mutating func detach(_ rawKey: [UInt8], from id: UInt64, _ reader: inout BatchReader) throws {
        try detach([(rawKey, id)], &reader)
    }

    mutating func detach(_ attached: [(rawKey: [UInt8], lease: UInt64)], _ reader: inout BatchReader) throws {
        var leases: [UInt64: LeaseRecord] = [:]
        for (rawKey, id) in attached {
            try removeRecord(Space.attachments.raw(id, rawKey), &reader)
            guard var lease = try leases[id] ?? lease(id, &reader) else { continue }
            if rawKey.first == Space.locks.rawValue { lease.locks -= 1 } else { lease.keys -= 1 }
            leases[id] = lease
        }
        for (id, lease) in leases {
            if lease.keys == 0, lease.locks == 0, lease.owner != .client || lease.isEnding {
                try removeRecord(Space.leases.raw(id), &reader)
            } else {
                try setLease(id, lease, &reader)
            }
        }
    }

    // MARK: Commands

    mutating func grant(_ id: UInt64, _ ttl: UInt64, _ reader: inout BatchReader) throws -> Outcome {
        if id != 0, let lease = try lease(id, &reader) { return .leaseExists(lease.status(id: id, now: now)) }
        let id = id == 0 ? try chooseLease(&reader) : id
        let lease = LeaseRecord(ttlMilliseconds: ttl, now: now, owner: .client)
        try setLease(id, lease, &reader)
        return .lease(lease.status(id: id, now: now))
    }

    mutating func keepAlive(_ id: UInt64, _ reader: inout BatchReader) throws -> LeaseStatus? {
        guard let lease = try renew(id, &reader) else { return nil }
        return lease.status(id: id, now: now)
    }

    /// Begins a lease's time anew; nil when it is not there, or ending.
    @discardableResult
    mutating func renew(_ id: UInt64, _ reader: inout BatchReader) throws -> LeaseRecord? {
        guard var lease = try lease(id, &reader), !lease.isEnding else { return nil }
        lease.renew(now: now)
        try setLease(id, lease, &reader)
        return lease
    }

    mutating func revoke(_ id: UInt64, _ reader: inout BatchReader) throws -> Outcome {
        guard let lease = try lease(id, &reader), !lease.isEnding else { throw Refusal(.leaseNotFound(id)) }
        var room = KeyValueLimits.maximumRevokedKeys
        let keys = try end(id, lease, .delete, &room, &reader)
        return .leaseRevoked(revision: record.mark.revision, keys: keys)
    }

    mutating func expire(_ leases: [UInt64], _ reader: inout BatchReader) throws -> Outcome {
        var room = KeyValueLimits.maximumExpiredKeys
        var (ended, keys) = (0, 0)
        for id in leases {
            guard let lease = try lease(id, &reader), lease.isEnding || lease.deadline <= now else { continue }
            // One with nothing attached needs no room.
            guard room > 0 || lease.keys + lease.locks == 0 else { break }
            keys += try end(id, lease, .expire, &room, &reader)
            if try self.lease(id, &reader) == nil { ended += 1 }
        }
        return .leasesExpired(revision: record.mark.revision, leases: ended, keys: keys)
    }

    /// Ends a lease with what is attached, `room` of that at most: what is more keeps it, as one that is ending and due. Answers how many keys
    /// were deleted.
    private mutating func end(
        _ id: UInt64,
        _ lease: LeaseRecord,
        _ kind: Event.Kind,
        _ room: inout Int,
        _ reader: inout BatchReader
    ) throws -> Int {
        var lease = lease
        var attached: [[UInt8]] = []
        let bounds = KeyBounds(prefix: Space.attachments.raw(id))
        try makeView().scan(bounds, passing: { try reader.spend(1) }) { scanned in
            guard attached.count < room else { return .stop }
            attached.append(scanned.withKey { Array($0.dropFirst(9)) })
            return .next
        }
        room -= attached.count
        var keys = 0
        for rawKey in attached {
            try removeRecord(Space.attachments.raw(id, rawKey), &reader)
            if rawKey.first == Space.locks.rawValue {
                lease.locks -= 1
                try dropTicket(of: id, rawKey, kind, &reader)
            } else {
                lease.keys -= 1
                keys += 1
                try removeRecord(rawKey, revision: takeRevision(), kind: kind, &reader)
            }
        }
        if lease.keys == 0, lease.locks == 0 {
            try removeRecord(Space.leases.raw(id), &reader)
        } else {
            lease.isEnding = true
            lease.deadline = min(lease.deadline, now)
            try setLease(id, lease, &reader)
        }
        return keys
    }
}
