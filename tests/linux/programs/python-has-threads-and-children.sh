# packages: python3,dash,coreutils
# expect: sum 2470
# expect: b'A B\n'
# expect: slept 10
# expect: d29751f2649b32ff572b5e0a9f541ea660a50f94ff0beedfb0b692b924cc8025
# expect: [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
# expect: queue 4950
cat > /tmp/program.py <<'END'
import asyncio, hashlib, multiprocessing, subprocess, threading

def square(number):
    return number * number

def feed(queue):
    for number in range(100):
        queue.put(number)

async def sleepers():
    return sum(await asyncio.gather(*[asyncio.sleep(0.01, 1) for _ in range(10)]))

if __name__ == "__main__":
    found = []
    threads = [threading.Thread(target=lambda n=n: found.append(n * n)) for n in range(20)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    print("sum", sum(found))
    print(subprocess.run("echo a b | tr a-z A-Z", shell=True, capture_output=True).stdout)
    print("slept", asyncio.run(sleepers()))
    print(hashlib.sha256(bytes(1000000)).hexdigest())
    with multiprocessing.Pool(3) as pool:
        print(pool.map(square, range(10)))
    queue = multiprocessing.Queue()
    child = multiprocessing.Process(target=feed, args=(queue,))
    child.start()
    print("queue", sum(queue.get(timeout=60) for _ in range(100)))
    child.join()
END
exec python3 /tmp/program.py
