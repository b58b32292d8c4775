//! What functions of the C library write, said before they do.
//!
//! `a` are the arguments in registers: rdi, rsi, rdx, rcx, r8, r9 (for variadic functions, xmm0-7
//! follow); `stack` those on the stack. Lengths are upper bounds where the function says no better.

use crate::{log, sys, thunks};
use core::ffi::c_char;

type Args = *const usize;

/// Something of the caller's, if there is anything.
pub fn out(at: usize, bytes: usize) {
    if at != 0 {
        log::range(at, bytes);
    }
}

macro_rules! arg {
    ($a:ident $n:literal) => {
        // SAFETY: assembly passes six.
        unsafe { *$a.add($n) }
    };
}

macro_rules! lengths {
    ($($name:ident $at:literal $len:literal)*) => {$(
        pub unsafe extern "C" fn $name(a: Args, _stack: Args) {
            out(arg!(a $at), arg!(a $len));
        }
    )*};
}
lengths! {
    at0_len1 0 1 at0_len2 0 2 at0_len3 0 3 at1_len2 1 2 at2_len3 2 3
}

macro_rules! constants {
    ($($name:ident $at:literal $len:literal)*) => {$(
        pub unsafe extern "C" fn $name(a: Args, _stack: Args) {
            out(arg!(a $at), $len);
        }
    )*};
}
constants! {
    at0_word 0 8 at1_word 1 8 at2_word 2 8 at3_word 3 8
    at0_16 0 16 at1_16 1 16 at2_16 2 16 at3_16 3 16
    at0_32 0 32 at1_32 1 32 at0_56 0 56 at1_56 1 56 at2_56 2 56
    at0_128 0 128 at2_128 2 128 at0_144 0 144 at1_144 1 144 at2_144 2 144 at2_152 2 152
    at0_200 0 200 at4_256 4 256 at0_390 0 390 at1_path 1 4096 at1_state 1 48
}

#[cfg(granule = "line")]
constants! { lock40 0 40 lock56 0 56 }

pub unsafe extern "C" fn at01_16(a: Args, _stack: Args) {
    out(arg!(a 0), 16);
    out(arg!(a 1), 16);
}

pub unsafe extern "C" fn at0_wide2(a: Args, _stack: Args) {
    out(arg!(a 0), arg!(a 2) * 4);
}

fn length(text: usize) -> usize {
    // SAFETY: the program passes it to a function that reads it in the same way.
    unsafe { sys::strlen(text as *const c_char) }
}

pub unsafe extern "C" fn text_copy(a: Args, _stack: Args) {
    out(arg!(a 0), length(arg!(a 1)) + 1);
}

pub unsafe extern "C" fn text_append(a: Args, _stack: Args) {
    let to = arg!(a 0);
    out(to + length(to), length(arg!(a 1)) + 1);
}

pub unsafe extern "C" fn text_append_some(a: Args, _stack: Args) {
    let (to, from, most) = (arg!(a 0), arg!(a 1), arg!(a 2));
    // SAFETY: as the function itself reads it.
    let more = unsafe { sys::strnlen(from as *const c_char, most) };
    out(to + length(to), more + 1);
}

fn wide_length(text: usize) -> usize {
    // SAFETY: as the function itself reads it.
    unsafe { sys::wcslen(text as *const i32) * 4 }
}

pub unsafe extern "C" fn wide_copy(a: Args, _stack: Args) {
    out(arg!(a 0), wide_length(arg!(a 1)) + 4);
}

pub unsafe extern "C" fn wide_append(a: Args, _stack: Args) {
    let to = arg!(a 0);
    out(to + wide_length(to), wide_length(arg!(a 1)) + 4);
}

pub unsafe extern "C" fn text0(a: Args, _stack: Args) {
    let text = arg!(a 0);
    if text != 0 {
        out(text, length(text) + 1);
    }
}

pub unsafe extern "C" fn token(a: Args, _stack: Args) {
    let save = arg!(a 2);
    let mut text = arg!(a 0);
    if text == 0 && save != 0 {
        // SAFETY: the function reads it too.
        text = unsafe { *(save as *const usize) };
    }
    out(save, 8);
    if text != 0 {
        out(text, length(text) + 1);
    }
}

pub unsafe extern "C" fn separated(a: Args, _stack: Args) {
    let place = arg!(a 0);
    out(place, 8);
    // SAFETY: the function reads it too.
    let text = unsafe { *(place as *const usize) };
    if text != 0 {
        out(text, length(text) + 1);
    }
}

