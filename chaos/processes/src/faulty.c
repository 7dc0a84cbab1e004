/* A disk as slow, and a clock as wrong, as a file says. Loaded before libc (LD_PRELOAD), it makes every sync wait, and
 * moves the wall clock. FAULTY_MACHINE names a file with two decimal numbers of DIGITS characters each: the microseconds
 * that a sync takes, and the seconds that the clock is ahead. It is mapped, so that a change counts at once. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define DIGITS 16

static const volatile char *numbers(void) {
    static const volatile char *text;
    const char *path;
    int file;
    if (text)
        return text;
    path = getenv("FAULTY_MACHINE");
    file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return 0;
    void *map = mmap(0, 2 * DIGITS, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    text = map == MAP_FAILED ? 0 : map;
    return text;
}

static long number(int which) {
    const volatile char *text = numbers();
    long value = 0;
    int negative;
    if (!text)
        return 0;
    text += which * DIGITS;
    negative = text[0] == '-';
    for (int i = negative; i < DIGITS && text[i] >= '0' && text[i] <= '9'; i++)
        value = value * 10 + (text[i] - '0');
    return negative ? -value : value;
}

static void wait_for_disk(void) {
    long us = number(0);
    struct timespec time = { us / 1000000, us % 1000000 * 1000 };
    if (us)
        nanosleep(&time, 0);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*next)(clockid_t, struct timespec *);
    int result;
    if (!next)
        next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    result = next(clock, time);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += number(1);
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    (void)zone;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return result;
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
