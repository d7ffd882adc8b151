// The calls that are put before those of the C library.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "recorder.h"

#undef open
#undef open64
#undef openat
#undef openat64
#undef creat
#undef creat64

#define EXPORT __attribute__((visibility("default")))

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void set_up(void) { pthread_once(&once, recorder_set_up); }

__attribute__((constructor)) static void begin(void) { set_up(); }

static int fail(int error) {
    errno = error;
    return -1;
}

// MARK: Opening and closing

static int open_any(int directory, const char *path, int flags, mode_t mode) {
    set_up();
    char relative[PATH_LIMIT];
    if (!recorder_relative(directory, path, relative)) return (int)syscall(SYS_openat, directory, path, flags, mode);
    struct stat status;
    pthread_mutex_lock(&recorder_lock);
    bool creates = (flags & O_CREAT) && fstatat(directory, path, &status, 0) != 0 && errno == ENOENT;
    int error = faults_next(CALL_OPEN, relative, creates);
    int descriptor = error ? fail(error) : (int)syscall(SYS_openat, directory, path, flags, mode);
    int saved = errno;
    if (descriptor >= 0) recorder_opened(descriptor, flags, creates);
    pthread_mutex_unlock(&recorder_lock);
    errno = saved;
    return descriptor;
}

#define WITH_MODE(flags)                                  \
    mode_t mode = 0;                                      \
    if ((flags) & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) { \
        va_list list;                                     \
        va_start(list, flags);                            \
        mode = va_arg(list, mode_t);                      \
        va_end(list);                                     \
    }

EXPORT int open(const char *path, int flags, ...) {
    WITH_MODE(flags)
    return open_any(AT_FDCWD, path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...) {
    WITH_MODE(flags)
    return open_any(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

EXPORT int openat(int directory, const char *path, int flags, ...) {
    WITH_MODE(flags)
    return open_any(directory, path, flags, mode);
}

EXPORT int openat64(int directory, const char *path, int flags, ...) {
    WITH_MODE(flags)
    return open_any(directory, path, flags | O_LARGEFILE, mode);
}

EXPORT int creat(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode); }

EXPORT int creat64(const char *path, mode_t mode) { return creat(path, mode); }

EXPORT int close(int descriptor) {
    set_up();
    if (!recorder_watched(descriptor)) return (int)syscall(SYS_close, descriptor);
    pthread_mutex_lock(&recorder_lock);
    recorder_closed(descriptor);
    int result = (int)syscall(SYS_close, descriptor);
    pthread_mutex_unlock(&recorder_lock);
    return result;
}

static int duplicated(int from, int to) {
    set_up();
    if (to < 0 || (!recorder_watched(from) && !recorder_watched(to))) return to;
    int saved = errno;
    pthread_mutex_lock(&recorder_lock);
    recorder_closed(to);
    recorder_duplicated(from, to);
    pthread_mutex_unlock(&recorder_lock);
    errno = saved;
    return to;
}

EXPORT int dup(int descriptor) { return duplicated(descriptor, (int)syscall(SYS_dup, descriptor)); }

EXPORT int dup2(int from, int to) {
    if (from == to) return fcntl(from, F_GETFD) < 0 ? -1 : to;
    return duplicated(from, (int)syscall(SYS_dup3, from, to, 0));
}

EXPORT int dup3(int from, int to, int flags) { return duplicated(from, (int)syscall(SYS_dup3, from, to, flags)); }

// MARK: Writing

typedef ssize_t (*writer)(int, const struct iovec *, int, off_t);

static ssize_t by_position(int descriptor, const struct iovec *parts, int count, off_t offset) {
    return syscall(SYS_pwritev, descriptor, parts, count, offset, 0L);
}

static ssize_t at_present(int descriptor, const struct iovec *parts, int count, off_t offset) {
    (void)offset;
    return syscall(SYS_writev, descriptor, parts, count);
}

static size_t length_of(const struct iovec *parts, int count) {
    size_t length = 0;
    for (int index = 0; index < count; index++) length += parts[index].iov_len;
    return length;
}

/// Through a descriptor whose writes are durable when they return: noted before, because a power cut may come before they end.
static ssize_t write_durably(struct watched *entry, int descriptor, const struct iovec *parts, int count, off_t offset,
                             writer call) {
    struct watched copy = *entry;
    int error = faults_next(CALL_SYNC, copy.path, false);
    if (error) return fail(error);
    pthread_mutex_lock(&recorder_lock);
    uint64_t number = recorder_append(DISK_RECORD_WRITE, copy.flags, 0, copy.file, offset, copy.path, parts, count,
                                      length_of(parts, count));
    pthread_mutex_unlock(&recorder_lock);
    faults_delay_sync();
    ssize_t written = call(descriptor, parts, count, offset);
    int saved = errno;
    pthread_mutex_lock(&recorder_lock);
    bool is_whole = written == (ssize_t)length_of(parts, count);
    recorder_append(DISK_RECORD_SYNC_END, copy.flags, number, copy.file, is_whole ? 0 : EIO, copy.path, NULL, 0, 0);
    pthread_mutex_unlock(&recorder_lock);
    errno = saved;
    return written;
}

static ssize_t write_any(int descriptor, const struct iovec *parts, int count, off_t offset, writer call) {
    set_up();
    struct watched *entry = recorder_watched(descriptor);
    if (!entry) return call(descriptor, parts, count, offset);
    struct stat status;
    bool is_known = fstat(descriptor, &status) == 0;
    if (call == at_present) {
        bool appends = syscall(SYS_fcntl, descriptor, F_GETFL) & O_APPEND;
        offset = appends ? (is_known ? status.st_size : 0) : (off_t)syscall(SYS_lseek, descriptor, 0, SEEK_CUR);
    }
    bool needs_room = is_known && offset + (off_t)length_of(parts, count) > status.st_size;
    int error = faults_next(CALL_WRITE, entry->path, needs_room);
    if (error) return fail(error);
    if (entry->flags & DISK_FLAG_DSYNC) return write_durably(entry, descriptor, parts, count, offset, call);
    pthread_mutex_lock(&recorder_lock);
    ssize_t written = call(descriptor, parts, count, offset);
    int saved = errno;
    if (written > 0) {
        recorder_append(DISK_RECORD_WRITE, entry->flags, 0, entry->file, offset, entry->path, parts, count, (size_t)written);
    }
    pthread_mutex_unlock(&recorder_lock);
    errno = saved;
    return written;
}

EXPORT ssize_t write(int descriptor, const void *bytes, size_t count) {
    // Most writes go to sockets and pipes.
    if (!recorder_watched(descriptor)) return syscall(SYS_write, descriptor, bytes, count);
    struct iovec part = {(void *)bytes, count};
    return write_any(descriptor, &part, 1, 0, at_present);
}

EXPORT ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    return write_any(descriptor, parts, count, 0, at_present);
}

EXPORT ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t offset) {
    struct iovec part = {(void *)bytes, count};
    return write_any(descriptor, &part, 1, offset, by_position);
}

