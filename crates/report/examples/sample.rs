//! Writes report pages of made-up recordings into a directory, to look at in a browser.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "an example")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Shape, USUAL, analysis};
use stillframe_report::{Options, html};

fn main() {
    let dir = std::path::PathBuf::from(std::env::args().nth(1).unwrap_or(".".to_owned()));
    let cases = [
        ("usual", USUAL),
        (
            "empty",
            Shape {
                checkpoints: 0,
                ..USUAL
            },
        ),
        (
            "one",
            Shape {
                checkpoints: 1,
                ..USUAL
            },
        ),
        (
            "few",
            Shape {
                checkpoints: 12,
                ..USUAL
            },
        ),
        (
            "plain",
            Shape {
                accounts: false,
                ..USUAL
            },
        ),
        (
            "many",
            Shape {
                checkpoints: 20_000,
                hz: 1000,
                dirty: 500,
                cells: 512,
                ..USUAL
            },
        ),
        (
            "tree",
            Shape {
                processes: 4,
                threads: 12,
                faults: true,
                checkpoints: 900,
                ..USUAL
            },
        ),
    ];
    let evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\u{202e}\"'`<!--";
    let cases = cases.map(|(name, shape)| (name, shape, None));
    let hostile = (
        "hostile",
        Shape {
            checkpoints: 300,
            ..USUAL
        },
        Some(evil),
    );
    for (name, shape, text) in cases.into_iter().chain([hostile]) {
        let a = analysis(&shape, text, Options::default());
        let page = html::page(&a).unwrap();
        println!(
            "{name}: {} bytes, {} seconds kept",
            page.len(),
            a.seconds.len()
        );
        std::fs::write(dir.join(format!("{name}.html")), page).unwrap();
    }
}
