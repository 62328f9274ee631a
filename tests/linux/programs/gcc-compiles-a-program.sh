# packages: gcc,libc6-dev,make,grep,dash,coreutils
# memory: 1G
# expect: 78498 primes below 1000000
# expect: 3 calls of cc
set -e
cd /tmp
cat > sieve.c <<'END'
#include <stdlib.h>
int sieve(int below) {
    char *composite = calloc(below, 1);
    int found = 0;
    for (int n = 2; n < below; n++) {
        if (composite[n]) continue;
        found++;
        for (long m = (long)n * n; m < below; m += n) composite[m] = 1;
    }
    free(composite);
    return found;
}
END
cat > main.c <<'END'
#include <pthread.h>
#include <stdio.h>
int sieve(int below);
static void *run(void *below) { return (void *)(long)sieve((long)below); }
int main(void) {
    pthread_t thread;
    void *found;
    if (pthread_create(&thread, 0, run, (void *)1000000) || pthread_join(thread, &found)) return 1;
    printf("%ld primes below 1000000\n", (long)found);
    return 0;
}
END
printf 'primes: main.o sieve.o\n\t$(CC) -pthread -o $@ $^\n%%.o: %%.c\n\t$(CC) -O2 -c $<\n' > Makefile
make -j2 > log
./primes
echo "$(grep -c '^cc' log) calls of cc"