EXPORT ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off64_t offset) {
    return pwrite(descriptor, bytes, count, offset);
}

EXPORT ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) {
    return write_any(descriptor, parts, count, offset, by_position);
}

EXPORT ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off64_t offset) {
    return write_any(descriptor, parts, count, offset, by_position);
}

// MARK: Syncing

static int synchronize(long call, int descriptor) {
    set_up();
    struct watched *entry = recorder_watched(descriptor);
    if (!entry) return (int)syscall(call, descriptor);
    struct watched copy = *entry;
    int error = faults_next(CALL_SYNC, copy.path, false);
    if (error) return fail(error);
    if (faults_omits_sync(copy.path, copy.flags & DISK_FLAG_DIRECTORY)) return 0;
    pthread_mutex_lock(&recorder_lock);
    uint64_t number = recorder_append(DISK_RECORD_SYNC_BEGIN, copy.flags, 0, copy.file, 0, copy.path, NULL, 0, 0);
    pthread_mutex_unlock(&recorder_lock);
    faults_delay_sync();
    int result = (int)syscall(call, descriptor);
    int saved = errno;
    pthread_mutex_lock(&recorder_lock);
    recorder_append(DISK_RECORD_SYNC_END, copy.flags, number, copy.file, result == 0 ? 0 : saved, copy.path, NULL, 0, 0);
    pthread_mutex_unlock(&recorder_lock);
    errno = saved;
    return result;
}

EXPORT int fsync(int descriptor) { return synchronize(SYS_fsync, descriptor); }

EXPORT int fdatasync(int descriptor) { return synchronize(SYS_fdatasync, descriptor); }

// MARK: Lengths

