/* A disk as slow as a file says: loaded before libc (LD_PRELOAD), it makes every sync wait. SLOW_DISK names a file that
 * holds the microseconds in decimal; it is mapped, so that a change counts at once. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define DIGITS 16

static const volatile char *delay_text(void) {
    static const volatile char *text;
    const char *path;
    int file;
    if (text)
        return text;
    path = getenv("SLOW_DISK");
    file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return 0;
    void *map = mmap(0, DIGITS, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    text = map == MAP_FAILED ? 0 : map;
    return text;
}

static void wait_for_disk(void) {
    const volatile char *text = delay_text();
    long us = 0;
    for (int i = 0; text && i < DIGITS && text[i] >= '0' && text[i] <= '9'; i++)
        us = us * 10 + (text[i] - '0');
    struct timespec time = { us / 1000000, us % 1000000 * 1000 };
    if (us)
        nanosleep(&time, 0);
}

int fdatasync(int file) {
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_for_disk();
    return next(file);
}

int fsync(int file) {
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_for_disk();
    return next(file);
}