/// A `va_list` of the System V ABI.
#[repr(C)]
#[derive(Clone, Copy)]
struct List {
    general: u32,
    floating: u32,
    overflow: usize,
    save: usize,
}

impl List {
    /// Of a variadic function with so many named arguments.
    fn after(named: u32, a: Args, stack: Args) -> Self {
        Self {
            general: named * 8,
            floating: 48,
            overflow: stack as usize,
            save: a as usize,
        }
    }

    /// The next argument that is no floating-point number.
    fn next(&mut self) -> usize {
        // SAFETY: the caller passed as many as its format names.
        unsafe {
            if self.general < 48 {
                let value = *((self.save + self.general as usize) as *const usize);
                self.general += 8;
                value
            } else {
                let value = *(self.overflow as *const usize);
                self.overflow += 8;
                value
            }
        }
    }

    fn bytes(mut self, format: usize) -> usize {
        // SAFETY: the caller's format and arguments; this list is a copy.
        unsafe { thunks::formatted(format as *const c_char, (&raw mut self).cast()) }
    }
}

/// Beyond this, "as much as fits" is taken for "whatever it is", and the text is measured.
const BELIEVED: usize = 512;

fn print_into(to: usize, size: usize, format: usize, list: List) {
    if to == 0 || size == 0 {
        return;
    }
    let bytes = if size <= BELIEVED {
        size
    } else {
        let need = list.bytes(format) + 1;
        if need < size { need } else { size }
    };
    out(to, bytes);
}

pub unsafe extern "C" fn snprintf(a: Args, stack: Args) {
    print_into(arg!(a 0), arg!(a 1), arg!(a 2), List::after(3, a, stack));
}

pub unsafe extern "C" fn sprintf(a: Args, stack: Args) {
    print_into(arg!(a 0), usize::MAX, arg!(a 1), List::after(2, a, stack));
}

pub unsafe extern "C" fn vsnprintf(a: Args, _stack: Args) {
    let list = arg!(a 3) as *const List;
    // SAFETY: the caller's list.
    print_into(arg!(a 0), arg!(a 1), arg!(a 2), unsafe { *list });
}

pub unsafe extern "C" fn vsprintf(a: Args, _stack: Args) {
    let list = arg!(a 2) as *const List;
    // SAFETY: the caller's list.
    print_into(arg!(a 0), usize::MAX, arg!(a 1), unsafe { *list });
}

pub unsafe extern "C" fn sscanf(a: Args, stack: Args) {
    let text = length(arg!(a 0)) + 1;
    let mut list = List::after(2, a, stack);
    let mut at = arg!(a 1) as *const u8;
    // SAFETY: a format ends with 0, and is read no further.
    unsafe {
        while *at != 0 {
            if *at != b'%' {
                at = at.add(1);
                continue;
            }
            at = at.add(1);
            let (mut width, mut keeps, mut bytes, mut made) = (0usize, true, 4usize, false);
            loop {
                match *at {
                    b'*' => keeps = false,
                    digit @ b'0'..=b'9' => width = width * 10 + usize::from(digit - b'0'),
                    b'l' | b'j' | b'z' | b't' | b'q' => bytes = if bytes == 8 { 16 } else { 8 },
                    b'L' => bytes = 16,
                    b'h' | b'\'' | b'$' => {}
                    b'm' => made = true,
                    _ => break,
                }
                at = at.add(1);
            }
            let kind = *at;
            if kind == 0 {
                return;
            }
            at = at.add(1);
            let wide = if bytes == 8 { 4 } else { 1 };
            match kind {
                b'%' => continue,
                b's' | b'S' | b'c' | b'C' | b'[' => {
                    if kind == b'[' {
                        if *at == b'^' {
                            at = at.add(1);
                        }
                        if *at == b']' {
                            at = at.add(1);
                        }
                        while *at != 0 && *at != b']' {
                            at = at.add(1);
                        }
                        if *at != 0 {
                            at = at.add(1);
                        }
                    }
                    let most = if width != 0 {
                        width + 1
                    } else if kind == b'c' || kind == b'C' {
                        1
                    } else {
                        text
                    };
                    bytes = if most < text + 1 {
                        most * wide
                    } else {
                        text * wide
                    };
                }
                b'p' => bytes = 8,
                _ => {}
            }
            if keeps {
                out(list.next(), if made { 8 } else { bytes });
            }
        }
    }
}

