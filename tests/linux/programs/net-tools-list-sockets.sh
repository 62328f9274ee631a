# packages: net-tools,iproute2,dash,busybox-static,coreutils,grep,sed
# run: sh
# expect: eth0: flags=4163<UP,BROADCAST,RUNNING,MULTICAST>  mtu 1500
# expect: inet 10.0.2.15  netmask 255.255.255.0  broadcast 10.0.2.255
# expect: lo: flags=73<UP,LOOPBACK,RUNNING>  mtu 65536
# expect: 0.0.0.0 10.0.2.2 0.0.0.0 UG eth0
# expect: 10.0.2.0 0.0.0.0 255.255.255.0 U eth0
# expect: tcp 0 0 127.0.0.1:8080 0.0.0.0:* LISTEN
# expect: LISTEN 127.0.0.1:8080
exec 2>&1
ifconfig -a | sed 's/^ *//'
route -n | sed -n 's/^\([0-9.]*\) *\([0-9.]*\) *\([0-9.]*\) *\([UG]*\) .* \(eth0\)$/\1 \2 \3 \4 \5/p'
busybox httpd -f -p 127.0.0.1:8080 -h /tmp &
for try in 1 2 3 4 5 6 7 8 9; do grep -q ' 0100007F:1F90 ' /proc/net/tcp || sleep 0.5; done
netstat -tln | tr -s ' '
ss -tln | tr -s ' ' | cut -d ' ' -f 1,4
kill $!
