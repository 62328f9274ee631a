// What the Linux personality promises to programs, asked by one: signals, processes, memory, threads, timers; what other families of
// calls promise is in the files beside this one.
//
// An ordinary static program: on Linux it passes as it is. Each test checks what Linux documents, and ends with `N passed, N failed`.
// The program starts itself again for the tests of `execve`: with an argument it is the child of one.

#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

int failures;
static const char *self;

static volatile int caught;
static volatile double number;
static volatile long caught_address;
static sigjmp_buf back;

static void on_signal(int signal) {
    caught = signal;
    number = number * 1.5 + signal;
}

static void on_value(int signal, siginfo_t *info, void *context) {
    (void)context;
    caught = signal + 1000 * info->si_value.sival_int;
}

static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    caught_address = (long)info->si_addr;
    siglongjmp(back, 1);
}

int status_of(pid_t child) {
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

static void a_handler_runs_and_vector_registers_survive_it(void) {
    signal(SIGUSR1, on_signal);
    number = 1.0;
    volatile double kept = 3.25;
    raise(SIGUSR1);
    CHECK(caught == SIGUSR1 && kept == 3.25 && number == 11.5);
}

static void queued_signals_carry_a_value(void) {
    struct sigaction action = {.sa_sigaction = on_value, .sa_flags = SA_SIGINFO};
    sigaction(SIGRTMIN, &action, NULL);
    union sigval value = {.sival_int = 9};
    CHECK(sigqueue(getpid(), SIGRTMIN, value) == 0);
    CHECK(caught == SIGRTMIN + 9000);
}

static void blocked_signals_wait_and_can_be_taken(void) {
    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    caught = 0;
    raise(SIGUSR1);
    CHECK(caught == 0);
    sigpending(&pending);
    CHECK(sigismember(&pending, SIGUSR1));
    struct timespec soon = {0, 1000000};
    CHECK(sigtimedwait(&set, NULL, &soon) == SIGUSR1);
    CHECK(sigtimedwait(&set, NULL, &soon) == -1 && errno == EAGAIN);
    raise(SIGUSR1);
    sigprocmask(SIG_SETMASK, &old, NULL);
    CHECK(caught == SIGUSR1);
}

static void faults_are_signals_with_an_address_on_another_stack(void) {
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    CHECK(sigaltstack(&stack, NULL) == 0);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
    if (!sigsetjmp(back, 1)) *(volatile int *)0x1234 = 1;
    CHECK(caught_address == 0x1234);
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[0] = 1;
    CHECK(mprotect(page, 4096, PROT_READ) == 0);
    if (!sigsetjmp(back, 1)) page[0] = 2;
    CHECK(caught_address == (long)page && page[0] == 1);
    munmap(page, 4096);
    signal(SIGSEGV, SIG_DFL);
}

static void memory_moves_grows_and_is_given_back(void) {
    const size_t large = 1 << 20;
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pages[4096] = 3;
    char *moved = mremap(pages + 4096, 4096, large, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED && moved[0] == 3);
    moved[large - 1] = 4;
    CHECK(madvise(moved, large, MADV_DONTNEED) == 0 && moved[0] == 0 && moved[large - 1] == 0);
    CHECK(munmap(moved, large) == 0 && munmap(pages, 4096) == 0);
    CHECK(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
    char *start = sbrk(0);
    CHECK(sbrk(3 << 20) == start);
    start[(3 << 20) - 1] = 1;
    CHECK(sbrk(-(3 << 20)) == start + (3 << 20) && sbrk(3 << 20) == start && start[(3 << 20) - 1] == 0);
}

static void code_that_was_written_runs(void) {
    unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(code, "\xb8\x2a\0\0\0\xc3", 6);
    CHECK(((int (*)(void))code)() == 42);
    code[1] = 43;
    CHECK(((int (*)(void))code)() == 43);
}

static void a_child_has_copies_of_private_and_shares_shared_memory(void) {
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int *own = malloc(sizeof *own);
    *own = 1;
    pid_t child = fork();
    if (child == 0) {
        *shared = 77;
        *own = 2;
        _exit(3);
    }
    int status = status_of(child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3 && *shared == 77 && *own == 1);
    CHECK(waitpid(-1, &status, 0) == -1 && errno == ECHILD);
}

static void children_pay_for_what_they_write_and_no_more(void) {
    enum { LENGTH = 100 << 20, CHILDREN = 8 };
    char *memory = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(memory, 'p', LENGTH);
    pid_t children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] == 0) {
            memory[i * 4096] = 'c';
            for (int at = 0; at < LENGTH; at += 4096) {
                if (memory[at] != (at == i * 4096 ? 'c' : 'p')) _exit(1);
            }
            raise(SIGSTOP);
            _exit(0);
        }
    }
    for (int i = 0; i < CHILDREN; i++) CHECK(waitpid(children[i], NULL, WUNTRACED) == children[i]);
    memset(memory, 'q', 1 << 20);
    for (int i = 0; i < CHILDREN; i++) {
        kill(children[i], SIGCONT);
        CHECK(status_of(children[i]) == 0);
    }
    CHECK(memory[0] == 'q' && memory[LENGTH - 1] == 'p');
    munmap(memory, LENGTH);
}

