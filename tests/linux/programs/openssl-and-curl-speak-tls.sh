# packages: openssl,curl,grep,dash,coreutils
# expect: no trust, no answer
# expect: the secret 5050
# expect: TLSv1.3
set -e
cd /tmp
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out certificate -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2> /dev/null
echo "the secret $(($(seq -s + 1 100)))" > page
openssl s_server -accept 4433 -key key -cert certificate -WWW -quiet &
server=$!
until curl -s --cacert certificate https://localhost:4433/page > answer; do sleep 0.2; done
curl -s https://localhost:4433/page || echo no trust, no answer
cat answer
curl -s -o /dev/null -v --cacert certificate https://localhost:4433/page 2>&1 | grep -o 'TLSv1.3' | head -1 || true
kill $server
