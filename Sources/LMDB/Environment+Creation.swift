internal import CLMDB
internal import Glibc

extension Environment {
    /// Makes the data file of a new environment in a directory of its own, and moves it to its place when it is whole.
    ///
    /// LMDB writes the first pages of a new file without a flush. A power cut that tore them would leave a file that can never be
    /// opened again, although nothing was lost with it. The directory's lock is held.
    static func createDataFile(in path: String) throws(LMDBError) {
        let (file, nursery) = (path + "/data.mdb", path + "/new")
        let temporary = nursery + "/data.mdb"
        let isThere = access(file, F_OK) == 0
        // Also what an earlier try left.
        guard unlink(temporary) == 0 || errno == ENOENT else { throw .system(errno, "unlink", path: temporary) }
        guard rmdir(nursery) == 0 || errno == ENOENT else { throw .system(errno, "rmdir", path: nursery) }
        guard !isThere else { return }
        guard mkdir(nursery, 0o700) == 0 else { throw .system(errno, "mkdir", path: nursery) }
        var created: OpaquePointer?
        try check(mdb_env_create(&created), "mdb_env_create", path)
        guard let environment = created else { throw LMDBError(ENOMEM, "mdb_env_create", path: path) }
        let result = mdb_env_open(environment, nursery, UInt32(MDB_NOLOCK | MDB_NOTLS), 0o600)
        mdb_env_close(environment)
        try check(result, "mdb_env_open", nursery)
        try synchronizeFile(temporary)
        guard rename(temporary, file) == 0 else { throw .system(errno, "rename", path: file) }
        guard rmdir(nursery) == 0 else { throw .system(errno, "rmdir", path: nursery) }
        try synchronizeDirectory(path)
    }

    private static func synchronizeFile(_ path: String) throws(LMDBError) {
        let descriptor = Glibc.open(path, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { throw .system(errno, "open", path: path) }
        defer { Glibc.close(descriptor) }
        guard fsync(descriptor) == 0 else { throw .system(errno, "fsync", path: path) }
    }
}
