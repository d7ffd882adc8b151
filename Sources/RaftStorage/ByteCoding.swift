/// Writes little-endian records.
struct RecordWriter {
    private(set) var bytes: [UInt8] = []

    mutating func write(_ integer: some FixedWidthInteger) {
        withUnsafeBytes(of: integer.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func write(raw: some Sequence<UInt8>) { bytes.append(contentsOf: raw) }

    /// A length of 32 bits, then the bytes.
    mutating func write(counted: some Collection<UInt8>) {
        write(UInt32(counted.count))
        bytes.append(contentsOf: counted)
    }
}

/// Reads what ``RecordWriter`` wrote. Every read is checked: bytes from a disk or a peer never trap, and nothing is
/// allocated that is not there.
struct RecordReader {
    private var rest: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) { rest = bytes[...] }

    var isAtEnd: Bool { rest.isEmpty }

    mutating func read<Integer: FixedWidthInteger>(_: Integer.Type = Integer.self) -> Integer? {
        let size = MemoryLayout<Integer>.size
        guard rest.count >= size else { return nil }
        defer { rest.removeFirst(size) }
        return rest.withUnsafeBytes { Integer(littleEndian: $0.loadUnaligned(as: Integer.self)) }
    }

    mutating func read(raw count: Int) -> ArraySlice<UInt8>? {
        guard count >= 0, rest.count >= count else { return nil }
        defer { rest.removeFirst(count) }
        return rest.prefix(count)
    }

    mutating func readCounted() -> ArraySlice<UInt8>? {
        guard let count = read(UInt32.self) else { return nil }
        return read(raw: Int(count))
    }

    mutating func readText() -> String? {
        guard let bytes = readCounted() else { return nil }
        return String(validating: bytes, as: UTF8.self)
    }
}
