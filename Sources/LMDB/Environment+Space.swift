internal import CLMDB
internal import Glibc

/// How full an environment is.
package struct SpaceUsage: Hashable, Sendable {
    /// Bytes up to the last page ever used; pages freed below it are used again.
    package var usedBytes: Int
    /// The size of the data file.
    package var fileBytes: Int
    /// The most that the file may grow to.
    package var mapBytes: Int
    /// What the file system still gives to this user.
    package var availableDiskBytes: Int
    /// The most reader slots that were in use at the same time since the opening; slots that are given back are used again.
    package var readerSlots: Int

    /// The used part of the map, 0 to 1. Deletes need pages too: raise an alarm at 0.8.
    package var mapFraction: Double { Double(usedBytes) / Double(mapBytes) }
}

extension Environment {
    var usedBytes: Int {
        var info = MDB_envinfo()
        guard mdb_env_info(handle.pointer, &info) == 0 else { return 0 }
        return (Int(info.me_last_pgno) + 1) * pageSize
    }

    private var readerSlots: Int {
        var info = MDB_envinfo()
        return mdb_env_info(handle.pointer, &info) == 0 ? Int(info.me_numreaders) : 0
    }

    /// How full the environment and its file system are.
    package func spaceUsage() throws -> SpaceUsage {
        // Inside a transaction, so that the environment cannot be closed meanwhile.
        try read { _ in
            SpaceUsage(
                usedBytes: usedBytes,
                fileBytes: try fileSize(),
                mapBytes: mapSize,
                availableDiskBytes: try availableDiskBytes(),
                readerSlots: readerSlots
            )
        }
    }

    func fileSize() throws(LMDBError) -> Int {
        var status = stat()
        guard let descriptor = dataDescriptor, fstat(descriptor, &status) == 0 else {
            throw .system(errno, "fstat", path: path)
        }
        return Int(status.st_size)
    }

    private func availableDiskBytes() throws(LMDBError) -> Int {
        var status = statvfs()
        guard statvfs(path, &status) == 0 else { throw .system(errno, "statvfs", path: path) }
        return Int(status.f_bavail) * Int(status.f_frsize)
    }

    /// Whether fewer than `minimum` bytes lie ready behind the used pages. Cheap.
    package func needsZeroFill(minimum: Int = 4 << 20) throws -> Bool {
        try read { _ in
            let (used, length) = (usedBytes, try fileSize())
            return length - used < minimum && length < mapSize
        }
    }

    /// Writes zeros behind the used pages, when fewer than `minimum` bytes are there, so that `target` bytes are, or as many as
    /// a quarter of what the file system still has: beyond that, room is worth more than speed. Flushes them.
    ///
    /// A commit that makes the file longer costs a journaled file system one more flush, and only written bytes spare
    /// it (`fallocate` does not). It takes the write lock; call it on the writer's thread between commits.
    ///
    /// - Returns: how many bytes lie ready then. Fewer than `minimum` is what a lack of room looks like; it is no error.
    @discardableResult
    package func zeroFillAhead(minimum: Int = 4 << 20, target: Int = 16 << 20) throws -> Int {
        struct Undo: Error {}
        var ahead = 0
        do {
            // The transaction only keeps other writers out. It is undone, because a commit would itself cost flushes.
            try write { _ in
                let (used, length) = (usedBytes, try fileSize())
                ahead = max(0, length - used)
                if ahead < minimum, length < mapSize {
                    let room = try availableDiskBytes() / 4 & ~(Self.zeroStep - 1)
                    let end = min(used + target, mapSize, length + room)
                    if end > length, try writeZeros(from: length, to: end) { ahead = end - used }
                }
                throw Undo()
            }
        } catch is Undo {}
        return ahead
    }

    private static let zeroStep = 1 << 20

    /// The error that a file system (or a quota) gives who asks it for a little more; nil when it has room, or cannot tell.
    func lackOfRoom() -> Int32? {
        guard let descriptor = dataDescriptor, let length = try? fileSize() else { return nil }
        // Only reserves: the file keeps its length.
        let result = fallocate(descriptor, FALLOC_FL_KEEP_SIZE, length, Self.zeroStep)
        return result != 0 && [ENOSPC, EDQUOT, EFBIG].contains(errno) ? errno : nil
    }

    private func writeZeros(from start: Int, to end: Int) throws(LMDBError) -> Bool {
        guard let descriptor = dataDescriptor else { return false }
        let zeros = [UInt8](repeating: 0, count: Self.zeroStep)
        var offset = start
        while offset < end {
            let count = pwrite(descriptor, zeros, min(zeros.count, end - offset), off_t(offset))
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else {
                let error = LMDBError.system(errno, "pwrite", path: path)
                // Nothing depends on these bytes: give the room back to those who need it.
                guard error.isDiskFull, ftruncate(descriptor, off_t(start)) == 0 else { throw error }
                return false
            }
            offset += count
        }
        guard fsync(descriptor) == 0 else {
            let error = LMDBError.system(errno, "fsync", path: path)
            // As above; it is a failed flush of bytes that say nothing, and of nothing else.
            guard error.isDiskFull, ftruncate(descriptor, off_t(start)) == 0 else { throw error }
            takeReportedErrors()
            return false
        }
        return true
    }

    /// A failed write-back is reported once to each descriptor of the file. LMDB writes its meta pages through one of its own, where the
    /// report of an attempt that was undone would make the next commit's meta page look unwritten: it is taken here.
    ///
    /// To be called only when a commit failed for lack of room, whose pages will all be written anew.
    func takeReportedErrors() {
        var data = stat()
        guard let descriptor = dataDescriptor, fstat(descriptor, &data) == 0 else { return }
        for name in (try? fileNames(in: "/proc/self/fd")) ?? [] {
            var other = stat()
            guard let number = Int32(name), number != descriptor, fstat(number, &other) == 0,
                other.st_ino == data.st_ino, other.st_dev == data.st_dev
            else { continue }
            _ = fsync(number)
        }
    }

    /// Writes a consistent copy of the environment into the new directory `destination`, durably.
    ///
    /// A read transaction is open meanwhile. `isCompact` leaves out free pages, at the cost of more processor time.
    package func copy(to destination: String, isCompact: Bool = true) throws {
        try makeDirectory(destination)
        try read { _ in
            let flags = UInt32(isCompact ? MDB_CP_COMPACT : 0)
            try check(mdb_env_copy2(handle.pointer, destination, flags), "mdb_env_copy2", destination)
        }
        let file = destination + "/data.mdb"
        let descriptor = Glibc.open(file, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw LMDBError.system(errno, "open", path: file) }
        defer { Glibc.close(descriptor) }
        // LMDB does not flush a copy.
        guard fsync(descriptor) == 0 else { throw LMDBError.system(errno, "fsync", path: file) }
        try synchronizeDirectory(destination)
    }

    /// Frees the reader slots of processes that died, and returns how many there were.
    @discardableResult
    package func checkStaleReaders() throws -> Int {
        try read { _ in
            var dead: Int32 = 0
            try check(mdb_reader_check(handle.pointer, &dead), "mdb_reader_check", path)
            return Int(dead)
        }
    }
}
