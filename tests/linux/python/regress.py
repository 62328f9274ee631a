"""Runs modules of CPython's own regression tests and says how each case went.

    python3 regress.py [--seconds N] test_os test_socket …

For each case a line `case MODULE:CASE OUTCOME`: passed, skipped, failed, expected (it failed, as it is meant to), hung or
crashed (it took its interpreter along). A module runs in an interpreter of its own, in a directory of its own; after a case that
hung or crashed, another interpreter goes on behind it. The last line is `modules N done`.
"""

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time

# A case that says nothing for so long hangs.
SECONDS = 120
# So often a module is taken up again.
MOST_RESTARTS = 25
# Modules that ask for the network, and speak to themselves alone.
LOCAL = {"test_socketserver"}
# Modules that want a terminal that controls them.
TERMINAL = {"test_ioctl"}


def child(module, report, done):
    """Runs the cases of one module that are not in `done`, and writes what happens to the descriptor `report`."""
    import unittest
    from test import support

    # What regrtest enables by itself: no resource (network, large files, sounds).
    support.use_resources = ["network"] if module in LOCAL else []
    support.verbose = 0
    # Instead of the default 10 s for a helper process or a lock: this machine is an emulated one.
    support.LOOPBACK_TIMEOUT = 30.0
    support.SHORT_TIMEOUT = 60.0
    support.LONG_TIMEOUT = 300.0

    def say(*words):
        os.write(report, (" ".join(words) + "\n").encode())

    def named(test):
        """The case's name within its module: some modules run cases of a class from elsewhere."""
        return module + ":" + test.id().removeprefix("test.").removeprefix(module + ".")

    class Result(unittest.TestResult):
        def startTest(self, test):
            super().startTest(test)
            self.outcome = "passed"
            say("start", named(test))

        def stopTest(self, test):
            super().stopTest(test)
            say("end", named(test), self.outcome)

        def note(self, test, outcome, error=None):
            if isinstance(test, unittest.TestCase):
                self.outcome = outcome
            else:
                # What a class or a module needs before its first case.
                say("end", module + ":" + str(test).split(" ")[-1].strip("()").removeprefix("test.") + ".setUp", outcome)
            if error and outcome == "failed":
                text = self._exc_info_to_string(error, test) if isinstance(test, unittest.TestCase) else repr(error[1])
                os.write(2, f"--- {test}\n{text}".encode(errors="replace"))

        def addFailure(self, test, error):
            self.note(test, "failed", error)

        def addError(self, test, error):
            self.note(test, "failed", error)

        def addSkip(self, test, reason):
            self.note(test, "skipped")

        def addExpectedFailure(self, test, error):
            self.note(test, "expected")

        def addUnexpectedSuccess(self, test):
            self.note(test, "failed")

        def addSubTest(self, test, subtest, error):
            if error is not None:
                self.note(test, "failed", error)

    def cases(suite):
        for test in suite:
            if isinstance(test, unittest.TestSuite):
                yield from cases(test)
            else:
                yield test

    def without(suite):
        """The suite without what is done, in the same order and grouping, which set-up of classes depends on."""
        kept = [without(test) if isinstance(test, unittest.TestSuite) else test for test in suite
                if isinstance(test, unittest.TestSuite) or named(test) not in done]
        return unittest.TestSuite(kept)

    if module in TERMINAL:
        fcntl.ioctl(os.openpty()[1], termios.TIOCSCTTY, 0)
    try:
        suite = unittest.defaultTestLoader.loadTestsFromName("test." + module)
    except unittest.SkipTest:
        say("finished")
        return
    without(suite).run(Result())
    say("finished")


def watch(process, report, seconds):
    """Passes on what the child says; answers the case that it was in when it ended or hung, what became of it, and if it finished."""
    current, text, deadline = None, b"", time.monotonic() + seconds
    while True:
        ready = select.select([report], [], [], max(0, deadline - time.monotonic()))[0]
        if not ready:
            os.killpg(process.pid, signal.SIGKILL)
            return current, "hung", False
        piece = os.read(report, 65536)
        if not piece:
            return current, "crashed", False
        deadline = time.monotonic() + seconds
        *lines, text = (text + piece).split(b"\n")
        for line in lines:
            word, *rest = line.decode().split(" ")
            if word == "start":
                current = rest[0]
            elif word == "end":
                yield_case(*rest)
                current = None
            elif word == "finished":
                return None, None, True


DONE = set()


def yield_case(name, outcome):
    DONE.add(name)
    print("case", name, outcome, flush=True)


def run(module, seconds):
    DONE.clear()
    for _ in range(MOST_RESTARTS):
        folder = tempfile.mkdtemp(prefix="regress")
        ours, theirs = os.pipe()
        skipped = os.path.join(folder, ".done")
        with open(skipped, "w") as file:
            file.write("\n".join(sorted(DONE)))
        process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--child", module, str(theirs), skipped],
            pass_fds=[theirs], cwd=folder, start_new_session=True, stdin=subprocess.DEVNULL)
        os.close(theirs)
        case, outcome, finished = watch(process, ours, seconds)
        os.close(ours)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
        if finished:
            return
        if case is None:
            yield_case(f"{module}:load", outcome)
            return
        yield_case(case, outcome)


def main():
    words = sys.argv[1:]
    if words[:1] == ["--child"]:
        with open(words[3]) as file:
            done = set(file.read().split("\n"))
        child(words[1], int(words[2]), done)
        # Threads that a case left behind do not hold the interpreter.
        os._exit(0)
    seconds = SECONDS
    if words[:1] == ["--seconds"]:
        seconds, words = float(words[1]), words[2:]
    for module in words:
        began = time.monotonic()
        run(module, seconds)
        print("module", module, f"{time.monotonic() - began:.0f} s", flush=True)
    print("modules", len(words), "done", flush=True)


# Children that multiprocessing starts afresh load this file too, by another name.
if __name__ == "__main__":
    main()
