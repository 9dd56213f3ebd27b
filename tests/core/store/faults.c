/* A disk that refuses: preloaded, it makes the N-th file call below a folder fail.

   Counted are calls whose path, or whose open file, lies in the folder, by whatever program code they are made
   (Python, or Rust through libc). faults_arm says which call and how; faults_disarm ends it, and faults_calls
   names the calls there were.
*/
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { NOTHING, ERROR, FULL, SHORT, KILL_BEFORE, KILL_AFTER };
enum call { OPEN, WRITE, READ, OTHER };

static char folder[PATH_MAX];
static size_t folder_length;
static enum kind kind;
static int code; /* errno of ERROR */
static long wanted, counted;
static int on, happened, killed_next;
static char inside[1 << 16]; /* by descriptor */
static char calls[1 << 16]; /* their names, one a line */
static size_t calls_length;

void faults_arm(const char *where, int how, int error, long number) {
    snprintf(folder, sizeof folder, "%s", where);
    folder_length = strlen(folder);
    kind = how, code = error, wanted = number, counted = 0, happened = 0, calls_length = 0;
    on = 1;
}
void faults_disarm(void) { on = 0; }
int faults_happened(void) { return happened; }
const char *faults_calls(void) { calls[calls_length] = 0; return calls; }

static int below(int directory, const char *path) {
    if (!on || path == NULL) return 0;
    if (path[0] == '/')
        return !strncmp(path, folder, folder_length) && (path[folder_length] == '/' || !path[folder_length]);
    return directory >= 0 && directory < (int)sizeof inside && inside[directory];
}
static int held(int file) { return on && file >= 0 && file < (int)sizeof inside && inside[file]; }

