//! Questions about the past from within GDB, against what the recording holds.

use super::gdb::{NO_GDB, args, value_after};
use super::{Moves, debug, in_order};
use crate::{Length, Outcome, passed, place, skip};
use anyhow::{Context as _, Result, ensure};

/// What monitor commands said between two marks. Marks are commands that do not exist, because GDB
/// has no other way to write where it writes that.
fn said<'t>(err: &'t str, from: &str, to: &str) -> Result<Vec<&'t str>> {
    let mark = |name: &str| format!("there is no monitor command `{name}`");
    let rest = err
        .split(&mark(from))
        .nth(1)
        .with_context(|| format!("no mark {from} in: {err}"))?;
    let part = rest
        .split(&mark(to))
        .next()
        .with_context(|| format!("no mark {to} in: {err}"))?;
    // The rest of the mark's own line.
    Ok(part.lines().skip(1).filter(|l| !l.is_empty()).collect())
}

/// The checkpoint of a line, and what stands behind its time.
fn line(text: &str) -> Option<(u64, &str)> {
    let rest = text.strip_prefix("checkpoint ")?;
    let (number, rest) = rest.split_once(" at ")?;
    let value = rest.split_once(": ").map_or("", |(_, value)| value);
    Some((number.parse().ok()?, value))
}

