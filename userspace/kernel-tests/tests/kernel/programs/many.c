/* Sleeps once on each of 1024 different stacks. */
#include "acceptor.h"
#include <pthread.h>
#include <sys/syscall.h>

/* In place, since a function of the C library may keep no frame pointer. */
static inline void nap(void) {
    struct timespec time = {0, 1000000};
#if defined(__x86_64__)
    long result = SYS_nanosleep;
    __asm__ volatile("syscall" : "+a"(result) : "D"(&time), "S"(0) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long number __asm__("x8") = SYS_nanosleep;
    register long first __asm__("x0") = (long)&time;
    register long second __asm__("x1") = 0;
    __asm__ volatile("svc 0" : "+r"(first) : "r"(number), "r"(second) : "memory");
#else
#error "which system call?"
#endif
}

SEPARATE void left(int bits, int levels);
SEPARATE void right(int bits, int levels);

static inline void turn(int bits, int levels) {
    if (levels == 0) {
        nap();
    } else if (bits & 1) {
        right(bits >> 1, levels - 1);
    } else {
        left(bits >> 1, levels - 1);
    }
    STAY();
}

void left(int bits, int levels) {
    turn(bits, levels);
    STAY();
}

void right(int bits, int levels) {
    turn(bits, levels);
    STAY();
}

static void *sleeps(void *arguments) {
    accept_when_told(arguments);
    for (int bits = 0; bits < 1024; bits++) {
        turn(bits, 10);
    }
    tell(0, 0);
    return NULL;
}

/* In a thread: the C library's functions before main keep no frame pointers, and are more than one. */
int main(int count, char **arguments) {
    pthread_t thread;
    pthread_create(&thread, NULL, sleeps, arguments[count - 1]);
    pthread_join(thread, NULL);
}
