internal import Glibc

/// Writes little-endian fields into memory that is known to be large enough.
struct BufferWriter {
    private let buffer: UnsafeMutableRawBufferPointer
    /// How many bytes were written.
    private(set) var offset = 0

    init(_ buffer: UnsafeMutableRawBufferPointer) { self.buffer = buffer }

    mutating func write<Integer: FixedWidthInteger & BitwiseCopyable>(_ integer: Integer) {
        buffer.storeBytes(of: integer.littleEndian, toByteOffset: offset, as: Integer.self)
        offset += MemoryLayout<Integer>.size
    }

    mutating func write(raw bytes: UnsafeRawBufferPointer) {
        guard !bytes.isEmpty else { return }
        UnsafeMutableRawBufferPointer(rebasing: buffer[offset..<offset + bytes.count]).copyMemory(from: bytes)
        offset += bytes.count
    }

    mutating func write(raw text: String) {
        var text = text
        text.withUTF8 { write(raw: UnsafeRawBufferPointer($0)) }
    }
}

/// Reads little-endian fields. Every read is checked: bytes from a disk or a peer never trap.
struct BufferReader {
    private let buffer: UnsafeRawBufferPointer
    private(set) var offset = 0

    init(_ buffer: UnsafeRawBufferPointer) { self.buffer = buffer }

    var remaining: Int { buffer.count - offset }

    mutating func read<Integer: FixedWidthInteger & BitwiseCopyable>(_: Integer.Type = Integer.self) -> Integer? {
        guard remaining >= MemoryLayout<Integer>.size else { return nil }
        defer { offset += MemoryLayout<Integer>.size }
        return Integer(littleEndian: buffer.loadUnaligned(fromByteOffset: offset, as: Integer.self))
    }

    mutating func read(raw count: Int) -> UnsafeRawBufferPointer? {
        guard count >= 0, remaining >= count else { return nil }
        defer { offset += count }
        return UnsafeRawBufferPointer(rebasing: buffer[offset..<offset + count])
    }
}

extension UnsafeRawBufferPointer {
    /// The order of keys, which is LMDB's too: by bytes, a prefix before what it begins. Below, at or above 0.
    func compare(to other: UnsafeRawBufferPointer) -> Int {
        let common = Swift.min(count, other.count)
        if common > 0, let left = baseAddress, let right = other.baseAddress {
            let order = memcmp(left, right, common)
            if order != 0 { return Int(order) }
        }
        return count - other.count
    }

    func hasPrefix(_ prefix: UnsafeRawBufferPointer) -> Bool {
        guard count >= prefix.count else { return false }
        guard !prefix.isEmpty, let left = baseAddress, let right = prefix.baseAddress else { return true }
        return memcmp(left, right, prefix.count) == 0
    }
}

/// Collects little-endian fields in an array.
struct ByteWriter {
    private(set) var bytes: [UInt8] = []

    mutating func write<Integer: FixedWidthInteger & BitwiseCopyable>(_ integer: Integer) {
        withUnsafeBytes(of: integer.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func write(raw other: some Collection<UInt8>) { bytes.append(contentsOf: other) }

    /// With the count in front, of 2 bytes.
    mutating func write(short other: some Collection<UInt8>) {
        write(UInt16(clamping: other.count))
        bytes.append(contentsOf: other)
    }

    /// With the count in front, of 4 bytes.
    mutating func write(long other: some Collection<UInt8>) {
        write(UInt32(clamping: other.count))
        bytes.append(contentsOf: other)
    }

    mutating func write(_ flag: Bool) { write(flag ? 1 : 0 as UInt8) }
}

extension BufferReader {
    var isAtEnd: Bool { remaining == 0 }

    /// Only 0 and 1 are flags.
    mutating func readFlag() -> Bool? {
        switch read(UInt8.self) {
        case 0: false
        case 1: true
        default: nil
        }
    }

    mutating func readShort() -> [UInt8]? {
        guard let count = read(UInt16.self) else { return nil }
        return read(raw: Int(count)).map { Array($0) }
    }

    mutating func readLong() -> [UInt8]? {
        guard let count = read(UInt32.self) else { return nil }
        return read(raw: Int(count)).map { Array($0) }
    }
}
