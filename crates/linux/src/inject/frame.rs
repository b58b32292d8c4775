//! The signal frame by which a thread restores itself.
//!
//! `struct rt_sigframe` of x86-64, as in arch/x86/include/asm/sigframe.h and
//! arch/x86/include/uapi/asm/sigcontext.h of the kernel: a return address, a `ucontext`, a
//! `siginfo`, and an XSAVE image that the context points to.

use stillframe_image::Registers;

/// UC_FP_XSTATE: the FP state is an XSAVE image. UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS: `ss` is
/// there, and to be restored as it is.
const UC_FLAGS: u64 = 1 | 2 | 4;
/// No valid flags of an alternate stack: `rt_sigreturn` ignores the refusal and so leaves the
/// thread's as it is, which we need not know.
const KEEP_ALT_STACK: u64 = 0x5555;

/// Return address, ucontext, siginfo.
const HEAD: usize = 8 + 304 + 128;
/// Where the XSAVE image starts. The CPU wants it aligned to 64; the frame itself is, too.
const XSAVE: usize = HEAD.next_multiple_of(64);
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// Legacy area and header.
const XSAVE_MIN: usize = 576;
/// Where the header's XSTATE_BV is.
const XSTATE_BV: usize = 512;
/// Where the legacy area leaves bytes to software.
const SW_BYTES: usize = 464;

/// Alignment of the address given to [`build`].
pub(super) const ALIGN: u64 = 64;

/// Room a frame needs with an XSAVE area of `xstate` bytes. The kernel reads that many, whatever we
/// declare, and the second magic number after those we declare.
pub(super) const fn length(xstate: usize) -> usize {
    XSAVE + xstate.next_multiple_of(64) + 64
}

/// An interrupted call's restart, which `rt_sigreturn` does not do: the codes with which the
/// kernel marks it. All are made anew; -516 (with a timeout of its own) too, since an EINTR that no
/// signal explains is worse than a wait that is too long.
const fn is_restart(result: i64) -> bool {
    matches!(result, -512 | -513 | -514 | -516)
}

/// Whether a thread is in, or about to make, `restart_syscall`, and where the call it goes on with
/// returns to. `rt_sigreturn` makes the kernel forget which call that was.
pub(super) fn goes_on(r: &Registers, at_syscall: bool) -> Option<u64> {
    const RESTART: i64 = libc::SYS_restart_syscall;
    if r.orig_rax.cast_signed() == RESTART && is_restart(r.rax.cast_signed()) {
        Some(r.rip)
    } else if r.orig_rax.cast_signed() < 0 && r.rax.cast_signed() == RESTART && at_syscall {
        Some(r.rip.wrapping_add(2))
    } else {
        None
    }
}

/// What the thread would run next if we let it go now, a call that it goes on with being `call`.
pub(super) fn resumed(r: &Registers, call: Option<u64>) -> Registers {
    if r.orig_rax.cast_signed() >= 0 && is_restart(r.rax.cast_signed()) {
        Registers {
            rax: call.unwrap_or(r.orig_rax),
            rip: r.rip.wrapping_sub(2),
            ..*r
        }
    } else {
        Registers {
            rax: call.unwrap_or(r.rax),
            ..*r
        }
    }
}

/// Writes a frame that is to lie at `at`, and after which a thread runs on with `r`, into `out`.
pub(super) fn build(out: &mut Vec<u8>, at: u64, r: &Registers, blocked: u64, xstate: &[u8]) {
    out.clear();
    let mut put = |word: u64| out.extend(word.to_le_bytes());
    put(0); // return address, never used
    put(UC_FLAGS);
    put(0); // uc_link
    put(0); // uc_stack: address,
    put(KEEP_ALT_STACK); // flags,
    put(0); // size
    for word in [r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15] {
        put(word);
    }
    for word in [
        r.rdi, r.rsi, r.rbp, r.rbx, r.rdx, r.rax, r.rcx, r.rsp, r.rip, r.rflags,
    ] {
        put(word);
    }
    put(r.cs & 0xffff | (r.ss & 0xffff) << 48); // cs, gs, fs, ss
    put(0); // err
    put(0); // trapno
    put(0); // oldmask
    put(0); // cr2
    put(at + XSAVE as u64);
    for _ in 0..8 {
        put(0); // reserved
    }
    put(blocked);
    out.resize(XSAVE, 0);
    append_xsave(out, xstate);
}

