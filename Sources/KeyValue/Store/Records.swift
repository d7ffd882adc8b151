/// What is stored of a lease, in ``Space/leases``. Little-endian: ttl, deadline (8 each), keys, locks (4 each), owner, whether it is ending (1 each).
struct LeaseRecord: Hashable, Sendable {
    var ttlMilliseconds: UInt64
    /// In the cluster's time.
    var deadline: UInt64
    /// How many keys and locks are attached.
    var keys: UInt32 = 0
    var locks: UInt32 = 0
    var owner: LeaseStatus.Owner
    /// It ended, but more was attached than one command deletes. Nobody can attach to it or keep it alive.
    var isEnding = false

    init(ttlMilliseconds: UInt64, now: UInt64, owner: LeaseStatus.Owner) {
        self.ttlMilliseconds = ttlMilliseconds
        self.owner = owner
        deadline = now &+ ttlMilliseconds
    }

    /// Begins its time anew.
    mutating func renew(now: UInt64) { deadline = now &+ ttlMilliseconds }

    func encode() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(ttlMilliseconds)
        writer.write(deadline)
        writer.write(keys)
        writer.write(locks)
        writer.write(owner.rawValue)
        writer.write(isEnding)
        return writer.bytes
    }

    /// Nil for bytes that are no such record.
    init?(decoding bytes: some Collection<UInt8>) {
        let bytes = Array(bytes)
        let decoded = bytes.withUnsafeBytes { bytes -> LeaseRecord? in
            var reader = BufferReader(bytes)
            guard let ttl = reader.read(UInt64.self), let deadline = reader.read(UInt64.self),
                let keys = reader.read(UInt32.self), let locks = reader.read(UInt32.self),
                let code = reader.read(UInt8.self), let owner = LeaseStatus.Owner(rawValue: code),
                let isEnding = reader.readFlag(), reader.isAtEnd
            else { return nil }
            var record = LeaseRecord(ttlMilliseconds: ttl, now: 0, owner: owner)
            (record.deadline, record.keys, record.locks, record.isEnding) = (deadline, keys, locks, isEnding)
            return record
        }
        guard let decoded else { return nil }
        self = decoded
    }

    func status(id: UInt64, now: UInt64) -> LeaseStatus {
        LeaseStatus(
            id: id,
            ttlMilliseconds: ttlMilliseconds,
            remainingMilliseconds: isEnding || deadline < now ? 0 : deadline - now,
            keys: Int(keys),
            owner: owner
        )
    }
}

/// What is stored of a lock, in ``Space/locks``: its tickets, the holder's first. Little-endian: their number (4), and of each
/// token, lease (8 each), length of the value (2) and value.
struct LockRecord: Hashable, Sendable {
    /// Not empty in what is stored.
    var tickets: [LockTicket] = []

    /// Bytes of all values.
    var valueBytes: Int { tickets.reduce(0) { $0 + $1.value.count } }

    func encode() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(UInt32(tickets.count))
        for ticket in tickets {
            writer.write(ticket.token)
            writer.write(ticket.lease)
            writer.write(short: ticket.value)
        }
        return writer.bytes
    }

    init() {}

    /// Nil for bytes that are no such record.
    init?(decoding bytes: some Collection<UInt8>) {
        let bytes = Array(bytes)
        let tickets = bytes.withUnsafeBytes { bytes -> [LockTicket]? in
            var reader = BufferReader(bytes)
            guard let count = reader.read(UInt32.self), count > 0 else { return nil }
            var tickets: [LockTicket] = []
            for _ in 0..<count {
                guard let token = reader.read(UInt64.self), let lease = reader.read(UInt64.self),
                    let value = reader.readShort()
                else { return nil }
                tickets.append(LockTicket(token: token, lease: lease, value: value))
            }
            return reader.isAtEnd ? tickets : nil
        }
        guard let tickets else { return nil }
        self.tickets = tickets
    }
}

extension LockStatus {
    /// The lock that an item of ``Space/locks`` tells of, as an event carries it: its key is the lock's name. Nil for any other item.
    public init?(_ item: Item) {
        guard let record = LockRecord(decoding: item.value), let holder = record.tickets.first else { return nil }
        self.init(
            name: Array(item.key),
            holder: holder,
            waiters: Array(record.tickets.dropFirst()),
            createRevision: item.createRevision,
            modRevision: item.modRevision
        )
    }
}
