internal import Crypto
internal import LMDB
internal import Raft
internal import Synchronization

/// Reads one snapshot file: its payload, verified chunk by chunk, or its raw bytes, to send them.
///
/// Whatever the file holds, a fault is an error, and no more memory is taken than one chunk.
package final class SnapshotReader: Sendable {
    private struct State {
        var offset: UInt64 = 0
        var sequence: UInt32 = 0
        var payloadBytes: UInt64 = 0
        var digest = SHA256()
        var isVerified = false
        /// Verified payload that was not handed out yet.
        var rest: ArraySlice<UInt8> = []
    }

    package let header: SnapshotHeader
    package let descriptor: SnapshotDescriptor
    private let file: File
    private let trailer: SnapshotTrailer
    private let state: Mutex<State>

    /// Reads header and trailer. `expecting` is what the file must be.
    init(file: File, expecting descriptor: SnapshotDescriptor? = nil) throws {
        let size = try file.size()
        let (header, headerSize) = try SnapshotFormat.readHeader(file)
        trailer = try SnapshotFormat.readTrailer(file, size: size)
        let found = SnapshotDescriptor(
            position: header.position,
            configuration: header.configuration,
            fileSize: size,
            digest: trailer.digest
        )
        guard descriptor == nil || descriptor == found else {
            throw SnapshotFormat.damaged(file, "it is not the snapshot that it should be")
        }
        self.file = file
        self.header = header
        self.descriptor = found
        var start = State()
        start.offset = UInt64(headerSize)
        start.digest.update(try file.read(headerSize, at: 0))
        state = Mutex(start)
    }

    /// The next bytes of the payload, at most `maxBytes` and at most 1 MiB; nil at the end. What was read counts only
    /// when the end is reached without an error: the checksum of the whole is known only there.
    package func read(maxBytes: Int = 1 << 20) throws(StorageError) -> [UInt8]? {
        precondition(maxBytes > 0, "reading nothing would never end")
        return try storing {
            try state.withLock { state in
                if state.rest.isEmpty {
                    guard let chunk = try nextChunk(&state) else { return nil }
                    state.rest = chunk[...]
                }
                let piece = Array(state.rest.prefix(maxBytes))
                state.rest = state.rest.dropFirst(maxBytes)
                return piece
            }
        }
    }

    /// Reads to the end and throws unless everything is as it was written and, with `contents`, a state could be loaded from it: where only
    /// that is not so, the error is ``StorageError/Code/unsound``, for a form that is not known ``StorageError/Code/newerFormat``.
    ///
    /// - Parameter pace: called with the size of each piece that was read; it may wait, or throw to give up.
    package func verify(
        _ contents: SnapshotContents? = nil,
        pace: (_ bytes: Int) throws -> Void = { _ in }
    ) throws(StorageError) {
        func next(_ maxBytes: Int) throws -> [UInt8]? {
            let piece = try read(maxBytes: max(1, maxBytes))
            if let piece { try pace(piece.count) }
            return piece
        }
        try storing {
            if let contents {
                try contents.requireSchema(of: header)
                do {
                    try contents.examine(header, next)
                } catch let error as StorageError {
                    throw error
                } catch {
                    throw StorageError(
                        .unsound,
                        "the snapshot at \(header.position) is as it was written, but no state can be loaded from it: \(error)"
                    )
                }
            }
            while try next(1 << 20) != nil {}
        }
    }

    /// Bytes of the file as they are, to send them: fewer than `maxBytes` at its end, none behind it.
    package func rawChunk(offset: UInt64, maxBytes: Int) throws(StorageError) -> [UInt8] {
        guard offset < descriptor.fileSize, maxBytes > 0 else { return [] }
        let count = min(UInt64(maxBytes), descriptor.fileSize - offset)
        return try storing { try file.read(Int(count), at: offset) }
    }

    private func nextChunk(_ state: inout State) throws -> [UInt8]? {
        let end = descriptor.fileSize - UInt64(SnapshotFormat.trailerSize)
        guard state.offset < end else {
            try verifyEnd(&state, end)
            return nil
        }
        let left = Int(min(end - state.offset, UInt64(SnapshotFormat.chunkPrefixSize + SnapshotFormat.chunkSize)))
        let prefix = try file.read(min(left, SnapshotFormat.chunkPrefixSize), at: state.offset)
        guard let (length, checksum) = SnapshotFormat.chunkLength(prefix[...], sequence: state.sequence),
            length <= left - SnapshotFormat.chunkPrefixSize
        else { throw SnapshotFormat.damaged(file, "chunk \(state.sequence) is not where it should be") }
        let payload = try file.read(length, at: state.offset + UInt64(prefix.count))
        let sum = payload.withUnsafeBytes { SnapshotFormat.checksum(sequence: state.sequence, payload: $0) }
        guard payload.count == length, sum == checksum else {
            throw SnapshotFormat.damaged(file, "the checksum of chunk \(state.sequence) is wrong")
        }
        state.digest.update(prefix)
        state.digest.update(payload)
        state.offset += UInt64(prefix.count + length)
        state.sequence += 1
        state.payloadBytes += UInt64(length)
        return payload
    }

    private func verifyEnd(_ state: inout State, _ end: UInt64) throws {
        guard !state.isVerified else { return }
        guard state.offset == end, state.sequence == trailer.chunks, state.payloadBytes == trailer.payloadBytes,
            Array(state.digest.finalize()) == trailer.digest
        else { throw SnapshotFormat.damaged(file, "the checksum of the whole is wrong") }
        state.isVerified = true
    }
}
