# packages: strace,dash,coreutils,grep,sed
# expect: the program's own output
# expect: executed 2
# expect: wrote "the program's own output\n"
# expect: children 1
# expect: ended 2
# expect: code 3
# expect: counted write
cd /tmp
strace -f -o trace sh -c "echo \"the program's own output\"; /bin/true; exit 3"
code=$?
# A call that others come between stands in two lines.
echo "executed $(grep -cE 'execve(\(| resumed).*= 0$' trace)"
printf 'wrote %s\n' "$(sed -n 's/.*write(1, \("the program.*"\), [0-9]*) *= .*/\1/p' trace)"
echo "children $(grep -cE '(clone3?|v?fork)(\(| resumed).*= [0-9]+$' trace)"
echo "ended $(grep -c '+++ exited with' trace)"
echo "code $code"
strace -c -o counts echo > /dev/null
echo "counted $(grep -ow write counts)"
