# packages: iproute2,dash,coreutils,grep,sed,libc-bin
# run: sh
# expect: 1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536
# expect: 2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500
# expect: inet 127.0.0.1/8 scope host lo
# expect: inet 10.0.2.15/24 brd 10.0.2.255 scope global eth0
# expect: default via 10.0.2.2 dev eth0
# expect: 10.0.2.0/24 dev eth0 proto kernel scope link src 10.0.2.15
# expect: local 127.0.0.1 dev lo proto kernel scope host src 127.0.0.1
# expect: 192.0.2.1 via 10.0.2.2 dev eth0 src 10.0.2.15
# expect: lookup main
# expect: RTNETLINK answers: Operation not permitted
# expect: Device "nothing" does not exist.
# expect: names are found
exec 2>&1
ip -o link | sed 's/ mtu \([0-9]*\).*/ mtu \1/'
ip -4 addr | sed -n 's/^ *\(inet .*\)$/\1/p'
ip route
ip route show table local
ip route get 192.0.2.1 | head -1 | sed 's/ uid.*//'
ip rule
ip link set lo down
ip link show dev nothing
getent ahostsv4 localhost | grep -q 127.0.0.1 && echo names are found
