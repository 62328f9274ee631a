# packages: postgresql-15,bash,coreutils,util-linux,sed,grep
# run: bash
# memory: 1G
# long: it takes the better part of a minute
# expect: server started
# expect: number of failed transactions: 0
# expect: consistent t
# expect: 100000
# expect: survived 30
set -e
export PATH=$PATH:/usr/lib/postgresql/15/bin LC_ALL=C
mkdir -p /tmp/pg && chown postgres /tmp/pg
run() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
cd /tmp
run initdb -D /tmp/pg -U postgres --no-sync > /dev/null
run pg_ctl -D /tmp/pg -w -t 240 -o '-k /tmp' -l /tmp/pg/log start
run pgbench -h /tmp -U postgres -i -s 1 -q postgres 2> /dev/null
run pgbench -h 127.0.0.1 -U postgres -c 3 -j 2 -t 10 postgres
ask() { run psql -h /tmp -U postgres -At -c "$1" postgres; }
echo consistent "$(ask 'select (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history)')"
ask 'select count(*) from pgbench_accounts'
# What was committed is there after a crash.
run pg_ctl -D /tmp/pg -m immediate stop > /dev/null
run pg_ctl -D /tmp/pg -w -t 240 -o '-k /tmp' -l /tmp/pg/log start > /dev/null
echo survived "$(ask 'select count(*) from pgbench_history')"
run pg_ctl -D /tmp/pg -m fast stop > /dev/null
