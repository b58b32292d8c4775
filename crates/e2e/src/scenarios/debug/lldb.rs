//! With LLDB.

use super::{Moves, debug, in_order};
use crate::{Length, Outcome, passed, place, skip};
use anyhow::{Context as _, Result};
use std::ffi::OsString;

pub fn session(_: &Length) -> Result<Outcome> {
    let Some(lldb) = place::program("lldb") else {
        return skip("no lldb on this machine");
    };
    let moves = Moves::record()?;
    let at = |checkpoint: u64| -> Result<i64> {
        let all = moves.balances()?;
        let found = all.iter().find(|b| b.0 == checkpoint).and_then(|b| b.1);
        found.with_context(|| format!("no balance at {checkpoint}"))
    };
    // In the middle, where all threads are at work however slowly the target began.
    let middle = moves.balances()?.len() as u64 / 2;
    let (later, before) = (middle + 10, middle + 9);
    let then = at(later)?;
    let changed = moves
        .balances()?
        .iter()
        .find(|b| b.0 > later && b.1.is_some_and(|value| value != then))
        .context("it never changes after that")?
        .0;
    let mut program = OsString::from("--lldb=");
    program.push(lldb);
    let mut all: Vec<OsString> = vec![moves.at(&middle.to_string()), program, "--batch".into()];
    for text in [
        "thread list",
        "bt",
        "p account.balance",
        "p account.name",
        "register read rip fs_base xmm0 checkpoint",
        &format!("goto {later}"),
        "continue",
        "p account.balance",
        "register read checkpoint",
        "goto -1",
        "continue",
        "register read checkpoint",
        "goto +1",
        "continue",
        "register read checkpoint",
        "memory region $rsp",
        "watchpoint set variable account.balance",
        "continue",
        "register read checkpoint",
        "detach",
    ] {
        all.extend(["--command".into(), text.into()]);
    }
    all.extend(["--".into(), "--no-lldbinit".into()]);
    let (out, err) = debug(moves.dir.path(), &all)?;
    in_order(
        &out,
        &[
            "clerk <1>",
            "porter",
            "main",
            &format!("= {}", at(middle)?),
            "\"first\"",
            &format!("checkpoint = {middle:#018x}"),
            &format!("= {then}"),
            &format!("checkpoint = {later:#018x}"),
            &format!("checkpoint = {before:#018x}"),
            &format!("checkpoint = {later:#018x}"),
            "[stack]",
            "Watchpoint created",
            &format!("old value: {then}"),
            "stop reason = watchpoint",
            &format!("checkpoint = {changed:#018x}"),
        ],
    )
    .with_context(|| err.clone())?;
    passed("")
}
