/* Faults between a process and its disk: cc -shared -fPIC -O1 -o shim.so shim.c -ldl, LD_PRELOAD.
 *
 * Everything is told by the environment, read when the process starts and at shim_start():
 *
 *   SHIM_FOLDER   writes below this folder are counted, failed and recorded
 *   SHIM_COUNTER  a file of 8 bytes: how many mutating calls there were, over all processes
 *   SHIM_TOLD     a file: one line for each mutating call, "number operation path"
 *   SHIM_FAIL_AT  the number of the call that fails; SHIM_ERRNO: with which errno
 *   SHIM_STAY     if set, all later calls fail, too, but those that free space, until the file
 *   SHIM_SPACE    is there; a write that meets the full disk writes its first half before
 *   SHIM_RECORD   a file outside: what was done, for tests/faults/replay.py
 *   SHIM_CONTROL  a folder; while one of these files is there, for paths that start with its text:
 *                   eio: opening succeeds, reading fails; short: reads return half of what they
 *                   could; hang: opening, reading and looking wait; readonly: writes fail
 *   SHIM_LOCKS    a file: one line for each close that took this process's locks off a database,
 *                 with the Python code that closed it
 *
 * Real calls are made by syscall(2), so nothing of libc is needed to get past this file. What libc
 * does inside itself (fopen) does not come through here; replay.py's whole replay would show it.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static const char *folder, *control, *space;
static size_t folder_length;
static uint64_t *counter;
static uint64_t fail_at;
static int fail_errno, fail_stays, told = -1, record = -1, lost_locks = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const char *asked(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static int outside_file(const char *name, int flags)
{
    const char *path = asked(name);
    return path ? (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CREAT | O_CLOEXEC, 0600) : -1;
}

__attribute__((constructor)) void shim_start(void)
{
    folder = asked("SHIM_FOLDER");
    folder_length = folder ? strlen(folder) : 0;
    control = asked("SHIM_CONTROL");
    space = asked("SHIM_SPACE");
    fail_at = asked("SHIM_FAIL_AT") ? strtoull(asked("SHIM_FAIL_AT"), NULL, 10) : 0;
    fail_errno = asked("SHIM_ERRNO") ? atoi(asked("SHIM_ERRNO")) : ENOSPC;
    fail_stays = asked("SHIM_STAY") != NULL;
    told = outside_file("SHIM_TOLD", O_WRONLY | O_APPEND);
    record = outside_file("SHIM_RECORD", O_WRONLY | O_APPEND);
    lost_locks = outside_file("SHIM_LOCKS", O_WRONLY | O_APPEND);
    int file = outside_file("SHIM_COUNTER", O_RDWR);
    counter = NULL;
    if (file >= 0 && syscall(SYS_ftruncate, file, 8) == 0) {
        void *shared = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        counter = shared == MAP_FAILED ? NULL : shared;
        syscall(SYS_close, file);
    }
}

static int is_there(const char *path)
{
    return syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
}

/* The absolute path of what `at` and `path` name; of the open file `at` if `path` is NULL. */
static const char *absolute(int at, const char *path, char out[PATH_MAX])
{
    int saved = errno;
    size_t used = 0;
    if (path && path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
        return out;
    }
    char link[64];
    snprintf(link, sizeof link, at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", at);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, out, PATH_MAX - 1);
    errno = saved;
    if (length < 0)
        return NULL;
    used = (size_t)length;
    out[used] = 0;
    if (path)
        snprintf(out + used, PATH_MAX - used, "/%s", path);
    return out;
}

static int is_ours(const char *path)
{
    return folder && path && strncmp(path, folder, folder_length) == 0
        && (path[folder_length] == '/' || path[folder_length] == 0);
}

static int is_controlled(const char *name, const char *path)
{
    char file[PATH_MAX], prefix[PATH_MAX];
    int saved = errno;
    snprintf(file, sizeof file, "%s/%s", control, name);
    int descriptor = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        errno = saved;
        return 0;
    }
    long length = syscall(SYS_read, descriptor, prefix, sizeof prefix - 1);
    syscall(SYS_close, descriptor);
    errno = saved;
    return length > 0 && strncmp(path, prefix, (size_t)length) == 0;
}

static void wait_while_hanging(const char *path)
{
    struct timespec pause = {0, 20 * 1000 * 1000};
    while (control && path && is_controlled("hang", path))
        nanosleep(&pause, NULL);
}

