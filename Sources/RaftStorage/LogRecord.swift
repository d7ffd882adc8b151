internal import Checksum
internal import Raft

/// The frame of every record in the log's environment:
///
///     byte 0      format version
///     bytes 1–4   CRC-32C over the version, the record's key (64 bits) and all bytes from 5 on
///     bytes 5…    the body; of an entry: kind (1 byte), term (8 bytes), from version 2 on the number of the transaction that
///                 wrote it (8 bytes), payload
///
/// Every later version keeps bytes 0 to 4, so that a newer record can be told from a damaged one. Integers are
/// little-endian.
enum LogRecord {
    static let version: UInt8 = 2
    static let bodyOffset = 5
    /// Version 1 had no transaction number.
    static func entryHeaderSize(version: UInt8) -> Int { version == 1 ? 14 : 22 }

    enum Fault: Hashable {
        /// The checksum or the shape is wrong.
        case damaged
        case newer(version: UInt8)
    }

    static func checksum(version: UInt8, key: UInt64, body: UnsafeRawBufferPointer) -> UInt32 {
        var crc = CRC32C()
        crc.update(version)
        crc.update(key)
        crc.update(body)
        return crc.value
    }

    /// Completes a record whose body is in place.
    static func seal(_ record: UnsafeMutableRawBufferPointer, key: UInt64) {
        record[0] = version
        let body = UnsafeRawBufferPointer(rebasing: record[bodyOffset...])
        let checksum = checksum(version: version, key: key, body: body)
        record.storeBytes(of: checksum.littleEndian, toByteOffset: 1, as: UInt32.self)
    }

    /// What is wrong with a record, or nil.
    static func fault(_ record: UnsafeRawBufferPointer, key: UInt64) -> Fault? {
        guard record.count >= bodyOffset else { return .damaged }
        let stored = UInt32(littleEndian: record.loadUnaligned(fromByteOffset: 1, as: UInt32.self))
        let body = UnsafeRawBufferPointer(rebasing: record[bodyOffset...])
        guard stored == checksum(version: record[0], key: key, body: body) else { return .damaged }
        return (1...version).contains(record[0]) ? nil : .newer(version: record[0])
    }
}

/// A verified entry record, in place.
struct EntryRecord {
    let index: LogIndex
    let term: Term
    let kind: UInt8
    /// The transaction that wrote it; nil in records of version 1.
    let transactionID: UInt64?
    let payload: UnsafeRawBufferPointer

    static func size(payload: Int) -> Int { LogRecord.entryHeaderSize(version: LogRecord.version) + payload }

    static func write(
        into record: UnsafeMutableRawBufferPointer,
        index: LogIndex,
        term: Term,
        transactionID: UInt64,
        kind: UInt8,
        payload: [UInt8]
    ) {
        record[LogRecord.bodyOffset] = kind
        record.storeBytes(of: term.littleEndian, toByteOffset: 6, as: UInt64.self)
        record.storeBytes(of: transactionID.littleEndian, toByteOffset: 14, as: UInt64.self)
        UnsafeMutableRawBufferPointer(rebasing: record[size(payload: 0)...]).copyBytes(from: payload)
        LogRecord.seal(record, key: index)
    }

    init(verifying record: UnsafeRawBufferPointer, index: LogIndex) throws(StorageError) {
        if let fault = LogRecord.fault(record, key: index) { throw .entry(index, fault) }
        let header = LogRecord.entryHeaderSize(version: record[0])
        guard record.count >= header else { throw .entry(index, .damaged) }
        self.index = index
        kind = record[LogRecord.bodyOffset]
        term = UInt64(littleEndian: record.loadUnaligned(fromByteOffset: 6, as: UInt64.self))
        transactionID =
            record[0] == 1 ? nil : UInt64(littleEndian: record.loadUnaligned(fromByteOffset: 14, as: UInt64.self))
        payload = UnsafeRawBufferPointer(rebasing: record[header...])
    }

    func entry() throws(StorageError) -> Entry {
        guard let payload = Entry.Payload(kind: kind, bytes: [UInt8](payload)) else {
            throw .entry(index, .newer(version: LogRecord.version))
        }
        return Entry(index: index, term: term, payload: payload)
    }

    func info() throws(StorageError) -> EntryInfo {
        // A command is most of a log: its bytes need not be copied to know its size.
        guard kind == 1 else { return EntryInfo(try entry()) }
        return EntryInfo(index: index, term: term, size: Entry.Payload.overhead + payload.count)
    }
}

