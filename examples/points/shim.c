/* For languages that call C: cc -O2 -shared -fPIC -Iinclude -o libpoints.so examples/points/shim.c */
#include <stillframe/points.h>

void point(const char *name) { still_point(name); }
int64_t checkpoint(const char *name) { return still_checkpoint(name); }
int recording(void) { return still_recording(); }
int wait_recording(int64_t timeout_ms) { return still_wait_recording(timeout_ms); }
