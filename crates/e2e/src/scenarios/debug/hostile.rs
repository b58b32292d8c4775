//! A client that means harm.

use super::{Moves, listen};
use crate::random::Random;
use crate::{Length, Outcome, passed};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// What a debugger says, to begin with.
const SEEDS: &[&[u8]] = &[
    b"qSupported:multiprocess+;swbreak+;hwbreak+;qRelocInsn+;xmlRegisters=i386",
    b"QStartNoAckMode",
    b"?",
    b"g",
    b"p10",
    b"Hgp1.1",
    b"Hc-1",
    b"m7ffffffde000,100",
    b"m400000,ffffffffffffffff",
    b"x400000,10000",
    b"M400000,4:00000000",
    b"X400000,4:\x01\x02\x03\x04",
    b"G00000000",
    b"P10=0000000000000000",
    b"vCont?",
    b"vCont;s:p1.1;c",
    b"vCont;c",
    b"vCont;C0b",
    b"c",
    b"s",
    b"bc",
    b"bs",
    b"Z0,401000,1",
    b"z0,401000,1",
    b"Z2,404040,8",
    b"Z2,0,ffffffffffffffff",
    b"Z2,ffffffffffffffff,1000",
    b"Z4,fffffffffffff000,10000",
    b"z2,404040,8",
    b"Z3,404040,8",
    b"qXfer:features:read:target.xml:0,fff",
    b"qXfer:auxv:read::0,ffffffffffffffff",
    b"qXfer:auxv:read::ffffffffffffffff,ffffffffffffffff",
    b"qXfer:threads:read::0,1000",
    b"qXfer:libraries-svr4:read::0,1000",
    b"qXfer:siginfo:read::0,80",
    b"qXfer:exec-file:read:1:0,1000",
    b"vFile:open:2f70726f632f73656c662f6d656d,0,0",
    b"vFile:open:2f6574632f736861646f77,0,0",
    b"vFile:pread:0,ffffffff,ffffffffffffffff",
    b"vFile:pread:0,ffffffffffffffff,0",
    b"vFile:fstat:0",
    b"vFile:close:0",
    b"vFile:readlink:2f70726f632f312f657865",
    b"vFile:setfs:0",
    b"qRcmd,676f746f203939393939393939393939393939393939393939",
    b"qRcmd,636865636b706f696e7473203939393939393939393939",
    b"qRcmd,72756e6e696e672030203078666666666666666666666666666666",
    b"qRcmd,68656c70",
    b"qThreadExtraInfo,p1.1",
    b"qfThreadInfo",
    b"qsThreadInfo",
    b"qGetTLSAddr:p1.1,ffffffffffffffff,ffffffffffffffff",
    b"qMemoryRegionInfo:ffffffffffffffff",
    b"qModuleInfo:2f;2f",
    b"qHostInfo",
    b"vRun;2f62696e2f7368",
    b"vAttach;1",
    b"!",
];

/// A packet.
fn whole(body: &[u8]) -> Vec<u8> {
    let sum = body.iter().fold(0u8, |s, b| s.wrapping_add(*b));
    [b"$", body, format!("#{sum:02x}").as_bytes()].concat()
}

/// A packet, now and then with a wrong checksum, or none.
fn framed(body: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = whole(body);
    match random.below(20) {
        0 => {
            out.truncate(out.len() - 2);
            out.extend_from_slice(b"00");
        }
        1 => out.truncate(out.len() - 3),
        _ => {}
    }
    out
}

fn mutated(random: &mut Random) -> Vec<u8> {
    let mut body = SEEDS[random.below(SEEDS.len() as u64) as usize].to_vec();
    for _ in 0..random.below(4) {
        let at = random.below(body.len() as u64 + 1) as usize;
        match random.below(6) {
            0 if at < body.len() => body[at] = random.below(256) as u8,
            1 => body.truncate(at),
            2 => body.insert(at, b"0123456789abcdef,;:.-#$}*"[random.below(25) as usize]),
            3 => {
                let other = SEEDS[random.below(SEEDS.len() as u64) as usize];
                body.extend_from_slice(&other[..other.len() / 2]);
            }
            4 => body
                .splice(at..at, std::iter::repeat_n(b'f', 40))
                .for_each(drop),
            _ => body
                .splice(at..at, std::iter::repeat_n(b'7', 70_000))
                .for_each(drop),
        }
    }
    framed(&body, random)
}

