/* What the programs of these tests share: a listener that one thread accepts from, when it is told to. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SEPARATE __attribute__((noinline, noclone))
/* The call before it is no tail call. */
#define STAY() __asm__ volatile("" ::: "memory")

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Listens, says so, waits for a line, and accepts once. */
static int accept_when_told(const char *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    char line[16];
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) {
        perror("listen");
        exit(1);
    }
    puts("ready");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) {
        exit(1);
    }
    return accept(listener, NULL, NULL);
}

/* Says what was measured, and waits to be ended. */
static void tell(uint64_t first, uint64_t second) {
    printf("%llu %llu\n", (unsigned long long)first, (unsigned long long)second);
    fflush(stdout);
    for (;;) {
        pause();
    }
}
