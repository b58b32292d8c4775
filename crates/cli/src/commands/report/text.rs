//! The figures as text. docs/report.md defines each.

use crate::commands::ls::command_line;
use crate::output::printable;
use crate::units::{show_ns, show_size, show_wall};
use std::io::Write;
use stillframe_report::Figures;
use stillframe_report::dist::Distribution;
use stillframe_report::figures::{Pause, Subject};

/// Columns of the longest bar of a histogram.
const BAR: u64 = 40;

fn text(of: &str) -> String {
    printable(of.as_bytes()).into_owned()
}

fn percent(share: f64) -> String {
    let p = share * 100.0;
    if p != 0.0 && p < 0.01 {
        "< 0.01 %".to_owned()
    } else if p < 10.0 {
        format!("{p:.2} %")
    } else {
        format!("{p:.1} %")
    }
}

fn or_dash(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

fn time(ns: f64) -> String {
    show_ns(ns.round() as u64)
}

fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

/// Writes everything.
pub fn write(out: &mut impl Write, f: &Figures) -> std::io::Result<()> {
    head(out, &f.subject)?;
    rate(out, f)?;
    pauses(out, &f.pause)?;
    overheads(out, f)?;
    stalls(out, f)?;
    pages(out, f)?;
    copying(out, f)?;
    repeats(out, &f.repeats)?;
    cells(out, f)
}

fn head(out: &mut impl Write, s: &Subject) -> std::io::Result<()> {
    let mut arguments = s.arguments.join("\0").into_bytes();
    if !s.arguments.is_empty() {
        arguments.push(0);
    }
    writeln!(
        out,
        "{}: {} (pid {}), from {}, tracker {}, kernel {}",
        text(&s.recording),
        command_line(&arguments, s.program.as_bytes()),
        s.pid,
        show_wall(s.started_wall_ns),
        text(&s.tracker),
        text(&s.kernel),
    )?;
    match &s.how {
        Some(how) => writeln!(out, "ended: {}", text(how))?,
        None if s.live => writeln!(out, "still being recorded")?,
        None => writeln!(out, "not ended: its recorder was killed")?,
    }
    for note in &s.notes {
        writeln!(out, "note: {}", text(note))?;
    }
    for damage in &s.damage {
        writeln!(out, "damage: {}", text(damage))?;
    }
    Ok(())
}

fn rate(out: &mut impl Write, f: &Figures) -> std::io::Result<()> {
    let (c, r) = (&f.checkpoints, &f.rate);
    writeln!(out, "\nRATE")?;
    writeln!(
        out,
        "  checkpoints       {} ({} full) in {}",
        c.count,
        c.full,
        show_ns(c.runtime_ns)
    )?;
    if c.unreadable > 0 {
        writeln!(out, "  accounts lost     {}", c.unreadable)?;
    }
    if let Some(hz) = r.reached_hz {
        writeln!(
            out,
            "  reached           {hz:.2} Hz of {} asked",
            r.asked_hz
        )?;
    }
    let reasons: Vec<String> = [
        (r.late, "late"),
        (r.store, "store"),
        (r.not_stopped, "not stopped"),
        (r.budget, "budget"),
        (r.unexplained, "reason not recorded"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, why)| format!("{n} {why}"))
    .collect();
    let why = if reasons.is_empty() {
        String::new()
    } else {
        format!(": {}", reasons.join(", "))
    };
    writeln!(out, "  ticks not taken   {}{why}", r.skipped)
}

fn distribution(
    out: &mut impl Write,
    name: &str,
    d: &Distribution,
    share: &str,
) -> std::io::Result<()> {
    writeln!(
        out,
        "  {name:<16} {:>10} {:>10} {:>10} {:>10} {:>10} {:>8}",
        show_ns(d.p50),
        show_ns(d.p90),
        show_ns(d.p99),
        show_ns(d.max),
        time(d.mean),
        share,
    )
}

fn pauses(out: &mut impl Write, p: &Pause) -> std::io::Result<()> {
    writeln!(
        out,
        "\nPAUSES                  p50        p90        p99        max       mean    share"
    )?;
    distribution(out, "boundary", &p.boundary, "")?;
    for phase in &p.phases {
        if phase.ns.count > 0 {
            let name = format!("  {}", phase.name);
            distribution(out, &name, &phase.ns, &percent(phase.share))?;
        }
    }
    if p.precopy.count > 0 {
        distribution(out, "pre-copy stops", &p.precopy, "")?;
    }
    if p.full.count > 0 {
        distribution(out, "full checkpoints", &p.full, "")?;
    }
    let most = p.histogram.iter().map(|b| b.count).max().unwrap_or(0);
    if most > 0 {
        writeln!(out)?;
    }
    for bin in &p.histogram {
        let length = (bin.count * BAR).div_ceil(most.max(1)) as usize;
        let line = format!(
            "  {:>9} - {:>9} {:>9} {}",
            show_ns(bin.from),
            show_ns(bin.to),
            bin.count,
            "#".repeat(length)
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn overheads(out: &mut impl Write, f: &Figures) -> std::io::Result<()> {
    let (s, t, o) = (&f.stall, &f.tracking, &f.overhead);
    writeln!(out, "\nOVERHEAD")?;
    writeln!(
        out,
        "  run time          {} from the first checkpoint to the last",
        show_ns(f.checkpoints.runtime_ns)
    )?;
    writeln!(
        out,
        "  standing still    {}: boundaries {}, pre-copy {}, other {}; of this {} at the first \
         checkpoint",
        show_ns(s.total_ns),
        show_ns(s.boundary_ns),
        show_ns(s.precopy_ns),
        show_ns(s.other_ns),
        show_ns(s.first_ns),
    )?;
    writeln!(
        out,
        "  share of run time {} (measured, without the first checkpoint)",
        percent(s.share)
    )?;
    writeln!(
        out,
        "  write faults      {} ({}): {} per second, {} per checkpoint",
        t.faults,
        if t.counted {
            "counted"
        } else {
            "at most: pages found written"
        },
        or_dash(t.per_second, number),
        or_dash(t.per_checkpoint, number),
    )?;
    writeln!(
        out,
        "  cost of a fault   {} (an estimate: {})",
        show_ns(t.cost.ns),
        t.cost.source
    )?;
    writeln!(
        out,
        "  finding writes    {}, {} of the run time if one thread made them all (estimate)",
        show_ns(t.total_ns),
        percent(t.share)
    )?;
    writeln!(
        out,
        "  together          {}, {} of the run time, slowdown {} (estimate)",
        show_ns(o.total_ns),
        percent(o.share),
        or_dash(o.slowdown, |v| format!("{v:.4}")),
    )?;
    writeln!(
        out,
        "  per checkpoint    stalls {} (measured), finding writes {} (estimate)",
        or_dash(o.stall_per_checkpoint_ns, time),
        or_dash(o.tracking_per_checkpoint_ns, time),
    )
}

fn stalls(out: &mut impl Write, f: &Figures) -> std::io::Result<()> {
    let s = &f.stall;
    if s.threads.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\nSTALLS BY THREAD         total   of its time    stops    longest"
    )?;
    for t in s.threads.iter().take(16) {
        let name = format!("{} {}", t.tid, text(&t.name));
        writeln!(
            out,
            "  {name:<20.20} {:>10} {:>10} {:>8} {:>10}  {}",
            show_ns(t.total_ns),
            percent(t.share),
            t.stops,
            show_ns(t.max_ns),
            text(&t.process),
        )?;
    }
    let more = s.threads_left_out + s.threads.len().saturating_sub(16) as u64;
    if more > 0 {
        writeln!(out, "  and {more} threads more")?;
    }
    Ok(())
}

fn pages(out: &mut impl Write, f: &Figures) -> std::io::Result<()> {
    let p = &f.pages;
    let d = &p.per_checkpoint;
    writeln!(out, "\nPAGES AND BYTES")?;
    writeln!(
        out,
        "  found written     {} pages; per checkpoint p50 {}, p90 {}, p99 {}, max {}",
        p.dirty, d.p50, d.p90, d.p99, d.max
    )?;
    writeln!(out, "  untracked         {} pages", p.untracked)?;
    writeln!(
        out,
        "  raw / stored      {} / {}: {} to 1, {} without full checkpoints",
        show_size(p.raw_bytes),
        show_size(p.stored_bytes),
        or_dash(p.ratio, number),
        or_dash(p.ratio_steady, number),
    )
}

fn copying(out: &mut impl Write, f: &Figures) -> std::io::Result<()> {
    let (p, a, h) = (&f.precopy, &f.after, &f.hot);
    writeln!(out, "\nCOPYING")?;
    writeln!(
        out,
        "  before the stop   {} stops, {} pages found, {} kept: efficiency {}, {} of all written, \
         {} of pause per page",
        p.stops,
        p.found,
        p.kept,
        or_dash(p.efficiency, percent),
        or_dash(p.share, percent),
        or_dash(p.ns_per_page, time),
    )?;
    writeln!(
        out,
        "  after the stop    {} pages, {} conflicts ({} had from saved content), {} stops to \
         repair, {} boundaries given up",
        a.copied, a.conflicts, a.pre_images, a.repairs, a.given_up,
    )?;
    writeln!(
        out,
        "  hot pages         {} copied, {} left unprotected: {} hits, {} misses, hit rate {}",
        h.copied,
        h.unprotected,
        h.hits,
        h.misses,
        or_dash(h.hit_rate, percent),
    )
}

fn repeats(out: &mut impl Write, repeats: &[u64]) -> std::io::Result<()> {
    let most = repeats.iter().copied().max().unwrap_or(0);
    if most == 0 {
        return Ok(());
    }
    writeln!(out, "\nPAGES FOUND WRITTEN n TIMES IN ONE INTERVAL")?;
    for (n, pages) in repeats.iter().enumerate() {
        let length = (u128::from(*pages) * u128::from(BAR)).div_ceil(u128::from(most)) as usize;
        let line = format!("  {:>3} {pages:>12} {}", n + 1, "#".repeat(length));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn cells(out: &mut impl Write, f: &Figures) -> std::io::Result<()> {
    if f.cells.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\nHOTTEST MEMORY                          pages    share  checkpoints  mapping"
    )?;
    for c in &f.cells {
        let others = match c.others {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        writeln!(
            out,
            "  {:<32} {:>10} {:>8} {:>12}  {}{others} of {}",
            format!("{:x}-{:x}", c.start, c.end),
            c.pages,
            percent(c.share),
            c.checkpoints,
            text(&c.name),
            text(&c.process),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_numbers() {
        assert_eq!(percent(0.0), "0.00 %");
        assert_eq!(percent(0.00001), "< 0.01 %");
        assert_eq!(percent(0.0123), "1.23 %");
        assert_eq!(percent(0.5), "50.0 %");
        assert_eq!(or_dash(None, number), "-");
        assert_eq!(or_dash(Some(123.4), number), "123");
    }
}
