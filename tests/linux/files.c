// What rarer calls on files promise: seals, holes, pipes that are doubled, directories as they once were read; and looking into
// other processes' memory.

#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static void a_memory_file_is_sealed(void) {
    int plain = memfd_create("plain", 0), file = memfd_create("sealed", MFD_ALLOW_SEALING);
    CHECK(fcntl(plain, F_GET_SEALS) == F_SEAL_SEAL);
    REFUSED(fcntl(plain, F_ADD_SEALS, F_SEAL_GROW), EPERM);
    REFUSED(fcntl(0, F_GET_SEALS), EINVAL);
    CHECK(fcntl(file, F_GET_SEALS) == 0 && ftruncate(file, 8192) == 0);
    REFUSED(fcntl(file, F_ADD_SEALS, 0x1000), EINVAL);
    CHECK(fcntl(file, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) == 0);
    REFUSED(ftruncate(file, 4096), EPERM);
    REFUSED(ftruncate(file, 16384), EPERM);
    REFUSED(pwrite(file, "more", 4, 8192), EPERM);
    CHECK(pwrite(file, "text", 4, 0) == 4);
    void *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    REFUSED(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    munmap(shared, 4096);
    CHECK(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE) == 0);
    REFUSED(pwrite(file, "text", 4, 0), EPERM);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) == MAP_FAILED && errno == EPERM);
    CHECK(fcntl(file, F_GET_SEALS) == (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE));
    close(plain);
    close(file);
}

static void a_hole_reads_as_zeroes_and_keeps_the_size(void) {
    int file = memfd_create("hole", 0);
    static char bytes[200000], back[200000];
    memset(bytes, 'x', sizeof bytes);
    CHECK(write(file, bytes, sizeof bytes) == sizeof bytes);
    CHECK(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1000, 150000) == 0);
    CHECK(pread(file, back, sizeof back, 0) == sizeof back);
    CHECK(back[999] == 'x' && back[1000] == 0 && back[100000] == 0 && back[150999] == 0 && back[151000] == 'x');
    REFUSED(fallocate(file, FALLOC_FL_PUNCH_HOLE, 0, 10), EOPNOTSUPP);
    REFUSED(fallocate(file, 0, -1, 10), EINVAL);
    CHECK(fallocate(file, FALLOC_FL_KEEP_SIZE, 0, 400000) == 0 && lseek(file, 0, SEEK_END) == sizeof bytes);
    CHECK(fallocate(file, 0, 0, 400000) == 0 && lseek(file, 0, SEEK_END) == 400000);
    close(file);
}

static void what_is_cut_off_a_file_is_cut_off_its_private_copies(void) {
    int file = memfd_create("cut", 0);
    CHECK(ftruncate(file, 3 * 4096) == 0);
    char *copy = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    char *second = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 4096);
    memset(copy, 'c', 3 * 4096);
    memset(second, 's', 4096);
    pid_t child = fork();
    if (child == 0) {
        raise(SIGSTOP);
        _exit(copy[4095] == 'c' && copy[4096] == 0 && copy[8192] == 0 && second[0] == 0 ? 0 : 1);
    }
    CHECK(waitpid(child, NULL, WUNTRACED) == child);
    CHECK(ftruncate(file, 100) == 0 && ftruncate(file, 3 * 4096) == 0);
    CHECK(copy[0] == 'c' && copy[4095] == 'c' && copy[4096] == 0 && copy[8192] == 0 && second[0] == 0);
    copy[4096] = 'n';
    kill(child, SIGCONT);
    CHECK(status_of(child) == 0);
    CHECK(ftruncate(file, 0) == 0 && ftruncate(file, 3 * 4096) == 0 && copy[0] == 0 && copy[4096] == 0);
    munmap(copy, 3 * 4096);
    munmap(second, 4096);
    close(file);
}

