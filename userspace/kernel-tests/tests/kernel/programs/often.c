/* Sleeps very often in one function and long in another, at the same place in the kernel, and says how long in each. */
#include "acceptor.h"
#include <fcntl.h>

/* How long this thread has waited for a CPU so far, as the kernel says: that is no sleep. */
static uint64_t runnable_ns(void) {
    static int file = -1;
    unsigned long long waited = 0;
    char text[128] = {0};
    if (file < 0) {
        file = open("/proc/self/schedstat", O_RDONLY | O_CLOEXEC);
    }
    if (file < 0 || pread(file, text, sizeof text - 1, 0) <= 0 || sscanf(text, "%*u %llu", &waited) != 1) {
        perror("/proc/self/schedstat");
        exit(1);
    }
    return waited;
}

SEPARATE uint64_t nap(long us) {
    struct timespec time = {0, us * 1000};
    uint64_t waited = runnable_ns(), begin = clock_ns(CLOCK_MONOTONIC), end;
    nanosleep(&time, NULL);
    STAY();
    end = clock_ns(CLOCK_MONOTONIC);
    return end - begin - (runnable_ns() - waited);
}

SEPARATE uint64_t poll_device(void) {
    uint64_t slept = nap(100);
    STAY();
    return slept;
}

SEPARATE uint64_t wait_for_peer(void) {
    uint64_t slept = nap(10000);
    STAY();
    return slept;
}

int main(int count, char **arguments) {
    uint64_t often = 0, seldom = 0;
    accept_when_told(arguments[count - 1]);
    for (int round = 0; round < 300; round++) {
        for (int time = 0; time < 40; time++) {
            often += poll_device();
        }
        seldom += wait_for_peer();
    }
    tell(often, seldom);
}
