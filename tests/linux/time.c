// That the clocks which vdso(7) tells without a call are those that calls tell.

#define _GNU_SOURCE
#include <elf.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static long long now(clockid_t clock, int by_call) {
    struct timespec time = {0, 0};
    CHECK((by_call ? syscall(SYS_clock_gettime, clock, &time) : clock_gettime(clock, &time)) == 0);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void the_code_that_tells_the_time_is_there(void) {
    const unsigned char *head = (const unsigned char *)getauxval(AT_SYSINFO_EHDR);
    CHECK(head != NULL && memcmp(head, ELFMAG, SELFMAG) == 0 && head[EI_CLASS] == ELFCLASS64);
}

static void clocks_are_the_same_with_and_without_a_call(void) {
    clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME};
    for (size_t index = 0; index < sizeof clocks / sizeof *clocks; index++) {
        long long first = now(clocks[index], 1), second = now(clocks[index], 0), third = now(clocks[index], 1);
        CHECK(first <= second && second <= third);
    }
    long long last = 0;
    for (int count = 0; count < 10000; count++) {
        long long next = now(CLOCK_MONOTONIC, 0);
        CHECK(next >= last);
        last = next;
    }
    struct timeval day;
    CHECK(gettimeofday(&day, NULL) == 0 && day.tv_usec < 1000000);
    long long difference = now(CLOCK_REALTIME, 1) / 1000 - (day.tv_sec * 1000000LL + day.tv_usec);
    CHECK(difference >= 0 && difference < 60000000);
    time_t seconds = 0;
    CHECK(time(&seconds) == seconds && seconds >= day.tv_sec);
    CHECK(now(CLOCK_PROCESS_CPUTIME_ID, 0) > 0 && now(CLOCK_THREAD_CPUTIME_ID, 0) > 0);
    struct timespec none;
    CHECK(clock_gettime(99, &none) == -1 && errno == EINVAL);
}

static void a_short_sleep_takes_the_slack_of_timers_along(void) {
    int before = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
    CHECK(before == 50000 && prctl(PR_SET_TIMERSLACK, 3000000, 0, 0, 0) == 0);
    struct timespec little = {0, 1000};
    unsigned word = 0;
    long long begun = now(CLOCK_MONOTONIC, 1);
    for (int count = 0; count < 5; count++)
        CHECK(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &little, NULL, 0) == -1 && errno == ETIMEDOUT);
    CHECK(nanosleep(&little, NULL) == 0 && now(CLOCK_MONOTONIC, 1) - begun >= 6 * 3000000);
    CHECK(prctl(PR_SET_TIMERSLACK, 0, 0, 0, 0) == 0 && prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) == before);
}

const struct test time_tests[] = {
    TEST(the_code_that_tells_the_time_is_there),
    TEST(clocks_are_the_same_with_and_without_a_call),
    TEST(a_short_sleep_takes_the_slack_of_timers_along),
    END,
};
