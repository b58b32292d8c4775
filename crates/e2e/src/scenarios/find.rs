//! `still find` gives exactly the moments at which something held, and at which bytes changed.
//!
//! Conditions are computed from what the program says of itself ([`crate::truth`]), changes of bytes
//! from the bytes of every checkpoint, read one by one.

use super::planted::Planted;
use crate::truth::{AND, Known, both, holds, same_stretches};
use crate::{Length, Outcome, Scenario, passed, still};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::ffi::OsString;
use stillframe_image::SpaceId;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "find::raw",
        about: "comparisons of bytes hold when the program says so: first, last, all, by halves",
        run: raw,
    },
    Scenario {
        name: "find::write",
        about: "bytes changed in the intervals in which their checkpoints differ, and in no other",
        run: write,
    },
    Scenario {
        name: "find::c",
        about: "conditions on expressions over the C program hold when it says so",
        run: c,
    },
    Scenario {
        name: "find::cpp",
        about: "the same over the C++ program",
        run: cpp,
    },
    Scenario {
        name: "find::rust",
        about: "the same over the Rust program",
        run: rust,
    },
];

/// The exit code that says that nothing was found.
const NOTHING: i32 = 10;

/// `still find REC MORE --json -- TEXT`: the objects it prints; none if it found nothing.
fn find(planted: &Planted, text: Option<&str>, more: &[&str]) -> Result<Vec<Value>> {
    let mut args: Vec<OsString> = vec!["find".into(), (&planted.recording).into(), "--json".into()];
    args.extend(more.iter().map(OsString::from));
    args.extend(text.iter().flat_map(|t| ["--".into(), OsString::from(t)]));
    let (status, out, err) = still::run(planted.dir(), &args)?;
    let none = status.code() == Some(NOTHING);
    ensure!(
        status.success() || none,
        "find {text:?} {more:?}: {status}: {}",
        still::tail(&err)
    );
    ensure!(
        none == out.is_empty(),
        "find {text:?}: {status} with {out:?}"
    );
    out.lines().map(|l| Ok(serde_json::from_str(l)?)).collect()
}

fn checkpoint(value: &Value) -> Result<u64> {
    let at = value["checkpoint"].as_u64();
    at.with_context(|| format!("no checkpoint in {value}"))
}

/// Holds all ways of finding a condition to the truth; at how many checkpoints it holds.
fn condition(planted: &Planted, text: &str, truth: &[Option<bool>]) -> Result<usize> {
    let one = |more: &[&str]| -> Result<Option<usize>> {
        let found = find(planted, Some(text), more)?;
        ensure!(found.len() <= 1, "{text} {more:?}: {} moments", found.len());
        let at = found.first().map(checkpoint).transpose()?;
        Ok(at.map(|at| at as usize))
    };
    let sure = |at: &usize| truth[*at] == Some(true);
    let possible = |at: usize| truth.get(at).is_some_and(|t| *t != Some(false));
    let wanted = (0..truth.len()).find(sure);
    let first = one(&[])?;
    ensure!(
        first.is_none_or(possible)
            && first.map_or(wanted.is_none(), |f| wanted.is_none_or(|w| f <= w)),
        "{text}: first {first:?} instead of {wanted:?}"
    );
    let wanted = (0..truth.len()).rev().find(sure);
    let last = one(&["--last"])?;
    ensure!(
        last.is_none_or(possible)
            && last.map_or(wanted.is_none(), |l| wanted.is_none_or(|w| l >= w)),
        "{text}: last {last:?} instead of {wanted:?}"
    );
    let all = find(planted, Some(text), &["--all"])?;
    let stretches = all
        .iter()
        .map(|v| Ok((checkpoint(v)?, checkpoint(&v["to"])?)))
        .collect::<Result<Vec<_>>>()?;
    same_stretches(truth, &stretches).with_context(|| format!("{text} --all"))?;
    Ok(truth.iter().filter(|t| **t == Some(true)).count())
}

/// A condition that holds from some moment on.
fn monotone(planted: &Planted, text: &str, truth: &[Option<bool>]) -> Result<()> {
    let found = find(planted, Some(text), &["--bisect"])?;
    let at = found.first().map(checkpoint).transpose()?;
    let wanted = truth.iter().position(|t| *t == Some(true));
    ensure!(
        at.is_none_or(|a| truth[a as usize] != Some(false))
            && at.map_or(wanted.is_none(), |a| wanted.is_none_or(|w| a <= w as u64)),
        "{text} --bisect: {at:?} instead of {wanted:?}"
    );
    Ok(())
}