extension StorageError {
    static func entry(_ index: LogIndex, _ fault: LogRecord.Fault) -> StorageError {
        let what = index == 0 ? "the record of identity and hard state" : "entry \(index) of the log"
        switch fault {
        case .damaged:
            return StorageError(.corrupt, "\(what) is damaged: its checksum is wrong; \(remedy)", index: index)
        case .newer(let version):
            return StorageError(
                .newerFormat,
                "\(what) has a form (version \(version)) that this version does not know: run the newer version "
                    + "that wrote it",
                index: index
            )
        }
    }
}

/// The record under key 0: who the server is, its term and vote, and where its log begins.
struct MetadataRecord: Hashable {
    var identity: Identity
    var hardState: HardState
    var base: LogBase

    /// - Parameter transactionID: the transaction that writes it.
    func encode(transactionID: UInt64) -> [UInt8] {
        var writer = RecordWriter()
        writer.write(raw: repeatElement(0, count: LogRecord.bodyOffset))
        // The base's index comes first: readers of entries take it without decoding the rest.
        writer.write(base.position.index)
        writer.write(base.position.term)
        writer.write(hardState.term)
        writer.write(hardState.vote?.rawValue ?? 0)
        writer.write(identity.serverID.rawValue)
        writer.write(identity.clusterID.rawValue)
        writer.write(counted: Array(identity.name.utf8))
        writer.write(counted: Array(identity.peerAddress.utf8))
        writer.write(counted: Array(identity.clientAddress.utf8))
        writer.write(counted: base.configuration.encode())
        writer.write(transactionID)
        var bytes = writer.bytes
        bytes.withUnsafeMutableBytes { LogRecord.seal($0, key: 0) }
        return bytes
    }

    init(identity: Identity, hardState: HardState, base: LogBase) {
        self.identity = identity
        self.hardState = hardState
        self.base = base
    }

    init(verifying record: UnsafeRawBufferPointer) throws(StorageError) {
        if let fault = LogRecord.fault(record, key: 0) { throw .entry(0, fault) }
        var reader = RecordReader([UInt8](record[LogRecord.bodyOffset...]))
        guard let baseIndex = reader.read(UInt64.self), let baseTerm = reader.read(UInt64.self),
            let term = reader.read(UInt64.self), let vote = reader.read(UInt64.self),
            let server = reader.read(UInt64.self), server != 0, let cluster = reader.read(UInt64.self),
            let name = reader.readText(), let peer = reader.readText(), let client = reader.readText(),
            let encoded = reader.readCounted(), let configuration = Configuration(decoding: encoded)
        else { throw .entry(0, .damaged) }
        if record[0] >= 2, reader.read(UInt64.self) == nil { throw .entry(0, .damaged) }
        guard reader.isAtEnd else { throw .entry(0, .damaged) }
        identity = Identity(
            serverID: ServerID(server),
            clusterID: ClusterID(cluster),
            name: name,
            peerAddress: peer,
            clientAddress: client
        )
        hardState = HardState(term: term, vote: vote == 0 ? nil : ServerID(vote))
        base = LogBase(position: LogPosition(index: baseIndex, term: baseTerm), configuration: configuration)
    }

    /// Only the number of the transaction that wrote a record; nil in version 1.
    static func transactionID(verifying record: UnsafeRawBufferPointer) throws(StorageError) -> UInt64? {
        if let fault = LogRecord.fault(record, key: 0) { throw .entry(0, fault) }
        guard record[0] >= 2 else { return nil }
        guard record.count >= LogRecord.bodyOffset + 8 else { throw .entry(0, .damaged) }
        return UInt64(littleEndian: record.loadUnaligned(fromByteOffset: record.count - 8, as: UInt64.self))
    }

    /// Only the base's index, of a record whose checksum is verified here.
    static func baseIndex(verifying record: UnsafeRawBufferPointer) throws(StorageError) -> LogIndex {
        if let fault = LogRecord.fault(record, key: 0) { throw .entry(0, fault) }
        guard record.count >= LogRecord.bodyOffset + 8 else { throw .entry(0, .damaged) }
        return UInt64(littleEndian: record.loadUnaligned(fromByteOffset: LogRecord.bodyOffset, as: UInt64.self))
    }
}
