// What inotify(7), pidfd_open(2), and epoll(7) of unix(7) promise.

#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static char folder[] = "/tmp/eventsXXXXXX";
static char event_space[4096] __attribute__((aligned(8)));

// Whether the next event is this one, and where it ends.
static const char *expect(const char *at, const char *end, int watch, unsigned mask, const char *name) {
    if (at + sizeof(struct inotify_event) > end) {
        printf("  no event where %x of %s was expected\n", mask, name ? name : "itself");
        failures++;
        return end;
    }
    const struct inotify_event *event = (const void *)at;
    if (event->wd != watch || event->mask != mask || strcmp(name ? name : "", event->len ? event->name : "")) {
        printf("  event %x of %s where %x of %s was expected\n", event->mask, event->len ? event->name : "itself", mask,
               name ? name : "itself");
        failures++;
    }
    return at + sizeof *event + event->len;
}

static const char *read_events(int watcher) {
    ssize_t got = read(watcher, event_space, sizeof event_space);
    return event_space + (got < 0 ? 0 : got);
}

static void names_that_change_are_told(void) {
    CHECK(mkdtemp(folder) != NULL);
    int watcher = inotify_init1(IN_NONBLOCK);
    int watch = inotify_add_watch(watcher, folder, IN_ALL_EVENTS);
    CHECK(watcher >= 0 && watch == 1);
    CHECK(read(watcher, event_space, sizeof event_space) == -1 && errno == EAGAIN);
    char path[PATH_MAX], moved[PATH_MAX];
    snprintf(path, sizeof path, "%s/a", folder);
    snprintf(moved, sizeof moved, "%s/b", folder);
    int file = open(path, O_CREAT | O_RDWR, 0600);
    CHECK(write(file, "text", 4) == 4);
    close(file);
    CHECK(rename(path, moved) == 0 && chmod(moved, 0400) == 0 && unlink(moved) == 0);
    struct pollfd ready = {.fd = watcher, .events = POLLIN};
    CHECK(poll(&ready, 1, 0) == 1 && ready.revents == POLLIN);
    const char *end = read_events(watcher), *at = event_space;
    at = expect(at, end, watch, IN_CREATE, "a");
    at = expect(at, end, watch, IN_OPEN, "a");
    at = expect(at, end, watch, IN_MODIFY, "a");
    at = expect(at, end, watch, IN_CLOSE_WRITE, "a");
    const struct inotify_event *from = (const void *)at;
    at = expect(at, end, watch, IN_MOVED_FROM, "a");
    const struct inotify_event *to = (const void *)at;
    at = expect(at, end, watch, IN_MOVED_TO, "b");
    CHECK(from->cookie != 0 && from->cookie == to->cookie);
    at = expect(at, end, watch, IN_ATTRIB, "b");
    at = expect(at, end, watch, IN_DELETE, "b");
    CHECK(at == end);
    CHECK(mkdir(path, 0700) == 0 && rmdir(path) == 0);
    end = read_events(watcher), at = event_space;
    at = expect(at, end, watch, IN_CREATE | IN_ISDIR, "a");
    at = expect(at, end, watch, IN_DELETE | IN_ISDIR, "a");
    CHECK(at == end);
    CHECK(inotify_rm_watch(watcher, watch) == 0);
    REFUSED(inotify_rm_watch(watcher, watch), EINVAL);
    end = read_events(watcher);
    CHECK(expect(event_space, end, watch, IN_IGNORED, NULL) == end);
    close(watcher);
}

