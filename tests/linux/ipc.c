// What sysvipc(7) and mq_overview(7) promise.

#define _GNU_SOURCE
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static void shared_memory_is_attached_counted_and_removed_last(void) {
    int id = shmget(IPC_PRIVATE, 10000, IPC_CREAT | 0600);
    CHECK(id >= 0);
    int *here = shmat(id, NULL, 0), *again = shmat(id, NULL, SHM_RDONLY);
    CHECK(here != (void *)-1 && again != (void *)-1 && here != again);
    here[2000] = 77;
    CHECK(again[2000] == 77);
    pid_t child = fork();
    if (child == 0) {
        struct shmid_ds about;
        shmctl(id, IPC_STAT, &about);
        here[0] = (int)about.shm_nattch;
        _exit(0);
    }
    CHECK(status_of(child) == 0 && here[0] == 4);
    struct shmid_ds about;
    CHECK(shmctl(id, IPC_STAT, &about) == 0);
    CHECK(about.shm_segsz == 10000 && about.shm_nattch == 2 && about.shm_cpid == getpid());
    CHECK((about.shm_perm.mode & 0777) == 0600);
    CHECK(shmctl(id, IPC_RMID, NULL) == 0);
    CHECK(shmctl(id, IPC_STAT, &about) == 0 && (about.shm_perm.mode & SHM_DEST) && about.shm_nattch == 2);
    CHECK(shmdt(here) == 0 && again[2000] == 77);
    REFUSED(shmdt(here), EINVAL);
    CHECK(shmdt(again) == 0);
    CHECK(shmctl(id, IPC_STAT, &about) == -1 && (errno == EINVAL || errno == EIDRM));
}

static void keys_of_shared_memory_are_found_or_refused(void) {
    key_t key = 0x7e55e7a;
    REFUSED(shmget(key, 4096, 0600), ENOENT);
    REFUSED(shmget(key, 0, IPC_CREAT | 0600), EINVAL);
    int id = shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0600);
    CHECK(id >= 0 && shmget(key, 100, 0) == id && shmget(key, 0, 0) == id);
    REFUSED(shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
    REFUSED(shmget(key, 4097, 0600), EINVAL);
    CHECK(shmat(id, (void *)0x10001, 0) == (void *)-1 && errno == EINVAL);
    CHECK(shmat(-1, NULL, 0) == (void *)-1 && errno == EINVAL);
    CHECK(shmctl(id, IPC_RMID, NULL) == 0);
    REFUSED(shmget(key, 4096, 0600), ENOENT);
}

static void semaphores_change_together_and_are_waited_for(void) {
    int id = semget(IPC_PRIVATE, 2, IPC_CREAT | 0600);
    CHECK(id >= 0);
    unsigned short values[2] = {1, 0};
    CHECK(semctl(id, 0, SETALL, values) == 0 && semctl(id, 0, GETVAL) == 1);
    struct sembuf both[2] = {{0, -1, IPC_NOWAIT}, {1, -1, IPC_NOWAIT}};
    REFUSED(semop(id, both, 2), EAGAIN);
    CHECK(semctl(id, 0, GETVAL) == 1);
    struct sembuf outside = {2, 1, 0};
    REFUSED(semop(id, &outside, 1), EFBIG);
    REFUSED(semop(id, both, 0), EINVAL);
    struct sembuf much = {0, 32767, 0};
    REFUSED(semop(id, &much, 1), ERANGE);
    REFUSED(semctl(id, 0, SETVAL, 40000), ERANGE);
    REFUSED(semctl(id, 2, GETVAL), EINVAL);
    struct sembuf take = {1, -1, 0};
    struct timespec moment = {0, 2000000};
    REFUSED(semtimedop(id, &take, 1, &moment), EAGAIN);
    pid_t child = fork();
    if (child == 0) {
        struct sembuf undone = {0, 4, SEM_UNDO}, give = {1, 1, 0};
        _exit(semop(id, &undone, 1) || semctl(id, 0, GETVAL) != 5 || semop(id, &give, 1));
    }
    CHECK(semop(id, &take, 1) == 0);
    CHECK(status_of(child) == 0);
    CHECK(semctl(id, 0, GETVAL) == 1 && semctl(id, 0, GETPID) == child);
    struct semid_ds about;
    CHECK(semctl(id, 0, IPC_STAT, &about) == 0 && about.sem_nsems == 2 && about.sem_otime != 0);
    child = fork();
    if (child == 0) {
        _exit(semop(id, &take, 1) == -1 && errno == EIDRM ? 0 : 1);
    }
    while (semctl(id, 1, GETNCNT) != 1) {
        usleep(1000);
    }
    CHECK(semctl(id, 0, IPC_RMID) == 0 && status_of(child) == 0);
    REFUSED(semop(id, &take, 1), EINVAL);
}

struct letter {
    long kind;
    char text[16];
};

