"""Points from Python: points.py path/to/libpoints.so (see shim.c)."""
import ctypes
import os
import sys

points = ctypes.CDLL(sys.argv[1])
points.point.argtypes = [ctypes.c_char_p]
points.checkpoint.argtypes = [ctypes.c_char_p]
points.checkpoint.restype = ctypes.c_int64
points.wait_recording.argtypes = [ctypes.c_int64]

cell = (ctypes.c_uint64 * 1)()  # what the program works on
print("addr cell %x" % ctypes.addressof(cell))
print("ready", os.getpid(), flush=True)
print("recording", points.wait_recording(int(sys.argv[2]) if len(sys.argv) > 2 else 0))
for epoch in range(1, 6):
    cell[0] = epoch
    points.point(b"begun")
    number = points.checkpoint(b"epoch %d" % epoch)
    print("point %d %d" % (epoch, number), flush=True)
print("ok")
