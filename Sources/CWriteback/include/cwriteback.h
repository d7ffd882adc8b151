#ifndef KONTIKI_CWRITEBACK_H
#define KONTIKI_CWRITEBACK_H

#include <stdint.h>

/// Has the system begin to write a range of a file to the disk, and with `waits` returns when it is written. 0, or -1 with errno; ENOSYS
/// where the system has no such call. It is no synchronization: neither the file's size nor the disk's cache are dealt with.
int kontiki_write_back(int descriptor, uint64_t offset, uint64_t count, int waits);

#endif
