internal import LMDB

/// Small files that are replaced as a whole, durably.
package enum DurableFile {
    /// What is read of one at most.
    package static let maximumBytes = 64 << 10

    /// Replaces the file, or makes it: written under another name, synced, renamed, and the directory synced. A crash leaves the
    /// old one or the new one. Throws what the system said; the old one is there still then, or the new one is.
    package static func replace(_ name: String, in directory: String, with bytes: [UInt8]) throws(StorageError) {
        let path = "\(directory)/\(name)"
        do throws(LMDBError) {
            let file = try File.create(path + ".new")
            try file.write(bytes, at: 0)
            try file.synchronize()
            try File.rename(path + ".new", to: path)
            try synchronizeDirectory(directory)
        } catch {
            throw StorageError(error)
        }
    }

    /// What is in the file, up to ``maximumBytes``; nil when there is none.
    package static func read(_ name: String, in directory: String) throws(StorageError) -> [UInt8]? {
        do throws(LMDBError) {
            guard try fileNames(in: directory).contains(name) else { return nil }
            return try File.read("\(directory)/\(name)").read(maximumBytes, at: 0)
        } catch {
            throw StorageError(error)
        }
    }
}
