internal import Checksum

/// The form of a state in a snapshot: a stream of frames that describes itself.
///
/// Little-endian: the magic "KTKVSNAP" and a version of 4 bytes; then frames, each a kind byte, a length of 4 bytes and as many
/// bytes. The first frame is the ``StateRecord``, the second the ``HistoryState``; then comes one for each record: those of the items,
/// of the deletions, and of the history's changes, each kind in ascending order of the keys (key length in 2 bytes, key, the record as it is
/// stored); and at last a trailer with the number of records in 8 bytes and the CRC-32C of everything before the trailer's frame.
enum SnapshotStream {
    /// What a snapshot's file says of its payload: raised with every change that makes an older version unable to read it.
    static let schema = "kontiki-kv-2"
    static let magic = Array("KTKVSNAP".utf8)
    static let version: UInt32 = 2
    static let headerLength = 12
    static let frameHeaderLength = 5
    /// No frame is longer: the largest value and what surrounds it.
    static let maximumFrameLength = Command.maximumValueLength + (1 << 12)

    enum Kind: UInt8 {
        case state = 1
        case item = 2
        case trailer = 3
        case history = 4
        case deletion = 5
        case change = 6
    }
}

/// Collects frames into large pieces for the sink.
struct SnapshotWriter {
    private static let pieceLength = 256 << 10

    private var buffer: [UInt8] = []
    private var checksum = CRC32C()
    private var records: UInt64 = 0

    init() {
        buffer.reserveCapacity(2 * Self.pieceLength)
        buffer += SnapshotStream.magic
        append(SnapshotStream.version)
    }

    private mutating func append<Integer: FixedWidthInteger>(_ integer: Integer) {
        withUnsafeBytes(of: integer.littleEndian) { buffer.append(contentsOf: $0) }
    }

    private mutating func begin(_ kind: SnapshotStream.Kind, length: Int) {
        buffer.append(kind.rawValue)
        append(UInt32(length))
    }

    mutating func write(_ record: StateRecord, _ history: HistoryState) {
        for (kind, bytes) in [(SnapshotStream.Kind.state, record.encode()), (.history, history.encode())] {
            begin(kind, length: bytes.count)
            buffer += bytes
        }
    }

    mutating func write(
        _ kind: SnapshotStream.Kind = .item,
        key: UnsafeRawBufferPointer,
        record: UnsafeRawBufferPointer,
        to sink: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        begin(kind, length: 2 + key.count + record.count)
        append(UInt16(key.count))
        buffer.append(contentsOf: key)
        buffer.append(contentsOf: record)
        records += 1
        if buffer.count >= Self.pieceLength { try emit(to: sink) }
    }

    mutating func finish(to sink: (UnsafeRawBufferPointer) throws -> Void) throws {
        try emit(to: sink)
        begin(.trailer, length: 12)
        append(records)
        append(checksum.value)
        try buffer.withUnsafeBytes { try sink($0) }
        buffer = []
    }

    private mutating func emit(to sink: (UnsafeRawBufferPointer) throws -> Void) throws {
        checksum.update(buffer)
        try buffer.withUnsafeBytes { try sink($0) }
        buffer.removeAll(keepingCapacity: true)
    }
}

/// Reads what ``SnapshotWriter`` wrote, from pieces cut anywhere. Malformed bytes throw; a length never makes it reserve memory
/// for what is not there.
struct SnapshotReader: ~Copyable {
    enum Frame {
        /// `hash` is what the item's content adds to the state's hash.
        case item(key: ArraySlice<UInt8>, record: ArraySlice<UInt8>, hash: UInt128)
        case deletion(key: ArraySlice<UInt8>, record: ArraySlice<UInt8>)
        /// `key` is the place in the history, see ``HistoryRecord``.
        case change(key: ArraySlice<UInt8>, record: ArraySlice<UInt8>)
        case end
    }

    private static let pieceLength = 256 << 10

    private let path: String
    private var buffer: [UInt8] = []
    private var offset = 0
    private var checksum = CRC32C()
    private var records: UInt64 = 0

    init(path: String) { self.path = path }

    private func bad(_ what: String) -> StoreError {
        StoreError(code: .badSnapshot, path: path, message: "\(what); the snapshot was not installed, fetch it again")
    }

    /// Takes the next `count` bytes off the stream.
    private mutating func take(
        _ count: Int,
        from source: (Int) throws -> [UInt8]?,
        isChecked: Bool = true
    ) throws -> ArraySlice<UInt8> {
        while buffer.count - offset < count {
            guard let piece = try source(Self.pieceLength) else { throw bad("the snapshot ends early") }
            buffer.removeFirst(offset)
            offset = 0
            buffer += piece
        }
        let taken = buffer[offset..<offset + count]
        offset += count
        if isChecked { checksum.update(taken) }
        return taken
    }

