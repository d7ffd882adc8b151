package import KeyValue

extension ReferenceModel {
    private struct Refusal: Error {
        var outcome: Outcome
    }

    package mutating func apply(_ request: Request) -> Outcome {
        if let reason = request.command.validate() { return .invalid(reason) }
        now = max(now, request.timestamp)
        hasRevision = false
        forget()
        if let key = request.options.idempotency, let first = answered[key.key] {
            return first.fingerprint == key.fingerprint ? .replayed(first.outcome) : .idempotencyMismatch
        }
        if let fence = request.options.fence, locks[fence.lock]?.tickets.first?.token != fence.token {
            return .fenced(revision: revision, current: status(fence.lock))
        }
        let before = self
        var outcome: Outcome
        do throws(Refusal) {
            outcome = try execute(request.command)
        } catch {
            self = before
            outcome = error.outcome
        }
        guard let key = request.options.idempotency else { return outcome }
        switch outcome {
        case .invalid, .fenced, .tooLarge: return outcome
        default: break
        }
        guard outcome.encode().count <= KeyValueLimits.maximumIdempotentOutcomeBytes else {
            self = before
            return .tooLarge(.outcomeBytes)
        }
        answered[key.key] = Answered(fingerprint: key.fingerprint, time: now, outcome: outcome)
        return outcome
    }

    private mutating func forget() {
        for _ in 0..<4 {
            let oldest = answered.min {
                $0.value.time == $1.value.time
                    ? $0.key.lexicographicallyPrecedes($1.key) : $0.value.time < $1.value.time
            }
            guard let oldest else { return }
            let isOld = oldest.value.time + KeyValueLimits.idempotencyAgeMilliseconds <= now
            guard isOld || (answered.count > maximumAnswered && oldest.value.time < now) else { return }
            answered[oldest.key] = nil
        }
    }

    private mutating func takeRevision() -> UInt64 {
        if !hasRevision { revision += 1 }
        hasRevision = true
        return revision
    }

    package func status(_ name: [UInt8]) -> LockStatus? {
        guard let lock = locks[name], let holder = lock.tickets.first else { return nil }
        return LockStatus(
            name: name,
            holder: holder,
            waiters: Array(lock.tickets.dropFirst()),
            createRevision: lock.createRevision,
            modRevision: lock.modRevision
        )
    }

    package func status(_ id: UInt64) -> LeaseStatus? {
        guard let lease = leases[id] else { return nil }
        return LeaseStatus(
            id: id,
            ttlMilliseconds: lease.ttl,
            remainingMilliseconds: lease.deadline > now ? lease.deadline - now : 0,
            keys: items.values.count { $0.lease == id },
            owner: lease.owner
        )
    }

    private mutating func execute(_ command: Command) throws(Refusal) -> Outcome {
        switch command {
        case .put(let put):
            let current = items[put.key]
            guard holds(put.condition, current) else { return failed(current) }
            let item = try self.put(put)
            return .put(
                revision: item.modRevision,
                createRevision: item.createRevision,
                version: item.version,
                created: current == nil,
                previous: put.returnsPrevious ? current : nil
            )
        case .delete(let key, let condition, let returnsPrevious):
            let current = items[key]
            guard holds(condition, current) else { return failed(current) }
            let count = delete([key])
            return .deleted(revision: revision, count: count, previous: returnsPrevious ? current : nil)
        case .deletePrefix(let prefix):
            let count = delete(items.keys.filter { $0.starts(with: prefix) })
            return .deleted(revision: revision, count: count, previous: nil)
        case .increment(let key, let by, let condition):
            guard holds(condition, items[key]) else { return failed(items[key]) }
            let item = try increment(key, by, nil)
            return .incremented(
                revision: revision,
                value: Int64(String(decoding: item.value, as: UTF8.self)) ?? 0,
                createRevision: item.createRevision,
                version: item.version
            )
        case .transaction(let transaction): return .transaction(try execute(transaction))
        case .acquireLock(let request): return try acquire(request)
        case .releaseLock(let name, let token, let onlyWhileWaiting):
            guard let ticket = locks[name]?.tickets.first(where: { $0.token == token }) else { return .lockNotFound }
            if onlyWhileWaiting, locks[name]?.tickets.first == ticket { return .lock(place(name, ticket, 0)) }
            drop(name) { $0.token == token }
            if leases[ticket.lease]?.owner == .lock { leases[ticket.lease] = nil }
            return .lockReleased(revision: revision)
        default: return executeOnLeases(command)
        }
    }