static void pages_of_a_file_change_places(void) {
    int file = memfd_create("pages", 0);
    CHECK(ftruncate(file, 4 * 4096) == 0);
    char *pages = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    for (int page = 0; page < 4; page++) memset(pages + page * 4096, 'a' + page, 4096);
    CHECK(remap_file_pages(pages, 4096, 0, 3, 0) == 0 && pages[0] == 'd' && pages[4096] == 'b');
    CHECK(remap_file_pages(pages + 2 * 4096, 8192, 0, 0, 0) == 0 && pages[8192] == 'a' && pages[3 * 4096] == 'b');
    pages[0] = 'D';
    char byte;
    CHECK(pread(file, &byte, 1, 3 * 4096) == 1 && byte == 'D');
    REFUSED(remap_file_pages(pages, 4096, PROT_READ, 3, 0), EINVAL);
    REFUSED(remap_file_pages(pages, 0, 0, 3, 0), EINVAL);
    char *own = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0);
    REFUSED(remap_file_pages(own, 4096, 0, 1, 0), EINVAL);
    munmap(own, 4096);
    munmap(pages, 4 * 4096);
    REFUSED(remap_file_pages(pages, 4096, 0, 0, 0), EINVAL);
    close(file);
}

static void one_file_is_mapped_in_thousands_of_places(void) {
    enum { MANY = 3000 };
    static const char *places[MANY];
    int file = open("/proc/self/exe", O_RDONLY);
    for (int i = 0; i < MANY; i++) {
        places[i] = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, i % 2 * 4096);
        CHECK(places[i] != MAP_FAILED);
    }
    for (int i = 0; i < MANY; i += 2) CHECK(memcmp(places[i], "\177ELF", 4) == 0);
    for (int i = 0; i < MANY; i++) CHECK(munmap((void *)places[i], 4096) == 0);
    close(file);
}

static void devices_stay_at_their_start(void) {
    static const char *const names[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/urandom"};
    char byte;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        int file = open(names[i], O_RDONLY);
        CHECK(file >= 0 && read(file, &byte, 1) == (i ? 1 : 0));
        CHECK(lseek(file, -5, SEEK_CUR) == 0 && lseek(file, INT64_MIN, SEEK_END) == 0 && lseek(file, 9, SEEK_SET) == 0);
        CHECK(lseek(file, 0, SEEK_CUR) == 0);
        REFUSED(lseek(file, 0, 5), EINVAL);
        close(file);
    }
    int file = memfd_create("far", 0);
    CHECK(lseek(file, INT64_MAX, SEEK_SET) == INT64_MAX);
    REFUSED(lseek(file, 1, SEEK_CUR), EINVAL);
    CHECK(lseek(file, 0, SEEK_CUR) == INT64_MAX);
    close(file);
}

static void pipes_are_doubled_and_filled_from_memory(void) {
    int one[2], other[2];
    char text[16] = "";
    CHECK(pipe(one) == 0 && pipe2(other, O_NONBLOCK) == 0);
    struct iovec pieces[2] = {{"hel", 3}, {"lo", 2}};
    CHECK(vmsplice(one[1], pieces, 2, 0) == 5);
    CHECK(tee(one[0], other[1], 100, 0) == 5);
    CHECK(read(other[0], text, 16) == 5 && !memcmp(text, "hello", 5));
    CHECK(read(one[0], text, 16) == 5 && !memcmp(text, "hello", 5));
    REFUSED(tee(one[0], other[1], 100, SPLICE_F_NONBLOCK), EAGAIN);
    REFUSED(tee(one[0], one[1], 100, 0), EINVAL);
    REFUSED(tee(one[0], other[1], 100, 0x100), EINVAL);
    REFUSED(vmsplice(0, pieces, 1, 0x100), EINVAL);
    for (int index = 0; index < 2; index++) {
        close(one[index]);
        close(other[index]);
    }
}

struct old_record {
    unsigned long number;
    unsigned long offset;
    unsigned short length;
    char name[];
};

static void directories_are_read_the_old_way(void) {
    char bytes[4096];
    int folder = open("/proc/self", O_RDONLY | O_DIRECTORY), found = 0;
    long length = syscall(SYS_getdents, folder, bytes, sizeof bytes);
    CHECK(length > 0);
    for (long at = 0; at < length;) {
        struct old_record *record = (void *)(bytes + at);
        if (!strcmp(record->name, "fd")) {
            found = bytes[at + record->length - 1] == DT_DIR;
        }
        at += record->length;
    }
    CHECK(found);
    lseek(folder, 0, SEEK_SET);
    REFUSED(syscall(SYS_getdents, folder, bytes, 1), EINVAL);
    close(folder);
}