static int truncated(int descriptor, off_t length) {
    set_up();
    struct watched *entry = recorder_watched(descriptor);
    if (!entry) return (int)syscall(SYS_ftruncate, descriptor, length);
    struct stat status;
    bool grows = fstat(descriptor, &status) == 0 && length > status.st_size;
    int error = faults_next(CALL_TRUNCATE, entry->path, grows);
    if (error) return fail(error);
    pthread_mutex_lock(&recorder_lock);
    int result = (int)syscall(SYS_ftruncate, descriptor, length);
    int saved = errno;
    if (result == 0) {
        recorder_append(DISK_RECORD_TRUNCATE, entry->flags, 0, entry->file, length, entry->path, NULL, 0, 0);
    }
    pthread_mutex_unlock(&recorder_lock);
    errno = saved;
    return result;
}

EXPORT int ftruncate(int descriptor, off_t length) { return truncated(descriptor, length); }

EXPORT int ftruncate64(int descriptor, off64_t length) { return truncated(descriptor, length); }

EXPORT int fallocate(int descriptor, int mode, off_t offset, off_t length) {
    // Nothing here uses it on a data directory; a trace that left it out would be wrong.
    if (recorder_watched(descriptor)) return fail(EOPNOTSUPP);
    return (int)syscall(SYS_fallocate, descriptor, mode, offset, length);
}

EXPORT int fallocate64(int descriptor, int mode, off64_t offset, off64_t length) {
    return fallocate(descriptor, mode, offset, length);
}

// MARK: Names

static int rename_any(int from_directory, const char *from, int to_directory, const char *to, unsigned flags) {
    set_up();
    char old[PATH_LIMIT], new[PATH_LIMIT];
    if (!recorder_relative(from_directory, from, old) || !recorder_relative(to_directory, to, new)) {
        return (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, flags);
    }
    int error = faults_next(CALL_RENAME, old, false);
    if (error) return fail(error);
    pthread_mutex_lock(&recorder_lock);
    int result = (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, flags);
    int saved = errno;
    struct iovec name = {new, strlen(new)};
    if (result == 0) recorder_append(DISK_RECORD_RENAME, 0, 0, 0, 0, old, &name, 1, name.iov_len);
    pthread_mutex_unlock(&recorder_lock);
    errno = saved;
    return result;
}

EXPORT int rename(const char *from, const char *to) { return rename_any(AT_FDCWD, from, AT_FDCWD, to, 0); }

EXPORT int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    return rename_any(from_directory, from, to_directory, to, 0);
}

EXPORT int renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned flags) {
    return rename_any(from_directory, from, to_directory, to, flags);
}

static int change_name(int directory, const char *path, enum call_kind kind, uint16_t record, long flags) {
    set_up();
    char relative[PATH_LIMIT];
    bool makes = record == DISK_RECORD_MKDIR;
    bool is_watched = recorder_relative(directory, path, relative);
    if (is_watched) {
        int error = faults_next(kind, relative, makes);
        if (error) return fail(error);
        pthread_mutex_lock(&recorder_lock);
    }
    int result = (int)syscall(makes ? SYS_mkdirat : SYS_unlinkat, directory, path, flags);
    int saved = errno;
    if (is_watched) {
        if (result == 0) recorder_append(record, 0, 0, 0, 0, relative, NULL, 0, 0);
        pthread_mutex_unlock(&recorder_lock);
    }
    errno = saved;
    return result;
}

EXPORT int unlinkat(int directory, const char *path, int flags) {
    uint16_t record = flags & AT_REMOVEDIR ? DISK_RECORD_RMDIR : DISK_RECORD_UNLINK;
    return change_name(directory, path, CALL_UNLINK, record, flags);
}

EXPORT int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

EXPORT int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

EXPORT int mkdirat(int directory, const char *path, mode_t mode) {
    return change_name(directory, path, CALL_MKDIR, DISK_RECORD_MKDIR, mode);
}

EXPORT int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

EXPORT int link(const char *from, const char *to) {
    set_up();
    char old[PATH_LIMIT], new[PATH_LIMIT];
    pthread_mutex_lock(&recorder_lock);
    int result = (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
    int saved = errno;
    if (result == 0 && recorder_relative(AT_FDCWD, from, old) && recorder_relative(AT_FDCWD, to, new)) {
        struct iovec name = {new, strlen(new)};
        recorder_append(DISK_RECORD_LINK, 0, 0, 0, 0, old, &name, 1, name.iov_len);
    }
    pthread_mutex_unlock(&recorder_lock);
    errno = saved;
    return result;
}
