/* What a row costs Debian's sqlite3, run as it is: on Tessera in each placement, and on Linux beside it.
 *
 * A figure is what a script of many INSERTs takes, less what the same script without one does, for each of them. It is the least of several runs,
 * in ticks of the time stamp counter; where QEMU counts, one tick is one instruction. Each run has a new database, in a file. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

#define SQLITE "/usr/bin/sqlite3"
#define DATABASE "/tmp/rows.db"
#define SCRIPT "/tmp/rows.sql"
#define RUNS 2

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void write_script(unsigned rows, int together) {
    FILE *script = fopen(SCRIPT, "w");
    if (!script) fail(SCRIPT);
    fprintf(script, "create table t(number integer primary key, text text);\n%s", together ? "begin;\n" : "");
    for (unsigned row = 0; row < rows; row++)
        fprintf(script, "insert into t values(%u, 'the text of row %u');\n", row, row);
    fprintf(script, "%sselect count(*) from t;\n", together ? "commit;\n" : "");
    if (fclose(script)) fail(SCRIPT);
}

/* Executes the script; what sqlite3 answers must be the number of rows. */
static uint64_t execute(unsigned rows) {
    char answer[64] = "", *environment[] = {"HOME=/", 0};
    int output[2], status;
    size_t length = 0;
    ssize_t more;
    if (pipe(output)) fail("pipe");
    uint64_t begin = __rdtsc();
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        if (dup2(output[1], 1) < 0) _exit(1);
        execle(SQLITE, SQLITE, "-bail", DATABASE, ".read " SCRIPT, (char *)0, environment);
        _exit(1);
    }
    close(output[1]);
    while ((more = read(output[0], answer + length, sizeof answer - 1 - length)) > 0) length += more;
    if (waitpid(child, &status, 0) != child) fail("waitpid");
    uint64_t took = __rdtsc() - begin;
    close(output[0]);
    if (status != 0 || strtoul(answer, 0, 10) != rows) {
        fprintf(stderr, "sqlite3 ended with %d and answered `%s`, not `%u`\n", status, answer, rows);
        exit(1);
    }
    return took;
}

static uint64_t least(unsigned rows, int together) {
    uint64_t least = UINT64_MAX;
    write_script(rows, together);
    for (unsigned run = 0; run < RUNS; run++) {
        unlink(DATABASE);
        uint64_t took = execute(rows);
        if (took < least) least = took;
    }
    return least;
}

static void measure(const char *name, unsigned rows, int together) {
    uint64_t without = least(0, together);
    printf("bench %s %llu ticks\n", name, (unsigned long long)(least(rows, together) - without) / rows);
}

int main(void) {
    measure("sqlite-insert", 4000, 1);
    measure("sqlite-transaction", 200, 0);
    return 0;
}