/// Control calls write what only their number tells. Those that say so in their number are
/// believed; of the old ones, those that programs use are known.
pub unsafe extern "C" fn control(a: Args, _stack: Args) {
    const READ: usize = 2;
    let (number, at) = (arg!(a 1), arg!(a 2));
    let bytes = match number & 0xffff_ffff {
        0x5401 => 60,                  // TCGETS
        0x5413 => 8,                   // TIOCGWINSZ
        0x541b | 0x5411 | 0x540f => 4, // FIONREAD, TIOCOUTQ, TIOCGPGRP
        0x8910..=0x89ff => 40,         // network interfaces
        n if (n >> 30) & READ != 0 => (n >> 16) & 0x3fff,
        _ => 0,
    };
    out(at, bytes);
}

pub unsafe extern "C" fn multibyte(a: Args, _stack: Args) {
    out(arg!(a 0), 4);
    out(arg!(a 3), 8);
}

pub unsafe extern "C" fn converted(a: Args, _stack: Args) {
    out(arg!(a 1), 8);
    out(arg!(a 2), 8);
    let (place, left) = (arg!(a 3), arg!(a 4));
    if place != 0 && left != 0 {
        // SAFETY: the function reads both too.
        out(unsafe { *(place as *const usize) }, unsafe {
            *(left as *const usize)
        });
    }
    out(place, 8);
    out(left, 8);
}

pub unsafe extern "C" fn sorted(a: Args, _stack: Args) {
    out(arg!(a 0), arg!(a 1) * arg!(a 2));
}

pub unsafe extern "C" fn searched(a: Args, _stack: Args) {
    let (base, count, each) = (arg!(a 1), arg!(a 2), arg!(a 3));
    // SAFETY: the function reads the count too.
    let n = unsafe { *(count as *const usize) };
    out(base + n * each, each);
    out(count, 8);
}

pub unsafe extern "C" fn random48(a: Args, _stack: Args) {
    out(arg!(a 0), 24);
    out(arg!(a 1), 8);
}

pub unsafe extern "C" fn random_state(a: Args, _stack: Args) {
    let state = arg!(a 0);
    out(state, 48);
    if state != 0 {
        // SAFETY: glibc's `struct random_data`: the table begins at its third word.
        out(unsafe { *((state + 16) as *const usize) }, 256);
    }
    out(arg!(a 1), 8);
}

fn pieces(vector: usize, count: usize) {
    let mut i = 0;
    while i < count && i < 1024 {
        // SAFETY: the kernel reads the same `struct iovec`s.
        unsafe {
            let piece = (vector + i * 16) as *const usize;
            out(*piece, *piece.add(1));
        }
        i += 1;
    }
}

pub unsafe extern "C" fn vector(a: Args, _stack: Args) {
    pieces(arg!(a 1), arg!(a 2));
}

/// An address of a peer, with its length.
fn name(at: usize, length: usize) {
    if at != 0 && length != 0 {
        // SAFETY: the kernel reads it too.
        out(at, unsafe { *(length as *const u32) } as usize);
    }
    out(length, 4);
}

pub unsafe extern "C" fn received_from(a: Args, _stack: Args) {
    out(arg!(a 1), arg!(a 2));
    name(arg!(a 4), arg!(a 5));
}

fn message(at: usize) {
    if at == 0 {
        return;
    }
    // SAFETY: the kernel reads the same `struct msghdr`.
    unsafe {
        let word = at as *const usize;
        out(*word, *(at as *const u32).add(2) as usize);
        pieces(*word.add(2), *word.add(3));
        out(*word.add(4), *word.add(5));
    }
    out(at, 56);
}

pub unsafe extern "C" fn received_message(a: Args, _stack: Args) {
    message(arg!(a 1));
}

pub unsafe extern "C" fn received_messages(a: Args, _stack: Args) {
    let (at, count) = (arg!(a 1), arg!(a 2));
    let mut i = 0;
    while i < count && i < 1024 {
        message(at + i * 64);
        out(at + i * 64 + 56, 4);
        i += 1;
    }
}

pub unsafe extern "C" fn stream_read(a: Args, _stack: Args) {
    out(arg!(a 0), arg!(a 1) * arg!(a 2));
}