static long secret = 1234;

static void another_process_is_looked_into(void) {
    pid_t child = fork();
    if (child == 0) {
        secret = 5678;
        raise(SIGSTOP);
        _exit(secret == 99 ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, WUNTRACED) == child);
    long copy = 0, given = 99;
    struct iovec own = {&copy, sizeof copy}, theirs = {&secret, sizeof secret}, bad = {(void *)8, 8};
    CHECK(process_vm_readv(child, &own, 1, &theirs, 1, 0) == sizeof copy && copy == 5678);
    own.iov_base = &given;
    CHECK(process_vm_writev(child, &own, 1, &theirs, 1, 0) == sizeof given);
    REFUSED(process_vm_readv(child, &own, 1, &bad, 1, 0), EFAULT);
    REFUSED(process_vm_readv(child, &own, 1, &theirs, 1, 1), EINVAL);
    REFUSED(process_vm_readv(999999, &own, 1, &theirs, 1, 0), ESRCH);
    CHECK(syscall(SYS_kcmp, getpid(), child, 1, 0, 0) > 0 && syscall(SYS_kcmp, child, child, 1, 0, 0) == 0);
    CHECK(syscall(SYS_kcmp, getpid(), child, 0, 1, 1) == 0);
    kill(child, SIGCONT);
    CHECK(status_of(child) == 0);
}

static void what_is_shared_is_separated(void) {
    CHECK(unshare(CLONE_FS | CLONE_FILES) == 0);
    REFUSED(unshare(0x1), EINVAL);
    CHECK(write(1, "", 0) == 0);
}

static void a_listing_that_is_read_in_pieces_shows_one_moment(void) {
    enum { MANY = 200 };
    char *areas = mmap(NULL, MANY * 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < MANY; i++) CHECK(mprotect(areas + i * 8192, 4096, PROT_NONE) == 0);
    int file = open("/proc/self/maps", O_RDONLY);
    static char text[200000];
    size_t length = 0;
    ssize_t count;
    while ((count = read(file, text + length, 100)) > 0) {
        length += count;
        if (length == 1000) CHECK(munmap(areas, MANY * 4096) == 0);
    }
    CHECK(count == 0 && length > MANY * 20 && text[length - 1] == '\n');
    // Every line is whole, and their addresses rise.
    unsigned long last = 0;
    for (char *line = text; line < text + length; line = strchr(line, '\n') + 1) {
        unsigned long start, end;
        CHECK(sscanf(line, "%lx-%lx ", &start, &end) == 2 && last <= start && start < end);
        last = end;
    }
    // From the start it is another moment.
    char *again = mmap(NULL, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char name[32];
    snprintf(name, sizeof name, "%lx-", (unsigned long)again);
    CHECK(lseek(file, 0, SEEK_SET) == 0);
    for (length = 0; (count = read(file, text + length, 4096)) > 0; length += count) {}
    text[length] = 0;
    CHECK(strstr(text, name) != NULL);
    close(file);
    munmap(again, 4096);
    munmap(areas + MANY * 4096, MANY * 4096);
}

const struct test file_tests[] = {
    TEST(a_memory_file_is_sealed),
    TEST(a_hole_reads_as_zeroes_and_keeps_the_size),
    TEST(what_is_cut_off_a_file_is_cut_off_its_private_copies),
    TEST(pages_of_a_file_change_places),
    TEST(one_file_is_mapped_in_thousands_of_places),
    TEST(devices_stay_at_their_start),
    TEST(pipes_are_doubled_and_filled_from_memory),
    TEST(directories_are_read_the_old_way),
    TEST(another_process_is_looked_into),
    TEST(a_listing_that_is_read_in_pieces_shows_one_moment),
    TEST(what_is_shared_is_separated),
    END,
};
