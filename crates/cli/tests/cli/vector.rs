//! Vector registers in an exported core are the target's.
//!
//! Comparing with a live GDB proves nothing here: GDB 13 reads the AVX-512 registers of a live
//! process at Intel's offsets on every processor, and so shows wrong ones on AMD's. The target sets
//! them to known values instead.

use super::still;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

const PROGRAM: &str = r#"
#include <stdio.h>
int main(void) {
    unsigned long v[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    puts("ready");
    fflush(stdout);
    __asm__ volatile("kmovq %0,%%k5\n vmovdqu64 %1,%%zmm20\n vmovdqu64 %1,%%zmm3\n"
                     "mov $0x5117, %%r15\n 1: pause\n jmp 1b"
                     :: "r"(0x1234567890UL), "m"(v) : "memory", "r15");
}
"#;

struct Target(Child);

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn masks_and_upper_halves_are_right() {
    if !fs::read_to_string("/proc/cpuinfo")
        .unwrap()
        .contains(" avx512bw ")
    {
        eprintln!("skipped: this processor has no AVX-512");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("prog.c"), PROGRAM).unwrap();
    let built = Command::new("cc")
        .args([
            "-g",
            "-O1",
            "-mavx512f",
            "-mavx512bw",
            "-o",
            &path("prog"),
            &path("prog.c"),
        ])
        .status();
    assert!(built.expect("cc is needed for this test").success());
    let mut child = Command::new(path("prog"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let target = Target(child);
    let pid = target.0.id().to_string();
    // It says so just before; the last of several checkpoints is behind the last instruction.
    still(&[
        "attach",
        "-q",
        "--hz",
        "20",
        "--count",
        "5",
        "-o",
        &path("run.still"),
        &pid,
    ])
    .ok();
    let moment = format!("{}@last", path("run.still"));
    still(&["export", "--core", &moment, "-o", &path("core")]).ok();
    let gdb = Command::new("gdb")
        .args(["-batch", "-nx", "-iex", "set debuginfod enabled off"])
        .args(["-ex", "print/x $r15", "-ex", "print/x $k5"])
        .args([
            "-ex",
            "print $zmm3.v8_int64",
            "-ex",
            "print $zmm20.v8_int64",
        ])
        .args([path("prog"), path("core")])
        .output()
        .expect("gdb is needed for this test");
    let said = String::from_utf8_lossy(&gdb.stdout);
    for answer in [
        "$1 = 0x5117",
        "$2 = 0x1234567890",
        "$3 = {1, 2, 3, 4, 5, 6, 7, 8}",
        "$4 = {1, 2, 3, 4, 5, 6, 7, 8}",
    ] {
        assert!(said.contains(answer), "{said}");
    }
    assert!(!String::from_utf8_lossy(&gdb.stderr).contains(".reg-xstate"));
}