/// Appends the XSAVE image with the kernel's two marks.
///
/// Only components in use are declared: the rest is at its initial state, which is what the
/// kernel makes of components not declared. That also keeps the declared size within what a thread
/// without permission for AMX may have.
fn append_xsave(out: &mut Vec<u8>, xstate: &[u8]) {
    let start = out.len();
    out.extend(xstate);
    let in_use = xstate
        .get(XSTATE_BV..XSTATE_BV + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes);
    let features = in_use | 3;
    let size = size_of_features(features, xstate.len());
    let mut sw = [0u8; 48];
    for (slot, bytes) in sw.chunks_exact_mut(4).zip([
        MAGIC1.to_le_bytes(),
        u32::try_from(size + 4).unwrap_or(0).to_le_bytes(),
        low(features),
        low(features >> 32),
        u32::try_from(size).unwrap_or(0).to_le_bytes(),
    ]) {
        slot.copy_from_slice(&bytes);
    }
    if let Some(place) = out.get_mut(start + SW_BYTES..start + SW_BYTES + sw.len()) {
        place.copy_from_slice(&sw);
    }
    out.resize(start + size, 0);
    out.extend(MAGIC2.to_le_bytes());
}

fn low(word: u64) -> [u8; 4] {
    u32::try_from(word & 0xffff_ffff).unwrap_or(0).to_le_bytes()
}

/// Bytes of the standard format that hold these components.
fn size_of_features(features: u64, limit: usize) -> usize {
    (2..63)
        .filter(|n| features & 1 << n != 0)
        .map(|n| {
            let leaf = std::arch::x86_64::__cpuid_count(0xd, n);
            leaf.eax as usize + leaf.ebx as usize
        })
        .fold(XSAVE_MIN, usize::max)
        .min(limit.max(XSAVE_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn layout_is_the_kernels() {
        let registers = Registers {
            rip: 0x1234,
            rsp: 0x5678,
            rax: 7,
            orig_rax: u64::MAX,
            cs: 0x33,
            ss: 0x2b,
            ..Registers::default()
        };
        let mut xstate = vec![0u8; 2696];
        xstate[XSTATE_BV] = 7;
        let mut out = Vec::new();
        build(&mut out, 0x10000, &registers, 0xabc, &xstate);
        // The C library knows the same structure.
        let context = 8;
        let gregs = context + std::mem::offset_of!(libc::ucontext_t, uc_mcontext);
        assert_eq!(word(&out, gregs + 8 * libc::REG_RIP as usize), 0x1234);
        assert_eq!(word(&out, gregs + 8 * libc::REG_RSP as usize), 0x5678);
        assert_eq!(word(&out, gregs + 8 * libc::REG_RAX as usize), 7);
        let cs = word(&out, gregs + 8 * libc::REG_CSGSFS as usize);
        assert_eq!(cs, 0x002b_0000_0000_0033);
        let mask = context + std::mem::offset_of!(libc::ucontext_t, uc_sigmask);
        assert_eq!(word(&out, mask), 0xabc);
        let pointer = gregs + std::mem::offset_of!(libc::mcontext_t, fpregs);
        assert_eq!(word(&out, pointer), 0x10000 + XSAVE as u64);
        assert!(out.len() <= length(xstate.len()));
    }

    #[test]
    fn interrupted_calls_are_made_anew() {
        let call = Registers {
            rip: 102,
            orig_rax: 35,
            ..Registers::default()
        };
        for code in [-512i64, -513, -514, -516] {
            let r = resumed(
                &Registers {
                    rax: code.cast_unsigned(),
                    ..call
                },
                None,
            );
            assert_eq!((r.rip, r.rax), (100, 35));
        }
        let done = Registers {
            rax: (-4i64).cast_unsigned(),
            ..call
        };
        assert_eq!(resumed(&done, None), done);
        let user = Registers {
            rax: (-512i64).cast_unsigned(),
            orig_rax: u64::MAX,
            ..call
        };
        assert_eq!(resumed(&user, None), user);
        let again = Registers {
            orig_rax: 219,
            rax: (-516i64).cast_unsigned(),
            ..call
        };
        assert_eq!(goes_on(&again, false), Some(102));
        assert_eq!(
            (resumed(&again, Some(35)).rip, resumed(&again, Some(35)).rax),
            (100, 35)
        );
        let about = Registers {
            orig_rax: u64::MAX,
            rax: 219,
            rip: 100,
            ..call
        };
        assert_eq!(goes_on(&about, true), Some(102));
        assert_eq!(goes_on(&about, false), None);
        assert_eq!(
            (resumed(&about, Some(35)).rip, resumed(&about, Some(35)).rax),
            (100, 35)
        );
    }
}
