//! The machine and the kernel that we run on, as programs see them.

use crate::error::{Error, Result, Target};
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::fs::File;
use std::os::unix::fs::FileExt;
use stillframe_image::host::{Host, WORDS};

/// Most bytes of a vDSO.
const LARGEST: u64 = 64 << 10;

/// The processor.
pub fn processor() -> Host {
    let most = |leaf: u32| __cpuid(leaf & 0x8000_0000).eax;
    let features = WORDS.map(|(leaf, subleaf, register)| {
        if leaf > most(leaf) {
            return 0;
        }
        let r = __cpuid_count(leaf, subleaf);
        [r.eax, r.ebx, r.ecx, r.edx]
            .get(register)
            .copied()
            .unwrap_or(0)
    });
    let zero = __cpuid(0);
    let vendor: Vec<u8> = [zero.ebx, zero.edx, zero.ecx]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    // Leaf 1, ecx, bit 27 (OSXSAVE): the kernel has enabled XGETBV.
    let enabled = __cpuid(1).ecx >> 27 & 1 == 1;
    Host {
        vendor: String::from_utf8_lossy(&vendor).into_owned(),
        features: features.to_vec(),
        xcr0: if enabled { xcr0() } else { 0 },
    }
}

fn xcr0() -> u64 {
    #[target_feature(enable = "xsave")]
    fn read() -> u64 {
        // SAFETY: register 0 exists wherever XGETBV does.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: only called where CPUID says that the kernel enabled XSAVE, which includes XGETBV.
    unsafe { read() }
}

/// Release of the kernel, e.g. `6.12.1`.
pub fn kernel() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// The bytes of the vDSO that this kernel gives processes; empty if it gives none.
///
/// # Errors
/// If our own memory cannot be read.
pub fn vdso() -> Result<Vec<u8>> {
    let failed = |what: &'static str| {
        move |e: std::io::Error| Error::syscall(what, Target::Path("/proc/self".to_owned()), e)
    };
    let maps = std::fs::read("/proc/self/maps").map_err(failed("reading mappings of"))?;
    let found = maps
        .split(|b| *b == b'\n')
        .filter_map(crate::proc::maps::parse_line)
        .find(|m| m.name == b"[vdso]");
    let Some(found) = found else {
        return Ok(Vec::new());
    };
    let mut bytes = vec![0; (found.end - found.start).min(LARGEST) as usize];
    let memory = File::open("/proc/self/mem").map_err(failed("opening memory of"))?;
    memory
        .read_exact_at(&mut bytes, found.start)
        .map_err(failed("reading memory of"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_run_on_what_we_say() {
        let host = processor();
        assert_eq!(host.vendor.len(), 12);
        assert_eq!(host.features.len(), WORDS.len());
        assert!(host.lacking(&host).is_empty());
        // Every 64-bit processor has SSE2, and its state is saved.
        assert_eq!(host.features[0] >> 26 & 1, 1);
        assert!(host.xcr0 == 0 || host.xcr0 & 3 == 3);
        let avx = is_x86_feature_detected!("avx");
        assert_eq!(avx, host.xcr0 & 4 == 4 && host.features[1] >> 28 & 1 == 1);
        assert!(kernel().starts_with(|c: char| c.is_ascii_digit()));
        assert!(vdso().unwrap().is_empty() || vdso().unwrap().starts_with(b"\x7fELF"));
    }
}
