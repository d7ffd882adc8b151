/// The encoded form of an outcome, for retries: kind (1), and then its fields, little-endian. A part of the state's format.
extension Outcome {
    private enum Kind: UInt8 {
        case put = 1
        case deleted = 2
        case conditionFailed = 3
        case incremented = 4
        case notANumber = 5
        case transaction = 6
        case lease = 7
        case leaseExists = 8
        case leasesKept = 9
        case leaseNotFound = 10
        case leaseRevoked = 11
        case leasesExpired = 12
        case lock = 13
        case lockHeld = 14
        case lockNotFound = 15
        case lockReleased = 16
        case fenced = 17
        case tooLarge = 18
        case idempotencyMismatch = 19
        case replayed = 20
        case invalid = 21
    }

    private var kind: Kind {
        switch self {
        case .put: .put
        case .deleted: .deleted
        case .conditionFailed: .conditionFailed
        case .incremented: .incremented
        case .notANumber: .notANumber
        case .transaction: .transaction
        case .lease: .lease
        case .leaseExists: .leaseExists
        case .leasesKept: .leasesKept
        case .leaseNotFound: .leaseNotFound
        case .leaseRevoked: .leaseRevoked
        case .leasesExpired: .leasesExpired
        case .lock: .lock
        case .lockHeld: .lockHeld
        case .lockNotFound: .lockNotFound
        case .lockReleased: .lockReleased
        case .fenced: .fenced
        case .tooLarge: .tooLarge
        case .idempotencyMismatch: .idempotencyMismatch
        case .replayed: .replayed
        case .invalid: .invalid
        }
    }

    public func encode() -> [UInt8] {
        var writer = ByteWriter()
        write(to: &writer)
        return writer.bytes
    }

    private func write(to writer: inout ByteWriter) {
        writer.write(kind.rawValue)
        switch self {
        case .put(let revision, let createRevision, let version, let created, let previous):
            for number in [revision, createRevision, version] { writer.write(number) }
            writer.write(created)
            writer.write(previous) { $0.write(to: &$1) }
        case .deleted(let revision, let count, let previous):
            writer.write(revision)
            writer.write(Int64(count))
            writer.write(previous) { $0.write(to: &$1) }
        case .conditionFailed(let revision, let current):
            writer.write(revision)
            writer.write(current) { $0.write(to: &$1) }
        case .incremented(let revision, let value, let createRevision, let version):
            for number in [revision, UInt64(bitPattern: value), createRevision, version] { writer.write(number) }
        case .notANumber(let revision, let problem, let operation):
            writer.write(revision)
            writer.write(problem.rawValue)
            writer.write(operation) { $1.write(UInt32(clamping: $0)) }
        case .transaction(let outcome): outcome.write(to: &writer)
        case .lease(let status), .leaseExists(let status): status.write(to: &writer)
        case .leasesKept(let leases):
            writer.write(UInt32(leases.count))
            for lease in leases { writer.write(lease) { $0.write(to: &$1) } }
        case .leaseNotFound(let id): writer.write(id)
        case .leaseRevoked(let revision, let keys):
            writer.write(revision)
            writer.write(Int64(keys))
        case .leasesExpired(let revision, let leases, let keys):
            writer.write(revision)
            writer.write(Int64(leases))
            writer.write(Int64(keys))
        case .lock(let status): status.write(to: &writer)
        case .lockHeld(let lock): lock.write(to: &writer)
        case .lockReleased(let revision): writer.write(revision)
        case .fenced(let revision, let current):
            writer.write(revision)
            writer.write(current) { $0.write(to: &$1) }
        case .tooLarge(let limit): writer.write(limit.rawValue)
        case .replayed(let outcome): outcome.write(to: &writer)
        case .invalid(let reason): writer.write(short: Array(reason.rawValue.utf8))
        case .lockNotFound, .idempotencyMismatch: break
        }
    }

    /// Nil for bytes that are no encoded outcome.
    public init?(decoding bytes: [UInt8]) {
        let outcome = bytes.withUnsafeBytes { bytes -> Outcome? in
            var reader = BufferReader(bytes)
            guard let outcome = Outcome(&reader, isInner: false), reader.isAtEnd else { return nil }
            return outcome
        }
        guard let outcome else { return nil }
        self = outcome
    }

