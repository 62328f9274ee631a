# packages: stress-ng,bash,coreutils,grep
# run: bash
# expect: access: right
# expect: epoll: right
# expect: futex: right
# expect: mmap: right
# expect: sigq: right
# expect: timerfd: right
# expect: vm: right
# expect: all 20 found nothing wrong
# Each stressor a few times, with its own check of what it got.
stressors='access:2 chmod:4 clone:20 dup:8 epoll:40 eventfd:200 fcntl:8 fork:20 futex:20 get:4 mmap:1
mprotect:8 pipe:200 poll:40 pthread:8 signal:100 sigq:40 timerfd:8 vm:1 zombie:20'
right=0
cd /tmp
for each in $stressors; do
    name=${each%:*}
    if said=$(stress-ng --verify --no-rand-seed --$name 1 --$name-ops ${each#*:} --vm-bytes 4M --mmap-bytes 1M --pthread-max 16 --timeout 120 2>&1) && ! grep -q ' fail: ' <<< "$said"; then
        echo "$name: right"
        ((right++))
    else
        echo "$name: wrong: $said"
    fi
done
echo "all $right found nothing wrong"
