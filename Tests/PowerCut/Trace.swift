import Foundation

/// What happened to a directory, as the preloaded `DiskRecorder` noted it.
package struct Trace: Sendable {
    /// One record. Paths are relative to the directory; that itself is the empty path.
    package struct Record: Sendable {
        /// The place in the order of all processes that shared a counter.
        package var sequence: UInt64
        package var event: TraceEvent

        package init(sequence: UInt64, event: TraceEvent) { (self.sequence, self.event) = (sequence, event) }
    }

    package var records: [Record] = []

    package init() {}

    /// Reads a trace. A record that is cut off at the end belongs to a process that was killed and is left out.
    ///
    /// - Throws: when there is no such file, or it holds something else.
    package init(contentsOf path: String) throws {
        let data = try Data(contentsOf: URL(fileURLWithPath: path), options: .alwaysMapped)
        try data.withUnsafeBytes { bytes in
            var offset = 0
            while let (record, next) = try Self.record(bytes, at: offset, of: path) {
                records.append(record)
                offset = next
            }
        }
    }

    private static func record(
        _ bytes: UnsafeRawBufferPointer,
        at offset: Int,
        of path: String
    ) throws -> (Record, next: Int)? {
        guard offset + headerSize <= bytes.count else { return nil }
        func load<Number: FixedWidthInteger>(_ position: Int, as: Number.Type) -> Number {
            bytes.loadUnaligned(fromByteOffset: offset + position, as: Number.self)
        }
        let (kind, flags) = (load(4, as: UInt16.self), load(6, as: UInt16.self))
        let (pathLength, dataLength) = (Int(load(40, as: UInt32.self)), Int(load(44, as: UInt32.self)))
        guard load(0, as: UInt32.self) == magic else { throw MalformedTrace(path: path, offset: offset) }
        let (data, end) = (offset + headerSize + pathLength, offset + headerSize + pathLength + dataLength)
        guard end <= bytes.count else { return nil }
        let parts = RecordParts(
            flags: flags,
            reference: load(16, as: UInt64.self),
            file: load(24, as: UInt64.self),
            offset: Int(load(32, as: Int64.self)),
            path: String(decoding: bytes[(offset + headerSize)..<data], as: UTF8.self),
            data: bytes[data..<end]
        )
        guard let event = TraceEvent(kind: kind, parts) else { throw MalformedTrace(path: path, offset: offset) }
        return (Record(sequence: load(8, as: UInt64.self), event: event), end)
    }

    private static let headerSize = 48
    private static let magic: UInt32 = 0x4b44_524b
}

/// One thing that happened. Files are named by the inode they had; a creation binds the number anew.
package enum TraceEvent: Hashable, Sendable {
    /// With `isSynchronous` it is durable, alone, with the ``syncEnded`` that refers to it.
    case write(file: UInt64, offset: Int, bytes: [UInt8], isSynchronous: Bool)
    case syncBegan(file: UInt64, path: String, isDirectory: Bool)
    /// `error` is 0 when it succeeded.
    case syncEnded(reference: UInt64, error: Int)
    case truncated(file: UInt64, size: Int)
    case created(file: UInt64, path: String)
    /// It was there.
    case opened(file: UInt64, path: String, size: Int, isDirectory: Bool)
    case renamed(from: String, to: String)
    case unlinked(path: String)
    case madeDirectory(path: String)
    case removedDirectory(path: String)
    case linked(from: String, to: String)
    case note(String)
}

private struct RecordParts {
    var flags: UInt16
    var reference: UInt64
    var file: UInt64
    var offset: Int
    var path: String
    var data: Slice<UnsafeRawBufferPointer>
}

extension TraceEvent {
    fileprivate init?(kind: UInt16, _ parts: RecordParts) {
        let isDirectory = parts.flags & 1 != 0
        var text: String { String(decoding: parts.data, as: UTF8.self) }
        switch kind {
        case 1:
            self = .write(
                file: parts.file,
                offset: parts.offset,
                bytes: Array(parts.data),
                isSynchronous: parts.flags & 2 != 0
            )
        case 2: self = .syncBegan(file: parts.file, path: parts.path, isDirectory: isDirectory)
        case 3: self = .syncEnded(reference: parts.reference, error: parts.offset)
        case 4: self = .truncated(file: parts.file, size: parts.offset)
        case 5: self = .created(file: parts.file, path: parts.path)
        case 6: self = .opened(file: parts.file, path: parts.path, size: parts.offset, isDirectory: isDirectory)
        case 7: self = .renamed(from: parts.path, to: text)
        case 8: self = .unlinked(path: parts.path)
        case 9: self = .madeDirectory(path: parts.path)
        case 10: self = .removedDirectory(path: parts.path)
        case 11: self = .linked(from: parts.path, to: text)
        case 12: self = .note(text)
        default: return nil
        }
    }
}

/// A file that is no trace.
package struct MalformedTrace: Error, CustomStringConvertible {
    var path: String
    var offset: Int

    package var description: String { "\(path) is no trace: what stands at \(offset) is no record" }
}
