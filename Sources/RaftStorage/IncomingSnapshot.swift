internal import LMDB
internal import Raft
internal import Synchronization

/// A snapshot on its way from another server, kept in a file that a transfer goes on with after either side restarted
/// (R41).
package final class IncomingSnapshot: Sendable {
    private struct State {
        var offset: UInt64
        var isFinished = false
        /// The header has come and was found right.
        var hasHeader = false
        var writeback: GradualWriteback
    }

    package let descriptor: SnapshotDescriptor
    private let store: SnapshotStore
    private let clusterID: ClusterID
    private let file: File
    private let state: Mutex<State>

    init(store: SnapshotStore, descriptor: SnapshotDescriptor, clusterID: ClusterID, path: String) throws {
        guard descriptor.fileSize >= SnapshotFormat.minFileSize, descriptor.fileSize <= SnapshotFormat.maxFileSize
        else {
            throw StorageError(.invalid, "a snapshot of \(descriptor.fileSize) bytes cannot be; ask for it anew")
        }
        self.store = store
        self.descriptor = descriptor
        self.clusterID = clusterID
        file = try File.openOrCreate(path)
        let offset = try Self.verifiedPrefix(of: file, descriptor)
        try file.truncate(to: offset)
        state = Mutex(State(offset: offset, writeback: GradualWriteback(file, from: offset)))
        try state.withLock { try judgeHeader(&$0) }
        let available = try file.availableDiskBytes()
        guard available >= descriptor.fileSize - offset else {
            throw StorageError(
                .diskFull,
                "a snapshot needs \(descriptor.fileSize - offset) bytes more in \(store.directory), "
                    + "the file system has \(available); free some space"
            )
        }
    }

    /// Where the transfer is to go on: how many bytes of the file are here.
    package var offset: UInt64 { state.withLock { $0.offset } }

    package var isComplete: Bool { offset == descriptor.fileSize }

    /// Adds the bytes at `position` of the file, and returns where to go on.
    ///
    /// Bytes that are here already change nothing. Bytes beyond a gap or beyond the end of the file throw
    /// ``StorageError/Code/outOfOrder`` and change nothing either. As soon as the header is here, a snapshot of another cluster or of a form
    /// that is not known ends the transfer: it would be of no use at its end.
    @discardableResult
    package func append(_ bytes: [UInt8], at position: UInt64) throws(StorageError) -> UInt64 {
        try storing {
            try state.withLock { state in
                try requireCurrent(state)
                guard position <= state.offset, UInt64(bytes.count) <= descriptor.fileSize,
                    position <= descriptor.fileSize - UInt64(bytes.count)
                else {
                    throw StorageError(
                        .outOfOrder,
                        "\(bytes.count) bytes at \(position) do not follow the \(state.offset) of "
                            + "\(descriptor.fileSize) that are here"
                    )
                }
                let known = state.offset - position
                guard known < bytes.count else { return state.offset }
                let fresh = Array(bytes.dropFirst(Int(known)))
                try orGivenUp(&state) { state in
                    try file.write(fresh, at: state.offset)
                    state.offset += UInt64(fresh.count)
                    try state.writeback.grew(to: state.offset)
                }
                try judgeHeader(&state)
                return state.offset
            }
        }
    }

    /// Verifies the whole file, what it holds as well, and makes it one of the store's snapshots, durably.
    ///
    /// A file that is not what its descriptor says, or that no state could be loaded from, is removed, and the error is
    /// ``StorageError/Code/corrupt`` or ``StorageError/Code/unsound``: the transfer begins anew.
    package func finish() throws(StorageError) -> SnapshotDescriptor {
        try storing {
            try state.withLock { state in
                try requireCurrent(state)
                guard state.offset == descriptor.fileSize else {
                    throw StorageError(.outOfOrder, "\(state.offset) of \(descriptor.fileSize) bytes are here")
                }
                try orGivenUp(&state) { _ in try file.synchronize() }
                try orRefused(&state) { _ in
                    let reader = try SnapshotReader(file: file, expecting: descriptor)
                    try judge(reader.header)
                    try reader.verify(store.contents) { _ in try store.requireTime() }
                }
                state.isFinished = true
                try store.publish(file.path, descriptor)
                return descriptor
            }
        }
    }

    /// Another transfer takes the place of this one: nothing is written to the file any more.
    func supersede() { state.withLock { $0.isFinished = true } }

    private func requireCurrent(_ state: borrowing State) throws {
        guard !state.isFinished else {
            throw StorageError(.stopped, "this transfer has ended, or another one took its place")
        }
    }

    /// Looks at the header as soon as it is here.
    private func judgeHeader(_ state: inout State) throws {
        guard !state.hasHeader, state.offset >= UInt64(SnapshotFormat.headerPrefixSize) else { return }
        try orRefused(&state) { state in
            guard try state.offset >= SnapshotFormat.headerSize(file) else { return }
            try judge(try SnapshotFormat.readHeader(file).header)
            state.hasHeader = true
        }
    }

    private func judge(_ header: SnapshotHeader) throws {
        guard header.position == descriptor.position, header.configuration == descriptor.configuration else {
            throw SnapshotFormat.damaged(file, "it is not the snapshot that it should be")
        }
        guard clusterID == .none || header.clusterID == clusterID else {
            throw StorageError(.clusterMismatch, "the snapshot is of cluster \(header.clusterID), not \(clusterID)")
        }
        try store.contents?.requireSchema(of: header)
    }

    /// What is of no use is removed.
    private func orRefused(_ state: inout State, _ body: (inout State) throws -> Void) throws {
        do {
            try body(&state)
        } catch {
            state.isFinished = true
            // A server that stops goes on with it when it is back.
            if (error as? StorageError)?.code != .stopped { try File.remove(file.path) }
            throw error
        }
    }

    /// After a failed write or flush the file goes: what the disk did not take would be read from memory, look sound, and be gone
    /// with the power. A transfer that begins anew writes it all again.
    private func orGivenUp(_ state: inout State, _ body: (inout State) throws -> Void) throws {
        do {
            try body(&state)
        } catch {
            state.isFinished = true
            try? File.remove(file.path)
            throw error
        }
    }

    /// Removes what has come so far.
    package func discard() throws(StorageError) {
        try storing {
            try state.withLock { state in
                guard !state.isFinished else { return }
                state.isFinished = true
                try File.remove(file.path)
            }
        }
    }

    /// How far the file is surely good: its header, and the whole chunks behind it. A crash may have left anything
    /// after what had been flushed.
    private static func verifiedPrefix(of file: File, _ descriptor: SnapshotDescriptor) throws -> UInt64 {
        let size = try file.size()
        let start: UInt64
        do {
            let (header, headerSize) = try SnapshotFormat.readHeader(file)
            guard header.position == descriptor.position, header.configuration == descriptor.configuration else {
                return 0
            }
            start = UInt64(headerSize)
        } catch is StorageError {
            return 0
        }
        let end = min(size, descriptor.fileSize - UInt64(SnapshotFormat.trailerSize))
        var (offset, sequence) = (start, UInt32(0))
        while offset + UInt64(SnapshotFormat.chunkPrefixSize) < end {
            let prefix = try file.read(SnapshotFormat.chunkPrefixSize, at: offset)
            guard let (length, checksum) = SnapshotFormat.chunkLength(prefix[...], sequence: sequence) else { break }
            let next = offset + UInt64(prefix.count + length)
            guard next <= end else { break }
            let payload = try file.read(length, at: offset + UInt64(prefix.count))
            let sum = payload.withUnsafeBytes { SnapshotFormat.checksum(sequence: sequence, payload: $0) }
            guard payload.count == length, sum == checksum else { break }
            (offset, sequence) = (next, sequence + 1)
        }
        return min(offset, descriptor.fileSize)
    }
}
