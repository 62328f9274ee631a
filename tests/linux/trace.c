// What ptrace(2) and seccomp(2) promise.

#define _GNU_SOURCE
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <unistd.h>

#include "check.h"

// As <sys/ptrace.h> names them, which cannot be included beside the kernel's header.
long ptrace(int request, ...);

static long word = 41;

static int stopped_by(pid_t child) {
    int status = 0;
    CHECK(waitpid(child, &status, __WALL) == child && WIFSTOPPED(status));
    return status >> 8;
}

static void a_tracer_sees_and_changes_calls_registers_and_memory(void) {
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        int good = syscall(SYS_getppid) == 4242 && word == 42;
        _exit(good ? 5 : 1);
    }
    CHECK(stopped_by(child) == SIGSTOP);
    CHECK(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD) == 0);
    CHECK(ptrace(PTRACE_SETOPTIONS, child, 0, 0x40000000) == -1 && errno == EINVAL);
    // glibc's function gives the word itself.
    CHECK(ptrace(PTRACE_PEEKDATA, child, &word, NULL) == 41);
    CHECK(ptrace(PTRACE_POKEDATA, child, &word, 42) == 0 && word == 41);
    struct user_regs_struct registers;
    do {
        CHECK(ptrace(PTRACE_SYSCALL, child, 0, 0) == 0);
        CHECK(stopped_by(child) == (SIGTRAP | 0x80));
        CHECK(ptrace(PTRACE_GETREGS, child, 0, &registers) == 0);
    } while (registers.orig_rax != SYS_getppid);
    struct ptrace_syscall_info info;
    CHECK(registers.rax == (unsigned long)-ENOSYS);
    CHECK(ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) == 80);
    CHECK(info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == SYS_getppid && info.arch == AUDIT_ARCH_X86_64);
    CHECK(ptrace(PTRACE_SYSCALL, child, 0, 0) == 0 && stopped_by(child) == (SIGTRAP | 0x80));
    CHECK(ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) == 33);
    CHECK(info.op == PTRACE_SYSCALL_INFO_EXIT && info.exit.rval == getpid() && !info.exit.is_error);
    CHECK(ptrace(PTRACE_GETREGS, child, 0, &registers) == 0 && registers.rax == (unsigned long)getpid());
    CHECK(ptrace(PTRACE_PEEKUSR, child, offsetof(struct user, regs.orig_rax), 0) == SYS_getppid);
    registers.rax = 4242;
    CHECK(ptrace(PTRACE_SETREGS, child, 0, &registers) == 0);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    int status = status_of(child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 5);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == -1 && errno == ESRCH);
}

static void a_tracer_gets_signals_first_and_steps(void) {
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGUSR1);
        raise(SIGUSR2);
        _exit(1);
    }
    CHECK(stopped_by(child) == SIGUSR1);
    siginfo_t info;
    CHECK(ptrace(PTRACE_GETSIGINFO, child, 0, &info) == 0 && info.si_signo == SIGUSR1 && info.si_code == SI_TKILL);
    struct user_regs_struct before, after;
    struct iovec vector = {&before, sizeof before};
    CHECK(ptrace(PTRACE_GETREGSET, child, 1, &vector) == 0 && vector.iov_len == sizeof before);
    CHECK(ptrace(PTRACE_SINGLESTEP, child, 0, 0) == 0 && stopped_by(child) == SIGTRAP);
    CHECK(ptrace(PTRACE_GETREGS, child, 0, &after) == 0 && after.rip != before.rip);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0 && stopped_by(child) == SIGUSR2);
    CHECK(ptrace(PTRACE_CONT, child, 0, SIGTERM) == 0);
    int status = status_of(child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

static void a_tracer_follows_children_and_new_programs(void) {
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        pid_t grandchild = fork();
        if (grandchild == 0) {
            _exit(3);
        }
        int status;
        waitpid(grandchild, &status, 0);
        char *arguments[] = {"self", "child", NULL}, *environment[] = {"GREETING=hello", NULL};
        execve("/proc/self/exe", arguments, environment);
        _exit(1);
    }
    CHECK(stopped_by(child) == SIGSTOP);
    CHECK(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEFORK | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT) == 0);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    CHECK(stopped_by(child) == (SIGTRAP | PTRACE_EVENT_FORK << 8));
    unsigned long grandchild = 0, message = 0;
    CHECK(ptrace(PTRACE_GETEVENTMSG, child, 0, &grandchild) == 0 && grandchild > (unsigned long)child);
    CHECK(stopped_by((pid_t)grandchild) == SIGSTOP);
    CHECK(ptrace(PTRACE_DETACH, grandchild, 0, 0) == 0);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    CHECK(stopped_by(child) == SIGCHLD && ptrace(PTRACE_CONT, child, 0, SIGCHLD) == 0);
    CHECK(stopped_by(child) == (SIGTRAP | PTRACE_EVENT_EXEC << 8));
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    CHECK(stopped_by(child) == (SIGTRAP | PTRACE_EVENT_EXIT << 8));
    CHECK(ptrace(PTRACE_GETEVENTMSG, child, 0, &message) == 0 && message == 42 << 8);
    CHECK(ptrace(PTRACE_CONT, child, 0, 0) == 0);
    CHECK(status_of(child) == 42 << 8);
}