fn peak(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:"))
        .context("no VmHWM")?;
    let kib = line.split_whitespace().next().unwrap_or_default();
    Ok(kib.parse::<u64>()? << 10)
}

/// One connection, from which replies are read as they come, or not at all.
fn assault(path: &str, random: &mut Random, packets: u64) -> Result<()> {
    let stream = UnixStream::connect(path)?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut reading = stream.try_clone()?;
    let reads = random.below(4) > 0;
    let reader = std::thread::spawn(move || {
        let mut total = 0u64;
        let mut buffer = vec![0; 1 << 16];
        while let Ok(n @ 1..) = reading.read(&mut buffer) {
            total += n as u64;
            if !reads && total > 0 {
                break;
            }
        }
        total
    });
    let mut writing = &stream;
    for _ in 0..packets {
        let bytes = match random.below(12) {
            0 => (0..random.below(200))
                .map(|_| random.below(256) as u8)
                .collect(),
            1 => vec![3],
            2 => b"+-+-".to_vec(),
            _ => mutated(random),
        };
        // It may have hung up, after a `k` or a `D`, or not take more than we read.
        if writing.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(std::net::Shutdown::Both);
    ensure!(reader.join().is_ok(), "the reader panicked");
    Ok(())
}

pub fn packets(length: &Length) -> Result<Outcome> {
    let moves = Moves::record()?;
    let dir = moves.dir.path();
    let address = format!("unix:{}/server", dir.display());
    let (mut server, shown) = listen(dir, &[moves.at("10")], &address)?;
    let path = shown.strip_prefix("unix:").context("a socket")?.to_owned();
    let mut random = Random::new(0x5717_f4a3);
    let rounds = if length.full { 400 } else { 40 };
    let before = peak(server.pid())?;
    for _ in 0..rounds {
        assault(&path, &mut random, 150)?;
        if let Some(status) = server.ended()? {
            anyhow::bail!("the server ended: {status}: {}", server.stderr());
        }
    }
    ensure!(
        !server.stderr().contains("panicked"),
        "a panic: {}",
        server.stderr()
    );
    let after = peak(server.pid())?;
    ensure!(
        after < before + (256 << 20),
        "the server grew from {before} to {after} bytes"
    );
    // A decent client still gets its answer, and no file but those that were mapped.
    let mut stream = UnixStream::connect(&path)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    for (packet, wanted) in [
        (&b"QStartNoAckMode"[..], &b"$OK#9a"[..]),
        (b"?", b"$T05thread:"),
        (b"vFile:open:2f6574632f706173737764,0,0", b"$F-1,2#"),
        (b"M400000,1:00", b"$E."),
    ] {
        stream.write_all(&whole(packet))?;
        let mut reply = Vec::new();
        let mut byte = [0];
        let mut after_mark = 0;
        while after_mark < 3 {
            stream.read_exact(&mut byte).with_context(|| {
                format!(
                    "{}: {}",
                    String::from_utf8_lossy(packet),
                    String::from_utf8_lossy(&reply)
                )
            })?;
            if byte[0] == b'+' && reply.is_empty() {
                continue;
            }
            reply.push(byte[0]);
            after_mark += usize::from(after_mark > 0 || byte[0] == b'#');
        }
        stream.write_all(b"+")?;
        ensure!(
            reply.starts_with(wanted),
            "{} instead of {}",
            String::from_utf8_lossy(&reply),
            String::from_utf8_lossy(wanted)
        );
    }
    drop(stream);
    server.signal(Signal::TERM)?;
    crate::still::ended_with(&mut server, 0, crate::process::PATIENCE)?;
    passed(format!(
        "connections {rounds}, packets {}, grew {} KiB",
        rounds * 150,
        (after - before) >> 10
    ))
}
