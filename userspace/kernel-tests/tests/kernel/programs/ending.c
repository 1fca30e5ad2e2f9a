/* Sleeps in a function that another has called, and ends. */
#include "acceptor.h"

SEPARATE void flush_all(void) {
    struct timespec time = {0, 400000000};
    nanosleep(&time, NULL);
    STAY();
}

SEPARATE void shut_down(void) {
    flush_all();
    STAY();
}

int main(int count, char **arguments) {
    accept_when_told(arguments[count - 1]);
    shut_down();
    return 0;
}
