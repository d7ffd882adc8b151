internal import CChecksum

/// CRC-32C (Castagnoli), the checksum on every stored record, frame and chunk.
///
/// Detects all single-bit and double-bit errors and all bursts up to 32 bits (RFC 3720, appendix B.4).
public struct CRC32C: Sendable {
    /// The checksum of all bytes fed so far.
    public private(set) var value: UInt32 = 0

    public init() {}

    /// Continues the checksum over `bytes`.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        value = kontiki_crc32c(value, bytes.baseAddress, bytes.count)
    }

    /// Continues the checksum over `bytes`.
    public mutating func update(_ bytes: borrowing some ContiguousBytesProvider) {
        bytes.withContiguousBytes { update($0) }
    }

    /// Continues the checksum over the little-endian bytes of `integer`.
    public mutating func update(_ integer: some FixedWidthInteger) {
        withUnsafeBytes(of: integer.littleEndian) { update($0) }
    }

    /// The checksum of `bytes` alone.
    public static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        kontiki_crc32c(0, bytes.baseAddress, bytes.count)
    }

    /// The checksum of `bytes` alone.
    public static func checksum(_ bytes: borrowing some ContiguousBytesProvider) -> UInt32 {
        bytes.withContiguousBytes { checksum($0) }
    }
}

/// A byte sequence that can show its bytes in one piece, without Foundation.
public protocol ContiguousBytesProvider {
    func withContiguousBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result
}

extension [UInt8]: ContiguousBytesProvider {
    public func withContiguousBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try withUnsafeBytes(body)
    }
}

extension ArraySlice<UInt8>: ContiguousBytesProvider {
    public func withContiguousBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try withUnsafeBytes(body)
    }
}