static void a_file_that_goes_is_told_last(void) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/file", folder);
    close(open(path, O_CREAT | O_RDWR, 0600));
    int watcher = inotify_init1(IN_NONBLOCK);
    REFUSED(inotify_add_watch(watcher, "/no/such", IN_OPEN), ENOENT);
    REFUSED(inotify_add_watch(watcher, path, IN_OPEN | IN_ONLYDIR), ENOTDIR);
    REFUSED(inotify_add_watch(watcher, path, 0), EINVAL);
    REFUSED(inotify_add_watch(0, path, IN_OPEN), EINVAL);
    int watch = inotify_add_watch(watcher, path, IN_OPEN);
    CHECK(inotify_add_watch(watcher, path, IN_MASK_ADD | IN_DELETE_SELF | IN_ATTRIB) == watch);
    REFUSED(inotify_add_watch(watcher, path, IN_OPEN | IN_MASK_CREATE), EEXIST);
    int file = open(path, O_RDONLY);
    CHECK(unlink(path) == 0);
    close(file);
    const char *end = read_events(watcher), *at = event_space;
    at = expect(at, end, watch, IN_OPEN, NULL);
    at = expect(at, end, watch, IN_ATTRIB, NULL);
    at = expect(at, end, watch, IN_DELETE_SELF, NULL);
    at = expect(at, end, watch, IN_IGNORED, NULL);
    CHECK(at == end);
    close(watcher);
    CHECK(rmdir(folder) == 0);
}

static void a_process_is_waited_for_by_a_descriptor(void) {
    int gate[2];
    CHECK(pipe(gate) == 0);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(gate[1]);
        _exit(read(gate[0], &byte, 1) == 0 ? 7 : 1);
    }
    int process = syscall(SYS_pidfd_open, child, 0);
    CHECK(process >= 0 && fcntl(process, F_GETFD) == FD_CLOEXEC);
    struct pollfd ready = {.fd = process, .events = POLLIN};
    CHECK(poll(&ready, 1, 0) == 0);
    siginfo_t info = {0};
    CHECK(waitid(P_PIDFD, process, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0);
    CHECK(syscall(SYS_pidfd_send_signal, process, 0, NULL, 0) == 0);
    close(gate[1]);
    CHECK(poll(&ready, 1, -1) == 1 && ready.revents == POLLIN);
    CHECK(waitid(P_PIDFD, process, &info, WEXITED) == 0 && info.si_pid == child && info.si_status == 7);
    REFUSED(syscall(SYS_pidfd_send_signal, process, 0, NULL, 0), ESRCH);
    REFUSED(waitid(P_PIDFD, process, &info, WEXITED), ECHILD);
    REFUSED(syscall(SYS_pidfd_open, child, 0), ESRCH);
    REFUSED(syscall(SYS_pidfd_open, getpid(), 1), EINVAL);
    REFUSED(syscall(SYS_pidfd_open, -1, 0), EINVAL);
    REFUSED(syscall(SYS_pidfd_send_signal, gate[0], 0, NULL, 0), EBADF);
    close(process);
    close(gate[0]);
}

static void a_descriptor_of_a_process_comes_with_it_and_gives_others(void) {
    int made = -1;
    pid_t child = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, &made, NULL, 0);
    if (child == 0) {
        pause();
        _exit(1);
    }
    CHECK(child > 0 && made >= 0);
    int got = syscall(SYS_pidfd_getfd, made, 1, 0);
    CHECK(got >= 0);
    REFUSED(syscall(SYS_pidfd_getfd, made, 9999, 0), EBADF);
    close(got);
    siginfo_t info = {.si_signo = SIGKILL, .si_code = SI_QUEUE, .si_pid = getpid()};
    CHECK(syscall(SYS_pidfd_send_signal, made, SIGKILL, &info, 0) == 0);
    int status = status_of(child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    close(made);
}

