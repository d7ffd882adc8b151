extension Command {
    /// What operations that are not about one key carry in place of the value; empty for the others.
    func encodedBody() -> [UInt8] {
        var writer = ByteWriter()
        switch self {
        case .put, .delete, .deletePrefix, .increment: break
        case .transaction(let transaction): transaction.write(to: &writer)
        case .grantLease(let id, let ttl):
            writer.write(id)
            writer.write(ttl)
        case .keepLeasesAlive(let leases), .expireLeases(let leases):
            for id in leases { writer.write(id) }
        case .revokeLease(let id): writer.write(id)
        case .acquireLock(let request):
            writer.write(request.waits)
            request.lease.write(to: &writer)
            writer.write(short: request.name)
            writer.write(long: request.value)
        case .releaseLock(let name, let token, let onlyWhileWaiting):
            writer.write(onlyWhileWaiting)
            writer.write(token)
            writer.write(short: name)
        }
        return writer.bytes
    }

    /// Nil when the bytes are no such body.
    init?(_ operation: CommandLayout.Operation, body: UnsafeRawBufferPointer) {
        var reader = BufferReader(body)
        switch operation {
        case .put, .delete, .deletePrefix, .increment: return nil
        case .transaction:
            guard let transaction = Transaction(&reader) else { return nil }
            self = .transaction(transaction)
        case .grantLease:
            guard let id = reader.read(UInt64.self), let ttl = reader.read(UInt64.self) else { return nil }
            self = .grantLease(id: id, ttlMilliseconds: ttl)
        case .keepLeasesAlive:
            guard let leases = reader.readLeases() else { return nil }
            self = .keepLeasesAlive(leases)
        case .expireLeases:
            guard let leases = reader.readLeases() else { return nil }
            self = .expireLeases(leases)
        case .revokeLease:
            guard let id = reader.read(UInt64.self) else { return nil }
            self = .revokeLease(id)
        case .acquireLock:
            guard let waits = reader.readFlag(), let lease = LeaseChoice(&reader), let name = reader.readShort(),
                let value = reader.readLong()
            else { return nil }
            self = .acquireLock(LockRequest(name: name, lease: lease, waits: waits, value: value))
        case .releaseLock:
            guard let onlyWhileWaiting = reader.readFlag(), let token = reader.read(UInt64.self),
                let name = reader.readShort()
            else { return nil }
            self = .releaseLock(name: name, token: token, onlyWhileWaiting: onlyWhileWaiting)
        }
        guard reader.isAtEnd else { return nil }
    }
}

extension BufferReader {
    fileprivate mutating func readLeases() -> [UInt64]? {
        guard remaining.isMultiple(of: 8) else { return nil }
        var leases: [UInt64] = []
        leases.reserveCapacity(remaining / 8)
        while let id = read(UInt64.self) { leases.append(id) }
        return leases
    }
}

extension LeaseChoice {
    fileprivate func write(to writer: inout ByteWriter) {
        switch self {
        case .none: writer.write(0 as UInt8)
        case .attached(let id):
            writer.write(1 as UInt8)
            writer.write(id)
        case .ttl(let ttl):
            writer.write(2 as UInt8)
            writer.write(ttl)
        }
    }

    fileprivate init?(_ reader: inout BufferReader) {
        guard let kind = reader.read(UInt8.self) else { return nil }
        if kind == 0 {
            self = .none
            return
        }
        guard kind <= 2, let number = reader.read(UInt64.self) else { return nil }
        self = kind == 1 ? .attached(number) : .ttl(milliseconds: number)
    }
}

extension Transaction {
    fileprivate func write(to writer: inout ByteWriter) {
        writer.write(UInt16(clamping: compares.count))
        for compare in compares { compare.write(to: &writer) }
        for branch in [success, failure] {
            writer.write(UInt16(clamping: branch.count))
            for operation in branch { operation.write(to: &writer) }
        }
    }

    fileprivate init?(_ reader: inout BufferReader) {
        self.init()
        guard let count = reader.read(UInt16.self) else { return nil }
        for _ in 0..<count {
            guard let compare = Compare(&reader) else { return nil }
            compares.append(compare)
        }
        guard let success = Self.readBranch(&reader), let failure = Self.readBranch(&reader) else { return nil }
        self.success = success
        self.failure = failure
    }

