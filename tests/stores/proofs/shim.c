/* Stands between a process and the disk, for every file that is called data.mdb.

   Built and preloaded by tests/stores/proofs/disk.py, driven through ctypes:

     shim_record(path)  write down every write and sync from here on, with what was written
     shim_ack(n)        put a note into that record, in order with the writes
     shim_arm(kind, n, error, forever)
                        the n-th write ('w') or sync ('s') from here on fails with `error` (0: it is
                        cut short halfway; below 0: it is done all the same, and fails then with
                        the error of that number), and if `forever` all that follow it as well
     shim_disarm()      no more failures; returns how many there were
     shim_count(kind)   writes or syncs since the last shim_arm

   A write to a file opened with O_DSYNC counts as a write: it is recorded as one that is on disk
   when it returns ('d'). LMDB writes its meta pages so. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int record = -1, armed = 0, forever = 0, error_code = 0, failures = 0;
static long counted[256], target = 0;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fdatasync)(int);
static int (*real_fsync)(int);

__attribute__((constructor)) static void start(void) {
  real_write = dlsym(RTLD_NEXT, "write");
  real_writev = dlsym(RTLD_NEXT, "writev");
  real_pwrite = dlsym(RTLD_NEXT, "pwrite");
  real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
  real_fsync = dlsym(RTLD_NEXT, "fsync");
}

static int watched(int fd) {
  char link[64], name[4096];
  char *at = link + sizeof link;
  unsigned number = (unsigned)fd;
  if (fd < 0 || (record < 0 && !armed)) return 0;
  *--at = 0;
  do *--at = '0' + number % 10; while (number /= 10);
  at -= 14;
  memcpy(at, "/proc/self/fd/", 14);
  ssize_t length = readlink(at, name, sizeof name);
  return length >= 9 && !memcmp(name + length - 9, "/data.mdb", 9);
}

static void note(char kind, uint64_t offset, uint64_t length) {
  char head[17];
  head[0] = kind;
  memcpy(head + 1, &offset, 8);
  memcpy(head + 9, &length, 8);
  if (real_write(record, head, 17) != 17) _exit(99);
}

void shim_record(const char *path) {
  record = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
}

void shim_ack(long number) {
  pthread_mutex_lock(&lock);
  if (record >= 0) note('a', (uint64_t)number, 0);
  pthread_mutex_unlock(&lock);
}

void shim_arm(char kind, long n, int error, int for_ever) {
  counted['w'] = counted['s'] = failures = 0;
  target = n;
  error_code = error;
  forever = for_ever;
  armed = kind;
}

int shim_disarm(void) {
  armed = 0;
  return failures;
}

long shim_count(char kind) { return counted[(unsigned char)kind]; }

/* Whether this call is to fail. */
static int hit(char kind) {
  if (!armed) return 0;
  long at = ++counted[(unsigned char)kind];
  if (armed != kind || at < target || (at > target && !forever)) return 0;
  failures++;
  return 1;
}

static void note_write(int fd, const struct iovec *parts, int count, off_t offset) {
  uint64_t length = 0;
  if (record < 0) return;
  for (int i = 0; i < count; i++) length += parts[i].iov_len;
  note(fcntl(fd, F_GETFL) & O_DSYNC ? 'd' : 'w', (uint64_t)offset, length);
  for (int i = 0; i < count; i++)
    if (real_write(record, parts[i].iov_base, parts[i].iov_len) != (ssize_t)parts[i].iov_len)
      _exit(99);
}

/* All writes come here; `offset` of -1 is the position of the file. */
static ssize_t put(int fd, const struct iovec *parts, int count, off_t offset) {
  off_t at = offset < 0 ? lseek(fd, 0, SEEK_CUR) : offset;
  ssize_t done;
  pthread_mutex_lock(&lock);
  if (hit('w')) {
    if (error_code) {
      if (error_code < 0)
        for (int i = 0; i < count; at += parts[i++].iov_len)
          real_pwrite(fd, parts[i].iov_base, parts[i].iov_len, at);
      errno = error_code < 0 ? -error_code : error_code;
      done = -1;
    } else {
      done = real_pwrite(fd, parts[0].iov_base, parts[0].iov_len / 2, at);
    }
  } else {
    done = offset < 0 ? real_writev(fd, parts, count)
                      : real_pwrite(fd, parts[0].iov_base, parts[0].iov_len, offset);
    note_write(fd, parts, count, at);
  }
  pthread_mutex_unlock(&lock);
  return done;
}

ssize_t write(int fd, const void *data, size_t length) {
  struct iovec part = {(void *)data, length};
  return watched(fd) ? put(fd, &part, 1, -1) : real_write(fd, data, length);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  return watched(fd) ? put(fd, parts, count, -1) : real_writev(fd, parts, count);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
  struct iovec part = {(void *)data, length};
  return watched(fd) ? put(fd, &part, 1, offset) : real_pwrite(fd, data, length, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
  return pwrite(fd, data, length, offset);
}

static int sync_with(int fd, int (*real)(int)) {
  int done;
  if (!watched(fd)) return real(fd);
  pthread_mutex_lock(&lock);
  if (hit('s')) {
    if (error_code < 0) real(fd);
    errno = error_code < 0 ? -error_code : error_code;
    done = -1;
  } else {
    done = real(fd);
    if (record >= 0) note('s', 0, 0);
  }
  pthread_mutex_unlock(&lock);
  return done;
}

int fdatasync(int fd) { return sync_with(fd, real_fdatasync); }

int fsync(int fd) { return sync_with(fd, real_fsync); }
