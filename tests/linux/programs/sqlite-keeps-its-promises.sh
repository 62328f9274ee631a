# packages: sqlite3,dash,coreutils
# expect: 500500|1000
# expect: kept 1000
# expect: ok
# expect: 832040
# expect: wal
# expect: both 200
set -e
cd /tmp
sqlite3 a.db "create table t(n integer primary key, text); with recursive c(n) as (select 1 union all select n + 1 from c where n < 1000) insert into t select n, hex(n) from c; select sum(n), count(*) from t;"
# A transaction that is given up leaves nothing behind.
sqlite3 a.db "begin; delete from t; rollback; select 'kept', count(*) from t;" | tr '|' ' '
sqlite3 a.db "pragma integrity_check;"
sqlite3 :memory: "with recursive f(a, b, n) as (select 0, 1, 0 union all select b, a + b, n + 1 from f where n < 30) select a from f where n = 30;"
# Two writers at a time, with a log and memory that they share.
sqlite3 a.db "pragma journal_mode = wal; create table w(n);"
writer() { i=0; while [ $i -lt 10 ]; do sqlite3 -cmd ".timeout 60000" a.db "with recursive c(n) as (select 1 union all select n + 1 from c where n < 10) insert into w select n from c;"; i=$((i + 1)); done; }
writer & writer & wait
sqlite3 a.db "select 'both', count(*) from w;" | tr '|' ' '
