internal import Glibc
internal import LMDB

/// The directory of a state: generations `state.N`, each an environment, and the file `CURRENT` that names the one that counts.
///
/// A restore builds a new generation beside the present one and then switches the pointer, so that at every moment
/// one complete generation is named.
struct StateDirectory: Sendable {
    static let pointerName = "CURRENT"
    private static let temporaryName = "CURRENT.new"
    private static let generationPrefix = "state."
    private static let setAsidePrefix = "damaged-"
    private static let noteName = "NOTE"

    let path: String

    func path(ofGeneration number: UInt64) -> String { "\(path)/\(Self.generationPrefix)\(number)" }

    /// Opens the generation that counts, creating the first in an empty directory, and removes what interrupted restores
    /// left behind.
    func openCurrent(_ options: StoreOptions) throws -> Backend {
        try makeDirectory(path)
        guard let current = try readPointer() else { return try createFirst(options) }
        guard try generations().contains(current) else {
            throw inconsistent("\(Self.pointerName) names \(Self.generationPrefix)\(current), which is not there")
        }
        // Opened before anything is removed: the open takes the lock that keeps other processes out.
        let backend = try Backend(path: path(ofGeneration: current), options: options)
        for other in try generations() where other != current { try removeGeneration(other) }
        unlink(path + "/" + Self.temporaryName)
        return backend
    }

    private func createFirst(_ options: StoreOptions) throws -> Backend {
        let present = try generations()
        // A first start that was interrupted leaves an empty generation 1; anything else has lost its pointer.
        guard present.isEmpty || present == [1] else { throw lostPointer() }
        let backend = try Backend(path: path(ofGeneration: 1), options: options)
        guard try backend.readStateRecord() == StateRecord() else { throw lostPointer() }
        try writePointer(1)
        return backend
    }

    private func lostPointer() -> StoreError {
        inconsistent("there are states but no file \(Self.pointerName) that says which one counts")
    }

    private func inconsistent(_ what: String) -> StoreError {
        StoreError(
            code: .inconsistentDirectory,
            path: path,
            message: "\(what). Put the file back, or replace this server by a new one with an empty data directory"
        )
    }

    /// The number of the generation that counts; nil when there is no pointer.
    func readPointer() throws -> UInt64? {
        let file = path + "/" + Self.pointerName
        let descriptor = Glibc.open(file, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw StoreError.system(errno, "open", path: file)
        }
        defer { Glibc.close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = read(descriptor, &bytes, bytes.count)
        guard count >= 0 else { throw StoreError.system(errno, "read", path: file) }
        let text = String(decoding: bytes.prefix(count), as: UTF8.self)
        guard text.hasSuffix("\n"), let number = Self.number(ofGeneration: String(text.dropLast())) else {
            throw inconsistent("\(Self.pointerName) is malformed")
        }
        return number
    }

    /// Makes a generation the one that counts, durably and in one step.
    func writePointer(_ number: UInt64) throws {
        let file = path + "/" + Self.temporaryName
        try writeFile(file, Array("\(Self.generationPrefix)\(number)\n".utf8))
        guard rename(file, path + "/" + Self.pointerName) == 0 else {
            throw StoreError.system(errno, "rename", path: file)
        }
        try synchronizeDirectory(path)
    }

    private func writeFile(_ file: String, _ bytes: [UInt8]) throws {
        let descriptor = Glibc.open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw StoreError.system(errno, "open", path: file) }
        defer { Glibc.close(descriptor) }
        guard write(descriptor, bytes, bytes.count) == bytes.count else {
            throw StoreError.system(errno, "write", path: file)
        }
        guard fsync(descriptor) == 0 else { throw StoreError.system(errno, "fsync", path: file) }
    }

    /// The generations that are there, whole or not, in ascending order.
    func generations() throws -> [UInt64] {
        try names(in: path).compactMap(Self.number(ofGeneration:)).sorted()
    }

    private static func number(ofGeneration name: String) -> UInt64? {
        guard name.hasPrefix(generationPrefix) else { return nil }
        let digits = name.dropFirst(generationPrefix.count)
        guard let number = UInt64(digits), String(number) == digits else { return nil }
        return number
    }

    var exists: Bool { access(path, F_OK) == 0 }

    /// Renames what generations there are, whichever counts, and removes the pointer; see ``Store/setAside(directory:because:)``.
    func setAside(because reason: String) throws -> String {
        let present = try generations()
        let counting = try? readPointer()
        // Held until all is renamed: another process must not be using it.
        let locks = try present.map { try DirectoryLock(directory: path(ofGeneration: $0)) }
        defer { for lock in locks { lock.release() } }
        for old in try setAsideNames() { try remove(directory: "\(path)/\(old)") }
        let kept = present.first { $0 == counting } ?? present.last
        let name = "\(Self.setAsidePrefix)\(Self.generationPrefix)\(kept ?? 0)-\(time(nil))"
        if let kept {
            guard rename(path(ofGeneration: kept), "\(path)/\(name)") == 0 else {
                throw StoreError.system(errno, "rename", path: path(ofGeneration: kept))
            }
            try writeFile("\(path)/\(name)/\(Self.noteName)", Array((reason + "\n").utf8))
        }
        for other in present where other != kept { try removeGeneration(other) }
        guard unlink(path + "/" + Self.pointerName) == 0 || errno == ENOENT else {
            throw StoreError.system(errno, "unlink", path: path + "/" + Self.pointerName)
        }
        try synchronizeDirectory(path)
        return name
    }

    func setAsideNames() throws -> [String] {
        try names(in: path).filter { $0.hasPrefix(Self.setAsidePrefix) }.sorted()
    }

    private func names(in directory: String) throws -> [String] {
        do throws(LMDBError) {
            return try fileNames(in: directory)
        } catch {
            throw StoreError.system(error.code.rawValue, error.operation, path: directory)
        }
    }

    /// Removes a generation with its files. Readers that still have it open keep reading.
    func removeGeneration(_ number: UInt64) throws {
        try remove(directory: path(ofGeneration: number))
    }

    private func remove(directory: String) throws {
        for name in try names(in: directory) where unlink("\(directory)/\(name)") != 0 {
            // An environment that was being made has a directory inside.
            guard errno == EISDIR else { throw StoreError.system(errno, "unlink", path: "\(directory)/\(name)") }
            try remove(directory: "\(directory)/\(name)")
        }
        guard rmdir(directory) == 0 else { throw StoreError.system(errno, "rmdir", path: directory) }
        try synchronizeDirectory(path)
    }
}

extension StoreError {
    static func system(_ number: Int32, _ operation: String, path: String) -> StoreError {
        StoreError(
            code: [ENOSPC, EDQUOT].contains(number) ? .noRoom : .system,
            path: path,
            message: "\(operation): \(String(cString: strerror(number)))"
        )
    }
}
