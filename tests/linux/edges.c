// The edges of calls that conformance suites ask for: who is told that a file is ready, locks in a circle, where a path may lead, words
// that are waited for together, what is submitted and fetched later, what is locked in memory, and what /proc tells of it all.

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <linux/openat2.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif

static char folder[] = "/tmp/edgesXXXXXX";
static volatile int told, told_of;

static const char *in_folder(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void on_ready(int signal, siginfo_t *info, void *context) {
    (void)context;
    told = signal;
    told_of = info->si_fd;
}

static void who_owns_a_file_is_told_that_it_is_ready(void) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    struct sigaction action = {.sa_sigaction = on_ready, .sa_flags = SA_SIGINFO};
    sigaction(SIGIO, &action, NULL);
    sigaction(SIGRTMIN + 1, &action, NULL);
    CHECK(fcntl(ends[0], F_GETOWN) == 0 && fcntl(ends[0], F_GETSIG) == 0);
    CHECK(fcntl(ends[0], F_SETOWN, getpid()) == 0 && fcntl(ends[0], F_GETOWN) == getpid());
    CHECK(fcntl(ends[0], F_SETFL, O_ASYNC | O_NONBLOCK) == 0);
    told = 0;
    CHECK(write(ends[1], "a", 1) == 1 && told == SIGIO);
    CHECK(fcntl(ends[0], F_SETSIG, SIGRTMIN + 1) == 0 && fcntl(ends[0], F_GETSIG) == SIGRTMIN + 1);
    CHECK(write(ends[1], "b", 1) == 1 && told == SIGRTMIN + 1 && told_of == ends[0]);
    struct f_owner_ex owner = {F_OWNER_PGRP, getpgrp()}, found;
    CHECK(fcntl(ends[0], F_SETOWN_EX, &owner) == 0 && fcntl(ends[0], F_GETOWN_EX, &found) == 0);
    CHECK(found.type == F_OWNER_PGRP && found.pid == getpgrp());
    CHECK(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
    told = 0;
    CHECK(write(ends[1], "c", 1) == 1 && told == 0);
    REFUSED(fcntl(ends[0], F_SETOWN, 999999), ESRCH);
    REFUSED(fcntl(ends[0], F_SETSIG, 65), EINVAL);
    close(ends[0]);
    close(ends[1]);
}

static int lock(int file, int kind, off_t start, off_t length, int command) {
    struct flock lock = {.l_type = kind, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return fcntl(file, command, &lock);
}

static void who_would_wait_for_a_lock_in_a_circle_is_told(void) {
    int file = open(in_folder("locks"), O_RDWR | O_CREAT, 0600);
    CHECK(file >= 0 && lock(file, F_WRLCK, 0, 1, F_SETLK) == 0);
    int gate[2];
    CHECK(pipe(gate) == 0);
    pid_t child = fork();
    if (child == 0) {
        lock(file, F_WRLCK, 10, 1, F_SETLK);
        write(gate[1], "", 1);
        _exit(lock(file, F_WRLCK, 0, 1, F_SETLKW) == 0 ? 0 : 1);
    }
    char byte;
    CHECK(read(gate[0], &byte, 1) == 1);
    // Until the child waits, it is this call that would wait.
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", child);
    for (int attempt = 0; attempt < 2000 && state != 'S'; attempt++) {
        FILE *about = fopen(path, "r");
        if (!about || fscanf(about, "%*d %*s %c", &state) != 1) break;
        fclose(about);
        usleep(1000);
    }
    CHECK(state == 'S');
    REFUSED(lock(file, F_WRLCK, 10, 1, F_SETLKW), EDEADLK);
    CHECK(lock(file, F_UNLCK, 0, 0, F_SETLK) == 0 && status_of(child) == 0);
    // Ranges that touch are one, and the first that is in the way is told.
    CHECK(lock(file, F_WRLCK, 30, 10, F_SETLK) == 0 && lock(file, F_WRLCK, 5, 5, F_SETLK) == 0);
    CHECK(lock(file, F_WRLCK, 10, 5, F_SETLK) == 0);
    child = fork();
    if (child == 0) {
        struct flock found = {.l_type = F_RDLCK};
        int good = fcntl(file, F_GETLK, &found) == 0 && found.l_start == 5 && found.l_len == 10;
        _exit(good && found.l_type == F_WRLCK ? 0 : 1);
    }
    CHECK(status_of(child) == 0);
    close(file);
}

static int open_how(int directory, const char *path, uint64_t flags, uint64_t resolve) {
    struct open_how how = {.flags = flags, .resolve = resolve};
    return syscall(SYS_openat2, directory, path, &how, sizeof how);
}

static void a_path_leads_no_further_than_it_may(void) {
    int directory = open(folder, O_PATH | O_DIRECTORY);
    CHECK(mkdirat(directory, "etc", 0700) == 0 && symlinkat("/etc", directory, "absolute") == 0);
    CHECK(symlinkat("../../..", directory, "up") == 0);
    int found = open_how(directory, "absolute", O_RDONLY, RESOLVE_IN_ROOT);
    struct stat one, other;
    CHECK(found >= 0 && fstat(found, &one) == 0 && fstatat(directory, "etc", &other, 0) == 0 && one.st_ino == other.st_ino);
    close(found);
    found = open_how(directory, "up/etc", O_RDONLY, RESOLVE_IN_ROOT);
    CHECK(found >= 0 && fstat(found, &one) == 0 && one.st_ino == other.st_ino);
    close(found);
    REFUSED(open_how(directory, "absolute", O_RDONLY, RESOLVE_BENEATH), EXDEV);
    REFUSED(open_how(directory, "up", O_RDONLY, RESOLVE_BENEATH), EXDEV);
    REFUSED(open_how(directory, "absolute", O_RDONLY, RESOLVE_NO_SYMLINKS), ELOOP);
    REFUSED(open_how(AT_FDCWD, "/proc/self/exe", O_RDONLY, RESOLVE_NO_MAGICLINKS), ELOOP);
    REFUSED(open_how(AT_FDCWD, "/proc/self/comm", O_RDONLY, RESOLVE_NO_XDEV), EXDEV);
    REFUSED(open_how(directory, "etc", O_RDONLY, RESOLVE_IN_ROOT | RESOLVE_BENEATH), EINVAL);
    REFUSED(open_how(directory, "etc", 1ULL << 40, 0), EINVAL);
    struct { struct open_how how; uint64_t more; } longer = {.more = 1};
    REFUSED(syscall(SYS_openat2, directory, "etc", &longer, sizeof longer), E2BIG);
    longer.more = 0;
    found = syscall(SYS_openat2, directory, "etc", &longer, sizeof longer);
    CHECK(found >= 0);
    close(found);
    close(directory);
}

static uint32_t words[3];

static void *wake_the_second(void *nothing) {
    (void)nothing;
    while (syscall(SYS_futex, &words[1], FUTEX_WAKE_PRIVATE, 1) == 0) usleep(1000);
    return NULL;
}

static void the_word_that_was_woken_is_told(void) {
    struct { uint64_t value, address; uint32_t flags, reserved; } wanted[3] = {0};
    for (int index = 0; index < 3; index++) wanted[index].address = (uintptr_t)&words[index], wanted[index].flags = 2 | 128;
    struct timespec soon;
    clock_gettime(CLOCK_MONOTONIC, &soon);
    REFUSED(syscall(SYS_futex_waitv, wanted, 3, 0, &soon, CLOCK_MONOTONIC), ETIMEDOUT);
    pthread_t thread;
    pthread_create(&thread, NULL, wake_the_second, NULL);
    CHECK(syscall(SYS_futex_waitv, wanted, 3, 0, NULL, CLOCK_MONOTONIC) == 1);
    pthread_join(thread, NULL);
    words[2] = 1;
    REFUSED(syscall(SYS_futex_waitv, wanted, 3, 0, NULL, 0), EAGAIN);
    REFUSED(syscall(SYS_futex_waitv, wanted, 129, 0, NULL, 0), EINVAL);
    wanted[0].flags = 1;
    REFUSED(syscall(SYS_futex_waitv, wanted, 3, 0, NULL, 0), EINVAL);
}

static void what_was_submitted_is_fetched(void) {
    aio_context_t context = 0;
    CHECK(syscall(SYS_io_setup, 4, &context) == 0 && context != 0);
    REFUSED(syscall(SYS_io_setup, 4, &context), EINVAL);
    int file = open(in_folder("submitted"), O_RDWR | O_CREAT, 0600);
    char text[8] = "";
    struct iocb writes = {.aio_data = 1, .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = file, .aio_buf = (uintptr_t)"hello", .aio_nbytes = 5, .aio_offset = 3};
    struct iocb reads = {.aio_data = 2, .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = file, .aio_buf = (uintptr_t)text, .aio_nbytes = 8};
    struct iocb *list[] = {&writes, &reads}, wrong = {.aio_fildes = 999}, *bad[] = {&wrong};
    struct io_event events[4];
    struct timespec none = {0, 0};
    CHECK(syscall(SYS_io_getevents, context, 0L, 4L, events, &none) == 0);
    CHECK(syscall(SYS_io_submit, context, 1L, list) == 1 && syscall(SYS_io_getevents, context, 1L, 1L, events, NULL) == 1);
    CHECK(events[0].data == 1 && events[0].obj == (uintptr_t)&writes && events[0].res == 5);
    CHECK(syscall(SYS_io_submit, context, 1L, list + 1) == 1);
    CHECK(syscall(SYS_io_getevents, context, 1L, 4L, events, NULL) == 1 && events[0].data == 2 && events[0].res == 8);
    CHECK(memcmp(text, "\0\0\0hello", 8) == 0);
    REFUSED(syscall(SYS_io_submit, context, 1L, bad), EBADF);
    CHECK(syscall(SYS_io_destroy, context) == 0);
    REFUSED(syscall(SYS_io_submit, context, 1L, list), EINVAL);
    REFUSED(syscall(SYS_io_destroy, context), EINVAL);
    close(file);
}

static void bytes_are_appended_and_not_waited_for_by_flags(void) {
    int file = open(in_folder("flags"), O_RDWR | O_CREAT, 0600), ends[2];
    char byte = 'x';
    struct iovec one = {&byte, 1};
    CHECK(pwrite(file, "abc", 3, 0) == 3 && pwritev2(file, &one, 1, 0, RWF_APPEND) == 1);
    char text[4];
    CHECK(pread(file, text, 4, 0) == 4 && memcmp(text, "abcx", 4) == 0);
    REFUSED(pwritev2(file, &one, 1, 0, 0x40000000), EOPNOTSUPP);
    CHECK(pipe(ends) == 0);
    REFUSED(preadv2(ends[0], &one, 1, -1, RWF_NOWAIT), EAGAIN);
    close(ends[0]);
    close(ends[1]);
    close(file);
}

static void *become_another_for_files(void *nothing) {
    (void)nothing;
    syscall(SYS_setfsuid, 1000);
    int file = open(in_folder("another's"), O_WRONLY | O_CREAT, 0600);
    struct stat about = {0};
    if (file < 0 || fstat(file, &about) != 0) return NULL;
    close(file);
    return (void *)(uintptr_t)about.st_uid;
}

static void a_thread_is_somebody_else(void) {
    if (getuid() != 0) return;
    CHECK(chmod(folder, 0777) == 0);
    pthread_t thread;
    void *owner = NULL;
    pthread_create(&thread, NULL, become_another_for_files, NULL);
    pthread_join(thread, &owner);
    struct stat about;
    CHECK(owner == (void *)1000);
    int file = open(in_folder("own"), O_WRONLY | O_CREAT, 0600);
    CHECK(fstat(file, &about) == 0 && about.st_uid == 0);
    close(file);
}

static void the_edge_of_a_pipe_is_told_once(void) {
    int ends[2], set = epoll_create1(0);
    CHECK(pipe2(ends, O_NONBLOCK) == 0 && fcntl(ends[1], F_SETPIPE_SZ, 4096) == 4096);
    struct epoll_event in = {.events = EPOLLIN | EPOLLET, .data.u32 = 1}, out = {.events = EPOLLOUT | EPOLLET, .data.u32 = 2}, event;
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &in) == 0 && epoll_ctl(set, EPOLL_CTL_ADD, ends[1], &out) == 0);
    char page[4096] = "";
    CHECK(write(ends[1], page, sizeof page) == sizeof page);
    CHECK(epoll_wait(set, &event, 1, 0) == 1 && event.data.u32 == 1);
    CHECK(read(ends[0], page, 100) == 100 && epoll_wait(set, &event, 1, 0) == 0);
    CHECK(read(ends[0], page, sizeof page) == sizeof page - 100);
    CHECK(epoll_wait(set, &event, 1, 0) == 1 && event.data.u32 == 2 && event.events == EPOLLOUT);
    int path = open(folder, O_PATH);
    REFUSED(epoll_ctl(set, EPOLL_CTL_ADD, path, &in), EBADF);
    close(path);
    close(set);
    close(ends[0]);
    close(ends[1]);
}

