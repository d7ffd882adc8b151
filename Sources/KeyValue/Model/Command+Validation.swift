extension Command {
    /// The largest value that the format can carry, in bytes. The service's own limit is far below.
    public static let maximumValueLength = 1 << 30

    /// Why the command would be refused when it is applied; nil when it would not. For the service to ask before proposing.
    public func validate() -> InvalidCommand? {
        switch self {
        case .put(let put): put.validate()
        case .delete(let key, _, _), .increment(let key, _, _): Self.validate(keyLength: key.count)
        case .deletePrefix(let prefix): Self.validate(prefix: prefix)
        case .transaction(let transaction): transaction.validate()
        case .grantLease(_, let ttl): LeaseChoice.ttl(milliseconds: ttl).validate()
        case .keepLeasesAlive(let leases), .expireLeases(let leases):
            leases.count > KeyValueLimits.maximumLeasesPerCommand ? .tooManyLeases : nil
        case .revokeLease(let id): LeaseChoice.attached(id).validate()
        case .acquireLock(let request): request.validate()
        case .releaseLock(let name, _, _): Self.validate(lockName: name)
        }
    }

    /// Why a key of `keyLength` bytes would be refused; nil when it would not.
    public static func validate(keyLength: Int) -> InvalidCommand? {
        if keyLength == 0 { return .keyEmpty }
        return keyLength > KeyValueLimits.maximumKeyLength ? .keyTooLong : nil
    }

    fileprivate static func validate(prefix: ArraySlice<UInt8>) -> InvalidCommand? {
        prefix.isEmpty ? nil : validate(keyLength: prefix.count)
    }

    /// Why a name would be refused as a lock's; nil when it would not.
    public static func validate(lockName name: [UInt8]) -> InvalidCommand? {
        guard (1...KeyValueLimits.maximumLockNameLength).contains(name.count),
            String(validating: name, as: UTF8.self) != nil
        else { return .lockName }
        return nil
    }
}

extension Put {
    func validate() -> InvalidCommand? {
        if let reason = Command.validate(keyLength: key.count) { return reason }
        if (contentType?.utf8.count ?? 0) > KeyValueLimits.maximumContentTypeLength { return .contentTypeTooLong }
        if value.count > Command.maximumValueLength { return .valueTooLarge }
        return lease.validate()
    }
}

extension LeaseChoice {
    public func validate() -> InvalidCommand? {
        switch self {
        case .none: nil
        case .attached(let id): id == 0 ? .leaseMissing : nil
        case .ttl(let ttl): KeyValueLimits.ttlMilliseconds.contains(ttl) ? nil : .ttlOutOfRange
        }
    }
}

extension CommandOptions {
    /// Why a command with these options would be refused; nil when it would not.
    public func validate() -> InvalidCommand? {
        if let idempotency,
            !(1...KeyValueLimits.maximumIdempotencyKeyLength).contains(idempotency.key.count)
        {
            return .idempotencyKey
        }
        return fence.flatMap { Command.validate(lockName: $0.lock) }
    }
}

extension LockRequest {
    func validate() -> InvalidCommand? {
        if let reason = Command.validate(lockName: name) { return reason }
        if value.count > KeyValueLimits.maximumLockValueLength { return .lockValueTooLong }
        return lease == .none ? .leaseMissing : lease.validate()
    }
}

extension Transaction {
    func validate() -> InvalidCommand? {
        if compares.count > KeyValueLimits.maximumCompares { return .tooManyCompares }
        if max(success.count, failure.count) > KeyValueLimits.maximumOperations { return .tooManyOperations }
        for compare in compares {
            if let reason = Command.validate(keyLength: compare.key.count) { return reason }
            if case .exists = compare.target, compare.relation.rawValue > Compare.Relation.notEqual.rawValue {
                return .unfitCompare
            }
        }
        for operation in success + failure {
            if let reason = operation.validate() { return reason }
        }
        return nil
    }
}

extension Transaction.Operation {
    fileprivate func validate() -> InvalidCommand? {
        switch self {
        case .put(let put): put.condition != .none || put.returnsPrevious ? .unfitOperation : put.validate()
        case .delete(let key), .get(let key), .increment(let key, _): Command.validate(keyLength: key.count)
        case .deletePrefix(let prefix): Command.validate(prefix: prefix)
        case .range(let prefix, let limit):
            (1...KeyValueLimits.maximumRangeLimit).contains(limit) ? Command.validate(prefix: prefix) : .limitOutOfRange
        }
    }
}
