/* Sleeps at the end of a recursion whose frames take more than is copied of a stack. */
#include "acceptor.h"

SEPARATE int descend(int left, char *above) {
    char frame[512];
    struct timespec time = {0, 500000000};
    int failed;
    frame[0] = above[0];
    STAY();
    failed = left == 0 ? nanosleep(&time, NULL) : descend(left - 1, frame);
    __asm__ volatile("" ::"r"(frame) : "memory");
    return failed;
}

int main(int count, char **arguments) {
    char first = 1;
    accept_when_told(arguments[count - 1]);
    descend(100, &first);
    tell(0, 0);
}
