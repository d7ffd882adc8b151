/// The encoded forms of what outcomes are made of.
extension ByteWriter {
    /// A flag that tells whether there is something, and it.
    mutating func write<Value>(_ value: Value?, _ body: (Value, inout ByteWriter) -> Void) {
        write(value != nil)
        if let value { body(value, &self) }
    }
}

extension BufferReader {
    /// Nil for malformed bytes; a nil inside for nothing.
    mutating func readOptional<Value>(_ body: (inout BufferReader) -> Value?) -> Value?? {
        guard let isThere = readFlag() else { return nil }
        guard isThere else { return .some(nil) }
        guard let value = body(&self) else { return nil }
        return .some(value)
    }

    /// A number of things, not negative.
    mutating func readCount() -> Int? {
        guard let count = read(Int64.self), count >= 0 else { return nil }
        return Int(count)
    }
}

extension ItemMetadata {
    func write(to writer: inout ByteWriter) {
        for number in [createRevision, modRevision, version, lease] { writer.write(number) }
    }

    init?(_ reader: inout BufferReader) {
        guard let createRevision = reader.read(UInt64.self), let modRevision = reader.read(UInt64.self),
            let version = reader.read(UInt64.self), let lease = reader.read(UInt64.self)
        else { return nil }
        self.init(createRevision: createRevision, modRevision: modRevision, version: version, lease: lease)
    }
}

extension Item {
    func write(to writer: inout ByteWriter) {
        writer.write(short: key)
        writer.write(long: value)
        writer.write(contentType) { $1.write(short: Array($0.utf8)) }
        metadata.write(to: &writer)
    }

    init?(_ reader: inout BufferReader) {
        guard let key = reader.readShort(), let value = reader.readLong(),
            let type = reader.readOptional({ $0.readShort().flatMap { String(validating: $0, as: UTF8.self) } }),
            let metadata = ItemMetadata(&reader)
        else { return nil }
        self.init(key: key[...], value: value[...], contentType: type, metadata: metadata)
    }
}

extension LeaseStatus {
    func write(to writer: inout ByteWriter) {
        for number in [id, ttlMilliseconds, remainingMilliseconds] { writer.write(number) }
        writer.write(UInt32(clamping: keys))
        writer.write(owner.rawValue)
    }

    init?(_ reader: inout BufferReader) {
        guard let id = reader.read(UInt64.self), let ttl = reader.read(UInt64.self),
            let remaining = reader.read(UInt64.self), let keys = reader.read(UInt32.self),
            let code = reader.read(UInt8.self), let owner = Owner(rawValue: code)
        else { return nil }
        self.init(id: id, ttlMilliseconds: ttl, remainingMilliseconds: remaining, keys: Int(keys), owner: owner)
    }
}

extension LockTicket {
    func write(to writer: inout ByteWriter) {
        writer.write(token)
        writer.write(lease)
        writer.write(short: value)
    }

    init?(_ reader: inout BufferReader) {
        guard let token = reader.read(UInt64.self), let lease = reader.read(UInt64.self),
            let value = reader.readShort()
        else { return nil }
        self.init(token: token, lease: lease, value: value)
    }
}

extension LockStatus {
    func write(to writer: inout ByteWriter) {
        writer.write(short: name)
        writer.write(createRevision)
        writer.write(modRevision)
        holder.write(to: &writer)
        writer.write(UInt32(clamping: waiters.count))
        for waiter in waiters { waiter.write(to: &writer) }
    }

    init?(_ reader: inout BufferReader) {
        guard let name = reader.readShort(), let createRevision = reader.read(UInt64.self),
            let modRevision = reader.read(UInt64.self), let holder = LockTicket(&reader),
            let count = reader.read(UInt32.self)
        else { return nil }
        var waiters: [LockTicket] = []
        for _ in 0..<count {
            guard let waiter = LockTicket(&reader) else { return nil }
            waiters.append(waiter)
        }
        self.init(
            name: name,
            holder: holder,
            waiters: waiters,
            createRevision: createRevision,
            modRevision: modRevision
        )
    }
}

extension LockTicketStatus {
    func write(to writer: inout ByteWriter) {
        writer.write(short: name)
        ticket.write(to: &writer)
        writer.write(Int64(position))
        writer.write(revision)
    }

    init?(_ reader: inout BufferReader) {
        guard let name = reader.readShort(), let ticket = LockTicket(&reader), let position = reader.readCount(),
            let revision = reader.read(UInt64.self)
        else { return nil }
        self.init(name: name, ticket: ticket, position: position, revision: revision)
    }
}

extension TransactionOutcome {
    func write(to writer: inout ByteWriter) {
        writer.write(succeeded)
        writer.write(revision)
        writer.write(UInt16(clamping: results.count))
        for result in results { result.write(to: &writer) }
    }

    init?(_ reader: inout BufferReader) {
        guard let succeeded = reader.readFlag(), let revision = reader.read(UInt64.self),
            let count = reader.read(UInt16.self)
        else { return nil }
        var results: [OperationResult] = []
        for _ in 0..<count {
            guard let result = OperationResult(&reader) else { return nil }
            results.append(result)
        }
        self.init(succeeded: succeeded, revision: revision, results: results)
    }
}

extension OperationResult {
    fileprivate func write(to writer: inout ByteWriter) {
        switch self {
        case .put(let createRevision, let version, let created):
            writer.write(1 as UInt8)
            writer.write(createRevision)
            writer.write(version)
            writer.write(created)
        case .deleted(let count):
            writer.write(2 as UInt8)
            writer.write(Int64(count))
        case .item(let item):
            writer.write(3 as UInt8)
            writer.write(item) { $0.write(to: &$1) }
        case .range(let items, let more):
            writer.write(4 as UInt8)
            writer.write(UInt32(clamping: items.count))
            for item in items { item.write(to: &writer) }
            writer.write(more)
        case .incremented(let value, let createRevision, let version):
            writer.write(5 as UInt8)
            writer.write(value)
            writer.write(createRevision)
            writer.write(version)
        }
    }

    fileprivate init?(_ reader: inout BufferReader) {
        switch reader.read(UInt8.self) {
        case 1:
            guard let createRevision = reader.read(UInt64.self), let version = reader.read(UInt64.self),
                let created = reader.readFlag()
            else { return nil }
            self = .put(createRevision: createRevision, version: version, created: created)
        case 2:
            guard let count = reader.readCount() else { return nil }
            self = .deleted(count: count)
        case 3:
            guard let item = reader.readOptional({ Item(&$0) }) else { return nil }
            self = .item(item)
        case 4:
            guard let count = reader.read(UInt32.self) else { return nil }
            var items: [Item] = []
            for _ in 0..<count {
                guard let item = Item(&reader) else { return nil }
                items.append(item)
            }
            guard let more = reader.readFlag() else { return nil }
            self = .range(items: items, more: more)
        case 5:
            guard let value = reader.read(Int64.self), let createRevision = reader.read(UInt64.self),
                let version = reader.read(UInt64.self)
            else { return nil }
            self = .incremented(value: value, createRevision: createRevision, version: version)
        default: return nil
        }
    }
}
