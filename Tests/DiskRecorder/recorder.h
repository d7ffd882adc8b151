// What the two halves of the library share.
#ifndef KONTIKI_RECORDER_H
#define KONTIKI_RECORDER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "include/DiskRecorder.h"

enum call_kind { CALL_WRITE, CALL_SYNC, CALL_RENAME, CALL_OPEN, CALL_TRUNCATE, CALL_UNLINK, CALL_MKDIR, CALL_KINDS };

enum { PATH_LIMIT = 1024, DESCRIPTOR_LIMIT = 8192 };

/// A descriptor of a file below the watched directory.
struct watched {
    bool is_open;
    uint16_t flags;
    uint64_t file;
    /// Relative to the watched directory; empty for that itself.
    char path[PATH_LIMIT];
};

/// Guards the order of effects and records. A write is made and noted in one hold, so that the trace has the order of the files.
extern pthread_mutex_t recorder_lock;
extern bool recorder_is_recording;

/// Reads the environment; called once, before anything else.
void recorder_set_up(void);
/// Relative to the watched directory; false when `path` lies outside. `path` is taken as the system would, links and `..` followed
/// except in its last part.
bool recorder_relative(int directory, const char *path, char *relative);
/// The open descriptor's entry; NULL when it is none of the watched.
struct watched *recorder_watched(int descriptor);
void recorder_opened(int descriptor, int flags, bool created);
void recorder_closed(int descriptor);
void recorder_duplicated(int from, int to);
/// Appends a record and answers its number. The lock is held.
uint64_t recorder_append(uint16_t kind, uint16_t flags, uint64_t reference, uint64_t file, int64_t offset, const char *path,
                         const struct iovec *data, int count, size_t length);

/// Whether a call is to fail: the errno, or 0. Counts it.
/// `needs_room`: it makes a file longer or a name new.
int faults_next(enum call_kind kind, const char *path, bool needs_room);
/// Waits as the control file says.
void faults_delay_sync(void);
/// Whether a sync is left out although it reports success.
bool faults_omits_sync(const char *path, bool is_directory);
void faults_set_up(void);

#endif
