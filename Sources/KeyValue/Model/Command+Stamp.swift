extension Command {
    /// The time that an encoded command is stamped with; nil for bytes that are no command.
    public static func timestampMilliseconds(of payload: [UInt8]) -> UInt64? {
        guard payload.count >= CommandLayout.headerLength, payload[0] == CommandLayout.version else { return nil }
        return payload.withUnsafeBytes {
            UInt64(littleEndian: $0.loadUnaligned(fromByteOffset: CommandLayout.timestampOffset, as: UInt64.self))
        }
    }
}
