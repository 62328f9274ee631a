// Programs that use up what there is: memory, processes, threads, descriptors, names, signals.
//
// An ordinary static program. Each test does its harm in a child and must be refused with an error that Linux documents, or ended by SIGKILL for want
// of memory; afterwards the system must be as good as before. It is meant for a machine with little memory. The last line is
// `N passed, N failed`.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// What a child ends with when an expectation did not hold; the line goes to the console.
#define EXPECT(condition)                                                                                  \
    do {                                                                                                   \
        if (!(condition)) {                                                                                \
            dprintf(1, "  line %d: %s (errno %d)\n", __LINE__, #condition, errno);                         \
            _exit(1);                                                                                      \
        }                                                                                                  \
    } while (0)

static const char *self;

// Whether an error says that there is no more of something.
static int is_refusal(int error) {
    return error == ENOMEM || error == EAGAIN || error == EMFILE || error == ENFILE || error == ENOSPC || error == ENOBUFS;
}

// As many descriptors as may be had.
static void raise_descriptors(void) {
    struct rlimit limit;
    EXPECT(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

static void processes(void) {
    EXPECT(setpgid(0, 0) == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    int made = 0;
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            // Each goes on making more until it is refused.
            while (fork() > 0);
            pause();
            _exit(0);
        }
        if (child < 0) {
            EXPECT(is_refusal(errno));
            break;
        }
        made++;
    }
    EXPECT(made > 0);
    signal(SIGTERM, SIG_IGN);
    kill(0, SIGTERM);
    while (waitpid(-1, 0, WNOHANG) > 0);
    EXPECT(errno == 0 || errno == ECHILD || errno == EAGAIN || errno == ENOMEM);
    // The rest of the group ends with this one's SIGKILL.
    kill(0, SIGKILL);
}

static void touched_memory(void) {
    for (;;) {
        size_t size = 64 << 20;
        char *memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) {
            EXPECT(errno == ENOMEM);
            return;
        }
        for (size_t at = 0; at < size; at += 4096) memory[at] = 1;
    }
}

static void memory_that_calls_fill(void) {
    int zero = open("/dev/zero", O_RDONLY);
    for (;;) {
        size_t size = 16 << 20;
        char *memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED || read(zero, memory, size) < 0) {
            EXPECT(errno == ENOMEM || errno == EFAULT);
            return;
        }
    }
}

static void shared_memory(void) {
    int file = memfd_create("large", 0);
    EXPECT(file >= 0);
    static char page[1 << 16];
    memset(page, 1, sizeof page);
    while (write(file, page, sizeof page) > 0);
    EXPECT(is_refusal(errno) || errno == EFBIG);
}

static void large_file(void) {
    int file = open("/tmp/large", O_RDWR | O_CREAT | O_TRUNC, 0600);
    EXPECT(file >= 0 && unlink("/tmp/large") == 0);
    static char page[1 << 16];
    memset(page, 1, sizeof page);
    while (write(file, page, sizeof page) > 0);
    EXPECT(is_refusal(errno));
}

static void many_mappings(void) {
    long made = 0;
    // Neighbours with another protection do not merge.
    for (;; made++) {
        int protection = made % 2 ? PROT_READ : PROT_NONE;
        if (mmap(0, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) break;
    }
    EXPECT(errno == ENOMEM && made > 100);
}

static void descriptors(void) {
    raise_descriptors();
    long made = 0;
    while (eventfd(0, 0) >= 0) made++;
    EXPECT(is_refusal(errno) && made > 1000);
    // One can be had again once some are closed.
    for (int descriptor = 100; descriptor < 600; descriptor++) EXPECT(close(descriptor) == 0);
    EXPECT(eventfd(0, 0) == 100);
}

static void full_pipes(void) {
    raise_descriptors();
    static char bytes[1 << 16];
    long made = 0;
    int ends[2];
    while (pipe2(ends, O_NONBLOCK) == 0) {
        ssize_t written = write(ends[1], bytes, sizeof bytes);
        if (written < 0) break;
        made++;
    }
    EXPECT(is_refusal(errno) && made > 20);
}

static void full_sockets(void) {
    raise_descriptors();
    static char bytes[1 << 16];
    long made = 0;
    int ends[2];
    while (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0) {
        while (write(ends[0], bytes, sizeof bytes) > 0);
        EXPECT(is_refusal(errno));
        if (errno != EAGAIN) break;
        made++;
    }
    EXPECT(is_refusal(errno) && made > 5);
}

// Answers of the network that nobody takes.
static void unread_answers(void) {
    raise_descriptors();
    struct {
        struct nlmsghdr head;
        struct ifinfomsg link;
    } question = {.head = {sizeof question, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}};
    long made = 0;
    for (;;) {
        int one = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_ROUTE);
        if (one < 0) break;
        // What finds no room is lost, and that is told.
        char answer[64];
        for (int asked = 0; asked < 400; asked++)
            if (send(one, &question, sizeof question, 0) < 0) break;
        EXPECT(recv(one, answer, sizeof answer, 0) < 0 && errno == ENOBUFS);
        if (made++ > 3000) break;
    }
    EXPECT(is_refusal(errno) && made > 5);
}