static void messages_are_taken_by_kind(void) {
    int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    struct letter letter = {3, "three"};
    CHECK(id >= 0 && msgsnd(id, &letter, 6, 0) == 0);
    letter = (struct letter){1, "one"};
    CHECK(msgsnd(id, &letter, 4, 0) == 0);
    letter.kind = 0;
    REFUSED(msgsnd(id, &letter, 4, 0), EINVAL);
    REFUSED(msgsnd(id, &letter, 1 << 20, 0), EINVAL);
    struct letter got;
    REFUSED(msgrcv(id, &got, 16, 2, IPC_NOWAIT), ENOMSG);
    REFUSED(msgrcv(id, &got, 2, 0, 0), E2BIG);
    CHECK(msgrcv(id, &got, 16, -5, 0) == 4 && got.kind == 1 && !strcmp(got.text, "one"));
    CHECK(msgrcv(id, &got, 2, 0, MSG_NOERROR) == 2 && got.kind == 3 && !memcmp(got.text, "th", 2));
    struct msqid_ds about;
    CHECK(msgctl(id, IPC_STAT, &about) == 0 && about.msg_qnum == 0 && about.msg_lspid == getpid());
    letter.kind = 1;
    int sent = 0;
    while (msgsnd(id, &letter, 16, IPC_NOWAIT) == 0) {
        sent++;
    }
    CHECK(errno == EAGAIN && sent == 16384 / 16);
    pid_t child = fork();
    if (child == 0) {
        _exit(msgsnd(id, &letter, 16, 0) == -1 && errno == EIDRM ? 0 : 1);
    }
    usleep(10000);
    CHECK(msgctl(id, IPC_RMID, NULL) == 0 && status_of(child) == 0);
}

static volatile int told, value_told;

static void on_message(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    told = info->si_code;
    value_told = info->si_value.sival_int;
}

static volatile int value_of_thread;

static void told_by_thread(union sigval value) {
    value_of_thread = value.sival_int;
}

static void named_queues_keep_priorities_and_tell_of_messages(void) {
    const char *name = "/tessera-test";
    struct mq_attr wanted = {.mq_maxmsg = 2, .mq_msgsize = 8}, got;
    mq_unlink(name);
    REFUSED(mq_open(name, O_RDWR), ENOENT);
    mqd_t queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &wanted);
    CHECK(queue != -1);
    REFUSED(mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &wanted), EEXIST);
    REFUSED(mq_send(queue, "too long for it", 15, 0), EMSGSIZE);
    REFUSED(mq_send(queue, "x", 1, 32768), EINVAL);
    char text[8];
    unsigned priority;
    REFUSED(mq_receive(queue, text, 8, &priority), EAGAIN);
    REFUSED(mq_receive(queue, text, 7, &priority), EMSGSIZE);
    struct sigaction action = {.sa_sigaction = on_message, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR2, &action, NULL);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 5};
    CHECK(mq_notify(queue, &event) == 0);
    REFUSED(mq_notify(queue, &event), EBUSY);
    CHECK(mq_send(queue, "low", 3, 1) == 0 && told == SI_MESGQ && value_told == 5);
    CHECK(mq_send(queue, "high", 4, 9) == 0);
    REFUSED(mq_send(queue, "full", 4, 9), EAGAIN);
    struct pollfd ready = {.fd = queue, .events = POLLIN | POLLOUT};
    CHECK(poll(&ready, 1, 0) == 1 && ready.revents == POLLIN);
    CHECK(mq_getattr(queue, &got) == 0 && got.mq_curmsgs == 2 && got.mq_maxmsg == 2 && got.mq_flags == O_NONBLOCK);
    CHECK(mq_receive(queue, text, 8, &priority) == 4 && priority == 9 && !memcmp(text, "high", 4));
    CHECK(mq_receive(queue, text, 8, &priority) == 3 && priority == 1);
    got.mq_flags = 0;
    CHECK(mq_setattr(queue, &got, NULL) == 0);
    struct timespec moment;
    clock_gettime(CLOCK_REALTIME, &moment);
    REFUSED(mq_timedreceive(queue, text, 8, NULL, &moment), ETIMEDOUT);
    moment.tv_nsec = 1000000000;
    REFUSED(mq_timedreceive(queue, text, 8, NULL, &moment), EINVAL);
    // A thread that the C library makes is told by a netlink socket.
    struct sigevent by_thread = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = told_by_thread};
    by_thread.sigev_value.sival_int = 7;
    CHECK(mq_notify(queue, &by_thread) == 0 && mq_send(queue, "t", 1, 0) == 0);
    for (int patience = 0; value_of_thread != 7 && patience < 1000; patience++)
        usleep(1000);
    CHECK(value_of_thread == 7 && mq_receive(queue, text, 8, NULL) == 1);
    CHECK(mq_notify(queue, &by_thread) == 0 && mq_notify(queue, NULL) == 0);
    CHECK(mq_unlink(name) == 0 && mq_close(queue) == 0);
    REFUSED(mq_unlink(name), ENOENT);
}

const struct test ipc_tests[] = {
    TEST(shared_memory_is_attached_counted_and_removed_last),
    TEST(keys_of_shared_memory_are_found_or_refused),
    TEST(semaphores_change_together_and_are_waited_for),
    TEST(messages_are_taken_by_kind),
    TEST(named_queues_keep_priorities_and_tell_of_messages),
    END,
};