/* Count one mutating call; -1 with errno where it must fail. `frees`: it would give space back. */
static int passes(const char *operation, const char *path, int frees)
{
    if (control && is_controlled("readonly", path)) {
        errno = EROFS;
        return -1;
    }
    uint64_t number = counter ? __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST) : 0;
    if (told >= 0) {
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%llu %s %s\n", (unsigned long long)number,
                              operation, path);
        syscall(SYS_write, told, line, (size_t)length);
    }
    if (!fail_at || number < fail_at || (number > fail_at && !fail_stays))
        return 0;
    if (fail_stays && (frees || (space && is_there(space))))
        return 0;
    errno = fail_errno;
    return -1;
}

static void note(char operation, uint64_t file, int64_t number, const char *path,
                 const char *other, const void *data, size_t size)
{
    if (record < 0)
        return;
    int saved = errno;
    char head[160];
    size_t path_size = path ? strlen(path) : 0, other_size = other ? strlen(other) : 0;
    int length = snprintf(head, sizeof head, "%c %llu %lld %zu %zu %zu\n", operation,
                          (unsigned long long)file, (long long)number, path_size, other_size, size);
    struct iovec parts[] = {{head, (size_t)length}, {(void *)path, path_size},
                            {(void *)other, other_size}, {(void *)data, size}};
    syscall(SYS_writev, record, parts, 4);
    errno = saved;
}

