internal import Checksum
internal import Crypto
package import Raft

/// What a snapshot says of itself before its payload.
package struct SnapshotHeader: Hashable, Sendable {
    package var clusterID: ClusterID
    /// The last entry that the snapshot covers.
    package var position: LogPosition
    /// The membership in force there.
    package var configuration: Configuration
    /// The state machine's name and version of the payload's form. It decides whether it can read it.
    package var schema: String

    package init(clusterID: ClusterID, position: LogPosition, configuration: Configuration, schema: String) {
        self.clusterID = clusterID
        self.position = position
        self.configuration = configuration
        self.schema = schema
    }
}

/// Names one snapshot file exactly: two files with the same descriptor have the same bytes.
package struct SnapshotDescriptor: Hashable, Sendable {
    package var position: LogPosition
    package var configuration: Configuration
    /// The whole file's size, in bytes.
    package var fileSize: UInt64
    /// The SHA-256 of the file up to its trailer, which holds it; 32 bytes.
    package var digest: [UInt8]

    package init(position: LogPosition, configuration: Configuration, fileSize: UInt64, digest: [UInt8]) {
        precondition(digest.count == 32, "a SHA-256 has 32 bytes")
        self.position = position
        self.configuration = configuration
        self.fileSize = fileSize
        self.digest = digest
    }

    /// Where a log begins that this snapshot stands before.
    package var base: LogBase { LogBase(position: position, configuration: configuration) }

    /// The descriptor as bytes, for frames between peers.
    package func encode() -> [UInt8] {
        var writer = RecordWriter()
        writer.write(UInt8(1))
        writer.write(position.index)
        writer.write(position.term)
        writer.write(fileSize)
        writer.write(raw: digest)
        writer.write(counted: configuration.encode())
        return writer.bytes
    }

    /// The inverse of ``encode()``; nil for anything that it cannot have written.
    package init?(decoding bytes: [UInt8]) {
        var reader = RecordReader(bytes)
        guard reader.read(UInt8.self) == 1, let index = reader.read(UInt64.self), index > 0,
            let term = reader.read(UInt64.self), let size = reader.read(UInt64.self),
            size <= SnapshotFormat.maxFileSize,
            let digest = reader.read(raw: 32), let encoded = reader.readCounted(),
            let configuration = Configuration(decoding: encoded), reader.isAtEnd
        else { return nil }
        self.init(
            position: LogPosition(index: index, term: term),
            configuration: configuration,
            fileSize: size,
            digest: Array(digest)
        )
    }

    /// The name of its file: sorted by index.
    var fileName: String {
        let digits = digest.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
        return "\(ServerID(position.index))-\(ServerID(position.term))-\(digits)"
    }
}

/// The form of a snapshot file. Integers are little-endian.
///
///     header   magic (8), version (4), length of the body (4), CRC-32C over version, length and body (4), body:
///              cluster (8), index (8), term (8), configuration (counted), schema (counted)
///     chunk…   sequence from 0 (4), length 1…1 MiB (4), CRC-32C over sequence, length and payload (4), payload
///     trailer  0xffffffff (4), number of chunks (4), bytes of payload (8), SHA-256 of all before the trailer (32),
///              CRC-32C over the trailer up to here (4)
enum SnapshotFormat {
    static let magic = Array("KONTIKI\u{1a}".utf8)
    static let version: UInt32 = 1
    static let chunkSize = 1 << 20
    static let headerPrefixSize = 20
    static let maxHeaderBody = 1 << 20
    static let chunkPrefixSize = 12
    static let trailerMark = UInt32.max
    static let trailerSize = 52
    static let minFileSize = UInt64(headerPrefixSize + trailerSize)
    /// 64 TiB; a chunk's sequence cannot run over below it.
    static let maxFileSize = UInt64(1) << 46

    static func encode(_ header: SnapshotHeader) -> [UInt8] {
        var body = RecordWriter()
        body.write(header.clusterID.rawValue)
        body.write(header.position.index)
        body.write(header.position.term)
        body.write(counted: header.configuration.encode())
        body.write(counted: Array(header.schema.utf8))
        precondition(body.bytes.count <= maxHeaderBody, "a configuration and a schema's name are small")
        var writer = RecordWriter()
        writer.write(raw: magic)
        writer.write(version)
        writer.write(UInt32(body.bytes.count))
        writer.write(headerChecksum(version: version, body: body.bytes))
        writer.write(raw: body.bytes)
        return writer.bytes
    }

    static func headerChecksum(version: UInt32, body: [UInt8]) -> UInt32 {
        var crc = CRC32C()
        crc.update(version)
        crc.update(UInt32(body.count))
        crc.update(body)
        return crc.value
    }

