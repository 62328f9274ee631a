# packages: bash,coreutils,grep,sed,findutils
# run: bash
# expect: 100
# expect: 1 two 3
# expect: caught
# expect: 5050
# expect: job 3
# expect: 3 files
seq 1 100 | sort -rn | head -1
for i in 1 2 3; do echo $i; done | sed s/2/two/ | tr '\n' ' '; echo
trap 'echo caught' USR1
kill -USR1 $$
wait
sum=0
while read -r number; do ((sum += number)); done < <(seq 100)
echo $sum
(exit 3) &
wait $!
echo job $?
mkdir -p /tmp/d/{a,b,c} && touch /tmp/d/{a,b,c}/file
echo "$(find /tmp/d -type f -print0 | xargs -0 -n1 basename | grep -c '^file$') files"