static long in_kilobytes(const char *file, const char *name) {
    char line[256];
    long found = -1;
    FILE *from = fopen(file, "r");
    while (from && fgets(line, sizeof line, from))
        if (strncmp(line, name, strlen(name)) == 0) found = atol(line + strlen(name) + 1);
    if (from) fclose(from);
    return found;
}

static void what_is_locked_in_memory_is_counted(void) {
    size_t page = 4096;
    char *pages = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mlock(pages, 3 * page) == 0 && in_kilobytes("/proc/self/status", "VmLck:") == 12);
    REFUSED(madvise(pages, page, MADV_DONTNEED), EINVAL);
    REFUSED(msync(pages, page, MS_INVALIDATE), EBUSY);
    CHECK(munlock(pages, page) == 0 && in_kilobytes("/proc/self/status", "VmLck:") == 8);
    munmap(pages, 4 * page);
    CHECK(in_kilobytes("/proc/self/status", "VmLck:") == 0);
    REFUSED(mlockall(0), EINVAL);
    REFUSED(mlockall(MCL_ONFAULT), EINVAL);
    REFUSED(munlock((void *)page, page), ENOMEM);
    CHECK(mmap(NULL, page, PROT_READ, MAP_SHARED, 999, 0) == MAP_FAILED && errno == EBADF);
}

