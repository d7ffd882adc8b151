#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cwriteback.h"

#include <errno.h>
#include <fcntl.h>

int kontiki_write_back(int descriptor, uint64_t offset, uint64_t count, int waits) {
#ifdef SYNC_FILE_RANGE_WRITE
    unsigned int flags = SYNC_FILE_RANGE_WRITE;
    if (waits) flags |= SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER;
    return sync_file_range(descriptor, (off64_t)offset, (off64_t)count, flags);
#else
    (void)descriptor, (void)offset, (void)count, (void)waits;
    errno = ENOSYS;
    return -1;
#endif
}
