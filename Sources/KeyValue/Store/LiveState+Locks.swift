extension LiveState {
    /// A lock as it is found, free or held.
    private struct FoundLock {
        var rawKey: [UInt8]
        var item: Item?
        var tickets: [LockTicket] = []

        var status: LockStatus? { item.flatMap { LockStatus($0) } }

        /// Where the ticket of a lease stands: there is one at most.
        func place(ofLease id: UInt64) -> Int? { tickets.firstIndex { $0.lease == id } }

        func ticket(at place: Int, revision: UInt64) -> Outcome {
            let name = Array(rawKey.dropFirst())
            return .lock(LockTicketStatus(name: name, ticket: tickets[place], position: place, revision: revision))
        }
    }

    private func lock(_ rawKey: [UInt8], _ reader: inout BatchReader) throws -> FoundLock {
        var found = FoundLock(rawKey: rawKey)
        guard let item = try find(rawKey, withItem: true, &reader).item else { return found }
        guard let record = LockRecord(decoding: item.value) else {
            throw StoreError.malformedRecord(.locks, rawKey.dropFirst(), path: backend.path)
        }
        found.item = item
        found.tickets = record.tickets
        return found
    }

    /// The outcome of a command whose fence does not hold; nil when it does.
    func check(_ fence: Fence, _ reader: inout BatchReader) throws -> Outcome? {
        let lock = try lock(Space.locks.raw(fence.lock), &reader)
        if lock.tickets.first?.token == fence.token { return nil }
        return .fenced(revision: record.mark.revision, current: lock.status)
    }

    mutating func acquire(_ request: LockRequest, _ reader: inout BatchReader) throws -> Outcome {
        var lock = try lock(Space.locks.raw(request.name), &reader)
        if case .attached(let id) = request.lease, let place = lock.place(ofLease: id), place == 0 || request.waits,
            try attachableLease(id, &reader) != nil
        {
            return lock.ticket(at: place, revision: record.mark.revision)
        }
        if let status = lock.status, !request.waits { return .lockHeld(status) }
        let bytes = lock.tickets.reduce(request.value.count) { $0 + $1.value.count }
        guard lock.tickets.count <= KeyValueLimits.maximumLockWaiters, bytes <= KeyValueLimits.maximumLockBytes else {
            throw Refusal(.tooLarge(.lockQueue))
        }
        let id: UInt64
        switch request.lease {
        case .none: throw Refusal(.invalid(.leaseMissing))
        case .attached(let chosen):
            guard try attachableLease(chosen, &reader) != nil else { throw Refusal(.leaseNotFound(chosen)) }
            id = chosen
        case .ttl(let ttl):
            id = try chooseLease(&reader)
            try setLease(id, LeaseRecord(ttlMilliseconds: ttl, now: now, owner: .lock), &reader)
        }
        let ticket = LockTicket(token: takeRevision(), lease: id, value: request.value)
        lock.tickets.append(ticket)
        try write(lock, .put, &reader)
        try attach(lock.rawKey, to: id, &reader)
        return lock.ticket(at: lock.tickets.count - 1, revision: ticket.token)
    }

    mutating func release(
        _ name: [UInt8],
        _ token: UInt64,
        onlyWhileWaiting: Bool,
        _ reader: inout BatchReader
    ) throws -> Outcome {
        var lock = try lock(Space.locks.raw(name), &reader)
        guard let place = lock.tickets.firstIndex(where: { $0.token == token }) else { throw Refusal(.lockNotFound) }
        if place == 0, onlyWhileWaiting { return lock.ticket(at: place, revision: record.mark.revision) }
        let lease = lock.tickets[place].lease
        try removeTicket(at: place, from: &lock, .delete, &reader)
        try detach(lock.rawKey, from: lease, &reader)
        return .lockReleased(revision: record.mark.revision)
    }

    /// Takes from a lock the ticket that lives with a lease which ends.
    mutating func dropTicket(
        of lease: UInt64,
        _ rawKey: [UInt8],
        _ kind: Event.Kind,
        _ reader: inout BatchReader
    ) throws {
        var lock = try lock(rawKey, &reader)
        guard let place = lock.place(ofLease: lease) else { return }
        try removeTicket(at: place, from: &lock, kind, &reader)
    }

    /// Behind the holder the next one holds, whose lease starts anew.
    private mutating func removeTicket(
        at place: Int,
        from lock: inout FoundLock,
        _ kind: Event.Kind,
        _ reader: inout BatchReader
    ) throws {
        lock.tickets.remove(at: place)
        try write(lock, kind, &reader)
        if place == 0, let next = lock.tickets.first { try renew(next.lease, &reader) }
    }

    /// Writes a changed lock; one without a ticket is removed, as a change of `kind`.
    private mutating func write(_ lock: FoundLock, _ kind: Event.Kind, _ reader: inout BatchReader) throws {
        let revision = takeRevision()
        if lock.tickets.isEmpty {
            try removeRecord(lock.rawKey, revision: revision, kind: kind, &reader)
            return
        }
        var record = LockRecord()
        record.tickets = lock.tickets
        let metadata = ItemMetadata(
            createRevision: lock.item?.createRevision ?? revision,
            modRevision: revision,
            version: (lock.item?.version ?? 0) + 1
        )
        try setRecord(lock.rawKey, record.encode(), metadata: metadata, &reader)
    }
}
