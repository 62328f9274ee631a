// That the clocks which vdso(7) tells without a call are those that calls tell.

#define _GNU_SOURCE
#include <elf.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
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

static volatile sig_atomic_t came[65];

static void count_signal(int signal) {
    came[signal]++;
}

// Works until a signal came so often; answers how much processor time it took, in nanoseconds, or -1 if it took too much.
static long long work_until(int signal, int count) {
    long long begun = now(CLOCK_PROCESS_CPUTIME_ID, 1);
    while (came[signal] < count)
        for (volatile int step = 0; step < 100000; step++)
            if (step == 0 && now(CLOCK_PROCESS_CPUTIME_ID, 1) - begun > 5000000000LL)
                return -1;
    return now(CLOCK_PROCESS_CPUTIME_ID, 1) - begun;
}

static void timers_of_processor_time_fire_by_work_alone(void) {
    int signals[] = {SIGVTALRM, SIGPROF, SIGUSR1, SIGUSR2};
    for (size_t index = 0; index < sizeof signals / sizeof *signals; index++)
        signal(signals[index], count_signal);
    struct itimerval interval = {{0, 0}, {0, 30000}}, left;
    CHECK(setitimer(ITIMER_PROF, &interval, NULL) == 0);
    struct timespec nap = {0, 120000000};
    CHECK(nanosleep(&nap, NULL) == 0 && came[SIGPROF] == 0);
    CHECK(getitimer(ITIMER_PROF, &left) == 0 && left.it_value.tv_sec == 0 && left.it_value.tv_usec > 0);
    long long took = work_until(SIGPROF, 1);
    CHECK(took >= 15000000 && took < 2000000000);
    CHECK(getitimer(ITIMER_PROF, &left) == 0 && left.it_value.tv_usec == 0);
    interval.it_interval = interval.it_value;
    CHECK(setitimer(ITIMER_VIRTUAL, &interval, NULL) == 0);
    CHECK(work_until(SIGVTALRM, 2) >= 0);
    interval = (struct itimerval){{0, 0}, {0, 0}};
    CHECK(setitimer(ITIMER_VIRTUAL, &interval, NULL) == 0);
    clockid_t clocks[] = {CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
    for (int index = 0; index < 2; index++) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = signals[2 + index]};
        timer_t timer;
        struct itimerspec when = {{0, 0}, {0, 30000000}}, rest;
        CHECK(timer_create(clocks[index], &event, &timer) == 0 && timer_settime(timer, 0, &when, NULL) == 0);
        CHECK(timer_gettime(timer, &rest) == 0 && rest.it_value.tv_nsec > 0 && rest.it_value.tv_nsec <= 30000000);
        CHECK(work_until(signals[2 + index], 1) >= 15000000);
        // At a time that has been used already: at once.
        when.it_value.tv_nsec = 1;
        CHECK(timer_settime(timer, TIMER_ABSTIME, &when, NULL) == 0 && work_until(signals[2 + index], 2) >= 0);
        CHECK(timer_delete(timer) == 0);
    }
    CHECK(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &nap, NULL) != 0);
    struct timespec used = {0, 1};
    CHECK(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, &used, NULL) == 0);
    for (size_t index = 0; index < sizeof signals / sizeof *signals; index++)
        signal(signals[index], SIG_DFL);
}

static void a_limit_of_processor_time_warns_and_then_ends(void) {
    pid_t child = fork();
    if (child == 0) {
        signal(SIGXCPU, count_signal);
        struct rlimit limit = {1, 2}, found;
        if (setrlimit(RLIMIT_CPU, &limit) != 0 || getrlimit(RLIMIT_CPU, &found) != 0 || found.rlim_cur != 1)
            _exit(1);
        while (!came[SIGXCPU])
            ;
        long long used = now(CLOCK_PROCESS_CPUTIME_ID, 1);
        // Each second is warned of again, so that the limit has grown by one.
        if (used < 900000000 || used > 2000000000 || getrlimit(RLIMIT_CPU, &found) != 0 || found.rlim_cur != 2)
            _exit(2);
        for (;;)
            ;
    }
    int status = status_of(child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    // A child has its maker's limit, and time of its own.
    child = fork();
    if (child == 0) {
        struct rlimit limit = {1, RLIM_INFINITY};
        setrlimit(RLIMIT_CPU, &limit);
        pid_t grandchild = fork();
        if (grandchild == 0)
            for (;;)
                ;
        int status = status_of(grandchild);
        _exit(WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU ? 0 : 1);
    }
    CHECK(status_of(child) == 0);
}

const struct test time_tests[] = {
    TEST(the_code_that_tells_the_time_is_there),
    TEST(clocks_are_the_same_with_and_without_a_call),
    TEST(a_short_sleep_takes_the_slack_of_timers_along),
    TEST(timers_of_processor_time_fire_by_work_alone),
    TEST(a_limit_of_processor_time_warns_and_then_ends),
    END,
};
