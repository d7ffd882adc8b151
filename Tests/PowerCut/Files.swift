internal import Glibc
internal import LMDB

/// A call on a file that failed.
package struct FileFailure: Error, CustomStringConvertible {
    package let description: String

    init(_ call: String, _ path: String) { description = "\(call) of \(path): \(String(cString: strerror(errno)))" }
}

func isDirectory(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
}

func readFile(_ path: String) throws -> [UInt8] {
    let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileFailure("open", path) }
    defer { Glibc.close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw FileFailure("fstat", path) }
    let size = Int(status.st_size)
    var failed = false
    let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, filled in
        while filled < size {
            let count = pread(descriptor, buffer.baseAddress! + filled, size - filled, off_t(filled))
            guard count > 0 else {
                failed = true
                return
            }
            filled += count
        }
    }
    guard !failed else { throw FileFailure("pread", path) }
    return bytes
}

func makeNewDirectory(_ path: String) throws {
    guard mkdir(path, 0o700) == 0 else { throw FileFailure("mkdir", path) }
}

/// Removes a directory with all that is in it; one that is not there is removed already.
package func removeTree(_ path: String) {
    guard isDirectory(path) else {
        unlink(path)
        return
    }
    for name in (try? fileNames(in: path)) ?? [] { removeTree(path + "/" + name) }
    rmdir(path)
}

/// A hash that is the same in every process (FNV-1a).
func stableHash(_ text: String) -> UInt64 {
    text.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01b3 }
}

func makeDirectories(_ path: String) throws {
    if !isDirectory(path) { try makeNewDirectory(path) }
}