static void proc_tells_of_namespaces_and_scores(void) {
    char link[64] = "";
    CHECK(readlink("/proc/self/ns/uts", link, sizeof link - 1) > 5 && strncmp(link, "uts:[", 5) == 0);
    struct stat about;
    CHECK(stat("/proc/self/ns/uts", &about) == 0 && about.st_ino == (ino_t)strtoul(link + 5, NULL, 10));
    int score = open("/proc/self/oom_score_adj", O_RDWR);
    CHECK(write(score, "500", 3) == 3 && pread(score, link, sizeof link, 0) >= 4 && memcmp(link, "500\n", 4) == 0);
    REFUSED(pwrite(score, "1001", 4, 0), EINVAL);
    close(score);
    int process = open("/proc/self", O_RDONLY | O_DIRECTORY);
    CHECK(syscall(SYS_pidfd_send_signal, process, 0, NULL, 0) == 0);
    close(process);
    CHECK(prctl(PR_SET_TIMERSLACK, 70000) == 0);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_TIMERSLACK, 90000);
        prctl(PR_SET_TIMERSLACK, 0);
        _exit(prctl(PR_GET_TIMERSLACK) == 70000 ? 0 : 1);
    }
    CHECK(status_of(child) == 0);
    prctl(PR_SET_TIMERSLACK, 0);
    struct { struct file_handle head; char rest[64]; } handle = {.head = {.handle_bytes = 0}};
    int mount = -1;
    REFUSED(name_to_handle_at(AT_FDCWD, folder, &handle.head, &mount, 0), EOVERFLOW);
    CHECK(handle.head.handle_bytes > 0 && name_to_handle_at(AT_FDCWD, folder, &handle.head, &mount, 0) == 0);
    handle.head.handle_bytes = 129;
    REFUSED(name_to_handle_at(AT_FDCWD, folder, &handle.head, &mount, 0), EINVAL);
}

