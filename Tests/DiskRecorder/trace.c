// Which files are watched, and the trace of what happens to them.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "recorder.h"

pthread_mutex_t recorder_lock = PTHREAD_MUTEX_INITIALIZER;
bool recorder_is_recording;

static char root[PATH_LIMIT];
static size_t root_length;
static struct watched table[DESCRIPTOR_LIMIT];
static int trace = -1;
static atomic_ullong own_counter;
static atomic_ullong *counter = &own_counter;

/// Follows all of `path` when it is there, else all but its last part.
static bool canonical(const char *path, char *result, bool follows_last) {
    char buffer[PATH_MAX];
    if (follows_last && realpath(path, buffer)) {
        return snprintf(result, PATH_LIMIT, "%s", buffer) < PATH_LIMIT;
    }
    char copy[PATH_LIMIT];
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy) return false;
    size_t length = strlen(copy);
    while (length > 1 && copy[length - 1] == '/') copy[--length] = 0;
    char *slash = strrchr(copy, '/');
    const char *last = slash ? slash + 1 : copy;
    const char *parent = slash ? copy : ".";
    if (slash) *slash = 0;
    if (slash == copy) parent = "/";
    if (!realpath(parent, buffer)) return false;
    return snprintf(result, PATH_LIMIT, "%s/%s", strcmp(buffer, "/") == 0 ? "" : buffer, last) < PATH_LIMIT;
}

static bool relative_to_root(const char *path, char *relative) {
    if (root_length == 0 || strncmp(path, root, root_length) != 0) return false;
    if (path[root_length] == 0) {
        relative[0] = 0;
        return true;
    }
    if (path[root_length] != '/') return false;
    snprintf(relative, PATH_LIMIT, "%s", path + root_length + 1);
    return true;
}

static bool path_of(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = syscall(SYS_readlink, link, path, (size_t)PATH_LIMIT - 1);
    if (length <= 0) return false;
    path[length] = 0;
    return path[0] == '/';
}

bool recorder_relative(int directory, const char *path, char *relative) {
    if (root_length == 0 || !path) return false;
    char whole[2 * PATH_LIMIT], absolute[PATH_LIMIT];
    if (path[0] != '/' && directory != AT_FDCWD) {
        char base[PATH_LIMIT];
        if (!path_of(directory, base)) return false;
        snprintf(whole, sizeof whole, "%s/%s", base, path);
        path = whole;
    }
    return canonical(path, absolute, false) && relative_to_root(absolute, relative);
}

struct watched *recorder_watched(int descriptor) {
    if (descriptor < 0 || descriptor >= DESCRIPTOR_LIMIT || !table[descriptor].is_open) return NULL;
    return &table[descriptor];
}

void recorder_opened(int descriptor, int flags, bool created) {
    char path[PATH_LIMIT], relative[PATH_LIMIT];
    struct stat status;
    if (root_length == 0 || descriptor < 0 || descriptor >= DESCRIPTOR_LIMIT || !path_of(descriptor, path)) return;
    if (!relative_to_root(path, relative) || fstat(descriptor, &status) != 0) return;
    struct watched *entry = &table[descriptor];
    entry->file = status.st_ino;
    entry->flags = (S_ISDIR(status.st_mode) ? DISK_FLAG_DIRECTORY : 0) | (flags & O_DSYNC ? DISK_FLAG_DSYNC : 0);
    snprintf(entry->path, sizeof entry->path, "%s", relative);
    entry->is_open = true;
    if (created) {
        recorder_append(DISK_RECORD_CREATE, entry->flags, 0, entry->file, 0, relative, NULL, 0, 0);
    } else {
        recorder_append(DISK_RECORD_OPEN, entry->flags, 0, entry->file, status.st_size, relative, NULL, 0, 0);
        if (flags & O_TRUNC) recorder_append(DISK_RECORD_TRUNCATE, 0, 0, entry->file, 0, relative, NULL, 0, 0);
    }
}

void recorder_closed(int descriptor) {
    if (descriptor >= 0 && descriptor < DESCRIPTOR_LIMIT) table[descriptor].is_open = false;
}

void recorder_duplicated(int from, int to) {
    if (to < 0 || to >= DESCRIPTOR_LIMIT) return;
    struct watched *entry = recorder_watched(from);
    if (entry) table[to] = *entry;
}

uint64_t recorder_append(uint16_t kind, uint16_t flags, uint64_t reference, uint64_t file, int64_t offset, const char *path,
                         const struct iovec *data, int count, size_t length) {
    if (!recorder_is_recording) return 0;
    struct disk_record record = {
        .magic = DISK_RECORD_MAGIC,
        .kind = kind,
        .flags = flags,
        .sequence = atomic_fetch_add(counter, 1) + 1,
        .reference = reference,
        .file = file,
        .offset = offset,
        .path_length = (uint32_t)strlen(path),
        .data_length = (uint32_t)length,
    };
    struct iovec parts[2 + 1024] = {{&record, sizeof record}, {(void *)path, record.path_length}};
    int used = 2;
    size_t left = length;
    for (int index = 0; index < count && left > 0 && used < 1024; index++) {
        size_t taken = data[index].iov_len < left ? data[index].iov_len : left;
        parts[used++] = (struct iovec){data[index].iov_base, taken};
        left -= taken;
    }
    size_t total = sizeof record + record.path_length + length;
    // Nothing can be said about images of a trace that has a hole: better no process than such a trace.
    if (left > 0 || syscall(SYS_writev, trace, parts, used) != (long)total) {
        static const char message[] = "DiskRecorder: the trace could not be written\n";
        (void)!syscall(SYS_write, 2, message, sizeof message - 1);
        abort();
    }
    return record.sequence;
}

void disk_recorder_note(const char *text) {
    if (!recorder_is_recording) return;
    size_t length = strlen(text);
    struct iovec data = {(void *)text, length};
    pthread_mutex_lock(&recorder_lock);
    recorder_append(DISK_RECORD_NOTE, 0, 0, 0, 0, "", &data, 1, length < 65536 ? length : 65536);
    pthread_mutex_unlock(&recorder_lock);
}

static void share_counter(const char *path) {
    int descriptor = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (descriptor < 0) return;
    if (syscall(SYS_lseek, descriptor, 0, SEEK_END) < 4096) (void)!syscall(SYS_ftruncate, descriptor, (off_t)4096);
    void *bytes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (bytes != MAP_FAILED) counter = bytes;
    syscall(SYS_close, descriptor);
}

void recorder_set_up(void) {
    const char *directory = getenv("KONTIKI_DISK_DIR");
    const char *record = getenv("KONTIKI_DISK_RECORD");
    const char *sequence = getenv("KONTIKI_DISK_SEQUENCE");
    if (!directory || !canonical(directory, root, true)) return;
    root_length = strlen(root);
    faults_set_up();
    if (!record) return;
    trace = (int)syscall(SYS_openat, AT_FDCWD, record, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (trace < 0) return;
    if (sequence) share_counter(sequence);
    recorder_is_recording = true;
}
