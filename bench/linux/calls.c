/* What small system calls and processes cost: run as it is on Tessera in each placement, and on Linux beside it.
 *
 * A figure is the least of several batches, in ticks of the time stamp counter; where QEMU counts, one tick is one instruction.
 * `calls` prints lines `bench NAME VALUE ticks`; `calls nothing` ends at once, which is what fork-exec-wait starts. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

static const char *self;
static int zero, to[2], from[2];

static void getppid_once(void) { syscall(SYS_getppid); }

static void read_once(void) {
    char byte;
    if (read(zero, &byte, 1) != 1) _exit(1);
}

static void round_trip(void) {
    char byte = 1;
    if (write(to[1], &byte, 1) != 1 || read(from[0], &byte, 1) != 1) _exit(1);
}

static void fork_exec_wait(void) {
    pid_t child = fork();
    if (child == 0) {
        execl(self, self, "nothing", (char *)0);
        _exit(1);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status != 0) _exit(1);
}

/* Sends back what comes, until nothing does. */
static pid_t start_echo(void) {
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(to[1]);
        while (read(to[0], &byte, 1) == 1 && write(from[1], &byte, 1) == 1) {}
        _exit(0);
    }
    return child;
}

static void stop_echo(pid_t child) {
    close(to[1]);
    waitpid(child, 0, 0);
    close(to[0]);
    close(from[0]);
    close(from[1]);
}

static void measure(const char *name, void (*once)(void), unsigned batches, unsigned times) {
    uint64_t least = UINT64_MAX;
    for (unsigned batch = 0; batch < batches; batch++) {
        uint64_t begin = __rdtsc();
        for (unsigned time = 0; time < times; time++) once();
        uint64_t took = (__rdtsc() - begin) / times;
        if (took < least) least = took;
    }
    printf("bench %s %llu ticks\n", name, (unsigned long long)least);
}

int main(int count, char **arguments) {
    uint64_t first = __rdtsc();
    if (count > 1) return 0;
    self = "/proc/self/exe";
    printf("bench boot-to-program %llu ticks\n", (unsigned long long)first);
    zero = open("/dev/zero", O_RDONLY);
    measure("getppid", getppid_once, 10, 1000);
    measure("read-1-byte", read_once, 10, 1000);
    if (pipe(to) || pipe(from)) return 1;
    pid_t child = start_echo();
    measure("pipe-round-trip", round_trip, 5, 200);
    stop_echo(child);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, to) || socketpair(AF_UNIX, SOCK_STREAM, 0, from)) return 1;
    child = start_echo();
    measure("socket-round-trip", round_trip, 5, 200);
    stop_echo(child);
    measure("fork-exec-wait", fork_exec_wait, 3, 10);
    fflush(stdout);
    (void)arguments;
    return 0;
}
