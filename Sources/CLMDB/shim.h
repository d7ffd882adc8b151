#include <lmdb.h>
#include <linux/falloc.h>
#include <sys/types.h>

// The C library's, which shows it only to programs that ask for GNU extensions.
extern int fallocate(int descriptor, int mode, off_t offset, off_t length);