pub unsafe extern "C" fn line_read(a: Args, _stack: Args) {
    let (place, size) = (arg!(a 0), arg!(a 1));
    if place != 0 && size != 0 {
        // SAFETY: the function reads both too. If the line needs more, it is moved to a new block.
        unsafe {
            let at = *(place as *const usize);
            if at != 0 {
                out(at, *(size as *const usize));
            }
        }
    }
    out(place, 8);
    out(size, 8);
}

pub unsafe extern "C" fn named12(a: Args, _stack: Args) {
    name(arg!(a 1), arg!(a 2));
}

pub unsafe extern "C" fn named34(a: Args, _stack: Args) {
    name(arg!(a 3), arg!(a 4));
}

pub unsafe extern "C" fn polled(a: Args, _stack: Args) {
    out(arg!(a 0), (arg!(a 1) & 0xffff_ffff) * 8);
}

pub unsafe extern "C" fn selected(a: Args, _stack: Args) {
    out(arg!(a 1), 128);
    out(arg!(a 2), 128);
    out(arg!(a 3), 128);
    out(arg!(a 4), 16);
}

pub unsafe extern "C" fn events(a: Args, _stack: Args) {
    out(arg!(a 1), (arg!(a 2) & 0x7fff_ffff) * 12);
}

pub unsafe extern "C" fn waited3(a: Args, _stack: Args) {
    out(arg!(a 0), 4);
    out(arg!(a 2), 144);
}

pub unsafe extern "C" fn waited4(a: Args, _stack: Args) {
    out(arg!(a 1), 4);
    out(arg!(a 3), 144);
}

pub unsafe extern "C" fn matched(a: Args, _stack: Args) {
    out(arg!(a 3), arg!(a 2) * 8);
}

// What libstdc++ compiles once for all trees and lists. A node of a tree is colour, parent, left,
// right; of a list next, previous. The tree's header is the root's parent.

const PARENT: usize = 8;
const LEFT: usize = 16;
const RIGHT: usize = 24;

fn link(node: usize, at: usize) -> usize {
    if node == 0 {
        return 0;
    }
    // SAFETY: a node of a whole tree or list.
    unsafe { *((node + at) as *const usize) }
}

fn below(node: usize, depth: u32) {
    if node == 0 {
        return;
    }
    out(node, 32);
    if depth > 0 {
        below(link(node, LEFT), depth - 1);
        below(link(node, RIGHT), depth - 1);
    }
}

/// The way from a node to the header, with what hangs from it.
fn upwards(node: usize, header: usize, depth: u32) {
    let mut at = node;
    let mut steps = 0;
    while at != 0 && at != header && steps < 256 {
        below(at, depth);
        at = link(at, PARENT);
        steps += 1;
    }
    out(header, 40);
}

/// (left?, new node, its parent, header)
pub unsafe extern "C" fn tree_insert(a: Args, _stack: Args) {
    let (node, parent, header) = (arg!(a 1), arg!(a 2), arg!(a 3));
    out(node, 32);
    upwards(parent, header, 2);
}

/// (node, header)
pub unsafe extern "C" fn tree_erase(a: Args, _stack: Args) {
    let (node, header) = (arg!(a 0), arg!(a 1));
    // Its successor takes its place.
    let mut next = link(node, RIGHT);
    let mut lowest = node;
    while next != 0 {
        lowest = next;
        next = link(next, LEFT);
    }
    upwards(lowest, header, 3);
}

fn neighbours(node: usize) {
    out(link(node, 0), 16);
    out(link(node, 8), 16);
    out(node, 16);
}

pub unsafe extern "C" fn list_hook(a: Args, _stack: Args) {
    out(arg!(a 0), 16);
    neighbours(arg!(a 1));
}

pub unsafe extern "C" fn list_unhook(a: Args, _stack: Args) {
    neighbours(arg!(a 0));
}

pub unsafe extern "C" fn list_transfer(a: Args, _stack: Args) {
    neighbours(arg!(a 0));
    neighbours(arg!(a 1));
    neighbours(arg!(a 2));
}

pub unsafe extern "C" fn list_swap(a: Args, _stack: Args) {
    neighbours(arg!(a 0));
    neighbours(arg!(a 1));
}

pub unsafe extern "C" fn list_reverse(a: Args, _stack: Args) {
    let head = arg!(a 0);
    let mut at = head;
    loop {
        out(at, 16);
        at = link(at, 0);
        if at == head || at == 0 {
            break;
        }
    }
}