void shim_mark(const char *text)
{
    pthread_mutex_lock(&lock);
    note('M', 0, 0, text, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
}

static uint64_t number_of(int file)
{
    struct stat seen;
    return syscall(SYS_newfstatat, file, "", &seen, AT_EMPTY_PATH) == 0 ? seen.st_ino : 0;
}

/* ---- opening ---------------------------------------------------------------------------- */

static int open_at(int at, const char *name, int flags, mode_t mode)
{
    char path[PATH_MAX];
    const char *full = folder || control ? absolute(at, name, path) : NULL;
    wait_while_hanging(full);
    int writes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
    if (!writes || !is_ours(full))
        return (int)syscall(SYS_openat, at, name, flags, mode);
    int is_new = flags & O_CREAT && syscall(SYS_faccessat, at, name, F_OK) != 0;
    if (is_new && passes("create", full, 0) < 0)
        return -1;
    pthread_mutex_lock(&lock);
    int file = (int)syscall(SYS_openat, at, name, flags, mode);
    if (file >= 0 && is_new)
        note('C', number_of(file), 0, full, NULL, NULL, 0);
    else if (file >= 0 && flags & O_TRUNC)
        note('T', number_of(file), 0, full, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    return file;
}

#define MODE_OF(flags)                                                                             \
    mode_t mode = 0;                                                                               \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                         \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode = va_arg(rest, mode_t);                                                               \
        va_end(rest);                                                                              \
    }

int open(const char *path, int flags, ...)
{
    MODE_OF(flags) return open_at(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...)
{
    MODE_OF(flags) return open_at(AT_FDCWD, path, flags, mode);
}
int openat(int at, const char *path, int flags, ...)
{
    MODE_OF(flags) return open_at(at, path, flags, mode);
}
int openat64(int at, const char *path, int flags, ...)
{
    MODE_OF(flags) return open_at(at, path, flags, mode);
}
int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __openat_2(int at, const char *path, int flags) { return open_at(at, path, flags, 0); }
int __openat64_2(int at, const char *path, int flags) { return open_at(at, path, flags, 0); }
int creat(const char *path, mode_t mode)
{
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

/* ---- writing ---------------------------------------------------------------------------- */

/* `offset` < 0: where the file stands. */
static ssize_t write_at(int file, const void *data, size_t size, off_t offset)
{
    char path[PATH_MAX];
    const char *full = folder ? absolute(file, NULL, path) : NULL;
    if (is_ours(full) && passes("write", full, 0) < 0) {
        int first = !counter || *counter <= fail_at;
        if (!(fail_stays && first && size > 1))
            return -1;
        size /= 2; /* the disk is full within this write */
    }
    if (!is_ours(full))
        return offset < 0 ? syscall(SYS_write, file, data, size)
                          : syscall(SYS_pwrite64, file, data, size, offset);
    pthread_mutex_lock(&lock);
    ssize_t done = offset < 0 ? syscall(SYS_write, file, data, size)
                              : syscall(SYS_pwrite64, file, data, size, offset);
    if (done > 0) {
        if (offset < 0) /* also right for O_APPEND */
            offset = syscall(SYS_lseek, file, 0, SEEK_CUR) - done;
        note('W', number_of(file), offset, full, NULL, data, (size_t)done);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

static ssize_t write_parts(int file, const struct iovec *parts, int count, off_t offset)
{
    ssize_t all = 0;
    for (int i = 0; i < count; i++) {
        ssize_t done = write_at(file, parts[i].iov_base, parts[i].iov_len,
                                offset < 0 ? offset : offset + all);
        if (done < 0)
            return all ? all : -1;
        all += done;
        if ((size_t)done < parts[i].iov_len)
            break;
    }
    return all;
}

ssize_t write(int file, const void *data, size_t size) { return write_at(file, data, size, -1); }
ssize_t pwrite(int file, const void *data, size_t size, off_t offset)
{
    return write_at(file, data, size, offset);
}
ssize_t pwrite64(int file, const void *data, size_t size, off_t offset)
{
    return write_at(file, data, size, offset);
}
ssize_t writev(int file, const struct iovec *parts, int count)
{
    char path[PATH_MAX];
    if (!folder || !is_ours(absolute(file, NULL, path)))
        return syscall(SYS_writev, file, parts, count);
    return write_parts(file, parts, count, -1);
}
ssize_t pwritev(int file, const struct iovec *parts, int count, off_t offset)
{
    return write_parts(file, parts, count, offset);
}
ssize_t pwritev64(int file, const struct iovec *parts, int count, off_t offset)
{
    return write_parts(file, parts, count, offset);
}

/* Copies made by the kernel: refused, so that the caller writes by himself. */
ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t size, unsigned flags)
{
    char path[PATH_MAX];
    if (folder && is_ours(absolute(out, NULL, path))) {
        errno = ENOTSUP;
        return -1;
    }
    return syscall(SYS_copy_file_range, in, in_at, out, out_at, size, flags);
}
ssize_t sendfile(int out, int in, off_t *in_at, size_t size)
{
    char path[PATH_MAX];
    if (folder && is_ours(absolute(out, NULL, path))) {
        errno = ENOTSOCK;
        return -1;
    }
    return syscall(SYS_sendfile, out, in, in_at, size);
}
ssize_t sendfile64(int out, int in, off_t *in_at, size_t size)
{
    return sendfile(out, in, in_at, size);
}

/* ---- durability and size ---------------------------------------------------------------- */

static int sync_by(long call, int file)
{
    char path[PATH_MAX];
    const char *full = folder ? absolute(file, NULL, path) : NULL;
    if (!is_ours(full))
        return (int)syscall(call, file);
    if (passes("fsync", full, 0) < 0)
        return -1;
    pthread_mutex_lock(&lock);
    int done = (int)syscall(call, file);
    if (done == 0) {
        struct stat seen;
        int is_folder = syscall(SYS_newfstatat, file, "", &seen, AT_EMPTY_PATH) == 0
                     && S_ISDIR(seen.st_mode);
        note(is_folder ? 'D' : 'S', number_of(file), 0, full, NULL, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

int fsync(int file) { return sync_by(SYS_fsync, file); }
int fdatasync(int file) { return sync_by(SYS_fdatasync, file); }
int sync_file_range(int file, off_t at, off_t size, unsigned flags)
{
    return (int)syscall(SYS_sync_file_range, file, at, size, flags); /* promises nothing */
}

int ftruncate(int file, off_t size)
{
    char path[PATH_MAX];
    const char *full = folder ? absolute(file, NULL, path) : NULL;
    if (!is_ours(full))
        return (int)syscall(SYS_ftruncate, file, size);
    struct stat seen;
    int shrinks = syscall(SYS_newfstatat, file, "", &seen, AT_EMPTY_PATH) == 0
               && size <= seen.st_size;
    if (passes("truncate", full, shrinks) < 0)
        return -1;
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_ftruncate, file, size);
    if (done == 0)
        note('T', number_of(file), size, full, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}
int ftruncate64(int file, off_t size) { return ftruncate(file, size); }
int truncate(const char *path, off_t size)
{
    int file = open_at(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    if (file < 0)
        return -1;
    int done = ftruncate(file, size), saved = errno;
    syscall(SYS_close, file);
    errno = saved;
    return done;
}
int truncate64(const char *path, off_t size) { return truncate(path, size); }
int posix_fallocate(int file, off_t at, off_t size)
{
    char path[PATH_MAX];
    const char *full = folder ? absolute(file, NULL, path) : NULL;
    if (is_ours(full) && passes("allocate", full, 0) < 0)
        return errno;
    struct stat seen;
    if (syscall(SYS_newfstatat, file, "", &seen, AT_EMPTY_PATH) < 0)
        return errno;
    return at + size > seen.st_size && ftruncate(file, at + size) < 0 ? errno : 0;
}
int posix_fallocate64(int file, off_t at, off_t size) { return posix_fallocate(file, at, size); }
int fallocate(int file, int mode, off_t at, off_t size)
{
    char path[PATH_MAX];
    if (folder && is_ours(absolute(file, NULL, path))) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_fallocate, file, mode, at, size);
}
int fallocate64(int file, int mode, off_t at, off_t size)
{
    return fallocate(file, mode, at, size);
}

/* ---- names ------------------------------------------------------------------------------ */

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    char path[PATH_MAX], other[PATH_MAX];
    const char *old = folder ? absolute(from_at, from, path) : NULL;
    const char *new = folder ? absolute(to_at, to, other) : NULL;
    if (!is_ours(old) && !is_ours(new))
        return (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    if (passes("rename", new, 0) < 0)
        return -1;
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    if (done == 0)
        note('R', 0, 0, old, new, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}
int renameat(int from_at, const char *from, int to_at, const char *to)
{
    return renameat2(from_at, from, to_at, to, 0);
}
int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int at, const char *name, int flags)
{
    char path[PATH_MAX];
    const char *full = folder ? absolute(at, name, path) : NULL;
    if (!is_ours(full) || syscall(SYS_faccessat, at, name, F_OK) != 0)
        return (int)syscall(SYS_unlinkat, at, name, flags);
    if (passes("unlink", full, 1) < 0)
        return -1;
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_unlinkat, at, name, flags);
    if (done == 0)
        note(flags & AT_REMOVEDIR ? 'X' : 'U', 0, 0, full, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int at, const char *name, mode_t mode)
{
    char path[PATH_MAX];
    const char *full = folder ? absolute(at, name, path) : NULL;
    if (!is_ours(full) || syscall(SYS_faccessat, at, name, F_OK) == 0)
        return (int)syscall(SYS_mkdirat, at, name, mode);
    if (passes("mkdir", full, 0) < 0)
        return -1;
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_mkdirat, at, name, mode);
    if (done == 0)
        note('K', 0, 0, full, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int linkat(int from_at, const char *from, int to_at, const char *to, int flags)
{
    char path[PATH_MAX], other[PATH_MAX];
    const char *old = folder ? absolute(from_at, from, path) : NULL;
    const char *new = folder ? absolute(to_at, to, other) : NULL;
    if (!is_ours(new))
        return (int)syscall(SYS_linkat, from_at, from, to_at, to, flags);
    if (passes("link", new, 0) < 0)
        return -1;
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_linkat, from_at, from, to_at, to, flags);
    if (done == 0)
        note('L', 0, 0, old, new, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

/* ---- reading: cards that die, shares that hang ------------------------------------------- */

static ssize_t read_at(int file, void *data, size_t size, off_t offset)
{
    char path[PATH_MAX];
    const char *full = control ? absolute(file, NULL, path) : NULL;
    wait_while_hanging(full);
    if (full && is_controlled("eio", full)) {
        errno = EIO;
        return -1;
    }
    if (full && size > 1 && is_controlled("short", full))
        size = size / 2;
    return offset < 0 ? syscall(SYS_read, file, data, size)
                      : syscall(SYS_pread64, file, data, size, offset);
}

ssize_t read(int file, void *data, size_t size) { return read_at(file, data, size, -1); }
ssize_t pread(int file, void *data, size_t size, off_t at) { return read_at(file, data, size, at); }
ssize_t pread64(int file, void *data, size_t size, off_t at)
{
    return read_at(file, data, size, at);
}
ssize_t readv(int file, const struct iovec *parts, int count)
{
    if (control && count > 0)
        return read_at(file, parts[0].iov_base, parts[0].iov_len, -1);
    return syscall(SYS_readv, file, parts, count);
}

static int look_at(int at, const char *name, struct stat *seen, int flags)
{
    char path[PATH_MAX];
    if (control)
        wait_while_hanging(absolute(at, name && *name ? name : NULL, path));
    return (int)syscall(SYS_newfstatat, at, name, seen, flags);
}

int stat(const char *path, struct stat *seen) { return look_at(AT_FDCWD, path, seen, 0); }
int stat64(const char *path, struct stat64 *seen)
{
    return look_at(AT_FDCWD, path, (struct stat *)seen, 0);
}
int lstat(const char *path, struct stat *seen)
{
    return look_at(AT_FDCWD, path, seen, AT_SYMLINK_NOFOLLOW);
}
int lstat64(const char *path, struct stat64 *seen)
{
    return look_at(AT_FDCWD, path, (struct stat *)seen, AT_SYMLINK_NOFOLLOW);
}
int fstatat(int at, const char *path, struct stat *seen, int flags)
{
    return look_at(at, path, seen, flags);
}
int fstatat64(int at, const char *path, struct stat64 *seen, int flags)
{
    return look_at(at, path, (struct stat *)seen, flags);
}

DIR *opendir(const char *name)
{
    static DIR *(*real)(const char *);
    char path[PATH_MAX];
    if (control)
        wait_while_hanging(absolute(AT_FDCWD, name, path));
    if (!real)
        real = (DIR * (*)(const char *)) dlsym(RTLD_NEXT, "opendir");
    return real(name);
}

/* ---- closing: it takes all of a process's locks off the file (fcntl(2), "Advisory record locking")
 *
 * SQLite knows that, and waits with closing until it holds no lock any more. Whoever opens the file
 * besides, in the same process, does not: code of ours, or a second copy of SQLite. */

#define MOST_DESCRIPTORS 1024

/* Whether this process holds a lock on that file; what waits for one has an arrow in its line. */
static int holds_lock(const struct stat *seen)
{
    char number[64], wanted[32], kind[16], text[1 << 16];
    snprintf(number, sizeof number, "%02x:%02x:%llu", (unsigned)((seen->st_dev >> 8) & 0xfff),
             (unsigned)((seen->st_dev & 0xff) | ((seen->st_dev >> 12) & ~0xffUL)),
             (unsigned long long)seen->st_ino);
    int file = (int)syscall(SYS_openat, AT_FDCWD, "/proc/locks", O_RDONLY | O_CLOEXEC), found = 0;
    if (file < 0)
        return 0;
    size_t size = 0;
    for (long done; (done = syscall(SYS_read, file, text + size, sizeof text - 1 - size)) > 0;)
        size += (size_t)done;
    syscall(SYS_close, file);
    text[size] = 0;
    for (char *line = text, *end; *line && !found; line = end + 1) {
        int pid;
        if (!(end = strchr(line, '\n')))
            break;
        *end = 0;
        found = sscanf(line, "%*s %15s %*s %*s %d %31s", kind, &pid, wanted) == 3
             && strcmp(kind, "POSIX") == 0 && pid == (int)syscall(SYS_getpid)
             && strcmp(wanted, number) == 0;
    }
    return found;
}

/* SQLite closes the shared memory of its last connection with a lock on it: nobody else has it. */
static int is_open_elsewhere(int file, const struct stat *seen)
{
    struct stat other;
    for (int i = 0; i < MOST_DESCRIPTORS; i++)
        if (i != file && syscall(SYS_newfstatat, i, "", &other, AT_EMPTY_PATH) == 0
            && other.st_ino == seen->st_ino && other.st_dev == seen->st_dev)
            return 1;
    return 0;
}

static void tell_lost_lock(int file)
{
    static void (*say_where)(int, void *, void *);
    char path[PATH_MAX], line[PATH_MAX + 64];
    struct stat seen;
    if (!absolute(file, NULL, path) || !strstr(path, ".db")
        || syscall(SYS_newfstatat, file, "", &seen, AT_EMPTY_PATH) != 0
        || !is_open_elsewhere(file, &seen) || !holds_lock(&seen))
        return;
    int length = snprintf(line, sizeof line, "lost lock: process %d closed %s\n",
                          (int)syscall(SYS_getpid), path);
    syscall(SYS_write, lost_locks, line, (size_t)length);
    if (!say_where)
        say_where = (void (*)(int, void *, void *))dlsym(RTLD_DEFAULT, "_Py_DumpTracebackThreads");
    if (say_where)
        say_where(lost_locks, NULL, NULL);
}

int close(int file)
{
    if (lost_locks >= 0 && file >= 0) {
        int saved = errno;
        tell_lost_lock(file);
        errno = saved;
    }
    return (int)syscall(SYS_close, file);
}
