internal import DequeModule

/// Which outcomes are forgotten next: kept in memory, so that a command need not look for them.
struct OutcomeAges: Sendable {
    /// No outcome is older.
    var floor: UInt64 = 0
    /// The oldest ones in their order. All that come are younger.
    var oldest: Deque<(time: UInt64, key: [UInt8])> = []
}

/// What is stored of a request that was executed, in ``Space/idempotency``: the fingerprint (16), the cluster's time (8), and the outcome.
struct IdempotencyRecord {
    var fingerprint: UInt128
    var time: UInt64
    var outcome: [UInt8]

    func encode() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(fingerprint)
        writer.write(time)
        writer.write(raw: outcome)
        return writer.bytes
    }

    init(fingerprint: UInt128, time: UInt64, outcome: [UInt8]) {
        (self.fingerprint, self.time, self.outcome) = (fingerprint, time, outcome)
    }

    /// Nil for bytes that are no such record.
    init?(decoding bytes: ArraySlice<UInt8>) {
        let head = bytes.withUnsafeBytes { bytes -> (UInt128, UInt64)? in
            var reader = BufferReader(bytes)
            guard let fingerprint = reader.read(UInt128.self), let time = reader.read(UInt64.self) else { return nil }
            return (fingerprint, time)
        }
        guard let head else { return nil }
        (fingerprint, time) = head
        outcome = Array(bytes.dropFirst(24))
    }
}

extension LiveState {
    /// How many of the oldest are looked up at once.
    private static let lookahead = 64

    /// The outcome for a request that came before, or uses the key of another; nil for a new one.
    func outcome(of key: IdempotencyKey, _ reader: inout BatchReader) throws -> Outcome? {
        let rawKey = Space.idempotency.raw(key.key)
        guard let value = try value(of: rawKey, &reader) else { return nil }
        guard let record = IdempotencyRecord(decoding: value), let outcome = Outcome(decoding: record.outcome) else {
            throw StoreError.malformedRecord(.idempotency, rawKey.dropFirst(), path: backend.path)
        }
        return record.fingerprint == key.fingerprint ? .replayed(outcome) : .idempotencyMismatch
    }

    /// Keeps an outcome for retries, where it is one to keep. False when it is too large.
    mutating func remember(
        _ outcome: Outcome,
        of key: IdempotencyKey,
        _ reader: inout BatchReader
    ) throws -> Bool {
        switch outcome {
        case .invalid, .fenced, .tooLarge: return true
        default: break
        }
        let encoded = outcome.encode()
        guard encoded.count <= KeyValueLimits.maximumIdempotentOutcomeBytes else { return false }
        let record = IdempotencyRecord(fingerprint: key.fingerprint, time: now, outcome: encoded)
        try setRecord(Space.idempotency.raw(key.key), record.encode(), &reader)
        try setRecord(Space.idempotencyTimes.raw(now, key.key), [], &reader)
        return true
    }

    /// Forgets a few outcomes that are too old, or too many. Those of this very moment stay, so that what comes is never older
    /// than what is known to be the oldest.
    mutating func forgetOldOutcomes(_ reader: inout BatchReader) throws {
        for _ in 0..<KeyValueLimits.idempotencyEvictionsPerCommand {
            let isOver = record.idempotencyCount > maximumIdempotencyRecords
            guard isOver ? outcomeAges.floor < now : isOld(outcomeAges.floor) else { return }
            if outcomeAges.oldest.isEmpty { try findOldest(&reader) }
            guard let (time, key) = outcomeAges.oldest.first else {
                outcomeAges.floor = now
                return
            }
            outcomeAges.floor = time
            guard isOver || isOld(time) else { return }
            outcomeAges.oldest.removeFirst()
            try removeRecord(Space.idempotencyTimes.raw(time, key), &reader)
            try removeRecord(Space.idempotency.raw(key), &reader)
        }
    }

    private func isOld(_ time: UInt64) -> Bool {
        now >= KeyValueLimits.idempotencyAgeMilliseconds && time <= now - KeyValueLimits.idempotencyAgeMilliseconds
    }

    private mutating func findOldest(_ reader: inout BatchReader) throws {
        var bounds = KeyBounds(prefix: [Space.idempotencyTimes.rawValue])
        bounds.raise(toAtLeast: Space.idempotencyTimes.raw(outcomeAges.floor))
        bounds.lower(toBelow: Space.idempotencyTimes.raw(now))
        var oldest: Deque<(time: UInt64, key: [UInt8])> = []
        try makeView().scan(bounds, passing: { try reader.spend(1) }) { scanned in
            scanned.withUserKey { key in
                guard let time = UInt64(bigEndianBytes: key.prefix(8)) else { return }
                oldest.append((time, Array(key.dropFirst(8))))
            }
            return oldest.count < Self.lookahead ? .next : .stop
        }
        outcomeAges.oldest = oldest
    }
}
