internal import NIOCore
internal import Raft

/// Bytes that are not what the protocol says they must be.
package struct WireError: Error, Hashable, Sendable, CustomStringConvertible {
    package var description: String

    init(_ description: String) { self.description = description }

    static let truncated = WireError("the bytes end too early")
    static let trailing = WireError("there are bytes behind the end")
}

/// Reads the little-endian forms of the protocol. Every read is checked; nothing traps, and nothing is allocated
/// beyond what the bytes at hand can fill. It must not outlive the closure that lent it its bytes.
struct WireReader {
    private let bytes: UnsafeRawBufferPointer
    private var offset = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    var remaining: Int { bytes.count - offset }

    @inline(__always)
    mutating func read<Integer: FixedWidthInteger>(_: Integer.Type = Integer.self) throws(WireError) -> Integer {
        let size = MemoryLayout<Integer>.size
        guard remaining >= size else { throw .truncated }
        defer { offset += size }
        return Integer(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Integer.self))
    }

    mutating func readServerID() throws(WireError) -> ServerID {
        let raw = try read(UInt64.self)
        guard raw != 0 else { throw WireError("a server identity is zero") }
        return ServerID(raw)
    }

    mutating func readBool() throws(WireError) -> Bool {
        switch try read(UInt8.self) {
        case 0: return false
        case 1: return true
        default: throw WireError("a flag is neither 0 nor 1")
        }
    }

    mutating func readPosition() throws(WireError) -> LogPosition {
        let index = try read(UInt64.self)
        return LogPosition(index: index, term: try read())
    }

    mutating func readBytes(_ count: Int) throws(WireError) -> [UInt8] {
        guard count >= 0, count <= remaining else { throw .truncated }
        defer { offset += count }
        return [UInt8](UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + count)]))
    }

    /// Bytes behind their own 32-bit count.
    mutating func readCountedBytes() throws(WireError) -> [UInt8] {
        try readBytes(Int(try read(UInt32.self)))
    }

    /// A number of elements that each take at least `minimumSize` bytes, so that reserving room for them is safe.
    mutating func readCount(minimumSize: Int) throws(WireError) -> Int {
        let count = Int(try read(UInt32.self))
        guard count <= remaining / minimumSize else { throw .truncated }
        return count
    }

    mutating func readString() throws(WireError) -> String {
        let utf8 = try readBytes(Int(try read(UInt16.self)))
        guard let text = String(validating: utf8, as: UTF8.self) else { throw WireError("a text is not UTF-8") }
        return text
    }

    func expectEnd() throws(WireError) {
        guard remaining == 0 else { throw .trailing }
    }
}

extension ByteBuffer {
    @inline(__always)
    mutating func write(_ integer: some FixedWidthInteger) { writeInteger(integer, endianness: .little) }

    mutating func write(_ position: LogPosition) {
        write(position.index)
        write(position.term)
    }

    /// Bytes behind their 32-bit count.
    mutating func writeCounted(_ bytes: [UInt8]) {
        write(UInt32(bytes.count))
        writeBytes(bytes)
    }

    /// A text behind its 16-bit count; what is longer than `limit` is cut, at a character's end.
    mutating func writeText(_ text: String, limit: Int = 1024) {
        var cut = text
        while cut.utf8.count > limit { cut.removeLast() }
        write(UInt16(cut.utf8.count))
        writeString(cut)
    }

    /// Reads all of the buffer with a checked reader; what is left over is an error.
    func parse<Value>(_ body: (inout WireReader) throws(WireError) -> Value) throws(WireError) -> Value {
        let result: Result<Value, WireError> = withUnsafeReadableBytes { bytes in
            var reader = WireReader(bytes)
            do throws(WireError) {
                let value = try body(&reader)
                try reader.expectEnd()
                return .success(value)
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }
}
