# packages: memcached,bash,coreutils
# run: bash
# expect: STORED
# expect: VALUE greeting 0 5
# expect: hello
# expect: 42
# expect: NOT_FOUND
# expect: 100 stored
# expect: curr_items 102
memcached -u root -l 127.0.0.1 -p 11211 -t 4 &
server=$!
until exec 3<> /dev/tcp/127.0.0.1/11211; do sleep 0.1; done 2> /dev/null
ask() { printf '%b\r\n' "$1" >&3; for ((i = 0; i < $2; i++)); do read -r line <&3; printf '%s\n' "${line%$'\r'}"; done; }
ask 'set greeting 0 0 5\r\nhello' 1
ask 'get greeting' 3
ask 'set number 0 0 2\r\n40' 1
ask 'incr number 2' 1
ask 'delete nothing' 1
stored=0
for ((n = 0; n < 100; n++)); do [ "$(ask "set key$n 0 0 1\r\nx" 1)" = STORED ] && ((stored++)); done
echo $stored stored
printf 'stats\r\n' >&3
while read -r line <&3 && [[ $line != END* ]]; do [[ $line = *curr_items* ]] && echo "${line%$'\r'}"; done
kill $server
wait $server
