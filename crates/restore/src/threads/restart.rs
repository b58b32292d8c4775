//! Interrupted system calls of a thread that goes on at another time.

use stillframe_image::Registers;

const RESTART_SYSCALL: u64 = 219;
/// ERESTART_RESTARTBLOCK: gone on with by `restart_syscall`, from what the kernel remembers.
const RESTART_BLOCK: i64 = -516;
const EINTR: i64 = -4;
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// The registers with which a thread goes on from a checkpoint.
///
/// They are its own, but for a wait that the kernel would go on with from what it remembers
/// (`nanosleep`, `poll`, `futex` with a relative timeout): that memory is of another time, so the
/// call is made anew. Which call it is, is not in the registers once it was interrupted twice; then
/// the instruction before it tells, as compilers and C libraries write it, and if that does not,
/// the call ends with EINTR, as those calls may. `memory` reads the checkpoint's memory; `false`: it
/// cannot.
pub fn resumed(registers: &Registers, memory: &dyn Fn(u64, &mut [u8]) -> bool) -> Registers {
    let result = registers.rax.cast_signed();
    let in_call = registers.orig_rax.cast_signed() >= 0;
    if in_call && result == RESTART_BLOCK {
        let again = Registers {
            rip: registers.rip.wrapping_sub(2),
            orig_rax: u64::MAX,
            ..*registers
        };
        if registers.orig_rax != RESTART_SYSCALL {
            return Registers {
                rax: registers.orig_rax,
                ..again
            };
        }
        return match named_before(again.rip, memory) {
            Some(number) => Registers {
                rax: number,
                ..again
            },
            None => Registers {
                rax: EINTR.cast_unsigned(),
                orig_rax: u64::MAX,
                ..*registers
            },
        };
    }
    // Rewound already, about to make `restart_syscall`.
    if !in_call && registers.rax == RESTART_SYSCALL {
        let mut next = [0u8; 2];
        if memory(registers.rip, &mut next) && next == SYSCALL {
            return match named_before(registers.rip, memory) {
                Some(number) => Registers {
                    rax: number,
                    ..*registers
                },
                None => Registers {
                    rax: EINTR.cast_unsigned(),
                    rip: registers.rip.wrapping_add(2),
                    ..*registers
                },
            };
        }
    }
    *registers
}

/// The call whose number the instruction before `at` loads: `mov eax, imm32`.
fn named_before(at: u64, memory: &dyn Fn(u64, &mut [u8]) -> bool) -> Option<u64> {
    const MOV_EAX: u8 = 0xb8;
    /// poll, nanosleep, futex, clock_nanosleep: no other is gone on with in this way.
    const CALLS: [u32; 4] = [7, 35, 202, 230];
    let mut code = [0u8; 5];
    if !memory(at.wrapping_sub(5), &mut code) {
        return None;
    }
    let [MOV_EAX, a, b, c, d] = code else {
        return None;
    };
    let number = u32::from_le_bytes([a, b, c, d]);
    CALLS.contains(&number).then_some(u64::from(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: u64, _: &mut [u8]) -> bool {
        false
    }

    fn in_call(number: u64, result: i64) -> Registers {
        Registers {
            orig_rax: number,
            rax: result.cast_unsigned(),
            rip: 0x1002,
            ..Registers::default()
        }
    }

    #[test]
    fn the_kernel_restarts_what_it_can() {
        for code in [-512, -513, -514, -4, 7] {
            let r = in_call(0, code);
            assert_eq!(resumed(&r, &none), r);
        }
    }

    #[test]
    fn a_wait_begins_anew() {
        let r = resumed(&in_call(35, -516), &none);
        assert_eq!((r.rip, r.rax, r.orig_rax), (0x1000, 35, u64::MAX));
    }

    #[test]
    fn a_wait_interrupted_twice_is_found_by_its_instruction() {
        let code = |at: u64, into: &mut [u8]| {
            let text = [0xb8, 35, 0, 0, 0, 0x0f, 0x05];
            let from = (at - 0xffb) as usize;
            into.copy_from_slice(&text[from..from + into.len()]);
            true
        };
        let r = resumed(&in_call(219, -516), &code);
        assert_eq!((r.rip, r.rax), (0x1000, 35));
        let r = resumed(&in_call(219, -516), &none);
        assert_eq!((r.rip, r.rax.cast_signed()), (0x1002, -4));
        let about_to = Registers {
            rip: 0x1000,
            rax: 219,
            orig_rax: u64::MAX,
            ..Registers::default()
        };
        assert_eq!(resumed(&about_to, &code).rax, 35);
    }
}
