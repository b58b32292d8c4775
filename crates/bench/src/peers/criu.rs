//! CRIU: a full dump and a pre-dump of a running program that goes on running. The time the program
//! stood still is the one that CRIU itself writes into its image `stats-dump`.

use super::{Peer, PeerCase, our_pause_us};
use crate::load;
use crate::measure::{Bench, Cell};
use crate::plan::Setting;
use crate::process::{Running, program, tail};
use anyhow::{Context as _, Result};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest that one dump may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures it on the programs of `settings`.
///
/// # Errors
/// If a program of ours fails by itself.
pub fn measure(
    bench: &Bench,
    settings: &[Setting],
    cells: &[Cell],
    say: &mut dyn FnMut(&str),
) -> Result<Peer> {
    let mut peer = Peer {
        name: "CRIU".to_owned(),
        trouble: Vec::new(),
        cases: Vec::new(),
    };
    let Some(criu) = program("criu") else {
        peer.trouble
            .push("not installed (no criu in PATH)".to_owned());
        return Ok(peer);
    };
    if let Ok(out) = Command::new(&criu).arg("--version").output() {
        let said = String::from_utf8_lossy(&out.stdout);
        let version = said
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("Version: ");
        peer.name = format!("CRIU {version}");
    }
    for setting in settings {
        say(&format!("{}: CRIU", setting.label()));
        let dir = bench.scratch()?;
        let mut load = load::start(setting, dir.path(), None)?;
        let pid = load.pid();
        let mut calibrated = *setting;
        // Long enough that it is still at work when the last dump begins.
        calibrated.seconds = 2.0;
        let units = bench.calibrate(&mut calibrated)?;
        let outcome = std::thread::scope(|scope| {
            let work = scope.spawn(move || -> Result<_> { Ok((load.run(units), load)) });
            for (what, more) in [
                ("pre-dump", &["--track-mem"][..]),
                ("dump", &["--leave-running"]),
            ] {
                std::thread::sleep(Duration::from_millis(100));
                match dump(&criu, what, more, pid, dir.path()) {
                    Ok((frozen_us, seconds)) => peer.cases.push(PeerCase {
                        target: setting.label(),
                        what: what.to_owned(),
                        frozen_us,
                        our_pause_us: our_pause_us(cells, setting),
                        slowdown: None,
                        hz: None,
                        note: format!("{seconds:.2} s from start to end"),
                    }),
                    Err(error) => {
                        peer.trouble
                            .push(format!("{} of {}: {error:#}", what, setting.label()))
                    }
                }
            }
            work.join()
        });
        // CRIU may have killed it: "--leave-running is pretty dangerous", says its manual.
        if let Ok(Ok((result, mut load))) = outcome
            && let Err(error) = result.and_then(|_| load.end())
        {
            peer.trouble
                .push(format!("{} did not survive: {error:#}", setting.label()));
        }
        if peer.cases.is_empty() && peer.trouble.len() >= 2 {
            break; // It does not work on this machine; once is enough to say so.
        }
    }
    Ok(peer)
}

/// Dumps `pid`: (microseconds that it stood still, seconds that the whole took).
fn dump(criu: &Path, what: &str, more: &[&str], pid: u32, dir: &Path) -> Result<(f64, f64)> {
    let images = dir.join(what);
    std::fs::create_dir_all(&images)?;
    let begun = Instant::now();
    let mut command = Command::new(criu);
    command
        .args([
            what,
            "--tree",
            &pid.to_string(),
            "--shell-job",
            "-v1",
            "-o",
            "log",
        ])
        .args(more)
        .arg("--images-dir")
        .arg(&images)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let status = Running::start(&mut command, "criu")?.wait(PATIENCE)?;
    let seconds = begun.elapsed().as_secs_f64();
    if !status.success() {
        anyhow::bail!("{status}: {}", tail(&images.join("log")));
    }
    let stats = std::fs::read(images.join("stats-dump")).context("criu wrote no stats-dump")?;
    let frozen = frozen_us(&stats).context("stats-dump has another form")?;
    Ok((frozen as f64, seconds))
}

/// Frozen time in a `stats-dump` image, microseconds.
///
/// The image (criu/include/image.h, images/stats.proto): two magic words, a length, and a message
/// `stats_entry` whose field 1 is a `dump_stats_entry`, of which field 2 is `frozen_time`.
fn frozen_us(image: &[u8]) -> Option<u64> {
    let length = u32::from_le_bytes(image.get(8..12)?.try_into().ok()?) as usize;
    let entry = image.get(12..12usize.checked_add(length)?)?;
    let dump = fields(entry).find_map(|f| match f {
        (1, Field::Bytes(bytes)) => Some(bytes),
        _ => None,
    })?;
    fields(dump).find_map(|f| match f {
        (2, Field::Number(n)) => Some(n),
        _ => None,
    })
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a protocol-buffers message, as far as it is well-formed.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        let tag = varint(&mut rest)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut rest)?),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let (bytes, after) = rest.split_at_checked(length)?;
                rest = after;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        Some((tag >> 3, field))
    })
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(entry: &[u8]) -> Vec<u8> {
        let mut image = vec![0x40, 0x59, 0x10, 0x55, 0x06, 0x33, 0x09, 0x57];
        image.extend((entry.len() as u32).to_le_bytes());
        image.extend(entry);
        image
    }

    #[test]
    fn frozen_time_is_found() {
        // dump { freezing_time: 1, frozen_time: 300, memdump_time: 5 }
        let good = image(&[0x0a, 7, 0x08, 1, 0x10, 0xac, 0x02, 0x18, 5]);
        assert_eq!(frozen_us(&good), Some(300));
    }

    #[test]
    fn damaged_images_are_refused() {
        let good = image(&[0x0a, 7, 0x08, 1, 0x10, 0xac, 0x02, 0x18, 5]);
        for cut in 0..good.len() {
            assert_eq!(frozen_us(&good[..cut]), None);
        }
        assert_eq!(
            frozen_us(&image(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f])),
            None
        );
        assert_eq!(frozen_us(&image(&[0x80; 40])), None);
        assert_eq!(frozen_us(&image(&[0x0b, 0])), None);
    }
}
