# packages: nodejs,dash,coreutils
# memory: 1G
# expect: answer 5050 of 20
# expect: worker 832040
# expect: file 3
# expect: child SIGTERM
cat > /tmp/program.js <<'END'
const http = require('http'), fs = require('fs/promises'), { Worker } = require('worker_threads'), { spawn } = require('child_process');
const worker = source => new Promise(done => new Worker(source, { eval: true }).once('message', done));
async function main() {
  const server = http.createServer((request, answer) => {
    const n = +new URL(request.url, 'http://x').searchParams.get('n');
    setTimeout(() => answer.end(String(n * (n + 1) / 2)), 10);
  });
  await new Promise(done => server.listen(0, '127.0.0.1', done));
  const address = 'http://127.0.0.1:' + server.address().port;
  const ask = n => new Promise(done => http.get(address + '/?n=' + n, answer => { let text = ''; answer.on('data', part => text += part).on('end', () => done(+text)); }));
  const answers = await Promise.all(Array.from({ length: 20 }, () => ask(100)));
  console.log('answer', answers[0], 'of', answers.filter(answer => answer === 5050).length);
  server.close();
  console.log('worker', await worker("let [a, b] = [0, 1]; for (let i = 0; i < 30; i++) [a, b] = [b, a + b]; require('worker_threads').parentPort.postMessage(a)"));
  await fs.writeFile('/tmp/file', 'a\nb\nc\n');
  console.log('file', (await fs.readFile('/tmp/file', 'utf8')).split('\n').length - 1);
  const child = spawn('sleep', ['100']);
  child.on('exit', (code, signal) => console.log('child', signal));
  child.kill();
}
main();
END
exec node /tmp/program.js
