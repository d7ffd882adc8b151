// Calls that fail or wait because a test wants them to.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "recorder.h"

static const char *const names[CALL_KINDS] = {"write", "sync", "rename", "open", "truncate", "unlink", "mkdir"};

static bool matches[CALL_KINDS];
static bool is_active;
static unsigned long failing;
static bool is_sticky;
static int failure = EIO;
static atomic_ulong calls;
static int count_file = -1;
static volatile const unsigned char *control;

enum { CONTROL_FULL, CONTROL_BLOCK, CONTROL_DELAY, CONTROL_SYNC_EIO, CONTROL_WRITE_EIO };

static const char *omitted;

bool faults_omits_sync(const char *path, bool is_directory) {
    if (!omitted) return false;
    if (is_directory) return strcmp(omitted, "directories") == 0;
    return strncmp(omitted, "files:", 6) == 0 && strstr(path, omitted + 6);
}

static int error_named(const char *name) {
    if (strcmp(name, "ENOSPC") == 0) return ENOSPC;
    if (strcmp(name, "EDQUOT") == 0) return EDQUOT;
    if (strcmp(name, "EROFS") == 0) return EROFS;
    if (strcmp(name, "EMFILE") == 0) return EMFILE;
    return EIO;
}

static void choose(char *list) {
    char *rest = NULL;
    for (char *name = strtok_r(list, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        for (int kind = 0; kind < CALL_KINDS; kind++) {
            if (strcmp(name, names[kind]) == 0 || strcmp(name, "all") == 0) matches[kind] = true;
        }
    }
}

static void set_up_fault(const char *specification) {
    char text[256];
    snprintf(text, sizeof text, "%s", specification);
    char *rest = NULL;
    for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        if (strncmp(word, "calls=", 6) == 0) choose(word + 6);
        if (strncmp(word, "nth=", 4) == 0) failing = strtoul(word + 4, NULL, 10);
        if (strncmp(word, "errno=", 6) == 0) failure = error_named(word + 6);
        if (strcmp(word, "sticky=1") == 0) is_sticky = true;
    }
    is_active = true;
}

void faults_set_up(void) {
    const char *specification = getenv("KONTIKI_DISK_FAULT");
    const char *count = getenv("KONTIKI_DISK_COUNT");
    const char *path = getenv("KONTIKI_DISK_CONTROL");
    omitted = getenv("KONTIKI_DISK_OMIT");
    if (specification) set_up_fault(specification);
    if (count) count_file = (int)syscall(SYS_openat, AT_FDCWD, count, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (path) {
        int descriptor = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (descriptor < 0) return;
        if (syscall(SYS_lseek, descriptor, 0, SEEK_END) < 4096) (void)!syscall(SYS_ftruncate, descriptor, (off_t)4096);
        void *bytes = mmap(NULL, 4096, PROT_READ, MAP_SHARED, descriptor, 0);
        if (bytes != MAP_FAILED) control = bytes;
        syscall(SYS_close, descriptor);
    }
}

static void tell(unsigned long number, enum call_kind kind, const char *path, int error) {
    char line[PATH_LIMIT + 64];
    int length = snprintf(line, sizeof line, "%lu %s /%s%s%s\n", number, names[kind], path, error ? " failed: " : "",
                          error ? strerrorname_np(error) : "");
    if (length > 0) (void)!syscall(SYS_write, count_file, line, (size_t)length);
}

static int switched(enum call_kind kind, bool needs_room) {
    if (!control) return 0;
    if (control[CONTROL_FULL] && needs_room) return ENOSPC;
    if (control[CONTROL_FULL] == 2 && kind == CALL_WRITE) return ENOSPC;
    if (control[CONTROL_SYNC_EIO] && kind == CALL_SYNC) return EIO;
    if (control[CONTROL_WRITE_EIO] && kind == CALL_WRITE) return EIO;
    return 0;
}

int faults_next(enum call_kind kind, const char *path, bool needs_room) {
    int error = switched(kind, needs_room);
    if (!is_active || !matches[kind]) return error;
    unsigned long number = atomic_fetch_add(&calls, 1) + 1;
    if (failing > 0 && (number == failing || (is_sticky && number > failing))) error = failure;
    if (count_file >= 0) tell(number, kind, path, error);
    return error;
}

static void sleep_milliseconds(long milliseconds) {
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    while (nanosleep(&time, &time) != 0 && errno == EINTR) {}
}

void faults_delay_sync(void) {
    if (!control) return;
    while (control[CONTROL_BLOCK]) sleep_milliseconds(1);
    if (control[CONTROL_DELAY]) sleep_milliseconds(control[CONTROL_DELAY] * 10L);
}
