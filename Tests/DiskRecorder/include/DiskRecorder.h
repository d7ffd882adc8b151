#ifndef KONTIKI_DISK_RECORDER_H
#define KONTIKI_DISK_RECORDER_H

#include <stdint.h>

/// What a record of the trace tells. See README.md beside this folder.
enum disk_record_kind {
    /// `data` was written at `offset`. With `DISK_FLAG_DSYNC` it is noted before the call; it is durable with the end that refers to it.
    DISK_RECORD_WRITE = 1,
    /// fsync or fdatasync of a file or directory began.
    DISK_RECORD_SYNC_BEGIN = 2,
    /// The sync, or the write through an O_DSYNC descriptor, whose number is `reference` ended; `offset` is 0 or the errno.
    DISK_RECORD_SYNC_END = 3,
    /// The file is `offset` bytes long now.
    DISK_RECORD_TRUNCATE = 4,
    /// A file was created under `path`.
    DISK_RECORD_CREATE = 5,
    /// A file that was there was opened under `path`; it is `offset` bytes long.
    DISK_RECORD_OPEN = 6,
    /// `path` got the name that `data` holds.
    DISK_RECORD_RENAME = 7,
    DISK_RECORD_UNLINK = 8,
    DISK_RECORD_MKDIR = 9,
    DISK_RECORD_RMDIR = 10,
    /// `path` is also called what `data` holds.
    DISK_RECORD_LINK = 11,
    /// Text of `disk_recorder_note` in `data`.
    DISK_RECORD_NOTE = 12,
};

/// The descriptor is one of a directory.
#define DISK_FLAG_DIRECTORY 1
/// The descriptor was opened with O_SYNC or O_DSYNC.
#define DISK_FLAG_DSYNC 2

/// The beginning of each record; `path_length` bytes of path and `data_length` bytes of data follow. Native byte order.
struct disk_record {
    /// `DISK_RECORD_MAGIC`.
    uint32_t magic;
    uint16_t kind;
    uint16_t flags;
    /// The place in the order of all processes that share a counter.
    uint64_t sequence;
    uint64_t reference;
    /// The inode that a file had; a creation binds the number anew.
    uint64_t file;
    int64_t offset;
    uint32_t path_length;
    uint32_t data_length;
};

#define DISK_RECORD_MAGIC 0x4b44524bU

/// Puts a text of at most 64 KiB into the trace, in the order of the calls of this process. Does nothing when nothing is recorded.
/// A program that may run without the library finds it with dlsym.
void disk_recorder_note(const char *text);

#endif
