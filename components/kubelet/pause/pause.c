/* The process that holds a pod's namespaces. It has no libc: three system calls are all it needs. Children that it
 * inherits (shared process namespace) are reaped by the kernel, because SIGCHLD is ignored. It ends on SIGTERM and
 * SIGINT, which process 1 of a namespace only gets with a handler. */

#if defined(__x86_64__)
#define NR_rt_sigaction 13
#define NR_pause 34
#define NR_exit_group 231
#define SA_RESTORER 0x04000000
static long call(long number, long a, long b, long c, long d) {
    register long r10 __asm__("r10") = d;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
#define NR_rt_sigaction 134
#define NR_ppoll 73
#define NR_exit_group 94
#define SA_RESTORER 0
static long call(long number, long a, long b, long c, long d) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
#else
#error "no system calls known for this processor"
#endif

#define SIGINT 2
#define SIGTERM 15
#define SIGCHLD 17

struct kernel_sigaction {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    unsigned long mask;
};

static void end(int signal) {
    (void)signal;
    call(NR_exit_group, 0, 0, 0, 0);
}

static void set(int signal, void (*handler)(int)) {
    /* The handler never returns, so the restorer is never called; x86-64 demands one all the same. */
    struct kernel_sigaction action = {handler, SA_RESTORER, (void (*)(void))end, 0};
    call(NR_rt_sigaction, signal, (long)&action, 0, sizeof(action.mask));
}

void _start(void) {
    set(SIGCHLD, (void (*)(int))1);
    set(SIGINT, end);
    set(SIGTERM, end);
    for (;;) {
#if defined(__x86_64__)
        call(NR_pause, 0, 0, 0, 0);
#else
        call(NR_ppoll, 0, 0, 0, 0);
#endif
    }
}