static volatile int faulted;

static void on_fault(int signal) {
    faulted = signal;
}

static void a_handler_without_a_stack_is_a_fault(void) {
    size_t size = 65536;
    stack_t stack = {.ss_sp = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), .ss_size = size}, none = {.ss_flags = SS_DISABLE};
    struct sigaction fault = {.sa_handler = on_fault}, other = {.sa_handler = on_fault, .sa_flags = SA_ONSTACK};
    sigaction(SIGSEGV, &fault, NULL);
    sigaction(SIGUSR2, &other, NULL);
    CHECK(sigaltstack(&stack, NULL) == 0);
    raise(SIGUSR2);
    CHECK(faulted == SIGSEGV);
    sigaltstack(&none, NULL);
    signal(SIGSEGV, SIG_DFL);
    signal(SIGUSR2, SIG_DFL);
    munmap(stack.ss_sp, size);
}

static void *open_a_secret(void *nothing) {
    (void)nothing;
    syscall(SYS_setfsuid, 1000);
    int refused = open(in_folder("secret"), O_RDONLY) == -1 ? errno : 0;
    syscall(SYS_setfsuid, 0);
    int file = open(in_folder("secret"), O_RDONLY);
    close(file);
    return (void *)(intptr_t)(file < 0 ? -1 : refused);
}

