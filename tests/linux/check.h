// What the files of this program share: a check that tells its line, and the lists of tests.

#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>

extern int failures;

#define CHECK(condition)                                                                                   \
    do {                                                                                                   \
        if (!(condition)) {                                                                                \
            printf("  %s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);                     \
            failures++;                                                                                    \
        }                                                                                                  \
    } while (0)

// That a call is refused with this error.
#define REFUSED(call, error) CHECK((call) == -1 && errno == (error))

struct test {
    const char *name;
    void (*run)(void);
};

#define TEST(name) {#name, name}
// Ends a list of tests.
#define END {NULL, NULL}

extern const struct test ipc_tests[], event_tests[], trace_tests[], time_tests[], file_tests[], edge_tests[],
    net_tests[];

// The status of a child, once it has ended.
int status_of(pid_t child);

#endif
