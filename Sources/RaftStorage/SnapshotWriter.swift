internal import Crypto
internal import LMDB
internal import Raft
internal import Synchronization

/// Writes one snapshot file under a temporary name, which goes away unless ``finish()`` succeeds.
///
/// Memory is bounded by one chunk, and dirty pages of the system by a few: the file is flushed as it grows. It grows no faster
/// than the store's rate, so that the log's flushes and the clients' requests have their share of the disk and of the processor.
package final class SnapshotWriter: Sendable {
    private struct State {
        var digest = SHA256()
        var chunk: [UInt8] = []
        var sequence: UInt32 = 0
        var payloadBytes: UInt64 = 0
        var offset: UInt64 = 0
        var isEnded = false
        var writeback: GradualWriteback
        var pace: Pace
    }

    private let store: SnapshotStore
    private let header: SnapshotHeader
    private let file: File
    private let state: Mutex<State>

    init(store: SnapshotStore, header: SnapshotHeader, path: String) throws {
        self.store = store
        self.header = header
        file = try File.create(path)
        let pace = Pace(bytesPerSecond: store.writeBytesPerSecond)
        state = Mutex(State(writeback: GradualWriteback(file), pace: pace))
        try state.withLock { try put(SnapshotFormat.encode(header), &$0) }
    }

    deinit { abort() }

    /// Bytes of payload so far.
    package var payloadBytes: UInt64 { state.withLock { $0.payloadBytes } }

    /// Adds to the payload. The pieces may have any size; the reader gets the same bytes in other pieces.
    package func write(_ bytes: UnsafeRawBufferPointer) throws(StorageError) {
        try storing {
            try state.withLock { state in
                try requireOpen(state)
                var rest = bytes
                while !rest.isEmpty {
                    let taken = min(rest.count, SnapshotFormat.chunkSize - state.chunk.count)
                    state.chunk.append(contentsOf: rest.prefix(taken))
                    rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(taken))
                    if state.chunk.count == SnapshotFormat.chunkSize { try putChunk(&state) }
                }
            }
        }
    }

    /// Adds to the payload.
    package func write(_ bytes: [UInt8]) throws(StorageError) {
        try storing { try bytes.withUnsafeBytes { try write($0) } }
    }

    /// Completes the file: flushed, read again and verified as a receiver would, given its name, and the name flushed. Only then may the
    /// log be trimmed. Of the snapshots in the directory the newest two stay. Throws ``StorageError/Code/unsound`` when no state could be
    /// loaded from what was written.
    package func finish() throws(StorageError) -> SnapshotDescriptor {
        try storing {
            let descriptor = try state.withLock { state in
                try requireOpen(state)
                if !state.chunk.isEmpty { try putChunk(&state) }
                let digest = Array(state.digest.finalize())
                let trailer = SnapshotTrailer(
                    chunks: state.sequence,
                    payloadBytes: state.payloadBytes,
                    digest: digest
                )
                try put(SnapshotFormat.encode(trailer), &state)
                try file.synchronize()
                return SnapshotDescriptor(
                    position: header.position,
                    configuration: header.configuration,
                    fileSize: state.offset,
                    digest: digest
                )
            }
            // Read from memory mostly, but with a checksum over it all: slower than writing by no more than a quarter.
            var pace = Pace(bytesPerSecond: store.writeBytesPerSecond.map { 4 * $0 })
            let reader = try SnapshotReader(file: File.read(file.path), expecting: descriptor)
            try reader.verify(store.contents) { bytes in pace.wait(for: bytes) { store.isHurried } }
            try store.publish(file.path, descriptor)
            state.withLock { $0.isEnded = true }
            return descriptor
        }
    }

    /// Gives up and removes the file. Also happens when the writer is dropped unfinished.
    package func abort() {
        state.withLock { state in
            guard !state.isEnded else { return }
            state.isEnded = true
            // A file that stays is swept at the next start.
            try? File.remove(file.path)
        }
    }

    private func requireOpen(_ state: borrowing State) throws {
        guard !state.isEnded else { throw StorageError(.stopped, "\(file.path) was finished or given up already") }
    }

    private func putChunk(_ state: inout State) throws {
        try put(SnapshotFormat.encodeChunk(sequence: state.sequence, payload: state.chunk), &state)
        state.sequence += 1
        state.payloadBytes += UInt64(state.chunk.count)
        state.chunk.removeAll(keepingCapacity: true)
    }

    private func put(_ bytes: [UInt8], _ state: inout State) throws {
        try file.write(bytes, at: state.offset)
        state.digest.update(bytes)
        state.offset += UInt64(bytes.count)
        try state.writeback.grew(to: state.offset)
        state.pace.wait(for: bytes.count) { store.isHurried }
    }
}
