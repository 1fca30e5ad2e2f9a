/* Sleeps and computes in functions that others have called, five times each. */
#include "acceptor.h"

static volatile uint64_t sum;

SEPARATE int wait_for_disk(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    int failed = nanosleep(&time, NULL);
    STAY();
    return failed;
}

SEPARATE int write_journal(long ms) {
    int failed = wait_for_disk(ms);
    STAY();
    return failed;
}

SEPARATE void add_prices(uint64_t cpu_ns) {
    uint64_t until = clock_ns(CLOCK_THREAD_CPUTIME_ID) + cpu_ns;
    do {
        for (unsigned n = 0; n < 200000; n++) {
            sum = sum * 31 + n;
        }
    } while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < until);
}

SEPARATE void total_order(uint64_t cpu_ns) {
    add_prices(cpu_ns);
    STAY();
}

SEPARATE int handle_order(void) {
    total_order(60000000);
    int failed = write_journal(100);
    STAY();
    return failed;
}

int main(int count, char **arguments) {
    accept_when_told(arguments[count - 1]);
    for (int round = 0; round < 5; round++) {
        handle_order();
    }
    tell(sum, 0);
}
