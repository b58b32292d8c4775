//! Rollback, held to a full copy of memory: random programs of writes, allocations, frees and calls
//! under nested checkpoints, with every compiler, instrumentation and granule that is here; with
//! threads where the runtime allows them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;
use stillframe_instrument::compiler::{Compiler, Granule, Kind, Way};
use stillframe_instrument::embed::Files;
use stillframe_instrument::pass;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Builds a program of this directory in each way there is, and gives it to `each`.
fn everywhere(source: &str, with: &[&str], mut each: impl FnMut(&Path, Granule, &str)) {
    let files = Files::open().unwrap();
    let place = tempfile::tempdir().unwrap();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut built = 0;
    for name in ["clang", "gcc"] {
        let Ok(compiler) = Compiler::ask(Path::new(name)) else {
            println!("SKIPPED: no {name}");
            continue;
        };
        let mut ways = vec![(Way::Hooks, vec![Granule::Line, Granule::Word, Granule::Log])];
        match (compiler.kind, pass::build(&files, &compiler)) {
            (Kind::Clang, Ok(plugin)) => {
                ways.push((Way::Pass(plugin), vec![Granule::Line, Granule::Word]));
            }
            (Kind::Clang, Err(why)) => println!("SKIPPED: {why}"),
            _ => {}
        }
        for (way, granules) in ways {
            for granule in granules {
                let object = place.path().join("program.o");
                run(Command::new(name)
                    .args(["-O2", "-w", "-c"])
                    .arg(tests.join(source))
                    .arg("-o")
                    .arg(&object)
                    .args(compiler.compile_flags(&way))
                    .arg("-isystem")
                    .arg(files.include())
                    .env(pass::VARIABLE, granule.name()));
                let mut objects = vec![object];
                for plain in with {
                    let object = place.path().join(format!("{plain}.o"));
                    run(Command::new(name)
                        .args(["-O1", "-fno-builtin", "-w", "-c"])
                        .arg(tests.join(plain))
                        .arg("-o")
                        .arg(&object));
                    objects.push(object);
                }
                let program = place.path().join("program");
                run(Command::new(name)
                    .args(&objects)
                    .arg(files.runtime(granule))
                    .args(["-lpthread", "-ldl", "-o"])
                    .arg(&program));
                let title = format!("{} {way:?} {granule:?}", compiler.name());
                each(&program, granule, &title);
                built += 1;
            }
        }
    }
    if built == 0 {
        println!("SKIPPED: nothing to compile with");
    }
}

#[test]
fn rollbacks_equal_a_full_copy() {
    everywhere("property.c", &["model.c"], |program, granule, title| {
        for seed in 1..=3 {
            let said = run(Command::new(program).args([seed.to_string(), "150".into()]));
            assert!(said.contains("rolled back"), "{title}: {said}");
        }
        if granule != Granule::Line {
            run(Command::new(program).args(["9", "80", "4"]));
        }
    });
}

#[test]
fn contracts() {
    everywhere("contracts.c", &[], |program, granule, title| {
        let said = run(Command::new(program).arg(granule.name()));
        assert!(said.ends_with("all held\n"), "{title}: {said}");
    });
}
