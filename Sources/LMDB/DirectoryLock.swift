internal import Glibc
internal import Synchronization

/// The right to use a directory, held by one opener on one machine at a time.
///
/// LMDB does not refuse a second opening inside one process, and it breaks the locks of both; so the lock is an own
/// file with `flock`, which also tells two openings of the same process apart. It ends with the process, however that
/// ends.
package final class DirectoryLock: Sendable {
    static let fileName = "LOCK"

    private let descriptor: Mutex<Int32?>

    /// Takes the lock; throws ``LMDBError/Code/inUse`` when another opener has it.
    package init(directory: String) throws(LMDBError) {
        let path = directory + "/" + Self.fileName
        let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw .system(errno, "open of the lock file", path: path) }
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            let code = errno
            if code == EINTR { continue }
            defer { Glibc.close(descriptor) }
            guard code == EWOULDBLOCK else { throw .system(code, "flock", path: path) }
            throw Self.inUse(directory: directory, holder: Self.readProcessID(descriptor))
        }
        self.descriptor = Mutex(descriptor)
        // Only a help for people; the lock counts, not the number. So a failure to write it is no failure.
        let text = Array("\(getpid())\n".utf8)
        if ftruncate(descriptor, 0) == 0 { _ = pwrite(descriptor, text, text.count, 0) }
    }

    deinit { release() }

    /// Gives the directory free.
    package func release() {
        descriptor.withLock { descriptor in
            if let open = descriptor { Glibc.close(open) }
            descriptor = nil
        }
    }

    private static func readProcessID(_ descriptor: Int32) -> Int32? {
        var buffer = [UInt8](repeating: 0, count: 16)
        let count = pread(descriptor, &buffer, buffer.count, 0)
        guard count > 0 else { return nil }
        return Int32(String(decoding: buffer.prefix(count).prefix { $0 != 0x0a }, as: UTF8.self))
    }

    private static func inUse(directory: String, holder: Int32?) -> LMDBError {
        let who =
            switch holder {
            case getpid()?: "this process has it open already"
            case let pid?: "process \(pid) has it open; stop that one first, or use another directory"
            case nil: "another process has it open; stop that one first, or use another directory"
            }
        return LMDBError(code: .inUse, operation: "lock", path: directory, message: who, processID: holder)
    }
}

/// Makes names in a directory durable: created, renamed and removed files.
package func synchronizeDirectory(_ path: String) throws(LMDBError) {
    let descriptor = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .system(errno, "open of the directory", path: path) }
    defer { Glibc.close(descriptor) }
    guard fsync(descriptor) == 0 else { throw .system(errno, "fsync of the directory", path: path) }
}

/// The names in a directory, sorted.
package func fileNames(in directory: String) throws(LMDBError) -> [String] {
    guard let stream = opendir(directory) else { throw .system(errno, "opendir", path: directory) }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
}

/// Creates a directory (not its parents) unless it is there, and makes its name durable.
package func makeDirectory(_ path: String) throws(LMDBError) {
    if mkdir(path, 0o700) == 0 {
        try synchronizeDirectory(path + "/..")
    } else if errno != EEXIST {
        throw .system(errno, "mkdir", path: path)
    }
}
