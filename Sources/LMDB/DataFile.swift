internal import Glibc

/// An environment's data file, read without LMDB and without trust: every number is checked before it is followed.
///
/// The form is that of LMDB 0.9 on a machine with 64 bits, little-endian.
package final class DataFile: Sendable {
    static let headerSize = 16
    static let noPage = UInt64.max
    private static let magic: UInt32 = 0xbeef_c0de
    private static let version: UInt32 = 1
    private static let integerKeys: UInt16 = 8
    /// MDB_NOSUBDIR.
    private static let ownFileName: UInt16 = 0x4000

    let path: String
    let size: UInt64
    private let descriptor: Int32

    init(directory: String) throws(LMDBError) {
        path = directory + "/data.mdb"
        descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .system(errno, "open", path: path) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            let code = errno
            Glibc.close(descriptor)
            throw .system(code, "fstat", path: path)
        }
        size = UInt64(status.st_size)
    }

    deinit { Glibc.close(descriptor) }

    /// Fills `buffer` from `offset` on.
    func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64, page: UInt64) throws(Damage) {
        var filled = 0
        while filled < buffer.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[filled...])
            let count = pread(descriptor, rest.baseAddress, rest.count, off_t(clamping: offset) + off_t(filled))
            if count < 0 && errno == EINTR { continue }
            if count < 0 {
                throw Damage(.unreadable, page: page, "the disk does not give it: \(String(cString: strerror(errno)))")
            }
            guard count > 0 else { throw Damage(.truncated, page: page, "the file ends before it") }
            filled += count
        }
    }

    // MARK: Meta pages

    /// What a database tells of itself.
    struct Tree: Hashable {
        var flags: UInt16
        var depth: UInt16
        var branchPages: UInt64
        var leafPages: UInt64
        var overflowPages: UInt64
        var entries: UInt64
        var root: UInt64

        static let encodedSize = 48

        init(_ bytes: UnsafeRawPointer) {
            flags = bytes.loadUnaligned(fromByteOffset: 4, as: UInt16.self)
            depth = bytes.loadUnaligned(fromByteOffset: 6, as: UInt16.self)
            branchPages = bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
            leafPages = bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
            overflowPages = bytes.loadUnaligned(fromByteOffset: 24, as: UInt64.self)
            entries = bytes.loadUnaligned(fromByteOffset: 32, as: UInt64.self)
            root = bytes.loadUnaligned(fromByteOffset: 40, as: UInt64.self)
        }
    }

    struct Meta: Hashable {
        var pageSize: Int
        var free: Tree
        var main: Tree
        var lastPage: UInt64
        var transactionID: UInt64
    }

    /// Both meta pages; nil for one that LMDB would not take. What is wrong goes into the report.
    func metas(_ report: inout ExaminationReport) -> [Meta?] {
        let first = meta(0, at: 0, &report)
        // Without the first one, the size of a page must be guessed.
        let second = meta(1, at: UInt64(first?.pageSize ?? 4096), &report)
        if let first, let second, first.pageSize != second.pageSize {
            report.damages.append(Damage(.meta, page: 1, "it tells another size of pages than page 0"))
            return [first, nil]
        }
        return [first, second]
    }

    private func meta(_ number: UInt64, at offset: UInt64, _ report: inout ExaminationReport) -> Meta? {
        do throws(Damage) {
            let meta = try readMeta(number, at: offset)
            if meta.transactionID != 0, meta.transactionID & 1 != number {
                report.damages.append(
                    Damage(
                        .transactionNumber,
                        page: number,
                        "it tells commit \(meta.transactionID), which belongs on the other meta page"
                    )
                )
            }
            return meta
        } catch {
            report.damages.append(error)
            return nil
        }
    }

    private func readMeta(_ number: UInt64, at offset: UInt64) throws(Damage) -> Meta {
        var storage = [UInt8](repeating: 0, count: Self.headerSize + 136)
        var failure: Damage?
        let meta = storage.withUnsafeMutableBytes { buffer -> Meta? in
            do throws(Damage) {
                try read(buffer, at: offset, page: number)
            } catch {
                failure = error
                return nil
            }
            guard let base = buffer.baseAddress else { return nil }
            func load<Value: BitwiseCopyable>(_ offset: Int, _: Value.Type) -> Value {
                base.loadUnaligned(fromByteOffset: offset, as: Value.self)
            }
            guard load(0, UInt64.self) == number, load(10, UInt16.self) == 8, load(16, UInt32.self) == Self.magic,
                load(20, UInt32.self) == Self.version, load(24, UInt64.self) == 0
            else { return nil }
            let body = UnsafeRawPointer(base + Self.headerSize)
            return Meta(
                pageSize: Int(load(40, UInt32.self)),
                free: Tree(body + 24),
                main: Tree(body + 72),
                lastPage: load(136, UInt64.self),
                transactionID: load(144, UInt64.self)
            )
        }
        if let failure { throw failure }
        guard let meta else { throw Damage(.meta, page: number, "it is no meta page of LMDB's form") }
        let isPowerOfTwo = meta.pageSize & (meta.pageSize - 1) == 0
        guard (512...32_768).contains(meta.pageSize), isPowerOfTwo else {
            throw Damage(.meta, page: number, "it tells pages of \(meta.pageSize) bytes")
        }
        // A file that was made under another name than LMDB's own keeps a mark of it, which means nothing.
        guard meta.free.flags & ~Self.ownFileName == Self.integerKeys else {
            throw Damage(.meta, page: number, "its flags are wrong")
        }
        guard meta.lastPage >= 1, meta.lastPage < UInt64(1) << 47 else {
            throw Damage(.meta, page: number, "it tells \(meta.lastPage) as the last page")
        }
        return meta
    }
}

