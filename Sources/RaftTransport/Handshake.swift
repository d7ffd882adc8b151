internal import Checksum
internal import NIOCore
internal import Raft

/// What a connection is for.
enum Purpose: UInt8, Hashable, Sendable {
    /// Heartbeats, votes, reads, answers: small, and never behind bulk data.
    case urgentMessages = 1
    /// Appends and forwarded proposals.
    case bulkMessages = 2
    case snapshot = 3
    case control = 4
}

/// The answer of a server that does not take a connection.
package struct HandshakeRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Code: UInt8, Hashable, Sendable {
        /// The two belong to different clusters (R47).
        case wrongCluster = 1
        /// Another server than the expected one answers at this address (R46, R47).
        case wrongServer = 2
        /// There is no protocol version that both speak.
        case version = 3
        /// The server is no part of a cluster yet, or is stopping.
        case notReady = 4
        /// The caller bears the identity of the server that it calls: a copied data directory, or a call to itself.
        case sameServer = 5
        /// A bound on connections is reached.
        case busy = 6
        /// A reason of a later version of the protocol.
        case other = 255
    }

    package var code: Code
    package var description: String

    init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}

/// The first thing on a connection, from the side that opened it; and the answer to it. This form never changes:
///
///      0  8 bytes  “KTKHELLO” or “KTKREPLY”
///      8  UInt16   protocol version of the sender
///     10  UInt16   the oldest version that it still speaks
///     12  UInt16   bytes of the body, at most 4,096
///     14  UInt32   CRC-32C over the 14 bytes before and the body
///     18  body
///
/// A sender of a newer version may add fields behind those that are known here.
enum Handshake {
    /// 2: appends and heartbeats say where their leader's log ends.
    static let version: UInt16 = 2
    static let minimumVersion: UInt16 = 1
    static let headerBytes = 18
    static let maximumBodyBytes = 4096
    static let helloMagic = Array("KTKHELLO".utf8)
    static let replyMagic = Array("KTKREPLY".utf8)

    struct Hello: Hashable {
        var version = Handshake.version
        var minimumVersion = Handshake.minimumVersion
        var purpose: Purpose
        var sender: ServerIdentity
        /// Whom the sender means to reach; nil when it does not know.
        var expected: ServerID?
    }

    struct Reply: Hashable {
        var version = Handshake.version
        var minimumVersion = Handshake.minimumVersion
        var refusal: HandshakeRefusal?
        var sender: ServerIdentity
    }

    /// Takes `Value` off the front of `buffer`; nil while bytes are missing. A wrong first byte is found at once.
    static func read<Value>(
        _ magic: [UInt8],
        from buffer: inout ByteBuffer,
        _ body: (_ version: UInt16, _ minimum: UInt16, inout WireReader) throws(WireError) -> Value
    ) throws(WireError) -> Value? {
        let begin = buffer.readableBytesView.prefix(magic.count)
        guard begin.elementsEqual(magic.prefix(begin.count)) else { throw WireError("not the protocol of a peer") }
        guard buffer.readableBytes >= headerBytes,
            let count = buffer.getInteger(at: buffer.readerIndex + 12, endianness: .little, as: UInt16.self)
        else { return nil }
        guard count <= maximumBodyBytes else { throw WireError("a handshake of \(count) bytes") }
        guard let whole = buffer.readSlice(length: headerBytes + Int(count)) else { return nil }
        let result: Result<Value, WireError> = whole.withUnsafeReadableBytes { bytes in
            do throws(WireError) {
                var header = WireReader(UnsafeRawBufferPointer(rebasing: bytes[8..<headerBytes]))
                let version: UInt16 = try header.read()
                let minimum: UInt16 = try header.read()
                _ = try header.read(UInt16.self)
                guard try header.read(UInt32.self) == checksum(bytes) else {
                    throw WireError("a handshake's checksum does not match its bytes")
                }
                var reader = WireReader(UnsafeRawBufferPointer(rebasing: bytes[headerBytes...]))
                let value = try body(version, minimum, &reader)
                if version <= Handshake.version { try reader.expectEnd() }
                return .success(value)
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    private static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        var crc = CRC32C()
        crc.update(UnsafeRawBufferPointer(rebasing: bytes[0..<14]))
        crc.update(UnsafeRawBufferPointer(rebasing: bytes[headerBytes...]))
        return crc.value
    }

    static func make(
        _ magic: [UInt8],
        version: UInt16,
        minimum: UInt16,
        _ write: (inout ByteBuffer) -> Void
    ) -> ByteBuffer {
        var body = ByteBuffer()
        write(&body)
        precondition(body.readableBytes <= maximumBodyBytes, "the texts of a handshake are cut to fit")
        var buffer = ByteBuffer()
        buffer.writeBytes(magic)
        buffer.write(version)
        buffer.write(minimum)
        buffer.write(UInt16(body.readableBytes))
        buffer.write(UInt32(0))
        buffer.writeImmutableBuffer(body)
        let sum = buffer.withUnsafeReadableBytes { checksum($0) }
        buffer.setInteger(sum, at: 14, endianness: .little)
        return buffer
    }
}

extension Handshake.Hello {
    func encode() -> ByteBuffer {
        Handshake.make(Handshake.helloMagic, version: version, minimum: minimumVersion) { buffer in
            buffer.write(purpose.rawValue)
            buffer.write(expected?.rawValue ?? 0)
            buffer.write(sender)
        }
    }

    /// A purpose of a later version is an error: what it asks for cannot be known here.
    static func decode(_ buffer: inout ByteBuffer) throws(WireError) -> Self? {
        try Handshake.read(Handshake.helloMagic, from: &buffer) { version, minimum, reader throws(WireError) in
            guard let purpose = Purpose(rawValue: try reader.read()) else { throw WireError("an unknown purpose") }
            let expected: UInt64 = try reader.read()
            return Self(
                version: version,
                minimumVersion: minimum,
                purpose: purpose,
                sender: try reader.readServerIdentity(),
                expected: expected == 0 ? nil : ServerID(expected)
            )
        }
    }
}

extension Handshake.Reply {
    func encode() -> ByteBuffer {
        Handshake.make(Handshake.replyMagic, version: version, minimum: minimumVersion) { buffer in
            buffer.write(refusal?.code.rawValue ?? 0)
            buffer.writeText(refusal?.description ?? "", limit: 512)
            buffer.write(sender)
        }
    }

    static func decode(_ buffer: inout ByteBuffer) throws(WireError) -> Self? {
        try Handshake.read(Handshake.replyMagic, from: &buffer) { version, minimum, reader throws(WireError) in
            let code: UInt8 = try reader.read()
            let text = try reader.readString()
            var reply = Self(version: version, minimumVersion: minimum, sender: try reader.readServerIdentity())
            if code != 0 { reply.refusal = HandshakeRefusal(HandshakeRefusal.Code(rawValue: code) ?? .other, text) }
            return reply
        }
    }
}

extension ByteBuffer {
    mutating func write(_ identity: ServerIdentity) {
        write(identity.serverID.rawValue)
        write(identity.clusterID.rawValue)
        writeText(identity.name)
        writeText(identity.peerAddress)
        writeText(identity.clientAddress)
    }
}

extension WireReader {
    mutating func readServerIdentity() throws(WireError) -> ServerIdentity {
        let serverID = try readServerID()
        let clusterID = ClusterID(try read(UInt64.self))
        let name = try readString()
        let peerAddress = try readString()
        return ServerIdentity(
            serverID: serverID,
            clusterID: clusterID,
            name: name,
            peerAddress: peerAddress,
            clientAddress: try readString()
        )
    }
}
