//! Terminals.

use super::calls::ioctl;
use crate::error::Result;
use std::os::fd::AsFd;
use stillframe_image::objects::Terminal;

const TCGETS2: u64 = 0x802c_542a;
const TCSETS2: u64 = 0x402c_542b;
const TIOCGWINSZ: u64 = 0x5413;
const TIOCSWINSZ: u64 = 0x5414;
const TIOCSPTLCK: u64 = 0x4004_5431;
const TIOCGPTN: u64 = 0x8004_5430;
/// Bytes of `struct termios2`.
const SETTINGS: usize = 44;

/// Settings and size; the rest is not asked for.
///
/// # Errors
/// If it is no terminal.
pub fn read(fd: impl AsFd, into: &mut Terminal) -> Result<()> {
    let fd = fd.as_fd();
    into.settings.resize(SETTINGS, 0);
    // SAFETY: it writes one `struct termios2`, 44 bytes.
    unsafe { ioctl(fd, "ioctl TCGETS2", TCGETS2, &mut into.settings)? };
    let mut size = [0; 8];
    // SAFETY: it writes one `struct winsize`, 8 bytes.
    unsafe { ioctl(fd, "ioctl TIOCGWINSZ", TIOCGWINSZ, &mut size)? };
    let word = |at: usize| u16::from_ne_bytes([size[at], size[at + 1]]);
    into.size = [word(0), word(2), word(4), word(6)];
    Ok(())
}

/// Gives a terminal its settings and size. Should it be our own and we in the background, we are not
/// stopped for it.
///
/// # Errors
/// If it is no terminal.
pub fn write(fd: impl AsFd, wanted: &Terminal) -> Result<()> {
    super::calls::without_sigttou(|| set(fd.as_fd(), wanted))
}

fn set(fd: std::os::fd::BorrowedFd<'_>, wanted: &Terminal) -> Result<()> {
    if wanted.settings.len() == SETTINGS {
        let mut settings = wanted.settings.clone();
        // SAFETY: it reads one `struct termios2`, 44 bytes.
        unsafe { ioctl(fd, "ioctl TCSETS2", TCSETS2, &mut settings)? };
    }
    let mut size: Vec<u8> = wanted.size.iter().flat_map(|w| w.to_ne_bytes()).collect();
    // SAFETY: it reads one `struct winsize`, 8 bytes.
    unsafe { ioctl(fd, "ioctl TIOCSWINSZ", TIOCSWINSZ, &mut size)? };
    Ok(())
}

/// Lets the slave of a master be opened, and tells its number in /dev/pts.
///
/// # Errors
/// If it is no master.
pub fn unlock(master: impl AsFd) -> Result<u32> {
    let mut number = [0; 4];
    // SAFETY: it reads one int.
    unsafe { ioctl(master.as_fd(), "ioctl TIOCSPTLCK", TIOCSPTLCK, &mut number)? };
    // SAFETY: it writes one unsigned int.
    unsafe { ioctl(master.as_fd(), "ioctl TIOCGPTN", TIOCGPTN, &mut number)? };
    Ok(u32::from_ne_bytes(number))
}
