internal import Checksum

/// The form of a state in a snapshot: a stream of frames that describes itself.
///
/// Little-endian: the magic "KTKVSNAP" and a version of 4 bytes; then frames, each a kind byte, a length of 4 bytes and as many
/// bytes. The first frame is the ``StateRecord``, then comes one for each record in ascending order of the raw keys (key length in
/// 2 bytes, key, ``StoredRecord``), and at last a trailer with the number of items in 8 bytes and the CRC-32C of everything before
/// the trailer's frame.
enum SnapshotStream {
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
    }
}

/// Collects frames into large pieces for the sink.
struct SnapshotWriter {
    private static let pieceLength = 256 << 10

    private var buffer: [UInt8] = []
    private var checksum = CRC32C()
    private var items: UInt64 = 0

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

    mutating func write(_ record: StateRecord) {
        let bytes = record.encode()
        begin(.state, length: bytes.count)
        buffer += bytes
    }

    mutating func write(
        key: UnsafeRawBufferPointer,
        record: UnsafeRawBufferPointer,
        to sink: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        begin(.item, length: 2 + key.count + record.count)
        append(UInt16(key.count))
        buffer.append(contentsOf: key)
        buffer.append(contentsOf: record)
        items += 1
        if buffer.count >= Self.pieceLength { try emit(to: sink) }
    }

    mutating func finish(to sink: (UnsafeRawBufferPointer) throws -> Void) throws {
        try emit(to: sink)
        begin(.trailer, length: 12)
        append(items)
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
        case end
    }

    private static let pieceLength = 256 << 10

    private let path: String
    private var buffer: [UInt8] = []
    private var offset = 0
    private var checksum = CRC32C()
    private var items: UInt64 = 0

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
    mutating func readState(from source: (Int) throws -> [UInt8]?) throws -> StateRecord {
        guard try take(SnapshotStream.magic.count, from: source).elementsEqual(SnapshotStream.magic) else {
            throw bad("this is no snapshot of a key-value state")
        }
        let version: UInt32 = integer(try take(4, from: source))
        guard version == SnapshotStream.version else {
            throw StoreError.otherFormat(version, known: SnapshotStream.version, what: "snapshot", path: path)
        }
        let head = try take(SnapshotStream.frameHeaderLength, from: source)
        guard head.first == SnapshotStream.Kind.state.rawValue else { throw bad("the snapshot is malformed") }
        let bytes = try take(try length(head), from: source)
        return try bytes.withUnsafeBytes { try StateRecord(decoding: $0, path: path) }
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
            guard integer(trailer) == items, integer(trailer, at: 8) == checksum.value else {
                throw bad("the snapshot's checksum is wrong")
            }
            return .end
        }
        guard head.first == SnapshotStream.Kind.item.rawValue else { throw bad("the snapshot is malformed") }
        checksum.update(head)
        let bytes = try take(try length(head), from: source)
        guard bytes.count >= 2 else { throw bad("the snapshot is malformed") }
        let keyLength = Int(integer(bytes) as UInt16)
        let rest = bytes.dropFirst(2)
        let (key, record) = (rest.prefix(keyLength), rest.dropFirst(keyLength))
        guard keyLength <= rest.count, key.withUnsafeBytes({ Space.isValid(rawKey: $0) }) else {
            throw bad("the snapshot is malformed")
        }
        guard let hash = Self.hash(key: key, record: record) else { throw bad("a record of the snapshot is corrupt") }
        items += 1
        return .item(key: key, record: record, hash: hash)
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

    /// Whether the stream really ends behind the trailer.
    mutating func expectEnd(from source: (Int) throws -> [UInt8]?) throws {
        guard offset == buffer.count else { throw bad("bytes follow the end of the snapshot") }
        while let piece = try source(Self.pieceLength) {
            guard piece.isEmpty else { throw bad("bytes follow the end of the snapshot") }
        }
    }
}
