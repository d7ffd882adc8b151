public import KeyValue
public import NIOCore
import NIOPosix
import RaftStorage
import Synchronization

/// How a backup is written down.
public protocol BackupForm: Sendable {
    /// Adds a key; answers how many bytes wait to be taken.
    mutating func append(_ item: Item) -> Int

    /// What was added since the last time.
    mutating func take() -> ByteBuffer

    /// What tells the reader that nothing is missing.
    ///
    /// - Parameter revision: of the store, of which all that was added is the state.
    mutating func end(at revision: UInt64) -> ByteBuffer
}

/// All keys, or those with a prefix, as they stood at one revision. It stays that as long as it is there, whatever is written meanwhile.
public final class Backup: Sendable {
    public let revision: UInt64
    /// How many bytes it has.
    public let byteCount: Int
    private let file: ScratchFile
    private let slot: BackupSlots.Slot

    fileprivate init(revision: UInt64, byteCount: Int, _ file: ScratchFile, _ slot: BackupSlots.Slot) {
        self.revision = revision
        self.byteCount = byteCount
        self.file = file
        self.slot = slot
    }

    /// Up to `count` bytes from `offset` on.
    public func read(_ count: Int, at offset: Int) async throws -> ByteBuffer {
        let file = file
        return try await NIOThreadPool.singleton.runIfActive {
            ByteBuffer(bytes: try file.read(count, at: UInt64(offset)))
        }
    }
}

/// How many backups there may be at a time: each takes as much of the disk as it is long.
final class BackupSlots: Sendable {
    /// One of them, as long as it is referred to.
    final class Slot: Sendable {
        private let slots: BackupSlots

        fileprivate init(_ slots: BackupSlots) { self.slots = slots }

        deinit { slots.taken.subtract(1, ordering: .relaxed) }
    }

    private let maximum: Int
    private let taken = Atomic<Int>(0)

    init(maximum: Int) { self.maximum = maximum }

    /// Nil when all are taken.
    func take() -> Slot? {
        guard taken.add(1, ordering: .relaxed).newValue <= maximum else {
            taken.subtract(1, ordering: .relaxed)
            return nil
        }
        return Slot(self)
    }
}

extension KeyValueNode {
    /// What a backup leaves free on the disk, for the log and the state.
    private static let roomForOthers: UInt64 = 128 << 20
    private static let pieceBytes = 256 << 10

    /// Makes a backup of this node's state as it stands now. How fresh that is to be, ``permitRead(_:timeout:)`` sees to.
    ///
    /// The state is read in one go into a file that only the backup knows: who reads the backup may take as long as it likes, and holds
    /// neither the past of the keys nor pages of the state's file.
    ///
    /// Throws ``ServiceError``: ``ServiceError/Code/overloaded`` where as many are there as may be, ``ServiceError/Code/noRoom`` where the disk
    /// has no room for it, ``ServiceError/Code/quarantined``; and what reading the state throws.
    public func backup(prefix: [UInt8] = [], as form: some BackupForm) async throws -> Backup {
        let store = try readableStore()
        guard let slot = backups.take() else {
            throw ServiceError(
                .overloaded,
                detail:
                    "\(options.maximumBackups) backups are being read from this node; try again later, or ask another one"
            )
        }
        let backup = try await NIOThreadPool.singleton.runIfActive {
            do {
                return try Self.write(store, prefix, form, slot)
            } catch let error as StorageError where error.isLackOfRoom {
                throw ServiceError(.noRoom, detail: error.message)
            }
        }
        // What was read of a state that turned out to be wrong is no backup.
        _ = try readableStore()
        return backup
    }

    private static func write(
        _ store: Store,
        _ prefix: [UInt8],
        _ form: some BackupForm,
        _ slot: BackupSlots.Slot
    ) throws -> Backup {
        let file = try ScratchFile(in: store.path)
        var (writer, form) = (ScratchFile.Writer(file, roomToLeave: roomForOthers), form)
        let mark = try store.forEach(prefix: prefix) { item in
            if form.append(item) >= pieceBytes { try form.take().withUnsafeReadableBytes { try writer.write($0) } }
        }
        try form.take().withUnsafeReadableBytes { try writer.write($0) }
        try form.end(at: mark.revision).withUnsafeReadableBytes { try writer.write($0) }
        return Backup(revision: mark.revision, byteCount: Int(writer.count), file, slot)
    }
}