static void a_child_that_a_signal_ends_says_so(void) {
    pid_t child = fork();
    if (child == 0) raise(SIGKILL);
    int status = status_of(child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    child = fork();
    if (child == 0) *(volatile int *)8 = 1;
    status = status_of(child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void a_child_stops_and_goes_on(void) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        raise(SIGSTOP);
        // Had it ended by the time that it is waited for, its end would be told instead.
        for (;;) pause();
    }
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    kill(child, SIGCONT);
    CHECK(waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status));
    kill(child, SIGKILL);
    status = status_of(child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void a_signal_interrupts_a_sleep_and_tells_what_is_left(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGCHLD, &action, NULL);
    pid_t child = fork();
    if (child == 0) {
        usleep(20000);
        _exit(0);
    }
    struct timespec time = {5, 0}, left = {0, 0};
    CHECK(nanosleep(&time, &left) == -1 && errno == EINTR && left.tv_sec >= 3 && caught == SIGCHLD);
    status_of(child);
    signal(SIGCHLD, SIG_DFL);
}

static char *child_environment[] = {"GREETING=hello", NULL};

static void a_program_is_spawned_and_a_missing_one_is_told(void) {
    char *arguments[] = {(char *)self, "child", NULL};
    pid_t child;
    fflush(stdout);
    CHECK(posix_spawn(&child, self, NULL, NULL, arguments, child_environment) == 0);
    int status = status_of(child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    CHECK(posix_spawn(&child, "/no/such/program", NULL, NULL, arguments, child_environment) == ENOENT);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int counter;
static __thread int own_of_thread = 7;
static sem_t semaphore;

static void *count(void *argument) {
    for (int turn = 0; turn < 1000; turn++) {
        pthread_mutex_lock(&lock);
        counter++;
        pthread_mutex_unlock(&lock);
    }
    own_of_thread++;
    return argument;
}

static void *wait_for_semaphore(void *argument) {
    sem_wait(&semaphore);
    return argument;
}

static void *sleep_for_ever(void *argument) {
    for (;;) pause();
    return argument;
}

static void threads_share_memory_and_take_turns(void) {
    pthread_t threads[8];
    void *result;
    for (long index = 0; index < 8; index++) CHECK(pthread_create(&threads[index], NULL, count, (void *)index) == 0);
    for (long index = 0; index < 8; index++) {
        pthread_join(threads[index], &result);
        CHECK((long)result == index);
    }
    CHECK(counter == 8000 && own_of_thread == 7);
    sem_init(&semaphore, 0, 0);
    pthread_create(&threads[0], NULL, wait_for_semaphore, (void *)5);
    usleep(5000);
    sem_post(&semaphore);
    pthread_join(threads[0], &result);
    CHECK((long)result == 5);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 20000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    pthread_mutex_lock(&lock);
    CHECK(pthread_cond_timedwait(&changed, &lock, &until) == ETIMEDOUT);
    pthread_mutex_unlock(&lock);
    pthread_create(&threads[0], NULL, sleep_for_ever, NULL);
    usleep(2000);
    CHECK(pthread_cancel(threads[0]) == 0 && pthread_join(threads[0], &result) == 0 && result == PTHREAD_CANCELED);
}

static void timers_send_signals(void) {
    sigset_t set, old;
    // Caught: on a slow machine the timer may fire once more before it is deleted.
    signal(SIGUSR2, on_signal);
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, &old);
    struct timespec long_enough = {10, 0};
    struct itimerval once = {{0, 0}, {0, 10000}};
    setitimer(ITIMER_REAL, &once, NULL);
    CHECK(sigtimedwait(&set, NULL, &long_enough) == SIGALRM);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 6};
    struct itimerspec often = {{0, 5000000}, {0, 5000000}};
    timer_t timer;
    siginfo_t info;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &often, NULL) == 0);
    for (int turn = 0; turn < 3; turn++)
        CHECK(sigtimedwait(&set, &info, &long_enough) == SIGUSR2 && info.si_code == SI_TIMER && info.si_value.sival_int == 6);
    CHECK(timer_delete(timer) == 0);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static void a_lock_survives_the_end_of_its_holder(void) {
    pthread_mutex_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(shared, &attributes);
    pid_t child = fork();
    if (child == 0) {
        pthread_mutex_lock(shared);
        _exit(0);
    }
    status_of(child);
    CHECK(pthread_mutex_lock(shared) == EOWNERDEAD);
    CHECK(pthread_mutex_consistent(shared) == 0 && pthread_mutex_unlock(shared) == 0);
}

