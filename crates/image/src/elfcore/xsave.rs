//! The XSAVE area as debuggers expect it.
//!
//! Where the components of the standard format stand, and so its size, depends on the processor:
//! Intel leaves room for MPX, AMD does not, AMX adds 8 KiB. The kernel copies the processor's
//! layout into a core. GDB up to 13 knows Intel's alone, later ones guess by size and know a few
//! more; each complains of any other size and then shows no vector registers, or wrong ones. So
//! the components that debuggers know are put where all of them look: Intel's places, up to the
//! last known component. AMX tiles, which no debugger reads from cores, stay in the recording.
//!
//! Numbers from the Intel SDM, volume 1, chapter 13; sizes as in GDB's `gdbsupport/x86-xstate.h`.

/// What FXSAVE writes.
pub const LEGACY: usize = 512;
/// The legacy area and the XSAVE header.
pub const HEADER_END: usize = 576;
/// Where Linux puts XCR0, in the bytes that FXSAVE leaves to software.
pub const MASK_AT: usize = 464;
/// XSTATE_BV: which components are not in their initial state.
const IN_USE_AT: usize = 512;

/// A component: bit, bytes, offset in Intel's layout, whether debuggers know it.
struct Component {
    bit: u32,
    size: usize,
    offset: usize,
    known: bool,
}

const fn component(bit: u32, size: usize, offset: usize, known: bool) -> Component {
    Component {
        bit,
        size,
        offset,
        known,
    }
}

/// All components beyond x87 and SSE that user space has had.
const COMPONENTS: [Component; 9] = [
    component(2, 256, 576, true),     // AVX
    component(3, 64, 960, true),      // MPX bounds
    component(4, 64, 1024, true),     // MPX configuration
    component(5, 64, 1088, true),     // AVX-512 masks
    component(6, 512, 1152, true),    // AVX-512, upper halves of 0 to 15
    component(7, 1024, 1664, true),   // AVX-512, 16 to 31
    component(9, 8, 2688, true),      // PKRU
    component(17, 64, 2752, false),   // AMX tile configuration
    component(18, 8192, 2816, false), // AMX tile data
];

/// The area in the layout that debuggers expect. An area whose layout is neither Intel's nor the
/// packed one of AMD is cut to what stands at the same place in every layout: x87, SSE, AVX.
/// `None` if it is too short to be one.
pub fn canonical(area: &[u8]) -> Option<Vec<u8>> {
    if area.len() < HEADER_END {
        return None;
    }
    let mask = word(area, MASK_AT)?;
    if mask == 0 {
        // Not as the kernel gives it; then nothing can be said about what stands where.
        return Some(area.to_vec());
    }
    let present = || COMPONENTS.iter().filter(|c| mask >> c.bit & 1 == 1);
    let end = |known_only: bool| {
        present()
            .filter(|c| c.known || !known_only)
            .map(|c| c.offset + c.size)
            .max()
            .unwrap_or(HEADER_END)
    };
    let packed = packed_offsets(mask);
    let packed_end = packed
        .iter()
        .zip(&COMPONENTS)
        .fold(HEADER_END, |end, (offset, c)| {
            offset.map_or(end, |offset| end.max(offset + c.size))
        });
    let intel = area.len() == end(false) || area.len() != packed_end && area.len() >= end(true);

    let mut out = area[..HEADER_END].to_vec();
    let mut kept = mask & 3;
    for (component, packed) in COMPONENTS.iter().zip(packed) {
        let from = match (packed, intel) {
            (None, _) => continue,
            (Some(_), true) => component.offset,
            (Some(packed), false) if area.len() == packed_end => packed,
            // Only AVX has one place in all layouts.
            (Some(_), false) if component.bit == 2 => component.offset,
            (Some(_), false) => continue,
        };
        let Some(bytes) = area
            .get(from..from + component.size)
            .filter(|_| component.known)
        else {
            continue;
        };
        out.resize(component.offset, 0);
        out.extend_from_slice(bytes);
        kept |= 1 << component.bit;
    }
    let in_use = word(area, IN_USE_AT)? & kept;
    out[MASK_AT..MASK_AT + 8].copy_from_slice(&kept.to_le_bytes());
    out[IN_USE_AT..IN_USE_AT + 8].copy_from_slice(&in_use.to_le_bytes());
    Some(out)
}