// MARK: - Putting right

extension DataFile {
    /// Writes the transaction numbers that the records prove into the meta pages, durably. The directory's lock must be held.
    package static func apply(_ correction: MetaCorrection, directory: String) throws(LMDBError) {
        let path = directory + "/data.mdb"
        let descriptor = Glibc.open(path, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { throw .system(errno, "open", path: path) }
        defer { Glibc.close(descriptor) }
        var pageSize: UInt32 = 0
        guard pread(descriptor, &pageSize, 4, 40) == 4 else { throw .system(errno, "pread", path: path) }
        func write(_ value: UInt64, _ meta: Int, _ offset: Int) throws(LMDBError) {
            var value = value
            guard pwrite(descriptor, &value, 8, off_t(meta * Int(pageSize) + offset)) == 8 else {
                throw .system(errno, "pwrite", path: path)
            }
        }
        // The older one first: between the two, the newest commit is at worst as hidden as before.
        try write(correction.transactionID - 1, 1 - correction.newest, 144)
        guard fdatasync(descriptor) == 0 else { throw .system(errno, "fdatasync", path: path) }
        try write(correction.lastPage, correction.newest, 136)
        try write(correction.transactionID, correction.newest, 144)
        guard fdatasync(descriptor) == 0 else { throw .system(errno, "fdatasync", path: path) }
    }
}

// MARK: - Before opening

extension DataFile {
    /// Whether there is a data file in `directory` with anything in it.
    package static func exists(directory: String) throws(LMDBError) -> Bool {
        guard access(directory + "/data.mdb", F_OK) == 0 else { return false }
        return try DataFile(directory: directory).size > 0
    }

    /// Whether the unnamed database of the environment in `directory` holds, or once held, anything. A creation that a crash cut short has
    /// left nothing; a file that cannot be read any more holds something.
    package static func holdsData(directory: String) throws(LMDBError) -> Bool {
        let file = try DataFile(directory: directory)
        guard file.size > 0 else { return false }
        let newest = file.soundMetas().max { $0.transactionID < $1.transactionID }
        guard let newest else { return !file.isUnfinished }
        return newest.main.root != noPage || newest.transactionID > 1
    }

    /// Removes what a creation has left that a crash cut short before the first commit was durable.
    package static func removeUnfinished(directory: String) throws(LMDBError) {
        guard access(directory + "/data.mdb", F_OK) == 0 else { return }
        let file = try DataFile(directory: directory)
        guard file.size > 0, file.soundMetas().isEmpty, file.isUnfinished else { return }
        let lock = try DirectoryLock(directory: directory)
        defer { lock.release() }
        guard unlink(file.path) == 0 else { throw .system(errno, "unlink", path: file.path) }
    }

    /// No more than the two meta pages, which are written first and flushed with the first commit.
    private var isUnfinished: Bool { size <= 2 * 4096 }

    func soundMetas() -> [Meta] {
        var report = ExaminationReport()
        return metas(&report).compactMap { $0 }
    }

    /// Examines a file that is about to be opened, under the directory's lock, and puts right what it proves itself to be a wrong
    /// transaction number; answers the final report, and the damages that were put right.
    package static func examineForOpening(
        directory: String,
        holding lock: DirectoryLock,
        _ options: ExaminationOptions
    ) throws(LMDBError) -> (report: ExaminationReport, corrected: [Damage]) {
        let report = try examine(directory: directory, options)
        guard let correction = report.correction else { return (report, []) }
        try apply(correction, directory: directory)
        return (try examine(directory: directory, options), report.damages)
    }
}

// MARK: - One key

extension DataFile {
    /// One of the two commits that a file tells of, for looking up single records.
    package struct Commit {
        let file: DataFile
        let meta: Meta

        package var transactionID: UInt64 { meta.transactionID }

        /// The value of a key in the unnamed database, whose keys are integers; nil when it is not there or not readable.
        package func value(forKey key: UInt64) -> [UInt8]? {
            withUnsafeBytes(of: key) { find($0, in: meta.main, hasIntegerKeys: true) }
        }

        /// The last key and its value in the unnamed database, whose keys are integers; nil when there is none, or none readable.
        package func last() -> (key: UInt64, value: [UInt8])? {
            var finder = TreeWalker(file: file, meta: meta, tree: meta.main, hasIntegerKeys: true)
            guard let (key, value) = finder.find(nil) else { return nil }
            return (key.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }, value)
        }

        /// The value of a key in a named database; nil when it is not there or not readable.
        package func value(forKey key: [UInt8], in name: String) -> [UInt8]? {
            guard let tree = namedTree(name) else { return nil }
            return key.withUnsafeBytes { find($0, in: tree, hasIntegerKeys: false) }
        }

        /// What a named database tells of itself; nil when it is not there or not readable.
        func namedTree(_ name: String) -> Tree? {
            let encoded = Array(name.utf8).withUnsafeBytes { find($0, in: meta.main, hasIntegerKeys: false) }
            guard let encoded, encoded.count == Tree.encodedSize else { return nil }
            return encoded.withUnsafeBytes { bytes in bytes.baseAddress.map { Tree($0) } }
        }

        private func find(_ key: UnsafeRawBufferPointer, in tree: Tree, hasIntegerKeys: Bool) -> [UInt8]? {
            var finder = TreeWalker(file: file, meta: meta, tree: tree, hasIntegerKeys: hasIntegerKeys)
            return finder.find(key)?.value
        }
    }
}
