internal import Checksum
internal import NIOCore

/// What a frame carries. The numbers are a part of the protocol.
enum FrameKind: UInt8 {
    case message = 1
    case controlRequest = 16
    case controlResponse = 17
    case snapshotOffer = 32
    case snapshotResume = 33
    case snapshotRefuse = 34
    case snapshotChunk = 35
    case snapshotAcknowledge = 36
    case snapshotEnd = 37
    case snapshotDone = 38
    /// A sign of life on a snapshot stream; empty.
    case snapshotAlive = 39
}

/// The unit of everything behind the handshake: a header of 12 bytes, and the body.
///
///     0  UInt32  bytes of the body
///     4  UInt8   kind
///     5  UInt8   0
///     6  UInt16  group: which Raft group it belongs to; 0 for now
///     8  UInt32  CRC-32C over the 8 bytes before and the body
///
/// All integers are little-endian.
enum Frame {
    static let headerBytes = 12

    /// Begins a frame in `buffer`; answers where, for ``end(at:in:)``.
    static func begin(_ kind: FrameKind, group: UInt16 = 0, in buffer: inout ByteBuffer) -> Int {
        let start = buffer.writerIndex
        buffer.write(UInt32(0))
        buffer.write(kind.rawValue)
        buffer.write(UInt8(0))
        buffer.write(group)
        buffer.write(UInt32(0))
        return start
    }

    /// Fills in the length and the checksum of the frame that began at `start` and ends where the buffer ends.
    static func end(at start: Int, in buffer: inout ByteBuffer) {
        let count = buffer.writerIndex - start - headerBytes
        precondition(count <= Int(UInt32.max), "a frame is bounded long before four gigabytes")
        buffer.setInteger(UInt32(count), at: start, endianness: .little)
        let offset = start - buffer.readerIndex
        let checksum = buffer.withUnsafeReadableBytes { bytes in
            crc(of: UnsafeRawBufferPointer(rebasing: bytes[offset...]))
        }
        buffer.setInteger(checksum, at: start + 8, endianness: .little)
    }

    /// A whole frame of its own.
    static func make(_ kind: FrameKind, _ write: (inout ByteBuffer) -> Void = { _ in }) -> ByteBuffer {
        var buffer = ByteBuffer()
        let start = begin(kind, in: &buffer)
        write(&buffer)
        end(at: start, in: &buffer)
        return buffer
    }

    fileprivate static func crc(of frame: UnsafeRawBufferPointer) -> UInt32 {
        var crc = CRC32C()
        crc.update(UnsafeRawBufferPointer(rebasing: frame[0..<8]))
        crc.update(UnsafeRawBufferPointer(rebasing: frame[headerBytes...]))
        return crc.value
    }
}

/// A frame whose length, kind and checksum have been checked.
struct ReceivedFrame {
    var kind: FrameKind
    var group: UInt16
    var body: ByteBuffer
}

/// Cuts the bytes of a connection into frames.
struct FrameParser {
    /// The largest body that is taken; a longer one is an error as soon as its header is there.
    let maximumBytes: Int
    private var pending: ByteBuffer?

    init(maximumBytes: Int) { self.maximumBytes = maximumBytes }

    mutating func feed(_ bytes: ByteBuffer) {
        guard pending != nil else {
            pending = bytes
            return
        }
        pending?.writeImmutableBuffer(bytes)
    }

    /// The next complete frame; nil when more bytes are needed. After an error the connection is of no use any more.
    mutating func next() throws(WireError) -> ReceivedFrame? {
        guard let count = pending?.getInteger(at: pending?.readerIndex ?? 0, endianness: .little, as: UInt32.self)
        else {
            if pending?.readableBytes == 0 { pending = nil }
            return nil
        }
        guard count <= maximumBytes else {
            throw WireError("a frame of \(count) bytes, of which at most \(maximumBytes) are allowed")
        }
        guard var buffer = pending.take() else { return nil }
        guard buffer.readableBytes >= Frame.headerBytes + Int(count) else {
            // What was read already must not stay in memory in front of a large frame.
            if buffer.readerIndex > 1 << 16 { buffer.discardReadBytes() }
            pending = buffer
            return nil
        }
        let result = Self.cut(&buffer, bodyBytes: Int(count))
        if buffer.readableBytes > 0 { pending = buffer }
        return try result.get()
    }

    private static func cut(_ buffer: inout ByteBuffer, bodyBytes: Int) -> Result<ReceivedFrame, WireError> {
        let size = Frame.headerBytes + bodyBytes
        let (header, sum) = buffer.withUnsafeReadableBytes { bytes in
            let frame = UnsafeRawBufferPointer(rebasing: bytes[0..<size])
            let header = UInt64(littleEndian: frame.loadUnaligned(fromByteOffset: 4, as: UInt64.self))
            return (header, Frame.crc(of: frame))
        }
        guard UInt32(truncatingIfNeeded: header >> 32) == sum else {
            return .failure(WireError("a frame's checksum does not match its bytes"))
        }
        guard let kind = FrameKind(rawValue: UInt8(truncatingIfNeeded: header)),
            UInt8(truncatingIfNeeded: header >> 8) == 0
        else { return .failure(WireError("a frame of an unknown kind")) }
        buffer.moveReaderIndex(forwardBy: Frame.headerBytes)
        guard let body = buffer.readSlice(length: bodyBytes) else { return .failure(.truncated) }
        return .success(ReceivedFrame(kind: kind, group: UInt16(truncatingIfNeeded: header >> 16), body: body))
    }
}
