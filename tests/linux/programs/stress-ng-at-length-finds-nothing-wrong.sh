# packages: stress-ng,bash,coreutils,grep
# run: bash
# memory: 1G
# long: it takes minutes
# limit: 1800
# expect: every stressor found nothing wrong
# More stressors of the kinds that call the operating system, each a few times, with its own check of what it got. What one says that it cannot
# do here is no failure. Not among them are those that fail in every container: `ramfs` mounts, `reboot` asks to.
stressors='affinity:20 aio:20 alarm:2 bad-altstack:4 bigheap:2 brk:100 chdir:10 chown:10 close:40 context:20 copy-file:2 daemon:10
dentry:1 dev-shm:1 dir:1 dirdeep:1 dirmany:1 dnotify:1 env:1 fallocate:2 fault:20 fifo:40 filename:1 flock:20 fpunch:1 fstat:4 full:20 getdent:2
getrandom:40 hrtimers:2 inotify:2 io:4 itimer:40 judy:1 key:1 kill:40 lease:2 locka:20 lockf:20 lockofd:20 madvise:2 malloc:100 mcontend:1
membarrier:2 memfd:1 mincore:4 misaligned:1 mknod:1 mlock:2 mmapaddr:4 mmapfixed:4 mmaphuge:2 mmapmany:1 mq:40 mremap:2 msg:40 msync:4 munmap:2
nanosleep:2 nice:1 null:100 open:2 personality:1 pidfd:20 pkey:2 prctl:2 procfs:1 pty:2 readahead:2 remap:2 rename:20 resched:10
revio:2 rlimit:1 rseq:10 schedpolicy:4 secretmem:1 seek:40 sem-sysv:40 sendfile:10 session:4 set:1 shellsort:1 shm:1 shm-sysv:1 sigabrt:10
sigchld:20 sigfd:40 sigfpe:40 sigio:20 sigpending:40 sigpipe:40 sigrt:40 sigsegv:40 sigsuspend:20 sigtrap:40 sock:10 sockfd:40
sockmany:1 splice:20 stack:2 stackmmap:1 switch:100 symlink:1 sync-file:1 sysbadaddr:10 sysinfo:10 tee:20 timer:20 tlb-shootdown:1 tmpfs:1 touch:20
tun:1 udp:40 unshare:2 urandom:20 userfaultfd:1 utime:20 vdso:20 verity:1 vfork:20 vforkmany:4 vm-addr:1 vm-rw:2 vm-segv:10 vm-splice:10
wait:10 waitcpu:10 xattr:2 yield:100'
wrong=0
cd /tmp
for each in $stressors; do
    name=${each%:*}
    if said=$(stress-ng --verify --no-rand-seed --$name 1 --$name-ops ${each#*:} --vm-bytes 4M --timeout 5 2>&1) && ! grep -q ' fail: ' <<< "$said"; then
        echo "$name: right"
    else
        case $? in 3 | 4) echo "$name: cannot be done here" ;; *) echo "$name: wrong: $said"; ((wrong++)) ;; esac
    fi
done
[ $wrong = 0 ] && echo "every stressor found nothing wrong"