pub fn questions(_: &Length) -> Result<Outcome> {
    if place::program("gdb").is_none() {
        return skip(NO_GDB);
    }
    let moves = Moves::record()?;
    let balances = moves.balances()?;
    let last = balances.last().context("an empty recording")?.0;
    let start = last / 2;
    let all: Vec<(u64, String)> = balances
        .windows(2)
        .filter_map(|w| match (w[0], w[1]) {
            ((_, Some(x)), (at, Some(y))) if x != y => Some((at, format!("{x} -> {y}"))),
            _ => None,
        })
        .collect();
    ensure!(all.len() >= 6, "too few changes: {balances:?}");
    // A balance that it gets before the start, and one that it gets after it.
    let begins = |wanted: i64| -> Vec<u64> {
        let mut before = None;
        let mut found = Vec::new();
        for (at, balance) in &balances {
            if *balance == Some(wanted) && before != Some(wanted) {
                found.push(*at);
            }
            before = *balance;
        }
        found
    };
    let value_at = |wanted: u64| balances.iter().find(|b| b.0 == wanted).and_then(|b| b.1);
    let (later, _) = all.iter().find(|c| c.0 > start).context("no change")?;
    let later = value_at(*later).context("no balance")?;
    let earlier = all.iter().rev().find(|c| c.0 < start);
    let earlier = value_at(earlier.context("no change")?.0).context("no balance")?;
    let later_at = begins(later).into_iter().find(|at| *at > start);
    let later_at = later_at.context("it never gets there")?;
    let earlier_at = begins(earlier).into_iter().rfind(|at| *at < start);
    let earlier_at = earlier_at.context("it never was there")?;
    let half = format!("monitor history --from {start} account.balance");
    let (find, back, stretches) = (
        format!("monitor find account.balance == {later}"),
        format!("monitor find-back account.balance == {earlier}"),
        format!("monitor find --all account.balance == {later}"),
    );
    let (out, err) = debug(
        moves.dir.path(),
        &args(
            moves.at(&start.to_string()),
            &[
                "thread find clerk",
                "thread 2",
                "echo \\nOWN\\n",
                "print own",
                "monitor mark10",
                "monitor history own",
                "monitor mark11",
                "thread 1",
                "monitor mark0",
                "monitor history account.balance",
                "monitor mark1",
                "monitor history --limit 2 account.balance",
                "monitor mark2",
                "monitor history --backward --limit 1 account.balance",
                "monitor mark3",
                &half,
                "monitor mark4",
                &stretches,
                "monitor mark5",
                "monitor history --function main seed",
                "monitor mark6",
                &format!("monitor history u64@{:#x}", moves.balance),
                "monitor mark7",
                &find,
                "echo \\nFOUND\\n",
                "print $checkpoint",
                &format!("monitor goto {start}"),
                &back,
                "echo \\nBACK\\n",
                "print $checkpoint",
                "monitor mark8",
                "monitor find account.balance == -123456789",
                "monitor find account.nothing > 1",
                "monitor history account.balance +",
                "monitor history --nonsense account.balance",
                "monitor history",
                "monitor running no_such_function",
                "monitor mark9",
                "goto 0",
                "monitor running polish",
                "echo \\nRUNNING\\n",
                "bt 1",
                "print $checkpoint > 0",
                "goto last",
                "monitor running-back polish",
                "echo \\nRUNNINGBACK\\n",
                "bt 1",
                "quit",
            ],
        ),
    )?;
    let both = || format!("{out}\n-- stderr:\n{err}");
    let told = |from: &str, to: &str| said(&err, from, to).with_context(both);
    let changes = |lines: &[&str]| -> Vec<(u64, String)> {
        let lines = lines.iter().filter_map(|l| line(l));
        lines
            .filter(|(_, value)| value.contains(" -> ") && !value.contains('('))
            .map(|(at, value)| (at, value.to_owned()))
            .collect()
    };
    let whole = told("mark0", "mark1")?;
    ensure!(changes(&whole) == all, "all changes: {}", both());
    ensure!(
        line(whole.first().context("nothing")?) == Some((0, "100")),
        "the first value: {}",
        both()
    );
    let two = told("mark1", "mark2")?;
    ensure!(
        changes(&two) == all[..2] && two.iter().any(|l| l.contains("and more")),
        "two changes: {}",
        both()
    );
    let newest = told("mark2", "mark3")?;
    let newest: Vec<u64> = newest
        .iter()
        .filter_map(|l| line(l))
        .filter(|(_, value)| value.contains(" -> "))
        .map(|(at, _)| at)
        .collect();
    ensure!(
        newest.len() == 1 && newest[0] >= all[all.len() - 1].0,
        "the newest change: {}",
        both()
    );
    let after = changes(&told("mark3", "mark4")?);
    let expected: Vec<_> = all.iter().filter(|c| c.0 > start).cloned().collect();
    ensure!(after == expected, "changes from the middle on: {}", both());
    let listed = told("mark4", "mark5")?;
    let found: Vec<u64> = listed
        .iter()
        .filter_map(|l| line(l))
        .map(|(at, _)| at)
        .collect();
    ensure!(found == begins(later), "stretches: {}", both());
    // Each settling takes a random number, and leaves the balance as it is now and then.
    let seeds: Vec<u64> = told("mark5", "mark6")?
        .iter()
        .filter_map(|l| line(l))
        // Where the stack cannot be followed there is no value for a moment.
        .filter(|(_, value)| value.contains(" -> "))
        .map(|(at, _)| at)
        .collect();
    ensure!(
        seeds.len() >= all.len() && all.iter().all(|c| seeds.contains(&c.0)),
        "a local of main: {}",
        both()
    );
    let raw = changes(&told("mark6", "mark7")?);
    ensure!(
        raw.len() == all.len() && raw.iter().zip(&all).all(|(a, b)| a.0 == b.0),
        "by address: {}",
        both()
    );
    for (mark, wanted) in [("FOUND", later_at), ("BACK", earlier_at)] {
        let at = value_after(&out, mark)?;
        ensure!(at == wanted as i64, "{at} for {wanted}: {}", both());
    }
    in_order(
        &told("mark8", "mark9")?.join("\n"),
        &[
            "begins to hold at no checkpoint after this one",
            "begins to hold at no checkpoint after this one; where it cannot be said",
            "is no question",
            "there is no option --nonsense",
            "write an expression",
            "no function is called no_such_function",
        ],
    )
    .with_context(both)?;
    in_order(
        &out,
        &[
            "OWN",
            "RUNNING",
            "polish (",
            " = 1",
            "RUNNINGBACK",
            "polish (",
        ],
    )
    .with_context(both)?;
    let own = value_after(&out, "OWN")?;
    let history = told("mark10", "mark11")?;
    ensure!(
        history.iter().any(|l| l.ends_with(&format!("-> {own}"))
            || line(l).is_some_and(|(_, value)| value == own.to_string())),
        "a thread-local {own}: {}",
        both()
    );
    passed(format!("changes {}", all.len()))
}