    private func failed(_ current: Item?) -> Outcome {
        .conditionFailed(revision: revision, current: current?.metadata)
    }

    private func holds(_ condition: Condition, _ current: Item?) -> Bool {
        switch condition {
        case .none: true
        case .absent, .modRevision(0): current == nil
        case .exists: current != nil
        case .modRevision(let revision): current?.modRevision == revision
        }
    }

    // MARK: Keys

    private mutating func put(_ put: Put) throws(Refusal) -> Item {
        var lease: UInt64 = 0
        switch put.lease {
        case .none: break
        case .attached(let id):
            guard leases[id]?.owner == .client else { throw Refusal(outcome: .leaseNotFound(id)) }
            lease = id
        case .ttl(let ttl): lease = grant(ttl, .key)
        }
        return set(put.key, put.value, put.contentType, lease)
    }

    private mutating func set(
        _ key: ArraySlice<UInt8>,
        _ value: ArraySlice<UInt8>,
        _ contentType: String?,
        _ lease: UInt64
    ) -> Item {
        let current = items[key]
        let revision = takeRevision()
        let metadata = ItemMetadata(
            createRevision: current?.createRevision ?? revision,
            modRevision: revision,
            version: (current?.version ?? 0) + 1,
            lease: lease
        )
        let item = Item(key: key, value: value, contentType: contentType, metadata: metadata)
        items[key] = item
        if let old = current?.lease, old != lease, leases[old]?.owner == .key { leases[old] = nil }
        return item
    }

    private mutating func delete(_ keys: [ArraySlice<UInt8>]) -> Int {
        var count = 0
        for key in keys {
            guard let item = items.removeValue(forKey: key) else { continue }
            count += 1
            if leases[item.lease]?.owner == .key { leases[item.lease] = nil }
        }
        if count > 0 { _ = takeRevision() }
        return count
    }

    private mutating func increment(_ key: ArraySlice<UInt8>, _ by: Int64, _ operation: Int?) throws(Refusal) -> Item {
        let prior = hasRevision ? revision - 1 : revision
        let old = items[key].map { Int64(String(decoding: $0.value, as: UTF8.self)) } ?? 0
        guard let old else {
            throw Refusal(outcome: .notANumber(revision: prior, .notANumber, operation: operation))
        }
        let (sum, isOverflow) = old.addingReportingOverflow(by)
        guard !isOverflow else {
            throw Refusal(outcome: .notANumber(revision: prior, .overflow, operation: operation))
        }
        let type = items[key] == nil ? "text/plain" : items[key]?.contentType
        return set(key, Array("\(sum)".utf8)[...], type, items[key]?.lease ?? 0)
    }

    // MARK: Transactions

    private mutating func execute(_ transaction: Transaction) throws(Refusal) -> TransactionOutcome {
        let succeeded = transaction.compares.allSatisfy { holds($0) }
        var results: [OperationResult] = []
        for (number, operation) in (succeeded ? transaction.success : transaction.failure).enumerated() {
            switch operation {
            case .put(let put):
                let created = items[put.key] == nil
                let item = try self.put(put)
                results.append(.put(createRevision: item.createRevision, version: item.version, created: created))
            case .delete(let key): results.append(.deleted(count: delete([key])))
            case .deletePrefix(let prefix):
                results.append(.deleted(count: delete(items.keys.filter { $0.starts(with: prefix) })))
            case .get(let key): results.append(.item(items[key]))
            case .range(let prefix, let limit):
                let all = sorted.filter { $0.key.starts(with: prefix) }
                results.append(.range(items: Array(all.prefix(limit)), more: all.count > limit))
            case .increment(let key, let by):
                let item = try increment(key, by, number)
                results.append(
                    .incremented(
                        value: Int64(String(decoding: item.value, as: UTF8.self)) ?? 0,
                        createRevision: item.createRevision,
                        version: item.version
                    )
                )
            }
        }
        return TransactionOutcome(succeeded: succeeded, revision: revision, results: results)
    }

