# packages: gdb,coreutils,dash,libc6
# memory: 1G
# expect: Breakpoint 1
# expect: called 42
# expect: the argument is "12.5 s"
# expect: stepped 1
# expect: changed 7
# expect: exited with code 07
# A program without debugging information; what is exported of the library can be called, watched and changed all the same.
cat > /tmp/commands <<'GDB'
set confirm off
set debuginfod enabled off
set disable-randomization on
break exit
run
printf "called %d\n", ((int (*)(int))abs)(-42)
set $text = (char *)((void *(*)(unsigned long))malloc)(64)
call (void)((int (*)(char *, const char *, ...))sprintf)($text, "%d.%d s", 12, 5)
printf "the argument is \"%s\"\n", $text
set $before = (unsigned long)$pc
stepi
printf "stepped %d\n", (unsigned long)$pc != $before
set $rdi = 7
printf "changed %d\n", (int)$rdi
continue
GDB
exec gdb -nx -batch -x /tmp/commands --args sleep 0