static void all_threads_end_with_their_process(void) {
    pthread_t thread;
    pid_t child = fork();
    if (child == 0) {
        pthread_create(&thread, NULL, sleep_for_ever, NULL);
        usleep(1000);
        _exit(9);
    }
    int status = status_of(child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 9);
    child = fork();
    if (child == 0) {
        char *arguments[] = {(char *)self, "child", NULL};
        pthread_create(&thread, NULL, sleep_for_ever, NULL);
        usleep(1000);
        execve(self, arguments, child_environment);
        _exit(1);
    }
    status = status_of(child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
}

static void bad_addresses_are_errors(void) {
    void *bad[] = {(void *)8, (void *)0x7effffffffff, (void *)0x7f0000000000, (void *)0xffffffff80200000, (void *)-1};
    for (size_t index = 0; index < sizeof bad / sizeof *bad; index++) {
        CHECK(syscall(SYS_write, 1, bad[index], 1) == -1 && errno == EFAULT);
        CHECK(syscall(SYS_uname, bad[index]) == -1 && errno == EFAULT);
        CHECK(syscall(SYS_futex, (long)bad[index] & ~3L, 0, 0, NULL, NULL, 0) == -1 && errno == EFAULT);
        CHECK(syscall(SYS_rt_sigaction, SIGUSR1, bad[index], NULL, 8) == -1 && errno == EFAULT);
        CHECK(syscall(SYS_execve, bad[index], NULL, NULL) == -1 && errno == EFAULT);
    }
    CHECK(syscall(100000) == -1 && errno == ENOSYS);
}

static const struct test own_tests[] = {
    TEST(a_handler_runs_and_vector_registers_survive_it),
    TEST(queued_signals_carry_a_value),
    TEST(blocked_signals_wait_and_can_be_taken),
    TEST(faults_are_signals_with_an_address_on_another_stack),
    TEST(memory_moves_grows_and_is_given_back),
    TEST(code_that_was_written_runs),
    TEST(a_child_has_copies_of_private_and_shares_shared_memory),
    TEST(children_pay_for_what_they_write_and_no_more),
    TEST(a_child_that_a_signal_ends_says_so),
    TEST(a_child_stops_and_goes_on),
    TEST(a_signal_interrupts_a_sleep_and_tells_what_is_left),
    TEST(a_program_is_spawned_and_a_missing_one_is_told),
    TEST(threads_share_memory_and_take_turns),
    TEST(timers_send_signals),
    TEST(a_lock_survives_the_end_of_its_holder),
    TEST(all_threads_end_with_their_process),
    TEST(bad_addresses_are_errors),
    END,
};

static const struct test *const families[] = {own_tests,   ipc_tests,  event_tests, trace_tests,
                                              time_tests, file_tests, edge_tests,  net_tests};

int main(int count_of_arguments, char **arguments) {
    if (count_of_arguments > 1) {
        const char *greeting = getenv("GREETING");
        return strcmp(arguments[1], "child") == 0 && greeting && strcmp(greeting, "hello") == 0 ? 42 : 1;
    }
    self = arguments[0];
    int passed = 0, failed = 0;
    for (size_t family = 0; family < sizeof families / sizeof *families; family++) {
        for (const struct test *test = families[family]; test->name; test++) {
            int before = failures;
            test->run();
            int good = failures == before;
            printf("test %s ... %s\n", test->name, good ? "ok" : "FAILED");
            fflush(stdout);
            passed += good;
            failed += !good;
        }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