    private func holds(_ compare: Transaction.Compare) -> Bool {
        let item = items[compare.key]
        func holds<Value: Comparable>(_ present: Value, _ target: Value) -> Bool {
            switch compare.relation {
            case .equal: present == target
            case .notEqual: present != target
            case .less: present < target
            case .greater: present > target
            }
        }
        switch compare.target {
        case .value(let value):
            guard let present = item?.value else { return compare.relation == .notEqual }
            switch compare.relation {
            case .equal: return present.elementsEqual(value)
            case .notEqual: return !present.elementsEqual(value)
            case .less: return present.lexicographicallyPrecedes(value)
            case .greater: return value.lexicographicallyPrecedes(present)
            }
        case .version(let number): return holds(item?.version ?? 0, number)
        case .createRevision(let number): return holds(item?.createRevision ?? 0, number)
        case .modRevision(let number): return holds(item?.modRevision ?? 0, number)
        case .lease(let number): return holds(item?.lease ?? 0, number)
        case .exists(let exists): return ((item != nil) == exists) == (compare.relation == .equal)
        }
    }

    // MARK: Leases

    private mutating func grant(_ ttl: UInt64, _ owner: LeaseStatus.Owner) -> UInt64 {
        repeat { lastLease += 1 } while leases[lastLease] != nil
        leases[lastLease] = Lease(ttl: ttl, deadline: now + ttl, owner: owner)
        return lastLease
    }

    private mutating func executeOnLeases(_ command: Command) -> Outcome {
        switch command {
        case .grantLease(let id, let ttl):
            if let there = status(id) { return .leaseExists(there) }
            var id = id
            if id == 0 { id = grant(ttl, .client) }
            leases[id] = Lease(ttl: ttl, deadline: now + ttl, owner: .client)
            return status(id).map { .lease($0) } ?? .leaseNotFound(id)
        case .keepLeasesAlive(let ids):
            return .leasesKept(
                ids.map { id in
                    renew(id)
                    return status(id)
                }
            )
        case .revokeLease(let id):
            guard leases[id] != nil else { return .leaseNotFound(id) }
            let keys = end(id)
            return .leaseRevoked(revision: revision, keys: keys)
        case .expireLeases(let ids):
            var (ended, keys) = (0, 0)
            for id in ids {
                guard let lease = leases[id], lease.deadline <= now else { continue }
                keys += end(id)
                ended += 1
            }
            return .leasesExpired(revision: revision, leases: ended, keys: keys)
        default: preconditionFailure("a command that is executed elsewhere")
        }
    }

    private mutating func renew(_ id: UInt64) {
        guard let ttl = leases[id]?.ttl else { return }
        leases[id]?.deadline = now + ttl
    }

    private mutating func end(_ id: UInt64) -> Int {
        leases[id] = nil
        let keys = delete(items.values.filter { $0.lease == id }.map(\.key))
        for name in locks.keys { drop(name) { $0.lease == id } }
        return keys
    }

    // MARK: Locks

    private mutating func acquire(_ request: LockRequest) throws(Refusal) -> Outcome {
        let held = locks[request.name]?.tickets ?? []
        for (position, ticket) in held.enumerated() where request.lease == .attached(ticket.lease) {
            guard leases[ticket.lease]?.owner == .client, request.waits || position == 0 else { break }
            return .lock(place(request.name, ticket, position))
        }
        if let held = status(request.name), !request.waits { return .lockHeld(held) }
        let lease: UInt64
        switch request.lease {
        case .none: return .invalid(.leaseMissing)
        case .attached(let id):
            guard leases[id]?.owner == .client else { throw Refusal(outcome: .leaseNotFound(id)) }
            lease = id
        case .ttl(let ttl): lease = grant(ttl, .lock)
        }
        let token = takeRevision()
        let ticket = LockTicket(token: token, lease: lease, value: request.value)
        let old = locks[request.name]
        let tickets = (old?.tickets ?? []) + [ticket]
        locks[request.name] = Lock(tickets: tickets, createRevision: old?.createRevision ?? token, modRevision: token)
        return .lock(place(request.name, ticket, tickets.count - 1))
    }

    private func place(_ name: [UInt8], _ ticket: LockTicket, _ position: Int) -> LockTicketStatus {
        LockTicketStatus(name: name, ticket: ticket, position: position, revision: revision)
    }

    private mutating func drop(_ name: [UInt8], _ isDropped: (LockTicket) -> Bool) {
        guard var lock = locks[name], let holder = lock.tickets.first else { return }
        let left = lock.tickets.filter { !isDropped($0) }
        guard left != lock.tickets else { return }
        lock.modRevision = takeRevision()
        lock.tickets = left
        locks[name] = left.isEmpty ? nil : lock
        if let next = left.first, next.token != holder.token {
            renew(next.lease)
        }
    }
}