static void a_process_is_seized_interrupted_and_let_go(void) {
    pid_t child = fork();
    if (child == 0) {
        for (;;) {
            pause();
        }
    }
    CHECK(ptrace(PTRACE_SEIZE, getpid(), 0, 0) == -1 && errno == EPERM);
    CHECK(ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACESYSGOOD) == 0);
    CHECK(ptrace(PTRACE_GETEVENTMSG, child, 0, &word) == -1 && errno == ESRCH);
    CHECK(ptrace(PTRACE_INTERRUPT, child, 0, 0) == 0);
    CHECK(stopped_by(child) == (SIGTRAP | PTRACE_EVENT_STOP << 8));
    CHECK(ptrace(PTRACE_SYSCALL, child, 0, 0) == 0 && stopped_by(child) == (SIGTRAP | 0x80));
    CHECK(ptrace(PTRACE_DETACH, child, 0, SIGTERM) == 0);
    int status = status_of(child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

static void one_that_stands_still_is_attached_to_at_once(void) {
    for (int round = 0; round < 10; round++) {
        pid_t child = fork();
        if (child == 0) {
            raise(SIGSTOP);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
        CHECK(ptrace(PTRACE_ATTACH, child, 0, 0) == 0);
        errno = 0;
        CHECK(ptrace(PTRACE_PEEKUSR, child, offsetof(struct user, regs.rip), 0) != 0 && errno == 0);
        kill(child, SIGKILL);
        do
            CHECK(waitpid(child, &status, 0) == child);
        while (WIFSTOPPED(status));
    }
}

static struct sock_filter refuse_getppid[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgrp, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP | 5),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sync, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};
static const struct sock_fprog program = {sizeof refuse_getppid / sizeof *refuse_getppid, refuse_getppid};

static volatile int trapped_call, trapped_code, trapped_value;

static void on_trap(int signal, siginfo_t *info, void *context) {
    (void)context, (void)signal;
    trapped_call = info->si_syscall;
    trapped_code = info->si_code;
    trapped_value = info->si_errno;
}

static void a_filter_refuses_traps_and_ends(void) {
    pid_t child = fork();
    if (child == 0) {
        failures = 0;
        CHECK(prctl(PR_GET_SECCOMP) == 0);
        CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0x1000, &program) == -1 && errno == EINVAL);
        CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
        CHECK(prctl(PR_GET_SECCOMP) == 2);
        CHECK(syscall(SYS_getppid) == -1 && errno == 77);
        struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
        sigaction(SIGSYS, &action, NULL);
        CHECK(syscall(SYS_getpgrp) == SYS_getpgrp);
        CHECK(trapped_call == SYS_getpgrp && trapped_code == 1 && trapped_value == 5);
        pid_t grandchild = fork();
        if (grandchild == 0) {
            _exit(syscall(SYS_getppid) == -1 && errno == 77 ? 0 : 1);
        }
        CHECK(status_of(grandchild) == 0);
        fflush(stdout);
        if (failures == 0) {
            signal(SIGSYS, SIG_DFL);
            sync();
        }
        _exit(1);
    }
    int status = status_of(child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

static void strict_mode_leaves_reading_writing_and_ending(void) {
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
        syscall(SYS_write, 1, "", 0);
        syscall(SYS_exit, 6);
    }
    int status = status_of(child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 6);
    child = fork();
    if (child == 0) {
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
        syscall(SYS_getpid);
        syscall(SYS_exit, 6);
    }
    status = status_of(child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void filters_that_could_fail_are_refused(void) {
    struct sock_filter endless[] = {BPF_STMT(BPF_JMP | BPF_JA, 0)};
    struct sock_filter outside[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_fprog one = {1, endless}, other = {2, outside}, none = {0, endless};
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        int good = 1;
        const struct sock_fprog *all[] = {&one, &other, &none};
        for (int index = 0; index < 3; index++) {
            good &= syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, all[index]) == -1 && errno == EINVAL;
        }
        good &= syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, 8) == -1 && errno == EFAULT;
        unsigned action = SECCOMP_RET_TRAP;
        good &= syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
        action = 0x12340000;
        good &= syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == -1 && errno == EOPNOTSUPP;
        _exit(!good);
    }
    CHECK(status_of(child) == 0);
}

const struct test trace_tests[] = {
    TEST(a_tracer_sees_and_changes_calls_registers_and_memory),
    TEST(a_tracer_gets_signals_first_and_steps),
    TEST(a_tracer_follows_children_and_new_programs),
    TEST(a_process_is_seized_interrupted_and_let_go),
    TEST(one_that_stands_still_is_attached_to_at_once),
    TEST(a_filter_refuses_traps_and_ends),
    TEST(strict_mode_leaves_reading_writing_and_ending),
    TEST(filters_that_could_fail_are_refused),
    END,
};