static void sockets_in_sockets(void) {
    // Each pair is sent over the one before and closed: only the kernel knows of them.
    int ends[2], next[2];
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    for (int depth = 0; depth < 20000; depth++) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, next) != 0) {
            EXPECT(is_refusal(errno));
            return;
        }
        char room[CMSG_SPACE(2 * sizeof(int))] = {0}, byte = 0;
        struct iovec piece = {&byte, 1};
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
        struct cmsghdr *control = CMSG_FIRSTHDR(&message);
        control->cmsg_level = SOL_SOCKET, control->cmsg_type = SCM_RIGHTS, control->cmsg_len = CMSG_LEN(2 * sizeof(int));
        memcpy(CMSG_DATA(control), ends, sizeof ends);
        if (sendmsg(next[0], &message, 0) != 1) {
            EXPECT(is_refusal(errno) || errno == ETOOMANYREFS);
            return;
        }
        close(ends[0]), close(ends[1]);
        memcpy(ends, next, sizeof ends);
    }
}

static void deep_directory(void) {
    EXPECT(mkdir("/tmp/deep", 0700) == 0 && chdir("/tmp/deep") == 0);
    int depth = 0;
    while (depth < 5000 && mkdir("d", 0700) == 0 && chdir("d") == 0) depth++;
    EXPECT(depth == 5000 || is_refusal(errno));
    char path[4096];
    if (depth > 2048) EXPECT(getcwd(path, sizeof path) == 0 && (errno == ERANGE || errno == ENAMETOOLONG));
    while (depth-- > 0) EXPECT(chdir("..") == 0 && rmdir("d") == 0);
    EXPECT(chdir("/") == 0 && rmdir("/tmp/deep") == 0);
}

static void many_files(void) {
    EXPECT(mkdir("/tmp/many", 0700) == 0 && chdir("/tmp/many") == 0);
    char name[256];
    long made = 0;
    for (;; made++) {
        snprintf(name, sizeof name, "%0200ld", made);
        int file = open(name, O_WRONLY | O_CREAT, 0600);
        if (file < 0) break;
        close(file);
    }
    EXPECT(is_refusal(errno) && made > 1000);
    while (made-- > 0) {
        snprintf(name, sizeof name, "%0200ld", made);
        EXPECT(unlink(name) == 0);
    }
    EXPECT(chdir("/") == 0 && rmdir("/tmp/many") == 0);
}

static void long_arguments(void) {
    enum { COUNT = 12000 };
    static char text[101];
    static char *arguments[COUNT + 3], *none[] = {0};
    memset(text, 'x', 100);
    arguments[0] = (char *)self, arguments[1] = "count";
    for (int index = 2; index < COUNT + 2; index++) arguments[index] = text;
    pid_t child = fork();
    if (child == 0) {
        execve(self, arguments, none);
        _exit(is_refusal(errno) ? 42 : 1);
    }
    int status;
    EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 42);
    // More than a quarter of the stack's limit.
    static char *many[60000];
    for (int index = 0; index < 59999; index++) many[index] = text;
    EXPECT(execve(self, many, none) < 0 && (errno == E2BIG || errno == ENOMEM));
    // One text of more than 32 pages.
    static char large[200000];
    memset(large, 'x', sizeof large - 1);
    char *one[] = {large, 0};
    EXPECT(execve(self, one, none) < 0 && (errno == E2BIG || errno == ENOMEM));
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void *wait_at_gate(void *argument) {
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    return argument;
}

static void threads(void) {
    enum { MOST = 20000 };
    static pthread_t all[MOST];
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 16384);
    pthread_mutex_lock(&gate);
    int made = 0, error = 0;
    while (made < MOST && (error = pthread_create(&all[made], &small, wait_at_gate, 0)) == 0) made++;
    EXPECT(made > 50 && (made == MOST || is_refusal(error)));
    pthread_mutex_unlock(&gate);
    while (made-- > 0) EXPECT(pthread_join(all[made], 0) == 0);
}

static volatile sig_atomic_t seen;

static void count_signal(int signal) {
    (void)signal;
    seen++;
}

