//! State of one thread.

use serde::{Deserialize, Serialize};

/// One thread at the instant of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Kernel thread id, in the target's PID namespace as the recorder saw it.
    pub tid: u32,
    /// Name (`comm`), without a terminator.
    pub name: Vec<u8>,
    /// General registers.
    pub registers: Registers,
    /// The XSAVE area as NT_X86_XSTATE gives it: standard format, its size whatever the CPU has.
    pub xstate: Vec<u8>,
    /// Blocked signals, bit n-1 for signal n.
    pub blocked: u64,
    /// Signals queued for this thread, oldest first.
    pub pending: Vec<SigInfo>,
    /// The alternate signal stack, if it could be read.
    pub alt_stack: Option<AltStack>,
    /// Robust futex list.
    pub robust_list: Option<RobustList>,
    /// Restartable-sequence registration; absent when the thread has none.
    pub rseq: Option<Rseq>,
    /// `clear_child_tid` address, if it could be read.
    pub tid_address: Option<u64>,
    /// The signal about to be delivered when the checkpoint is `@crash`, for that thread.
    pub signal: Option<SigInfo>,
}

/// `struct user_regs_struct` of x86-64, in its order.
///
/// In a thread stopped inside a system call `orig_rax` is the call's number and `rax` its result
/// or an internal restart code (-512 to -516); elsewhere `orig_rax` is -1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the registers' names")]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

impl Registers {
    /// All 27 words in the kernel's order.
    pub const fn to_words(&self) -> [u64; 27] {
        [
            self.r15,
            self.r14,
            self.r13,
            self.r12,
            self.rbp,
            self.rbx,
            self.r11,
            self.r10,
            self.r9,
            self.r8,
            self.rax,
            self.rcx,
            self.rdx,
            self.rsi,
            self.rdi,
            self.orig_rax,
            self.rip,
            self.cs,
            self.rflags,
            self.rsp,
            self.ss,
            self.fs_base,
            self.gs_base,
            self.ds,
            self.es,
            self.fs,
            self.gs,
        ]
    }

    /// The inverse of [`Registers::to_words`].
    pub const fn from_words(w: &[u64; 27]) -> Self {
        Self {
            r15: w[0],
            r14: w[1],
            r13: w[2],
            r12: w[3],
            rbp: w[4],
            rbx: w[5],
            r11: w[6],
            r10: w[7],
            r9: w[8],
            r8: w[9],
            rax: w[10],
            rcx: w[11],
            rdx: w[12],
            rsi: w[13],
            rdi: w[14],
            orig_rax: w[15],
            rip: w[16],
            cs: w[17],
            rflags: w[18],
            rsp: w[19],
            ss: w[20],
            fs_base: w[21],
            gs_base: w[22],
            ds: w[23],
            es: w[24],
            fs: w[25],
            gs: w[26],
        }
    }
}

/// A `siginfo_t`: its leading fields, and all 128 bytes for what restores or exports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigInfo {
    /// Signal number.
    pub signal: i32,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    /// The whole structure, 128 bytes.
    pub raw: Vec<u8>,
}

/// `stack_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AltStack {
    /// Base address.
    pub base: u64,
    /// SS_* flags.
    pub flags: u32,
    /// Bytes.
    pub size: u64,
}

/// Head of the robust futex list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RobustList {
    /// Address of `struct robust_list_head`.
    pub head: u64,
    /// Its length, bytes.
    pub length: u64,
}

/// Restartable-sequence registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rseq {
    /// Address of `struct rseq`.
    pub address: u64,
    /// Its registered size, bytes.
    pub size: u32,
    /// The signature that precedes abort handlers.
    pub signature: u32,
    /// Registration flags.
    pub flags: u32,
}