    /// How many bytes of a file its header takes, as its first bytes tell.
    static func headerSize(_ file: File) throws -> UInt64 {
        var prefix = RecordReader(try file.read(headerPrefixSize, at: 0))
        guard prefix.read(raw: 8).map(Array.init) == magic, prefix.read(UInt32.self) != nil,
            let length = prefix.read(UInt32.self), length <= maxHeaderBody
        else { throw damaged(file, "it does not begin like a snapshot") }
        return UInt64(headerPrefixSize) + UInt64(length)
    }

    /// The header at the start of a file, and its size in bytes.
    static func readHeader(_ file: File) throws -> (header: SnapshotHeader, size: Int) {
        var prefix = RecordReader(try file.read(headerPrefixSize, at: 0))
        guard prefix.read(raw: 8).map(Array.init) == magic, let version = prefix.read(UInt32.self),
            let length = prefix.read(UInt32.self), let stored = prefix.read(UInt32.self), length <= maxHeaderBody
        else { throw damaged(file, "it does not begin like a snapshot") }
        let body = try file.read(Int(length), at: UInt64(headerPrefixSize))
        guard body.count == length, headerChecksum(version: version, body: body) == stored else {
            throw damaged(file, "its header's checksum is wrong")
        }
        guard version == Self.version else {
            throw StorageError(
                .newerFormat,
                "\(file.path) has format \(version), this version reads \(Self.version): run the newer one"
            )
        }
        var reader = RecordReader(body)
        guard let cluster = reader.read(UInt64.self), let index = reader.read(UInt64.self),
            let term = reader.read(UInt64.self), let encoded = reader.readCounted(),
            let configuration = Configuration(decoding: encoded), let schema = reader.readText(), reader.isAtEnd
        else { throw damaged(file, "its header cannot be read") }
        let header = SnapshotHeader(
            clusterID: ClusterID(cluster),
            position: LogPosition(index: index, term: term),
            configuration: configuration,
            schema: schema
        )
        return (header, headerPrefixSize + body.count)
    }

    static func checksum(sequence: UInt32, payload: UnsafeRawBufferPointer) -> UInt32 {
        var crc = CRC32C()
        crc.update(sequence)
        crc.update(UInt32(payload.count))
        crc.update(payload)
        return crc.value
    }

    static func encodeChunk(sequence: UInt32, payload: [UInt8]) -> [UInt8] {
        var writer = RecordWriter()
        writer.write(sequence)
        writer.write(UInt32(payload.count))
        writer.write(payload.withUnsafeBytes { checksum(sequence: sequence, payload: $0) })
        writer.write(raw: payload)
        return writer.bytes
    }

    /// The length of the chunk's payload whose first bytes `prefix` are, or nil when it cannot be this chunk.
    static func chunkLength(_ prefix: ArraySlice<UInt8>, sequence: UInt32) -> (length: Int, checksum: UInt32)? {
        var reader = RecordReader(Array(prefix))
        guard reader.read(UInt32.self) == sequence, let length = reader.read(UInt32.self), length > 0,
            length <= chunkSize, let checksum = reader.read(UInt32.self)
        else { return nil }
        return (Int(length), checksum)
    }

    static func encode(_ trailer: SnapshotTrailer) -> [UInt8] {
        var writer = RecordWriter()
        writer.write(trailerMark)
        writer.write(trailer.chunks)
        writer.write(trailer.payloadBytes)
        writer.write(raw: trailer.digest)
        writer.write(CRC32C.checksum(writer.bytes))
        return writer.bytes
    }

    /// The trailer that ends a file of `size` bytes.
    static func readTrailer(_ file: File, size: UInt64) throws -> SnapshotTrailer {
        guard size >= minFileSize, size <= maxFileSize else { throw damaged(file, "it has \(size) bytes") }
        let bytes = try file.read(trailerSize, at: size - UInt64(trailerSize))
        var reader = RecordReader(bytes)
        guard bytes.count == trailerSize, reader.read(UInt32.self) == trailerMark,
            let chunks = reader.read(UInt32.self), let payloadBytes = reader.read(UInt64.self),
            let digest = reader.read(raw: 32), let stored = reader.read(UInt32.self),
            stored == CRC32C.checksum(Array(bytes.dropLast(4)))
        else { throw damaged(file, "it does not end like a snapshot") }
        return SnapshotTrailer(chunks: chunks, payloadBytes: payloadBytes, digest: Array(digest))
    }

    static func damaged(_ file: File, _ what: String) -> StorageError {
        StorageError(
            .corrupt,
            "the snapshot \(file.path) is damaged: \(what); remove the file, an older one or another server's "
                + "takes its place"
        )
    }
}

struct SnapshotTrailer: Hashable {
    var chunks: UInt32
    var payloadBytes: UInt64
    /// SHA-256 of the file up to here.
    var digest: [UInt8]
}

extension SHA256 {
    mutating func update(_ bytes: [UInt8]) { bytes.withUnsafeBytes { update(bufferPointer: $0) } }
}
