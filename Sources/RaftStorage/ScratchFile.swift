internal import Glibc
internal import LMDB

/// A file without a name, for what is too much for memory and needed only by who made it: its space is free again with the last reference,
/// and after a crash by itself.
///
/// One thread writes it, then any may read.
package final class ScratchFile: Sendable {
    private let file: File

    /// - Parameter directory: on whose file system it lies.
    package init(in directory: String) throws(StorageError) {
        do throws(LMDBError) {
            file = try File.unnamed(in: directory)
        } catch {
            throw StorageError(error)
        }
    }

    /// Up to `count` bytes: fewer only at the end.
    package func read(_ count: Int, at offset: UInt64) throws(StorageError) -> [UInt8] {
        do throws(LMDBError) {
            return try file.read(count, at: offset)
        } catch {
            throw StorageError(error)
        }
    }

    /// Appends to the file, and keeps the system writing meanwhile, so that nobody's flush has all of it to write at once.
    package struct Writer {
        private let file: File
        private var writeback: GradualWriteback
        private let roomToLeave: UInt64
        private var looksAgainAt: UInt64 = 0
        /// The file's length.
        package private(set) var count: UInt64 = 0

        /// - Parameter roomToLeave: how many bytes must stay free on the file system, for those who cannot do without.
        package init(_ scratch: ScratchFile, roomToLeave: UInt64) {
            file = scratch.file
            writeback = GradualWriteback(file)
            self.roomToLeave = roomToLeave
        }

        /// Throws an error of lacking room (``StorageError/isLackOfRoom``) where the file system has none for more.
        package mutating func write(_ bytes: UnsafeRawBufferPointer) throws(StorageError) {
            do throws(LMDBError) {
                if count >= looksAgainAt {
                    let available = try file.availableDiskBytes()
                    guard available >= roomToLeave + UInt64(bytes.count) else {
                        throw LMDBError.system(ENOSPC, "write", path: file.path)
                    }
                    // Others write as well.
                    looksAgainAt = count + min(8 << 20, (available - roomToLeave) / 2)
                }
                try file.write(bytes, at: count)
                count += UInt64(bytes.count)
                try writeback.grew(to: count)
            } catch {
                throw StorageError(error)
            }
        }
    }
}
