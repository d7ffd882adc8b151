import Foundation
import NIOPosix

/// A file, or standard input, read in lines without blocking the threads that requests run on.
struct InputFile: ~Copyable {
    private let descriptor: Int32
    private let name: String
    private var buffer: [UInt8] = []
    /// Where the next line begins in `buffer`.
    private var start = 0
    private var isAtEnd = false
    /// The number of the line that ``nextLine()`` gave last, from 1.
    private(set) var lineNumber = 0
    /// Bytes read so far.
    private(set) var bytesRead = 0
    /// What is there to read of a regular file, in bytes.
    let size: Int?

    /// - Parameter path: `-` is standard input.
    init(_ path: String) throws {
        name = path == "-" ? "standard input" : path
        descriptor = path == "-" ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw Failure(.noInput, "\(path) cannot be read: \(String(cString: strerror(errno)))")
        }
        // Pipes and terminals have no end to seek to.
        let start = lseek(descriptor, 0, SEEK_CUR)
        size = start < 0 ? nil : Int(lseek(descriptor, 0, SEEK_END) - start)
        if start >= 0 { lseek(descriptor, start, SEEK_SET) }
    }

    deinit { if descriptor != STDIN_FILENO { close(descriptor) } }

    /// The next line without its line feed; nil at the end. A last line needs no line feed.
    mutating func nextLine() async throws -> ArraySlice<UInt8>? {
        var searched = start
        while true {
            if let end = buffer[searched...].firstIndex(of: 0x0A) {
                defer { start = end + 1 }
                lineNumber += 1
                return buffer[start..<end]
            }
            if isAtEnd {
                guard start < buffer.count else { return nil }
                defer { start = buffer.count }
                lineNumber += 1
                return buffer[start...]
            }
            guard buffer.count - start <= RecordLimits.lineBytes else {
                throw Failure(
                    .data,
                    "line \(lineNumber + 1) of \(name) is longer than \(RecordLimits.lineBytes >> 20) MiB"
                )
            }
            buffer.removeFirst(start)
            searched = buffer.count
            start = 0
            try await fill()
        }
    }

    private mutating func fill() async throws {
        let (descriptor, name) = (descriptor, name)
        let chunk = try await NIOThreadPool.singleton.runIfActive { try Self.readChunk(descriptor, name) }
        isAtEnd = chunk.isEmpty
        bytesRead += chunk.count
        buffer += chunk
    }

    private static func readChunk(_ descriptor: Int32, _ name: String) throws -> [UInt8] {
        while true {
            var count = 0
            let chunk = [UInt8](unsafeUninitializedCapacity: 256 << 10) { space, filled in
                count = Foundation.read(descriptor, space.baseAddress, space.count)
                filled = max(0, count)
            }
            if count >= 0 { return chunk }
            let code = errno
            guard code == EINTR else {
                throw Failure(
                    code == EISDIR ? .noInput : .io,
                    "\(name) cannot be read: \(String(cString: strerror(code)))"
                )
            }
        }
    }

    /// All bytes of a file, or of standard input for `-`.
    static func readAll(_ path: String) throws -> [UInt8] {
        let file = try InputFile(path)
        var bytes: [UInt8] = []
        while true {
            let chunk = try readChunk(file.descriptor, file.name)
            if chunk.isEmpty { return bytes }
            bytes += chunk
        }
    }
}