    private static func readBranch(_ reader: inout BufferReader) -> [Operation]? {
        guard let count = reader.read(UInt16.self) else { return nil }
        var operations: [Operation] = []
        for _ in 0..<count {
            guard let operation = Operation(&reader) else { return nil }
            operations.append(operation)
        }
        return operations
    }
}

extension Transaction.Compare {
    fileprivate func write(to writer: inout ByteWriter) {
        writer.write(short: key)
        writer.write(relation.rawValue)
        switch target {
        case .value(let value):
            writer.write(0 as UInt8)
            writer.write(long: value)
        case .version(let number): Self.write(1, number, to: &writer)
        case .createRevision(let number): Self.write(2, number, to: &writer)
        case .modRevision(let number): Self.write(3, number, to: &writer)
        case .exists(let exists): Self.write(4, exists ? 1 : 0, to: &writer)
        case .lease(let number): Self.write(5, number, to: &writer)
        }
    }

    private static func write(_ kind: UInt8, _ number: UInt64, to writer: inout ByteWriter) {
        writer.write(kind)
        writer.write(number)
    }

    fileprivate init?(_ reader: inout BufferReader) {
        guard let key = reader.readShort(), let code = reader.read(UInt8.self),
            let relation = Relation(rawValue: code), let kind = reader.read(UInt8.self)
        else { return nil }
        self.key = key[...]
        self.relation = relation
        if kind == 0 {
            guard let value = reader.readLong() else { return nil }
            target = .value(value)
            return
        }
        guard let number = reader.read(UInt64.self) else { return nil }
        switch kind {
        case 1: target = .version(number)
        case 2: target = .createRevision(number)
        case 3: target = .modRevision(number)
        case 4 where number <= 1: target = .exists(number == 1)
        case 5: target = .lease(number)
        default: return nil
        }
    }
}

extension Transaction.Operation {
    fileprivate func write(to writer: inout ByteWriter) {
        switch self {
        case .put(let put):
            writer.write(1 as UInt8)
            writer.write(short: put.key)
            put.lease.write(to: &writer)
            // Written for what ``Transaction/validate()`` refuses, to be refused when it is applied.
            let (kind, revision) = put.condition.encoded
            writer.write(kind)
            writer.write(revision)
            writer.write(put.returnsPrevious)
            writer.write(put.contentType != nil)
            if let type = put.contentType { writer.write(short: Array(type.utf8)) }
            writer.write(long: put.value)
        case .delete(let key):
            writer.write(2 as UInt8)
            writer.write(short: key)
        case .deletePrefix(let prefix):
            writer.write(3 as UInt8)
            writer.write(short: prefix)
        case .get(let key):
            writer.write(4 as UInt8)
            writer.write(short: key)
        case .range(let prefix, let limit):
            writer.write(5 as UInt8)
            writer.write(short: prefix)
            writer.write(Int64(limit))
        case .increment(let key, let by):
            writer.write(6 as UInt8)
            writer.write(short: key)
            writer.write(by)
        }
    }

    fileprivate init?(_ reader: inout BufferReader) {
        guard let kind = reader.read(UInt8.self), let key = reader.readShort() else { return nil }
        switch kind {
        case 1:
            guard let put = Put(key, &reader) else { return nil }
            self = .put(put)
        case 2: self = .delete(key[...])
        case 3: self = .deletePrefix(key[...])
        case 4: self = .get(key[...])
        case 5:
            guard let limit = reader.read(Int64.self) else { return nil }
            self = .range(prefix: key[...], limit: Int(limit))
        case 6:
            guard let by = reader.read(Int64.self) else { return nil }
            self = .increment(key: key[...], by: by)
        default: return nil
        }
    }
}

extension Put {
    fileprivate init?(_ key: [UInt8], _ reader: inout BufferReader) {
        guard let lease = LeaseChoice(&reader), let kind = reader.read(UInt8.self),
            let revision = reader.read(UInt64.self), let condition = Condition(kind: kind, revision: revision),
            let returnsPrevious = reader.readFlag(), let hasType = reader.readFlag()
        else { return nil }
        var contentType: String?
        if hasType {
            guard let bytes = reader.readShort(), let type = String(validating: bytes, as: UTF8.self) else {
                return nil
            }
            contentType = type
        }
        guard let value = reader.readLong() else { return nil }
        self.init(
            key: key[...],
            value: value[...],
            contentType: contentType,
            lease: lease,
            condition: condition,
            returnsPrevious: returnsPrevious
        )
    }
}