/// Where components stand when each follows the one before: AMD's layout. Tile configuration and
/// data are aligned to 64 bytes. `None` for those absent.
fn packed_offsets(mask: u64) -> [Option<usize>; COMPONENTS.len()] {
    let mut at = HEADER_END;
    COMPONENTS.each_ref().map(|component| {
        if mask >> component.bit & 1 == 0 {
            return None;
        }
        let offset = if component.bit >= 17 {
            at.next_multiple_of(64)
        } else {
            at
        };
        at = offset + component.size;
        Some(offset)
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An area with every component filled with its bit's number.
    fn area(mask: u64, length: usize, places: &[(u32, usize, usize)]) -> Vec<u8> {
        let mut area = vec![0xee; length];
        area[..HEADER_END].fill(0x11);
        area[MASK_AT..MASK_AT + 8].copy_from_slice(&mask.to_le_bytes());
        area[IN_USE_AT..IN_USE_AT + 8].copy_from_slice(&mask.to_le_bytes());
        for &(bit, offset, size) in places {
            area[offset..offset + size].fill(bit as u8);
        }
        area
    }

    fn check(out: &[u8], mask: u64, places: &[(u32, usize, usize)]) {
        assert_eq!(word(out, MASK_AT), Some(mask));
        assert_eq!(word(out, IN_USE_AT), Some(mask));
        assert_eq!(out[0], 0x11);
        for &(bit, offset, size) in places {
            assert!(
                out[offset..offset + size]
                    .iter()
                    .all(|b| u32::from(*b) == bit),
                "{bit}"
            );
        }
    }

    const INTEL: [(u32, usize, usize); 4] = [
        (2, 576, 256),
        (5, 1088, 64),
        (6, 1152, 512),
        (7, 1664, 1024),
    ];
    const AMD: [(u32, usize, usize); 4] =
        [(2, 576, 256), (5, 832, 64), (6, 896, 512), (7, 1408, 1024)];

    #[test]
    fn intel_stays() {
        let given = area(0xe7, 2688, &INTEL);
        let out = canonical(&given).unwrap();
        assert_eq!(out.len(), 2688);
        check(&out, 0xe7, &INTEL);
        // Room that belongs to no component is zero.
        assert_eq!(out[832..1088], [0; 256]);
    }

    #[test]
    fn amd_is_moved() {
        for (mask, length, size) in [(0xe7, 2432, 2688), (0x2e7, 2440, 2696)] {
            let mut places = AMD.to_vec();
            let mut expected = INTEL.to_vec();
            if mask == 0x2e7 {
                places.push((9, 2432, 8));
                expected.push((9, 2688, 8));
            }
            let out = canonical(&area(mask, length, &places)).unwrap();
            assert_eq!(out.len(), size);
            check(&out, mask, &expected);
        }
        // AVX and PKRU without AVX-512, as on Zen 3.
        let out = canonical(&area(0x207, 840, &[(2, 576, 256), (9, 832, 8)])).unwrap();
        assert_eq!(out.len(), 2696);
        check(&out, 0x207, &[(2, 576, 256), (9, 2688, 8)]);
    }

    #[test]
    fn tiles_are_left_out() {
        let out = canonical(&area(0x602e7, 11008, &INTEL)).unwrap();
        assert_eq!(out.len(), 2696);
        check(&out, 0x2e7, &INTEL);
    }

    #[test]
    fn small_ones() {
        assert_eq!(canonical(&area(3, 576, &[])).unwrap().len(), 576);
        assert_eq!(canonical(&area(7, 832, &[])).unwrap().len(), 832);
        assert_eq!(canonical(&area(0x1f, 1088, &[])).unwrap().len(), 1088);
        assert_eq!(canonical(&[0; 575]), None);
    }

    #[test]
    fn unknown_layouts_keep_what_is_certain() {
        let out = canonical(&area(0xe7, 2000, &[(2, 576, 256)])).unwrap();
        assert_eq!(out.len(), 832);
        check(&out, 7, &[(2, 576, 256)]);
        // Lies about what is there.
        assert_eq!(canonical(&area(0xe7, 600, &[])).unwrap().len(), 576);
        assert_eq!(canonical(&area(u64::MAX, 576, &[])).unwrap().len(), 576);
    }

    #[test]
    fn an_area_without_a_mask_is_as_it_is() {
        assert_eq!(canonical(&[0; 1024]), Some(vec![0; 1024]));
    }
}
