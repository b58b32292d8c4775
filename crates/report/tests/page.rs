//! Figures of recordings that are known number by number, and pages that stay harmless.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod common;

use common::{Shape, USUAL, analysis, rows_and_accounts};
use stillframe_image::Marks;
use stillframe_image::account::StopKind;
use stillframe_report::{Options, html};

const SMALL: Shape = Shape {
    checkpoints: 300,
    ..USUAL
};

/// Part of a page between two marks.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let begin = text.find(from).unwrap() + from.len();
    let end = text[begin..].find(to).unwrap();
    &text[begin..begin + end]
}

fn data_of(page: &str) -> serde_json::Value {
    let tag = "<script type=\"application/json\" id=\"data\"";
    let element = &page[page.find(tag).unwrap()..];
    serde_json::from_str(between(element, ">", "</script>")).unwrap()
}

#[test]
fn figures_are_the_sums_of_what_was_recorded() {
    let all = rows_and_accounts(&SMALL);
    let f = analysis(&SMALL, None, Options::default()).figures;
    let sum = |of: &dyn Fn(usize) -> u64| (0..all.len()).map(of).sum::<u64>();
    let steady = |i: usize| !all[i].0.tick.marks.contains(Marks::FULL);
    assert_eq!(f.checkpoints.count, 300);
    assert_eq!((f.checkpoints.full, f.checkpoints.accounts), (1, 300));
    assert_eq!(f.pause.boundary.count, 299);
    assert_eq!(f.stall.boundary_ns, sum(&|i| all[i].0.tick.pause_ns()));
    assert_eq!(f.stall.precopy_ns, sum(&|i| all[i].0.tick.precopy_pause_ns));
    let other = |i: usize| {
        let stops = all[i].1.stops.iter();
        let given_up = stops.filter(|s| s.kind == StopKind::Conflict);
        given_up.map(|s| s.pause_ns).sum()
    };
    assert_eq!(f.stall.other_ns, sum(&other));
    let phases: u64 = f.pause.phases.iter().map(|p| p.ns.total).sum();
    assert_eq!(phases, f.pause.boundary.total);
    assert_eq!(f.pages.dirty, sum(&|i| all[i].0.tick.dirty_pages));
    assert_eq!(f.pages.raw_bytes, sum(&|i| all[i].0.raw_bytes));
    assert_eq!(f.pages.stored_bytes, sum(&|i| all[i].0.stored_bytes));
    assert_eq!(f.rate.skipped, sum(&|i| u64::from(all[i].0.tick.skipped)));
    let told = f.rate.late + f.rate.store + f.rate.not_stopped + f.rate.budget;
    assert_eq!((told, f.rate.unexplained), (f.rate.skipped, 0));
    let faults = sum(&|i| u64::from(steady(i)) * all[i].1.faults.write);
    assert_eq!((f.tracking.faults, f.tracking.counted), (faults, true));
    assert_eq!(f.tracking.total_ns, faults * f.tracking.cost.ns);
    for thread in &f.stall.threads {
        let own = |i: usize| {
            let stalls = all[i].1.stalls.iter().filter(|s| s.tid == thread.tid);
            stalls.map(|s| s.resumed_ns - s.stopped_ns).sum()
        };
        assert_eq!(thread.total_ns, sum(&own), "{thread:?}");
        assert_eq!(thread.stops, 300);
    }
    assert_eq!(f.stall.threads.len(), 3);
    let repeats = |n: usize| sum(&|i| u64::from(steady(i)) * u64::from(all[i].1.repeats[n]));
    assert_eq!(f.repeats, [repeats(0), repeats(1), repeats(2)]);
    assert!(f.cells.iter().any(|c| c.name == "[heap]"));
    let guesses = f.hot.hits + f.hot.misses;
    assert_eq!(f.hot.hit_rate, Some(f.hot.hits as f64 / guesses as f64));
    let given = Options {
        fault_cost_ns: Some(700),
        ..Options::default()
    };
    let f = analysis(&SMALL, None, given).figures;
    assert_eq!(f.tracking.total_ns, faults * 700);
}

#[test]
fn series_hold_everything_once_and_every_maximum() {
    for shape in [
        SMALL,
        Shape {
            checkpoints: 5_000,
            hz: 1000,
            cells: 300,
            ..USUAL
        },
    ] {
        let all = rows_and_accounts(&shape);
        let a = analysis(&shape, None, Options::default());
        let s = &a.series;
        assert!(s.points.len() <= 1200);
        assert_eq!(s.single, shape.checkpoints <= 1200);
        let steady = || all.iter().skip(1).map(|(row, _)| row);
        assert_eq!(
            s.points.iter().map(|p| p.n).sum::<u64>(),
            shape.checkpoints - 1
        );
        assert_eq!(
            s.slices.iter().map(|p| p.made).sum::<u64>(),
            shape.checkpoints - 1
        );
        let raw: u64 = steady().map(|r| r.raw_bytes).sum();
        assert_eq!(s.points.iter().map(|p| p.raw).sum::<u64>(), raw);
        let longest = steady().max_by_key(|r| r.tick.pause_ns()).unwrap();
        let shown = s.points.iter().max_by_key(|p| p.max).unwrap();
        assert_eq!(
            (shown.max, shown.max_id),
            (longest.tick.pause_ns(), longest.id.0)
        );
        assert!(s.points.windows(2).all(|w| w[0].at <= w[1].at));
        let heat: u64 = a.heat.rows.iter().map(|r| r.pages).sum();
        let found = all.iter().skip(1).flat_map(|(_, account)| &account.heat);
        assert_eq!(heat, found.map(|h| u64::from(h.pages)).sum::<u64>());
    }
}

