/// What the memtable holds of a raw key (see ``Space``): its present record, or a tombstone that hides what lies below.
///
/// A put's keeps the committed entry's payload as it is and points into it, so that nothing is copied on the way.
struct MemtableEntry: Sendable {
    private let storage: [UInt8]
    private let keyStart: UInt32
    let valueLength: UInt32
    private let keyLength: UInt16
    private let spelledLength: UInt16
    /// See ``ContentTypes``.
    let contentType: UInt8
    /// How the record came to be as it is; all but a put are tombstones.
    let kind: Event.Kind
    /// Of a tombstone: the revision of the delete alone.
    let metadata: ItemMetadata
    /// See ``ItemHash``; 0 for a tombstone.
    private(set) var hash: UInt128 = 0

    /// The item that a put makes. Key, spelled-out content type and value lie behind one another in `payload`.
    init(put layout: CommandLayout, payload: [UInt8], metadata: ItemMetadata) {
        storage = payload
        keyStart = UInt32(layout.rawKey.lowerBound)
        keyLength = UInt16(layout.rawKeyLength)
        spelledLength = UInt16(layout.contentTypeLength)
        valueLength = UInt32(layout.valueLength)
        contentType = layout.contentType
        kind = .put
        self.metadata = metadata
        hash = withParts { ItemHash.of($0) }
    }

    /// A record in a buffer of its own.
    init(
        rawKey: some Collection<UInt8>,
        value: some Collection<UInt8>,
        contentType type: String? = nil,
        metadata: ItemMetadata
    ) {
        contentType = ContentTypes.identifier(of: type)
        let spelled = contentType == ContentTypes.spelledOut ? type ?? "" : ""
        var bytes: [UInt8] = []
        bytes.reserveCapacity(rawKey.count + spelled.utf8.count + value.count)
        bytes += rawKey
        bytes += spelled.utf8
        bytes += value
        storage = bytes
        keyStart = 0
        keyLength = UInt16(rawKey.count)
        spelledLength = UInt16(spelled.utf8.count)
        valueLength = UInt32(value.count)
        kind = .put
        self.metadata = metadata
        hash = withParts { ItemHash.of($0) }
    }

    /// A tombstone for the raw key that lies at `key` in `storage`. `kind` is that of the delete.
    init(tombstoneIn storage: [UInt8], key: Range<Int>, revision: UInt64, kind: Event.Kind = .delete) {
        self.storage = storage
        keyStart = UInt32(key.lowerBound)
        keyLength = UInt16(key.count)
        spelledLength = 0
        valueLength = 0
        contentType = ContentTypes.none
        self.kind = kind
        metadata = ItemMetadata(createRevision: 0, modRevision: revision, version: 0)
    }

    /// What an entry counts at least against the memtable's bound; see ``Store/pendingBytes``.
    static let minimumSize = 2 << 10

    /// What it counts against the memtable's bound: the payload, its array's header, and its place in the table.
    var size: Int { max(Self.minimumSize, memorySize) }

    /// What it takes in memory.
    var memorySize: Int { storage.count + 32 + MemoryLayout<MemtableEntry>.stride }

    var isTombstone: Bool { kind != .put }

    /// Bytes of key, without its space's byte, and value.
    var contentSize: Int { Int(keyLength) - 1 + Int(valueLength) }

    private var keyRange: Range<Int> { Int(keyStart)..<Int(keyStart) + Int(keyLength) }
    private var spelledRange: Range<Int> { keyRange.upperBound..<keyRange.upperBound + Int(spelledLength) }
    private var valueRange: Range<Int> { spelledRange.upperBound..<spelledRange.upperBound + Int(valueLength) }

    /// The first byte of the raw key.
    @inline(__always)
    var space: UInt8 { storage[Int(keyStart)] }

    var rawKey: ArraySlice<UInt8> { storage[keyRange] }

    /// For a put, not a tombstone.
    func item(keysOnly: Bool = false) -> Item {
        Item(
            key: rawKey.dropFirst(),
            value: keysOnly ? [] : storage[valueRange],
            contentType: contentType == ContentTypes.spelledOut
                ? String(decoding: storage[spelledRange], as: UTF8.self) : ContentTypes.name(of: contentType),
            metadata: metadata
        )
    }

    /// With the raw key.
    @inline(__always)
    func withKey<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try storage.withUnsafeBytes { try body(UnsafeRawBufferPointer(rebasing: $0[keyRange])) }
    }

    func withParts<Result>(_ body: (StoredRecord.Parts) throws -> Result) rethrows -> Result {
        try storage.withUnsafeBytes { bytes in
            try body(
                StoredRecord.Parts(
                    key: UnsafeRawBufferPointer(rebasing: bytes[keyRange]),
                    contentType: contentType,
                    spelledContentType: UnsafeRawBufferPointer(rebasing: bytes[spelledRange]),
                    value: UnsafeRawBufferPointer(rebasing: bytes[valueRange]),
                    metadata: metadata
                )
            )
        }
    }
}
