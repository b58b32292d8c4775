//! The short form of every scenario. No standard harness: scenarios can skip at run time.

fn main() -> std::process::ExitCode {
    stillframe_e2e::runner::test_main(&stillframe_e2e::scenarios::all())
}