    private func integer<Integer: FixedWidthInteger & BitwiseCopyable>(
        _ bytes: ArraySlice<UInt8>,
        at offset: Int = 0
    )
        -> Integer
    {
        bytes.withUnsafeBytes { Integer(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Integer.self)) }
    }

    /// The head of the stream; to be called first.
    mutating func readState(
        from source: (Int) throws -> [UInt8]?
    ) throws -> (record: StateRecord, history: HistoryState) {
        guard try take(SnapshotStream.magic.count, from: source).elementsEqual(SnapshotStream.magic) else {
            throw bad("this is no snapshot of a key-value state")
        }
        let version: UInt32 = integer(try take(4, from: source))
        guard version == SnapshotStream.version else {
            throw StoreError.otherFormat(version, known: SnapshotStream.version, what: "snapshot", path: path)
        }
        let state = try readFrame(.state, from: source)
        let record: StateRecord
        do {
            record = try state.withUnsafeBytes { try StateRecord(decoding: $0, path: path) }
        } catch let error as StoreError where error.code == .corrupt {
            throw bad("the snapshot's record of the state is corrupt")
        }
        let history = try readFrame(.history, from: source).withUnsafeBytes { HistoryState.decode($0) }
        guard let history, history.state.last.revision <= record.mark.revision else {
            throw bad("the snapshot is malformed")
        }
        return (record, history.state)
    }

    private mutating func readFrame(
        _ kind: SnapshotStream.Kind,
        from source: (Int) throws -> [UInt8]?
    ) throws -> ArraySlice<UInt8> {
        let head = try take(SnapshotStream.frameHeaderLength, from: source)
        guard head.first == kind.rawValue else { throw bad("the snapshot is malformed") }
        return try take(try length(head), from: source)
    }

    private func length(_ head: ArraySlice<UInt8>) throws -> Int {
        let length = Int(integer(head, at: 1) as UInt32)
        guard length <= SnapshotStream.maximumFrameLength else { throw bad("the snapshot is malformed") }
        return length
    }

    mutating func next(from source: (Int) throws -> [UInt8]?) throws -> Frame {
        let head = try take(SnapshotStream.frameHeaderLength, from: source, isChecked: false)
        if head.first == SnapshotStream.Kind.trailer.rawValue {
            guard try length(head) == 12 else { throw bad("the snapshot is malformed") }
            let trailer = try take(12, from: source, isChecked: false)
            guard integer(trailer) == records, integer(trailer, at: 8) == checksum.value else {
                throw bad("the snapshot's checksum is wrong")
            }
            return .end
        }
        guard let kind = head.first.flatMap(SnapshotStream.Kind.init) else { throw bad("the snapshot is malformed") }
        checksum.update(head)
        let bytes = try take(try length(head), from: source)
        guard bytes.count >= 2 else { throw bad("the snapshot is malformed") }
        let keyLength = Int(integer(bytes) as UInt16)
        let rest = bytes.dropFirst(2)
        guard keyLength <= rest.count else { throw bad("the snapshot is malformed") }
        records += 1
        return try frame(kind, key: rest.prefix(keyLength), record: rest.dropFirst(keyLength))
    }

    private func frame(
        _ kind: SnapshotStream.Kind,
        key: ArraySlice<UInt8>,
        record: ArraySlice<UInt8>
    ) throws -> Frame {
        let rawKey = kind == .change ? key.dropFirst(8) : key
        guard rawKey.withUnsafeBytes({ Space.isValid(rawKey: $0) }) else { throw bad("the snapshot is malformed") }
        switch kind {
        case .item:
            guard let hash = Self.hash(key: key, record: record) else {
                throw bad("a record of the snapshot is corrupt")
            }
            guard Self.canBeRead(key: key, record: record) else {
                throw bad("a record of the snapshot is not what a record of its kind is")
            }
            return .item(key: key, record: record, hash: hash)
        case .deletion:
            let revision = key.withUnsafeBytes { key in
                record.withUnsafeBytes { DeletionRecord.decode($0, key: key) }
            }
            guard revision != nil else { throw bad("a record of the snapshot's history is corrupt") }
            return .deletion(key: key, record: record)
        case .change:
            let isIntact = key.withUnsafeBytes { key in
                record.withUnsafeBytes { HistoryRecord($0, key: key)?.isIntact(key: key) ?? false }
            }
            guard isIntact else { throw bad("a record of the snapshot's history is corrupt") }
            return .change(key: key, record: record)
        case .state, .history, .trailer: throw bad("the snapshot is malformed")
        }
    }

    /// The item's hash from its content; nil when the record is corrupt.
    private static func hash(key: ArraySlice<UInt8>, record: ArraySlice<UInt8>) -> UInt128? {
        key.withUnsafeBytes { key in
            record.withUnsafeBytes { record in
                guard let record = StoredRecord(record, key: key), let hash = record.recomputedHash(key: key),
                    record.storedHash == hash
                else { return nil }
                return hash
            }
        }
    }

    /// Whether the item holds what those of its space do.
    private static func canBeRead(key: ArraySlice<UInt8>, record: ArraySlice<UInt8>) -> Bool {
        key.withUnsafeBytes { key in
            record.withUnsafeBytes { record in
                let space = Space(of: key)
                // Users' values may be anything.
                guard space != .keys else { return true }
                guard let value = StoredRecord(record, key: key)?.item(key: key)?.value else { return false }
                switch space {
                case .leases: return LeaseRecord(decoding: value) != nil
                case .locks: return LockRecord(decoding: value) != nil
                case .idempotency:
                    return IdempotencyRecord(decoding: value).flatMap { Outcome(decoding: $0.outcome) } != nil
                case .keys, .attachments, .idempotencyTimes: return true
                case nil: return false
                }
            }
        }
    }

    /// Whether the stream really ends behind the trailer.
    mutating func expectEnd(from source: (Int) throws -> [UInt8]?) throws {
        guard offset == buffer.count else { throw bad("bytes follow the end of the snapshot") }
        while let piece = try source(Self.pieceLength) {
            guard piece.isEmpty else { throw bad("bytes follow the end of the snapshot") }
        }
    }
}
