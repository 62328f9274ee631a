/* What Linux does for programs, measured by one static program that runs unchanged under Tessera's personality and under a Linux kernel.
 *
 * As an ordinary program it measures what its arguments name: `calls`. As the first process of a kernel (see `init`) it takes the name from the
 * kernel's command line, makes the machine ready for it, and turns the machine off afterwards. Each figure is a line `bench NAME VALUE ticks`: the
 * median of its samples in ticks of the time stamp counter, which are instructions where QEMU counts. A call that fails ends it with a message. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Readings that a figure is the median of, at most. */
#define SAMPLES 513
/* As in bench/net: rounds and mebibytes over the loopback, bytes that are sent to the client outside. */
#define ROUNDS 500
#define MEBIBYTES 4
#define BULK (16 << 20)
#define PORT 7
/* Where QEMU's exit device is (see host/src/qemu.rs): it is told the exit code and one. */
#define EXIT_PORT 0xf4

static const char *own_path;

static void fail(const char *what)
{
    printf("peer: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* The value of a call, which must not be an error. */
static long must(long value, const char *what)
{
    if (value < 0)
        fail(what);
    return value;
}

static inline uint64_t ticks(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static int by_value(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return a < b ? -1 : a > b;
}

static uint64_t median(int count, void (*action)(int))
{
    static uint64_t taken[SAMPLES];
    for (int sample = 0; sample < count; sample++) {
        uint64_t begun = ticks();
        action(sample);
        taken[sample] = ticks() - begun;
    }
    qsort(taken, count, sizeof *taken, by_value);
    return taken[count / 2];
}

static void nothing(int sample)
{
    (void)sample;
}

static void report(const char *name, int count, void (*action)(int))
{
    uint64_t empty = median(SAMPLES, nothing);
    uint64_t value = median(count, action);
    printf("bench %s %llu ticks\n", name, (unsigned long long)(value > empty ? value - empty : 0));
}

/* ---- System calls ---- */

static int null_device, there[2], back[2];

static void parent_of(int sample)
{
    (void)sample;
    syscall(SYS_getppid);
}

static void write_byte(int sample)
{
    (void)sample;
    must(write(null_device, "", 1), "write");
}

static void open_and_close(int sample)
{
    (void)sample;
    close(must(open(own_path, O_RDONLY), "open"));
}

static void status(int sample)
{
    struct stat found;
    (void)sample;
    must(stat(own_path, &found), "stat");
}

static void map_and_unmap(int sample)
{
    size_t length = 4096;
    char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)sample;
    if (memory == MAP_FAILED)
        fail("mmap");
    *(volatile char *)memory = 1;
    must(munmap(memory, length), "munmap");
}

static void child(int sample, int executes)
{
    pid_t made = must(fork(), "fork");
    int ended;
    (void)sample;
    if (made == 0) {
        char *arguments[] = {(char *)own_path, "exit", NULL}, *environment[] = {NULL};
        if (executes)
            execve(own_path, arguments, environment);
        _exit(executes);
    }
    must(waitpid(made, &ended, 0), "waitpid");
    if (ended != 0) {
        errno = ENOEXEC;
        fail("a child");
    }
}

static void fork_and_wait(int sample)
{
    child(sample, 0);
}

static void execute_and_wait(int sample)
{
    child(sample, 1);
}

static void round_trip(int sample)
{
    char byte = 0;
    (void)sample;
    must(write(there[1], &byte, 1), "write");
    if (must(read(back[0], &byte, 1), "read") != 1)
        fail("the echo ended");
}

/* Measures round trips to a process that sends back what comes, through `there` and `back`. */
static void echoed(const char *name)
{
    pid_t echo = must(fork(), "fork");
    if (echo == 0) {
        char byte;
        close(there[1]);
        while (read(there[0], &byte, 1) == 1)
            must(write(back[1], &byte, 1), "write");
        _exit(0);
    }
    report(name, SAMPLES, round_trip);
    close(there[1]);
    must(waitpid(echo, NULL, 0), "waitpid");
}

static void calls(void)
{
    int pair[2];
    null_device = must(open("/dev/null", O_WRONLY), "/dev/null");
    report("getppid", SAMPLES, parent_of);
    report("write-1-byte", SAMPLES, write_byte);
    report("open-and-close", SAMPLES, open_and_close);
    report("stat", SAMPLES, status);
    report("mmap-touch-munmap", 201, map_and_unmap);
    must(pipe(there), "pipe");
    must(pipe(back), "pipe");
    echoed("pipe-round-trip");
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    there[1] = back[0] = pair[0];
    there[0] = back[1] = pair[1];
    echoed("unix-round-trip");
    report("fork-exit-wait", 101, fork_and_wait);
    report("fork-execve-wait", 101, execute_and_wait);
}

/* ---- A disk ---- */

static int disk;
static size_t request;
static char *sector_memory;

static void read_disk(int sample)
{
    must(pread(disk, sector_memory, request, sample % 8 * request), "pread");
}

static void write_disk(int sample)
{
    must(pwrite(disk, sector_memory, request, sample % 8 * request), "pwrite");
}

static void block(void)
{
    disk = must(open("/dev/vda", O_RDWR | O_DIRECT), "/dev/vda");
    if (posix_memalign((void **)&sector_memory, 4096, 1 << 20) != 0)
        fail("memory");
    memset(sector_memory, 0x5a, 1 << 20);
    request = 4 << 10;
    report("block-read-4-kib", 201, read_disk);
    report("block-write-4-kib", 201, write_disk);
    request = 1 << 20;
    report("block-read-1-mib", 21, read_disk);
    report("block-write-1-mib", 21, write_disk);
}

/* ---- The network ---- */

static void receive_all(int from, char *into, size_t length)
{
    while (length > 0) {
        long got = must(recv(from, into, length, 0), "recv");
        if (got == 0) {
            errno = ECONNRESET;
            fail("recv");
        }
        into += got;
        length -= got;
    }
}

static void send_all(int to, const char *from, size_t length)
{
    while (length > 0) {
        long sent = must(send(to, from, length, 0), "send");
        from += sent;
        length -= sent;
    }
}

static int listener(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    int made = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    must(bind(made, (struct sockaddr *)&address, sizeof address), "bind");
    must(listen(made, 8), "listen");
    return made;
}

static void no_delay(int of)
{
    int on = 1;
    must(setsockopt(of, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
}

/* Both ends of a connection in one thread, as bench/net has them. */
static void loopback(void)
{
    static char from[32 << 10], into[32 << 10];
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listening = listener(), client = must(socket(AF_INET, SOCK_STREAM, 0), "socket"), server;
    size_t all = (size_t)MEBIBYTES << 20, sent = 0, got = 0;
    uint64_t begun;
    must(connect(client, (struct sockaddr *)&address, sizeof address), "connect");
    server = must(accept(listening, NULL, NULL), "accept");
    no_delay(client);
    no_delay(server);
    begun = ticks();
    for (int round = 0; round < ROUNDS; round++) {
        send_all(client, from, 64);
        receive_all(server, into, 64);
        send_all(server, from, 64);
        receive_all(client, into, 64);
    }
    printf("bench loopback-round-trip-64-bytes %llu ticks\n", (unsigned long long)(ticks() - begun) / ROUNDS);
    begun = ticks();
    while (got < all) {
        size_t rest = all - sent < sizeof from ? all - sent : sizeof from;
        long out = rest == 0 ? 0 : send(client, from, rest, MSG_DONTWAIT);
        long come = recv(server, into, sizeof into, MSG_DONTWAIT);
        sent += out > 0 ? out : 0;
        got += come > 0 ? come : 0;
    }
    printf("bench loopback-mebibyte %llu ticks\n", (unsigned long long)(ticks() - begun) / MEBIBYTES);
}

/* Serves whoever measures outside: the first connection is echoed, the second is sent BULK bytes. */
static void wire(void)
{
    static char bytes[32 << 10];
    int listening = listener(), echo, bulk;
    long got;
    echo = must(accept(listening, NULL, NULL), "accept");
    no_delay(echo);
    while ((got = must(recv(echo, bytes, sizeof bytes, 0), "recv")) > 0)
        send_all(echo, bytes, got);
    close(echo);
    bulk = must(accept(listening, NULL, NULL), "accept");
    for (size_t rest = BULK; rest > 0; rest -= sizeof bytes)
        send_all(bulk, bytes, sizeof bytes);
    must(shutdown(bulk, SHUT_WR), "shutdown");
    while (recv(bulk, bytes, sizeof bytes, 0) > 0) {
    }
}

/* ---- Any server ---- */

/* Becomes the program whose words stand in /command, each with a NUL behind it. */
static void serve(void)
{
    static char text[4096];
    char *words[64] = {0};
    int file = must(open("/command", O_RDONLY), "/command");
    long length = must(read(file, text, sizeof text - 1), "/command");
    for (int count = 0, at = 0; at < length && count < 63; count++) {
        words[count] = text + at;
        at += strlen(text + at) + 1;
    }
    execv(words[0], words);
    fail(words[0]);
}

/* ---- As the first process of a kernel ---- */

static void interface(const char *name, const char *address)
{
    struct ifreq asked = {0};
    struct sockaddr_in *place = (struct sockaddr_in *)&asked.ifr_addr;
    int any = must(socket(AF_INET, SOCK_DGRAM, 0), "socket");
    strncpy(asked.ifr_name, name, IFNAMSIZ - 1);
    place->sin_family = AF_INET;
    inet_pton(AF_INET, address, &place->sin_addr);
    must(ioctl(any, SIOCSIFADDR, &asked), name);
    inet_pton(AF_INET, "255.255.255.0", &place->sin_addr);
    must(ioctl(any, SIOCSIFNETMASK, &asked), name);
    asked.ifr_flags = IFF_UP | IFF_RUNNING;
    must(ioctl(any, SIOCSIFFLAGS, &asked), name);
    close(any);
}

/* Loads /modules/00, /modules/01, and so on. */
static void load_modules(void)
{
    char path[32];
    for (int number = 0;; number++) {
        int module;
        snprintf(path, sizeof path, "/modules/%02d", number);
        module = open(path, O_RDONLY);
        if (module < 0)
            return;
        must(syscall(SYS_finit_module, module, "", 0), path);
        close(module);
    }
}

static int measure(const char *what)
{
    if (strcmp(what, "exit") == 0)
        _exit(0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(what, "calls") == 0)
        calls();
    else if (strcmp(what, "block") == 0)
        block();
    else if (strcmp(what, "net") == 0)
        loopback();
    else if (strcmp(what, "wire") == 0)
        wire();
    else if (strcmp(what, "serve") == 0)
        serve();
    else
        return 2;
    return 0;
}

/* Measures in a process of its own, as a program would, and turns the machine off with its exit code. */
static void init(void)
{
    char line[512] = "", *what;
    int console, ended = 0, file;
    pid_t measuring;
    mkdir("/dev", 0755);
    mkdir("/proc", 0755);
    must(mount("dev", "/dev", "devtmpfs", 0, ""), "/dev");
    must(mount("proc", "/proc", "proc", 0, ""), "/proc");
    console = must(open("/dev/console", O_RDWR), "/dev/console");
    for (int number = 0; number < 3; number++)
        dup2(console, number);
    load_modules();
    file = must(open("/proc/cmdline", O_RDONLY), "/proc/cmdline");
    must(read(file, line, sizeof line - 1), "/proc/cmdline");
    what = strstr(line, "measure=");
    what = what == NULL ? "" : strtok(what + strlen("measure="), " \n");
    if (strcmp(what, "net") == 0 || strcmp(what, "serve") == 0)
        interface("lo", "127.0.0.1");
    if (strcmp(what, "wire") == 0 || strcmp(what, "serve") == 0)
        interface("eth0", "10.0.2.15");
    measuring = must(fork(), "fork");
    if (measuring == 0) {
        char *arguments[] = {(char *)own_path, what, NULL}, *environment[] = {NULL};
        execve(own_path, arguments, environment);
        fail(own_path);
    }
    must(waitpid(measuring, &ended, 0), "waitpid");
    fflush(stdout);
    must(ioperm(EXIT_PORT, 4, 1), "ioperm");
    outb(WIFEXITED(ended) ? WEXITSTATUS(ended) + 1 : 2, EXIT_PORT);
}

int main(int count, char **arguments)
{
    own_path = arguments[0];
    if (getpid() == 1 && count < 2) {
        own_path = "/init";
        init();
    }
    return count < 2 ? 2 : measure(arguments[1]);
}