/// A condition that comes and goes: a search by halves must refuse it.
fn not_monotone(planted: &Planted, text: &str) -> Result<()> {
    let mut args: Vec<OsString> = vec!["find".into(), (&planted.recording).into()];
    args.extend(["--bisect".into(), "--".into(), text.into()]);
    let line = still::refused(planted.dir(), &args, 1)?;
    ensure!(line.contains("not monotone"), "{text}: {line}");
    Ok(())
}

fn number(value: &str) -> f64 {
    value.parse().unwrap_or(f64::NAN)
}

/// The value in the middle of all that an expression had at checkpoints.
fn middle(truth: &[Known]) -> f64 {
    let mut values: Vec<f64> = truth.iter().map(|k| number(&k.value)).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn raw(length: &Length) -> Result<Outcome> {
    let planted = Planted::record("planted.c", length)?;
    let count = planted.plain_truth("count")?;
    let len = planted.plain_truth("@len")?;
    let (at_count, at_len) = (planted.address("count")?, planted.address("len")?);
    let mut held = 0;
    let limit = middle(&len);
    let text = format!("u64@{at_len:#x} > {limit}");
    held += condition(&planted, &text, &holds(&len, |v| number(v) > limit))?;
    let limit = middle(&count);
    let text = format!("i32@{at_count:#x} >= {limit}");
    let truth = holds(&count, |v| number(v) >= limit);
    held += condition(&planted, &text, &truth)?;
    monotone(&planted, &text, &truth)?;
    let name = planted.plain_truth("name")?;
    let text = format!("str@{:#x} == \"mode Q of them\"", planted.address("name")?);
    held += condition(
        &planted,
        &text,
        &holds(&name, |v| v == "\"mode Q of them\""),
    )?;
    let text = format!("i32@{at_count:#x} < 0");
    held += condition(&planted, &text, &holds(&count, |_| false))?;
    passed(format!("{}, held {held}", planted.figures()))
}

fn write(length: &Length) -> Result<Outcome> {
    let planted = Planted::record("planted.c", length)?;
    let mut found = 0;
    for (address, before, bytes) in [
        ("table7", 0, 8),
        ("table7", 8, 24),
        ("len", 0, 16),
        ("name", 0, 16),
        ("window", 0, 4),
        ("rare", 0, 8),
        // Over several pages, one of them written all the time.
        ("planted", 0, 8 << 10),
    ] {
        let address = planted.address(address)? - before;
        found += writes(&planted, address, bytes)?;
    }
    passed(format!("{}, reported {found}", planted.figures()))
}

/// The bytes of a stretch at every checkpoint; none where one of them is not there.
fn bytes_at(planted: &Planted, address: u64, length: usize) -> Result<Vec<Option<Vec<u8>>>> {
    let rows = planted.opened.rows().iter();
    rows.map(|row| {
        let memory = planted.opened.memory(row.id, SpaceId(0))?;
        let mut bytes = vec![0; length];
        Ok(memory.read(address, &mut bytes).is_ok().then_some(bytes))
    })
    .collect()
}

fn writes(planted: &Planted, address: u64, length: usize) -> Result<usize> {
    const PAGE: u64 = 4096;
    let truth = bytes_at(planted, address, length)?;
    // What differs within each page, as the command tells it: from the first byte to the last.
    let mut wanted = Vec::new();
    for (id, pair) in (1u64..).zip(truth.windows(2)) {
        let (old, new) = (pair[0].as_deref(), pair[1].as_deref());
        let mut start = address;
        while start < address + length as u64 {
            let end = (start / PAGE * PAGE + PAGE).min(address + length as u64);
            let part = (start - address) as usize..(end - address) as usize;
            let (a, b) = (old.map(|o| &o[part.clone()]), new.map(|n| &n[part.clone()]));
            start = end;
            if a == b {
                continue;
            }
            let differs = |i: &usize| a.map(|a| a[*i]) != b.map(|b| b[*i]);
            let first = (0..part.len()).find(differs).context("they differ")?;
            let last = (0..part.len()).rfind(differs).context("they differ")?;
            let hex = |bytes: Option<&[u8]>| -> String {
                let bytes = bytes.map_or(&[][..], |b| &b[first..=last]);
                bytes.iter().map(|b| format!("{b:02x}")).collect()
            };
            wanted.push((
                id,
                address + part.start as u64 + first as u64,
                (last - first + 1) as u64,
                hex(a),
                hex(b),
            ));
        }
    }
    let text = format!("{address:#x}:{length}");
    let lines = find(planted, None, &["--write", &text])?;
    let told = lines
        .iter()
        .map(|v| {
            let word = |name: &str| v[name].as_str().map(str::to_owned);
            let at = word("address")
                .and_then(|a| u64::from_str_radix(a.trim_start_matches("0x"), 16).ok());
            Ok((
                checkpoint(v)?,
                at.with_context(|| format!("no address in {v}"))?,
                v["bytes"]
                    .as_u64()
                    .with_context(|| format!("no length in {v}"))?,
                word("old").with_context(|| format!("no old bytes in {v}"))?,
                word("new").with_context(|| format!("no new bytes in {v}"))?,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    let first = told.iter().zip(&wanted).position(|(a, b)| a != b);
    if let Some(i) = first {
        anyhow::bail!(
            "--write {text}: {:?} was reported, {:?} is true",
            told[i],
            wanted[i]
        );
    }
    ensure!(
        told.len() == wanted.len(),
        "--write {text}: {} changes instead of {}",
        told.len(),
        wanted.len()
    );
    let ends = |more: &str| -> Result<Option<u64>> {
        find(planted, None, &["--write", &text, more])?
            .first()
            .map(checkpoint)
            .transpose()
    };
    ensure!(
        ends("--first")? == wanted.first().map(|w| w.0)
            && ends("--last")? == wanted.last().map(|w| w.0),
        "--write {text}: another first or last"
    );
    Ok(told.len())
}

fn c(length: &Length) -> Result<Outcome> {
    let planted = Planted::record("planted.c", length)?;
    let (len, key) = (
        planted.plain_truth("queue->len")?,
        planted.plain_truth("queue->head->key")?,
    );
    let (phase, count) = (
        planted.plain_truth("state.phase")?,
        planted.plain_truth("count")?,
    );
    let mut held = 0;
    let limit = middle(&len);
    held += condition(
        &planted,
        &format!("queue->len > {limit}"),
        &holds(&len, |v| number(v) > limit),
    )?;
    held += condition(
        &planted,
        "state.phase == RUNNING",
        &holds(&phase, |v| v == "RUNNING"),
    )?;
    not_monotone(&planted, "state.phase == RUNNING")?;
    let pair = both(&len, &phase);
    let truth = holds(&pair, |v| {
        let (len, phase) = v.split_once(AND).unwrap_or_default();
        number(len) > limit && phase == "DRAINING"
    });
    held += condition(
        &planted,
        &format!("queue->len > {limit} && state.phase == DRAINING"),
        &truth,
    )?;
    let pair = both(&key, &count);
    let truth = holds(&pair, |v| {
        let (key, count) = v.split_once(AND).unwrap_or_default();
        number(key) < 0.0 || number(count) as i64 % 3 == 0
    });
    held += condition(&planted, "queue->head->key < 0 || count % 3 == 0", &truth)?;
    let limit = middle(&count);
    let truth = holds(&count, |v| number(v) >= limit);
    held += condition(&planted, &format!("count >= {limit}"), &truth)?;
    monotone(&planted, &format!("count >= {limit}"), &truth)?;
    held += condition(&planted, "rare == 5", &holds(&count, |_| false))?;
    passed(format!("{}, held {held}", planted.figures()))
}

fn cpp(length: &Length) -> Result<Outcome> {
    let planted = Planted::record("planted.cpp", length)?;
    let phase = planted.plain_truth("plant::phase")?;
    let (id, open) = (
        planted.plain_truth("pump->id")?,
        planted.plain_truth("pump->open")?,
    );
    let mut held = condition(
        &planted,
        "plant::phase == plant::Phase::Failed",
        &holds(&phase, |v| v == "Failed"),
    )?;
    let limit = middle(&id);
    let pair = both(&id, &open);
    let truth = holds(&pair, |v| {
        let (id, open) = v.split_once(AND).unwrap_or_default();
        number(id) < limit && open == "1"
    });
    held += condition(
        &planted,
        &format!("pump->id < {limit} && pump->open"),
        &truth,
    )?;
    let size = planted.plain_truth("sizes[1500]")?;
    held += condition(
        &planted,
        "sizes[1500] > 500000",
        &holds(&size, |v| number(v) > 500_000.0),
    )?;
    passed(format!("{}, held {held}", planted.figures()))
}

fn rust(length: &Length) -> Result<Outcome> {
    let planted = Planted::record("planted.rs", length)?;
    let len = planted.plain_truth("QUEUE.len")?;
    let flag = planted.plain_truth("FLAG")?;
    let limit = middle(&len);
    let mut held = condition(
        &planted,
        &format!("(*QUEUE).len > {limit}"),
        &holds(&len, |v| number(v) > limit),
    )?;
    held += condition(&planted, "FLAG", &holds(&flag, |v| v == "1"))?;
    let count = planted.plain_truth("COUNT")?;
    let limit = middle(&count);
    let truth = holds(&count, |v| number(v) >= limit);
    monotone(&planted, &format!("COUNT >= {limit}"), &truth)?;
    passed(format!("{}, held {held}", planted.figures()))
}