    private init?(_ reader: inout BufferReader, isInner: Bool) {
        guard let code = reader.read(UInt8.self), let kind = Kind(rawValue: code) else { return nil }
        let outcome: Outcome?
        switch kind {
        case .put, .deleted, .conditionFailed, .incremented, .notANumber:
            outcome = Self.readKeyOutcome(kind, &reader)
        case .transaction: outcome = TransactionOutcome(&reader).map { .transaction($0) }
        case .lease, .leaseExists, .leasesKept, .leaseNotFound, .leaseRevoked, .leasesExpired:
            outcome = Self.readLeaseOutcome(kind, &reader)
        case .lock: outcome = LockTicketStatus(&reader).map { .lock($0) }
        case .lockHeld: outcome = LockStatus(&reader).map { .lockHeld($0) }
        case .lockNotFound: outcome = .lockNotFound
        case .lockReleased: outcome = reader.read(UInt64.self).map { .lockReleased(revision: $0) }
        case .fenced:
            guard let revision = reader.read(UInt64.self),
                let current = reader.readOptional({ LockStatus(&$0) })
            else { return nil }
            outcome = .fenced(revision: revision, current: current)
        case .tooLarge: outcome = reader.read(UInt8.self).flatMap { ExceededLimit(rawValue: $0) }.map { .tooLarge($0) }
        case .idempotencyMismatch: outcome = .idempotencyMismatch
        // Never one inside another, so that no bytes make it go deep.
        case .replayed: outcome = isInner ? nil : Outcome(&reader, isInner: true).map { .replayed($0) }
        case .invalid:
            outcome = reader.readShort().flatMap { String(validating: $0, as: UTF8.self) }
                .flatMap { InvalidCommand(rawValue: $0) }.map { .invalid($0) }
        }
        guard let outcome else { return nil }
        self = outcome
    }

    private static func readKeyOutcome(_ kind: Kind, _ reader: inout BufferReader) -> Outcome? {
        guard let revision = reader.read(UInt64.self) else { return nil }
        switch kind {
        case .put:
            guard let createRevision = reader.read(UInt64.self), let version = reader.read(UInt64.self),
                let created = reader.readFlag(), let previous = reader.readOptional({ Item(&$0) })
            else { return nil }
            return .put(
                revision: revision,
                createRevision: createRevision,
                version: version,
                created: created,
                previous: previous
            )
        case .deleted:
            guard let count = reader.readCount(), let previous = reader.readOptional({ Item(&$0) }) else { return nil }
            return .deleted(revision: revision, count: count, previous: previous)
        case .conditionFailed:
            guard let current = reader.readOptional({ ItemMetadata(&$0) }) else { return nil }
            return .conditionFailed(revision: revision, current: current)
        case .incremented:
            guard let value = reader.read(Int64.self), let createRevision = reader.read(UInt64.self),
                let version = reader.read(UInt64.self)
            else { return nil }
            return .incremented(revision: revision, value: value, createRevision: createRevision, version: version)
        default:
            guard let code = reader.read(UInt8.self), let problem = NumberProblem(rawValue: code),
                let operation = reader.readOptional({ $0.read(UInt32.self) })
            else { return nil }
            return .notANumber(revision: revision, problem, operation: operation.map { Int($0) })
        }
    }

    private static func readLeaseOutcome(_ kind: Kind, _ reader: inout BufferReader) -> Outcome? {
        switch kind {
        case .lease: return LeaseStatus(&reader).map { .lease($0) }
        case .leaseExists: return LeaseStatus(&reader).map { .leaseExists($0) }
        case .leasesKept:
            guard let count = reader.read(UInt32.self) else { return nil }
            var leases: [LeaseStatus?] = []
            for _ in 0..<count {
                guard let lease = reader.readOptional({ LeaseStatus(&$0) }) else { return nil }
                leases.append(lease)
            }
            return .leasesKept(leases)
        case .leaseNotFound: return reader.read(UInt64.self).map { .leaseNotFound($0) }
        case .leaseRevoked:
            guard let revision = reader.read(UInt64.self), let keys = reader.readCount() else { return nil }
            return .leaseRevoked(revision: revision, keys: keys)
        default:
            guard let revision = reader.read(UInt64.self), let leases = reader.readCount(),
                let keys = reader.readCount()
            else { return nil }
            return .leasesExpired(revision: revision, leases: leases, keys: keys)
        }
    }
}