static void calls_say_what_is_wrong_with_them(void) {
    int ends[2], pair[2], event = eventfd(1, 0);
    char byte;
    CHECK(pipe(ends) == 0);
    REFUSED(pread(ends[1], &byte, 1, 0), ESPIPE);
    REFUSED(readahead(event, 0, 1), EINVAL);
    REFUSED(splice(event, NULL, ends[1], NULL, 8, 0), EINVAL);
    REFUSED(socketpair(AF_INET, SOCK_STREAM, 0, pair), EOPNOTSUPP);
    REFUSED(socketpair(AF_INET, SOCK_STREAM, 1, pair), EPROTONOSUPPORT);
    REFUSED(socketpair(AF_INET, 75, 0, pair), EINVAL);
    REFUSED(readlink("", &byte, 1), ENOENT);
    REFUSED(syscall(SYS_sched_getparam, 0, NULL), EINVAL);
    int stream = socket(AF_INET, SOCK_STREAM, 0);
    REFUSED(send(stream, "", 1, MSG_NOSIGNAL), EPIPE);
    REFUSED(setsockopt(stream, SOL_SOCKET, SO_OOBINLINE, "", 0), EINVAL);
    close(stream);
    // What fits is taken; the rest is not waited for.
    static char much[131072];
    struct iovec all = {much, sizeof much};
    ssize_t taken = vmsplice(ends[1], &all, 1, 0);
    CHECK(taken > 0 && taken <= 65536);
    close(ends[0]);
    close(ends[1]);
    close(event);
    if (getuid() != 0) return;
    close(open(in_folder("secret"), O_WRONLY | O_CREAT, 0600));
    pthread_t thread;
    void *refused = NULL;
    pthread_create(&thread, NULL, open_a_secret, NULL);
    pthread_join(thread, &refused);
    CHECK(refused == (void *)EACCES && syscall(SYS_setfsuid, -1) == 0 && syscall(SYS_setfsuid, -1) == 0);
}

static void an_address_is_free_once_its_socket_is_closed(void) {
    int kinds[] = {SOCK_STREAM, SOCK_DGRAM};
    for (int round = 0; round < 40; round++) {
        struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof any;
        int first = socket(AF_INET, kinds[round % 2], 0), second = socket(AF_INET, kinds[round % 2], 0);
        CHECK(bind(first, (struct sockaddr *)&any, sizeof any) == 0);
        CHECK(getsockname(first, (struct sockaddr *)&any, &length) == 0);
        if (round % 4 == 0) CHECK(listen(first, 1) == 0);
        REFUSED(bind(second, (struct sockaddr *)&any, sizeof any), EADDRINUSE);
        close(first);
        CHECK(bind(second, (struct sockaddr *)&any, sizeof any) == 0);
        close(second);
    }
}

static void the_folder_is_made(void) {
    CHECK(mkdtemp(folder) != NULL);
}

static volatile int goes_on = 1, rounds;

static void *goes_round(void *nothing) {
    (void)nothing;
    while (goes_on)
        rounds++;
    return NULL;
}

static void threads_pass_barriers(void) {
    long offered = syscall(SYS_membarrier, 0, 0, 0);
    CHECK(offered > 0 && (offered & 0x7f) == 0x7f);
    REFUSED(syscall(SYS_membarrier, 8, 0, 0), EPERM);
    REFUSED(syscall(SYS_membarrier, 3, 0, 0), EINVAL);
    REFUSED(syscall(SYS_membarrier, 8, 9, 0), EINVAL);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, goes_round, NULL) == 0);
    while (rounds == 0)
        usleep(1000);
    CHECK(syscall(SYS_membarrier, 16, 0, 0) == 0 && syscall(SYS_membarrier, 64, 0, 0) == 0);
    int commands[] = {1, 2, 8, 32};
    for (int index = 0; index < 100; index++)
        CHECK(syscall(SYS_membarrier, commands[index % 4], 0, 0) == 0);
    goes_on = 0;
    CHECK(pthread_join(thread, NULL) == 0);
}

static void what_nobody_changed_is_shared(void) {
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    // KCMP_FILES is each one's own; KCMP_IO and KCMP_SYSVSEM are nobody's until they are used.
    CHECK(syscall(SYS_kcmp, getpid(), child, 2, 0, 0) > 0);
    CHECK(syscall(SYS_kcmp, getpid(), child, 5, 0, 0) == 0 && syscall(SYS_kcmp, getpid(), child, 6, 0, 0) == 0);
    kill(child, SIGKILL);
    status_of(child);
}