/* 0: go on; 1: fail with errno set; 2: write less */
static int fault(const char *name, enum call what) {
    counted++;
    size_t length = strlen(name);
    if (calls_length + length + 2 < sizeof calls) {
        memcpy(calls + calls_length, name, length);
        calls[calls_length + length] = '\n';
        calls_length += length + 1;
    }
    if (killed_next) _exit(9);
    if (kind == FULL && counted >= wanted) { /* a full disk stays full */
        happened = 1;
        errno = ENOSPC;
        return what == WRITE;
    }
    if (counted != wanted) return 0;
    happened = 1;
    switch (kind) {
    case ERROR: errno = code; return 1;
    case SHORT: return what == WRITE ? 2 : 0;
    case KILL_BEFORE: _exit(9);
    case KILL_AFTER: killed_next = 1; return 0; /* as if between this call and the next */
    default: return 0;
    }
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)
#define CALL(type, name, failed, where, what, parameters, arguments) \
    type name parameters { \
        static type (*real) parameters; \
        if (!real) real = (type (*) parameters)dlsym(RTLD_NEXT, #name); \
        if ((where) && fault(#name, what) == 1) return failed; \
        return real arguments; \
    }

static mode_t mode_of(int flags, va_list rest) {
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
}
static int opened(int file, int is_below) {
    if (file >= 0 && file < (int)sizeof inside) inside[file] = (char)is_below;
    return file;
}
#define OPEN_AS(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = mode_of(flags, rest); va_end(rest); \
        REAL(int, #name, const char *, int, ...); \
        int is_below = below(-1, path); \
        if (is_below && fault(#name, OPEN) == 1) return -1; \
        return opened(real(path, flags, mode), is_below); \
    }
#define OPENAT_AS(name) \
    int name(int directory, const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = mode_of(flags, rest); va_end(rest); \
        REAL(int, #name, int, const char *, int, ...); \
        int is_below = below(directory, path); \
        if (is_below && fault(#name, OPEN) == 1) return -1; \
        return opened(real(directory, path, flags, mode), is_below); \
    }
OPEN_AS(open)
OPEN_AS(open64)
OPENAT_AS(openat)
OPENAT_AS(openat64)

int close(int file) {
    REAL(int, "close", int);
    opened(file, 0);
    return real(file);
}
int dup(int file) {
    REAL(int, "dup", int);
    return opened(real(file), held(file));
}

#define WRITE_AS(name, parameters, arguments, fewer) \
    ssize_t name parameters { \
        static ssize_t (*real) parameters; \
        if (!real) real = (ssize_t (*) parameters)dlsym(RTLD_NEXT, #name); \
        int said = held(file) ? fault(#name, WRITE) : 0; \
        if (said == 1) return -1; \
        if (said == 2) { fewer; } \
        return real arguments; \
    }
WRITE_AS(write, (int file, const void *data, size_t size), (file, data, size), size = (size + 1) / 2)
WRITE_AS(pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at), size = (size + 1) / 2)
WRITE_AS(pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at), size = (size + 1) / 2)
WRITE_AS(writev, (int file, const struct iovec *parts, int count), (file, parts, count), count = (count + 1) / 2)

CALL(ssize_t, read, -1, held(file), READ, (int file, void *data, size_t size), (file, data, size))
CALL(ssize_t, pread64, -1, held(file), READ, (int file, void *data, size_t size, off64_t at), (file, data, size, at))
CALL(int, fsync, -1, held(file), OTHER, (int file), (file))
CALL(int, flock, -1, held(file), OTHER, (int file, int operation), (file, operation))
CALL(int, fdatasync, -1, held(file), OTHER, (int file), (file))
CALL(int, rename, -1, below(-1, from) || below(-1, to), OTHER, (const char *from, const char *to), (from, to))
CALL(int, renameat, -1, below(a, from) || below(b, to), OTHER, (int a, const char *from, int b, const char *to), (a, from, b, to))
CALL(int, renameat2, -1, below(a, from) || below(b, to), OTHER, (int a, const char *from, int b, const char *to, unsigned flags), (a, from, b, to, flags))
CALL(int, link, -1, below(-1, to), OTHER, (const char *from, const char *to), (from, to))
CALL(int, linkat, -1, below(b, to), OTHER, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))
CALL(int, symlink, -1, below(-1, to), OTHER, (const char *from, const char *to), (from, to))
CALL(int, unlink, -1, below(-1, path), OTHER, (const char *path), (path))
CALL(int, unlinkat, -1, below(directory, path), OTHER, (int directory, const char *path, int flags), (directory, path, flags))
CALL(int, mkdir, -1, below(-1, path), OTHER, (const char *path, mode_t mode), (path, mode))
CALL(int, mkdirat, -1, below(directory, path), OTHER, (int directory, const char *path, mode_t mode), (directory, path, mode))
CALL(int, rmdir, -1, below(-1, path), OTHER, (const char *path), (path))
CALL(int, truncate, -1, below(-1, path), OTHER, (const char *path, off_t size), (path, size))
CALL(int, ftruncate, -1, held(file), OTHER, (int file, off_t size), (file, size))
CALL(int, ftruncate64, -1, held(file), OTHER, (int file, off64_t size), (file, size))
CALL(int, fallocate, -1, held(file), OTHER, (int file, int mode, off_t at, off_t size), (file, mode, at, size))
CALL(int, posix_fallocate64, errno, held(file), OTHER, (int file, off64_t at, off64_t size), (file, at, size))
CALL(int, chmod, -1, below(-1, path), OTHER, (const char *path, mode_t mode), (path, mode))
CALL(int, fchmod, -1, held(file), OTHER, (int file, mode_t mode), (file, mode))
CALL(int, fchmodat, -1, below(directory, path), OTHER, (int directory, const char *path, mode_t mode, int flags), (directory, path, mode, flags))
CALL(ssize_t, sendfile64, -1, held(to), WRITE, (int to, int from, off64_t *at, size_t size), (to, from, at, size))
CALL(ssize_t, copy_file_range, -1, held(to), WRITE, (int from, off64_t *a, int to, off64_t *b, size_t size, unsigned flags), (from, a, to, b, size, flags))
CALL(DIR *, opendir, NULL, below(-1, path), READ, (const char *path), (path))
CALL(DIR *, fdopendir, NULL, held(file), READ, (int file), (file))
CALL(void *, mmap, MAP_FAILED, held(file), READ, (void *at, size_t size, int use, int flags, int file, off_t from), (at, size, use, flags, file, from))
CALL(void *, mmap64, MAP_FAILED, held(file), READ, (void *at, size_t size, int use, int flags, int file, off64_t from), (at, size, use, flags, file, from))
