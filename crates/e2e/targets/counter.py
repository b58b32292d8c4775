"""Counts in a list, and writes down when: counter.py LOG"""
import os
import signal
import sys
import time

box = [0]
going = True


def stop(*_):
    global going
    going = False


signal.signal(signal.SIGTERM, stop)
with open(sys.argv[1], "w") as log:
    print("addr box %x" % id(box))
    print("ready", os.getpid(), flush=True)
    value = 0
    while going:
        value += 10
        before = time.time_ns()
        box[0] = value
        after = time.time_ns()
        log.write("%d %d %d\n" % (before, after, value))
        time.sleep(0.002)
print("ok", value, flush=True)
# As it is, until somebody ends it.
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.pause()