static void a_persona_keeps_times_and_is_inherited(void) {
    int before = personality(0xffffffff);
    CHECK(personality(before | STICKY_TIMEOUTS) == before);
    struct timeval time = {0, 20000};
    CHECK(select(0, NULL, NULL, NULL, &time) == 0 && time.tv_usec == 20000);
    pid_t child = fork();
    if (child == 0)
        _exit(personality(0xffffffff) & STICKY_TIMEOUTS ? 0 : 1);
    CHECK(status_of(child) == 0 && personality(before) == (before | STICKY_TIMEOUTS));
    CHECK(select(0, NULL, NULL, NULL, &time) == 0 && time.tv_usec == 0);
}

static void one_of_those_who_want_to_be_alone_is_woken(void) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    struct {
        _Atomic int woken;
    } *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t children[4];
    for (int index = 0; index < 4; index++) {
        children[index] = fork();
        if (children[index] == 0) {
            int set = epoll_create1(0);
            struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE};
            if (epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event) != 0)
                _exit(1);
            int found = epoll_wait(set, &event, 1, 10000);
            shared->woken++;
            pause();
            _exit(found != 1);
        }
    }
    usleep(300000);
    for (int index = 1; index <= 4; index++) {
        char byte;
        CHECK(write(ends[1], "x", 1) == 1);
        usleep(200000);
        CHECK(shared->woken == index && read(ends[0], &byte, 1) == 1);
    }
    for (int index = 0; index < 4; index++) {
        kill(children[index], SIGKILL);
        status_of(children[index]);
    }
    munmap(shared, 4096);
    close(ends[0]);
    close(ends[1]);
}

static void too_many_are_refused_before_they_are_counted(void) {
    aio_context_t context = 0;
    REFUSED(syscall(SYS_io_setup, -1, &context), EINVAL);
    REFUSED(syscall(SYS_io_setup, 1000000, &context), EAGAIN);
    REFUSED(prctl(PR_SET_SECCOMP, 2, 0, 0, 0), EFAULT);
    // What would wait is not done if the request says so (RWF_NOWAIT).
    int ends[2];
    char byte;
    CHECK(pipe(ends) == 0 && syscall(SYS_io_setup, 4, &context) == 0);
    struct iocb request = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = ends[0], .aio_rw_flags = RWF_NOWAIT};
    request.aio_buf = (uintptr_t)&byte;
    request.aio_nbytes = 1;
    struct iocb *requests[] = {&request};
    struct io_event event;
    CHECK(syscall(SYS_io_submit, context, 1, requests) == 1);
    CHECK(syscall(SYS_io_getevents, context, 1, 1, &event, NULL) == 1 && event.res == -EAGAIN);
    CHECK(write(ends[1], "x", 1) == 1 && syscall(SYS_io_submit, context, 1, requests) == 1);
    CHECK(syscall(SYS_io_getevents, context, 1, 1, &event, NULL) == 1 && event.res == 1 && byte == 'x');
    CHECK(syscall(SYS_io_destroy, context) == 0);
    int datagrams = socket(AF_INET, SOCK_DGRAM, 0), mark;
    REFUSED(ioctl(datagrams, SIOCATMARK, &mark), ENOTTY);
    close(datagrams);
    close(ends[0]);
    close(ends[1]);
}

const struct test edge_tests[] = {
    TEST(the_folder_is_made),
    TEST(who_owns_a_file_is_told_that_it_is_ready),
    TEST(who_would_wait_for_a_lock_in_a_circle_is_told),
    TEST(a_path_leads_no_further_than_it_may),
    TEST(the_word_that_was_woken_is_told),
    TEST(what_was_submitted_is_fetched),
    TEST(bytes_are_appended_and_not_waited_for_by_flags),
    TEST(a_thread_is_somebody_else),
    TEST(the_edge_of_a_pipe_is_told_once),
    TEST(what_is_locked_in_memory_is_counted),
    TEST(proc_tells_of_namespaces_and_scores),
    TEST(a_handler_without_a_stack_is_a_fault),
    TEST(calls_say_what_is_wrong_with_them),
    TEST(an_address_is_free_once_its_socket_is_closed),
    TEST(threads_pass_barriers),
    TEST(what_nobody_changed_is_shared),
    TEST(a_persona_keeps_times_and_is_inherited),
    TEST(one_of_those_who_want_to_be_alone_is_woken),
    TEST(too_many_are_refused_before_they_are_counted),
    END,
};
