internal import Glibc

/// What one step of scrubbing a database found.
package struct ScrubSlice: Sendable {
    package var damages: [Damage] = []
    /// The last key that was looked at; the next step goes on behind it.
    package var lastKey: [UInt8]?
    /// Everything was looked at.
    package var isAtEnd = false
    package var bytesRead: UInt64 = 0
}

extension Environment {
    /// Looks at the pages and records of a database behind `key` for some milliseconds, while others read and write it, and without
    /// LMDB, which would believe what it reads. At least one leaf page is looked at.
    ///
    /// Pages of one commit are not used again while the read transaction is open that this holds for as long. The use of pages is not
    /// counted: that needs a file in peace, as it is before it is opened.
    ///
    /// - Parameters:
    ///   - name: nil for the unnamed database.
    ///   - visit: called for each record.
    package func scrub(
        _ name: String?,
        hasIntegerKeys: Bool = false,
        behind key: [UInt8]?,
        milliseconds: Int,
        visit: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void
    ) throws -> ScrubSlice {
        try withoutActuallyEscaping(visit) { visit in
            try read { transaction in
                var slice = ScrubSlice(lastKey: key)
                let file = try DataFile(directory: path)
                // Two commits since the transaction began have overwritten its meta page: the next step will do.
                guard let commit = file.commit(UInt64(transaction.transactionID)) else { return slice }
                guard let tree = commit.tree(named: name) else {
                    slice.isAtEnd = true
                    return slice
                }
                var walker = TreeWalker(file: file, meta: commit.meta, tree: tree, hasIntegerKeys: hasIntegerKeys)
                let deadline = Self.now() + milliseconds
                var leaves = 0
                walker.behind = key
                walker.visit = visit
                walker.shouldPause = {
                    leaves += 1
                    return leaves > 2 && Self.now() >= deadline
                }
                walker.run()
                slice.damages = walker.damages
                slice.lastKey = walker.lastKey ?? key
                slice.isAtEnd = !walker.isPaused
                slice.bytesRead = walker.bytesRead
                return slice
            }
        }
    }

    /// Milliseconds of a clock that never goes back.
    private static func now() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    }
}

extension DataFile {
    /// The commit with this number, if a meta page tells of it.
    fileprivate func commit(_ number: UInt64) -> Commit? {
        soundMetas().first { $0.transactionID == number }.map { Commit(file: self, meta: $0) }
    }
}

extension DataFile.Commit {
    /// A database's tree; nil when it is not there, or its record is not readable.
    fileprivate func tree(named name: String?) -> DataFile.Tree? {
        guard let name else { return meta.main }
        return namedTree(name)
    }
}