#[test]
fn a_hostile_recording_cannot_inject_anything() {
    let evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\
                \u{2028}\"'`--><!--<svg/onload=alert(1)>&lt;\u{202e}\0";
    let page = html::page(&analysis(&SMALL, Some(evil), Options::default())).unwrap();
    let harmless = html::page(&analysis(&SMALL, None, Options::default())).unwrap();
    // The text is there, but only in the data, and only escaped.
    let data = data_of(&page);
    assert_eq!(data["figures"]["subject"]["arguments"][0], evil);
    assert_eq!(data["figures"]["subject"]["notes"][0], evil);
    let name = data["figures"]["stall"]["threads"][0]["name"]
        .as_str()
        .unwrap();
    assert!(evil.starts_with(name) && !name.is_empty());
    for word in ["alert(1)>", "<img", "<svg", "onerror=alert(1)>", "\u{2028}"] {
        assert!(!page.contains(word), "{word}");
    }
    // The markup around the data is the same but for the nonce.
    let frame = |page: &str| {
        let nonce = between(page, "'nonce-", "'").to_owned();
        let begin = page.find("id=\"data\"").unwrap();
        let end = begin + page[begin..].find("</script>").unwrap();
        format!("{}{}", &page[..begin], &page[end..]).replace(&nonce, "")
    };
    assert_eq!(frame(&page), frame(&harmless));
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script").count(), 2);
    let nonces = |p: &str| between(p, "'nonce-", "'").to_owned();
    assert_ne!(nonces(&page), nonces(&harmless));
}

#[test]
fn pages_are_whole_whatever_the_recording_lacks() {
    for shape in [
        Shape {
            checkpoints: 0,
            ..USUAL
        },
        Shape {
            checkpoints: 1,
            ..USUAL
        },
        Shape {
            checkpoints: 2,
            ..USUAL
        },
        Shape {
            checkpoints: 40,
            accounts: false,
            ..USUAL
        },
        Shape {
            checkpoints: 60,
            processes: 4,
            threads: 12,
            faults: true,
            ..USUAL
        },
    ] {
        let a = analysis(&shape, None, Options::default());
        let page = html::page(&a).unwrap();
        let data = data_of(&page);
        assert_eq!(data["figures"]["checkpoints"]["count"], shape.checkpoints);
        assert!(
            !page.contains("http://") && !page.contains("https://"),
            "{shape:?}"
        );
        assert!(page.ends_with("</html>\n"));
        assert_eq!(
            a.heat.rows.is_empty(),
            !shape.accounts || shape.checkpoints < 2
        );
        if !shape.accounts {
            assert!(!a.figures.tracking.counted && a.figures.tracking.faults > 0);
        }
    }
}

#[test]
fn a_long_recording_makes_a_small_page_with_the_second_asked_for() {
    let shape = Shape {
        checkpoints: 20_000,
        hz: 100,
        threads: 16,
        cells: 512,
        ..USUAL
    };
    let options = Options {
        second_ns: Some(133_400_000_000),
        ..Options::default()
    };
    let a = analysis(&shape, None, options);
    assert!(a.seconds.iter().any(|s| s.second == 133));
    assert!(a.seconds.len() < 200, "{}", a.seconds.len());
    let page = html::page(&a).unwrap();
    assert!(page.len() < 5 << 20, "{} bytes", page.len());
    assert_eq!(data_of(&page)["second"], 133);
}

#[test]
fn bookmarks_are_in_the_data_and_those_of_removed_checkpoints_are_not() {
    let mut analysis = analysis(&SMALL, None, Options::default());
    let page = html::page(&analysis).unwrap();
    let all = data_of(&page)["bookmarks"].as_array().unwrap().clone();
    assert_eq!(all.len(), 3);
    assert_eq!(all[1]["id"], 107);
    assert_eq!(all[1]["at"], analysis.bookmarks[1].at_ns.unwrap());
    assert_eq!(all[0]["name"], "at-0");
    assert_eq!(all[0]["note"], "here it was fine");
    analysis.bookmarks[0].at_ns = None;
    let page = html::page(&analysis).unwrap();
    assert_eq!(data_of(&page)["bookmarks"].as_array().unwrap().len(), 2);
}