static void signals(void) {
    // Queued ones have a limit.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    EXPECT(sigprocmask(SIG_BLOCK, &set, 0) == 0);
    long queued = 0;
    while (queued < 1000000 && sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0) queued++;
    EXPECT(queued < 1000000 && errno == EAGAIN);
    long taken = 0;
    struct timespec now = {0};
    while (sigtimedwait(&set, 0, &now) == SIGRTMIN) taken++;
    EXPECT(taken == queued);
    // Four processes send all they can to one that handles them.
    signal(SIGUSR1, count_signal);
    pid_t target = getpid(), senders[4];
    for (int index = 0; index < 4; index++) {
        senders[index] = fork();
        if (senders[index] == 0) {
            for (int count = 0; count < 5000; count++) kill(target, SIGUSR1);
            _exit(0);
        }
    }
    for (int index = 0; index < 4; index++) {
        int status;
        while (waitpid(senders[index], &status, 0) < 0) EXPECT(errno == EINTR);
        EXPECT(status == 0);
    }
    EXPECT(seen > 0);
    // Timers are limited too.
    long made = 0;
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    while (made < 100000 && timer_create(CLOCK_MONOTONIC, &event, &timer) == 0) made++;
    EXPECT(made > 100 && made < 100000 && errno == EAGAIN);
}

static void polled(void) {
    raise_descriptors();
    int one = eventfd(0, 0);
    long made = 0;
    for (;; made++) {
        int poll = epoll_create1(0);
        struct epoll_event event = {.events = EPOLLIN};
        if (poll < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, one, &event) < 0) break;
    }
    EXPECT(is_refusal(errno) && made > 100);
}

// Whether the system is as good as before.
static int is_sound(void) {
    int ends[2], status;
    if (pipe(ends) != 0) return 0;
    pid_t child = fork();
    if (child < 0) return 0;
    if (child == 0) {
        char *memory = malloc(1 << 20);
        if (!memory) _exit(1);
        memset(memory, 1, 1 << 20);
        _exit(write(ends[1], "x", 1) == 1 ? 7 : 1);
    }
    char byte = 0;
    int good = read(ends[0], &byte, 1) == 1 && byte == 'x';
    good &= waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7;
    close(ends[0]), close(ends[1]);
    return good;
}

static const struct {
    const char *name;
    void (*harm)(void);
    // Whether it may be ended for want of memory.
    int may_be_killed;
} tests[] = {
    {"a_bomb_of_processes", processes, 1},
    {"all_memory_touched", touched_memory, 1},
    {"all_memory_filled_by_calls", memory_that_calls_fill, 1},
    {"all_memory_in_a_nameless_file", shared_memory, 1},
    {"all_memory_in_a_file", large_file, 1},
    {"as_many_mappings_as_can_be", many_mappings, 1},
    {"as_many_descriptors_as_can_be", descriptors, 0},
    {"pipes_full_of_bytes", full_pipes, 0},
    {"sockets_full_of_bytes", full_sockets, 0},
    {"answers_that_nobody_takes", unread_answers, 0},
    {"sockets_sent_over_sockets", sockets_in_sockets, 0},
    {"a_deep_directory", deep_directory, 0},
    {"as_many_files_as_can_be", many_files, 0},
    {"long_arguments", long_arguments, 0},
    {"as_many_threads_as_can_be", threads, 1},
    {"a_storm_of_signals", signals, 0},
    {"as_many_pollers_as_can_be", polled, 0},
};

int main(int count_of_arguments, char **arguments) {
    if (count_of_arguments > 2 && strcmp(arguments[1], "count") == 0) return count_of_arguments == 12002 ? 42 : 1;
    self = arguments[0];
    int passed = 0, failed = 0;
    for (size_t index = 0; index < sizeof tests / sizeof *tests; index++) {
        if (count_of_arguments > 1 && !strstr(tests[index].name, arguments[1])) continue;
        pid_t child = fork();
        if (child == 0) {
            tests[index].harm();
            _exit(0);
        }
        int status = -1;
        int good = waitpid(child, &status, 0) == child;
        int was_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        good &= status == 0 || (was_killed && tests[index].may_be_killed);
        // What the harm took may be given back a moment later.
        int sound = 0;
        for (int attempt = 0; attempt < 100 && !(sound = is_sound()); attempt++) usleep(50000);
        printf("test %s ... %s%s\n", tests[index].name, good && sound ? "ok" : "FAILED", was_killed ? " (killed)" : "");
        if (!(good && sound)) printf("  status %#x, sound %d\n", status, sound);
        fflush(stdout);
        passed += good && sound;
        failed += !(good && sound);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
