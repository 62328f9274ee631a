# packages: busybox-static
# run: busybox sh
# expect: 35
# expect: status 3
# expect: text
# expect: 214f6d64b4ae3fbac59eb226c4e942ca  -
# expect: sum 500500
# expect: lines 2
# exit: 7
x=5
echo $((x * 7))
(exit 3)
echo status $?
mkdir -p /tmp/a/b && echo text > /tmp/a/b/c && cat /tmp/a/b/c
seq 1 1000 | tee /tmp/numbers | gzip | gunzip | cmp - /tmp/numbers && tar -C /tmp -cf /tmp/all.tar a numbers && tar -tf /tmp/all.tar | sort | md5sum
awk '{ sum += $1 } END { print "sum", sum }' /tmp/numbers
echo "lines $(printf 'one\ntwo\n' | sed -n '$=')"
exit 7
