internal import CWriteback
internal import Glibc
internal import LMDB

/// An open file; closed with its last reference.
final class File: Sendable {
    let path: String
    private let descriptor: Int32

    private init(path: String, descriptor: Int32) {
        self.path = path
        self.descriptor = descriptor
    }

    deinit { Glibc.close(descriptor) }

    static func create(_ path: String) throws(LMDBError) -> File {
        try open(path, O_RDWR | O_CREAT | O_TRUNC)
    }

    /// Keeps what is in it.
    static func openOrCreate(_ path: String) throws(LMDBError) -> File { try open(path, O_RDWR | O_CREAT) }

    static func read(_ path: String) throws(LMDBError) -> File { try open(path, O_RDONLY) }

    /// A file that no directory names.
    static func unnamed(in directory: String) throws(LMDBError) -> File {
        // O_TMPFILE, which the C library's headers hide from Swift.
        let unnamed = O_DIRECTORY | 0o20_000_000
        let descriptor = Glibc.open(directory, O_RDWR | unnamed | O_CLOEXEC, 0o600)
        if descriptor >= 0 { return File(path: directory, descriptor: descriptor) }
        guard [EOPNOTSUPP, EISDIR, ENOENT].contains(errno) else { throw .system(errno, "open", path: directory) }
        // A file system that knows no such files. A name that nobody knows, for a moment.
        let path = "\(directory)/scratch-\(String(UInt64.random(in: .min ... .max), radix: 36))"
        let file = try open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW)
        try remove(path)
        return file
    }

    private static func open(_ path: String, _ flags: Int32) throws(LMDBError) -> File {
        let descriptor = Glibc.open(path, flags | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw .system(errno, "open", path: path) }
        return File(path: path, descriptor: descriptor)
    }

    func size() throws(LMDBError) -> UInt64 {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw .system(errno, "fstat", path: path) }
        return UInt64(status.st_size)
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(LMDBError) {
        var (rest, position) = (bytes, offset)
        while !rest.isEmpty {
            let count = pwrite(descriptor, rest.baseAddress, rest.count, off_t(position))
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw .system(count == 0 ? ENOSPC : errno, "pwrite", path: path) }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            position += UInt64(count)
        }
    }

    func write(_ bytes: [UInt8], at offset: UInt64) throws(LMDBError) {
        try bytes.withUnsafeBufferPointer { (bytes) throws(LMDBError) in
            try write(UnsafeRawBufferPointer(bytes), at: offset)
        }
    }

    /// Up to `count` bytes: fewer only at the end of the file.
    func read(_ count: Int, at offset: UInt64) throws(LMDBError) -> [UInt8] {
        var failure: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            while filled < count {
                let got = pread(descriptor, buffer.baseAddress! + filled, count - filled, off_t(offset) + off_t(filled))
                if got < 0 && errno == EINTR { continue }
                if got < 0 { failure = errno }
                guard got > 0 else { return }
                filled += got
            }
        }
        guard failure == 0 else { throw .system(failure, "pread", path: path) }
        return bytes
    }

    func truncate(to size: UInt64) throws(LMDBError) {
        guard ftruncate(descriptor, off_t(size)) == 0 else { throw .system(errno, "ftruncate", path: path) }
    }

    /// Returns when everything in the file is on the disk.
    func synchronize() throws(LMDBError) {
        guard fsync(descriptor) == 0 else { throw .system(errno, "fsync", path: path) }
    }

    /// Has the system begin to write a range to the disk, and returns at once. It promises nothing: ``synchronize()`` does.
    func startWriteback(from offset: UInt64, count: UInt64) throws(LMDBError) {
        try writeBack(offset, count, waits: false)
    }

    /// Waits until a range is written whose writing ``startWriteback(from:count:)`` began.
    func awaitWriteback(from offset: UInt64, count: UInt64) throws(LMDBError) {
        try writeBack(offset, count, waits: true)
    }

    private func writeBack(_ offset: UInt64, _ count: UInt64, waits: Bool) throws(LMDBError) {
        guard kontiki_write_back(descriptor, offset, count, waits ? 1 : 0) != 0 else { return }
        // Some file systems do not know it; then the file is written when it is synchronized. A write that failed, though, is told
        // only once.
        guard [ENOSYS, EINVAL, ESPIPE].contains(errno) else { throw .system(errno, "sync_file_range", path: path) }
    }

    func availableDiskBytes() throws(LMDBError) -> UInt64 {
        var status = statvfs()
        guard fstatvfs(descriptor, &status) == 0 else { throw .system(errno, "fstatvfs", path: path) }
        return UInt64(status.f_bavail) * UInt64(status.f_frsize)
    }

    static func rename(_ path: String, to new: String) throws(LMDBError) {
        guard Glibc.rename(path, new) == 0 else { throw .system(errno, "rename", path: path) }
    }

    static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// A file that is not there is removed already.
    static func remove(_ path: String) throws(LMDBError) {
        guard unlink(path) == 0 || errno == ENOENT else { throw .system(errno, "unlink", path: path) }
    }
}