static void whoever_finds_no_room_for_a_connection_waits_for_it(void) {
    struct sockaddr_un place = {.sun_family = AF_UNIX, .sun_path = "/tmp/no-room"};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), set = epoll_create1(0);
    unlink(place.sun_path);
    CHECK(bind(listener, (struct sockaddr *)&place, sizeof place) == 0 && listen(listener, 2) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(listener);
        for (int number = 0; number < 50; number++) {
            int client = socket(AF_UNIX, SOCK_STREAM, 0);
            if (connect(client, (struct sockaddr *)&place, sizeof place) != 0 || write(client, &number, sizeof number) < 0)
                _exit(errno);
            close(client);
        }
        // Nobody accepts these: the last one waits until nobody listens.
        for (;;) {
            int client = socket(AF_UNIX, SOCK_STREAM, 0);
            if (connect(client, (struct sockaddr *)&place, sizeof place) != 0)
                _exit(errno == ECONNREFUSED ? 0 : errno);
        }
    }
    struct epoll_event wanted = {.events = EPOLLIN | EPOLLET, .data.fd = listener}, found;
    CHECK(fcntl(listener, F_SETFL, O_NONBLOCK) == 0 && epoll_ctl(set, EPOLL_CTL_ADD, listener, &wanted) == 0);
    int accepted = 0, sum = 0;
    while (accepted < 50 && epoll_wait(set, &found, 1, 10000) == 1) {
        int server;
        while (accepted < 50 && (server = accept(listener, NULL, NULL)) >= 0) {
            int number = -1, end;
            CHECK(read(server, &number, sizeof number) == sizeof number && read(server, &end, sizeof end) == 0);
            sum += number;
            accepted++;
            close(server);
        }
    }
    CHECK(accepted == 50 && sum == 49 * 50 / 2);
    // A set watches another one, but not to be woken alone.
    int other = epoll_create1(0);
    wanted.events = EPOLLEXCLUSIVE | EPOLLIN;
    REFUSED(epoll_ctl(set, EPOLL_CTL_ADD, other, &wanted), EINVAL);
    wanted.events = EPOLLIN;
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, other, &wanted) == 0);
    REFUSED(epoll_ctl(other, EPOLL_CTL_ADD, set, &wanted), ELOOP);
    close(other);
    int fresh = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), full = 0;
    for (int tries = 0; tries < 1000 && !full; tries++) {
        full = connect(fresh, (struct sockaddr *)&place, sizeof place) == -1 && errno == EAGAIN;
        if (!full) {
            close(fresh);
            fresh = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        }
    }
    CHECK(full);
    usleep(10000);
    close(listener);
    CHECK(status_of(child) == 0);
    close(fresh);
    close(set);
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void a_set_takes_its_last_file_as_fast_as_its_first(void) {
    enum { FILES = 8000, PIECE = 50, PIECES = 20 };
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    struct rlimit more = {limit.rlim_max, limit.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &more) == 0);
    int set = epoll_create1(0), file = eventfd(0, 0), first = -1, refused = 0;
    struct epoll_event wanted = {.events = EPOLLIN};
    // The fastest of some pieces: what else the machine does slows others down.
    long long early = LLONG_MAX, late = LLONG_MAX;
    for (int piece = 0; piece < FILES / PIECE; piece++) {
        long long begun = now();
        for (int index = 0; index < PIECE; index++) {
            int copy = dup(file);
            first = first < 0 ? copy : first;
            refused += copy < 0 || epoll_ctl(set, EPOLL_CTL_ADD, copy, &wanted) != 0;
        }
        long long took = now() - begun;
        if (piece < PIECES && took < early)
            early = took;
        if (piece >= FILES / PIECE - PIECES && took < late)
            late = took;
    }
    CHECK(refused == 0 && late < 4 * early);
    CHECK(close_range(first, first + FILES, 0) == 0 && close(set) == 0 && close(file) == 0);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

const struct test event_tests[] = {
    TEST(names_that_change_are_told),
    TEST(a_file_that_goes_is_told_last),
    TEST(a_process_is_waited_for_by_a_descriptor),
    TEST(a_descriptor_of_a_process_comes_with_it_and_gives_others),
    TEST(whoever_finds_no_room_for_a_connection_waits_for_it),
    TEST(a_set_takes_its_last_file_as_fast_as_its_first),
    END,
};
