# packages: redis-server,redis-tools,dash,coreutils,sed,grep
# expect: OK
# expect: 5050
# expect: 1000
# expect: message: hello
# expect: SET: done
# expect: GET: done
# expect: saved 1001
redis-server --port 6379 --dir /tmp --save '' --daemonize no > /tmp/log &
until redis-cli ping > /dev/null 2>&1; do sleep 0.1; done
redis-cli set x 0
redis-cli eval 'local sum = 0; for i = 1, 100 do sum = sum + i end; return sum' 0
seq 1 1000 | sed 's/.*/SET key& &/' | redis-cli | grep -c OK
(timeout 5 redis-cli subscribe news | head -6 | tail -1 | sed 's/^/message: /') &
listener=$!
until [ "$(redis-cli publish news hello)" = 1 ]; do sleep 0.1; done
wait $listener
redis-benchmark -q -n 2000 -c 20 -t set,get | tr '\r' '\n' | sed -n 's/^\([SG]ET\): .*requests per second.*/\1: done/p'
redis-cli del key:__rand_int__ > /dev/null
redis-cli bgsave > /dev/null
until [ "$(redis-cli info persistence | grep -c rdb_bgsave_in_progress:0)" = 1 ]; do sleep 0.1; done
echo saved "$(redis-cli dbsize)"
redis-cli shutdown nosave
