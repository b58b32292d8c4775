//! The scenarios, by what they show.

pub mod bench;
pub mod check;
pub mod control;
pub mod dap;
pub mod debug;
pub mod diff;
pub mod ends;
pub mod expressions;
pub mod files;
pub mod find;
pub mod follow;
pub mod gdb;
pub mod history;
pub mod inproc;
pub mod input;
pub mod instant;
pub mod interrupt;
pub mod last_good;
pub mod loads;
pub mod paranoid;
pub mod past;
pub mod planted;
pub mod points;
pub mod privilege;
pub mod report;
pub mod restore;
pub mod retention;
pub mod rollback;
pub mod signals;
pub mod space;
pub mod stacks;
pub mod state;
pub mod supervise;
pub mod survive;
pub mod torn;
pub mod tree;
pub mod view;
pub mod ways;

use crate::Scenario;

/// Every scenario that tests and the soak run, in their order.
pub fn all() -> Vec<Scenario> {
    [
        paranoid::SCENARIOS,
        ways::SCENARIOS,
        instant::SCENARIOS,
        survive::SCENARIOS,
        torn::SCENARIOS,
        space::SCENARIOS,
        input::SCENARIOS,
        privilege::SCENARIOS,
        ends::SCENARIOS,
        tree::SCENARIOS,
        follow::SCENARIOS,
        control::SCENARIOS,
        signals::SCENARIOS,
        interrupt::SCENARIOS,
        points::SCENARIOS,
        gdb::SCENARIOS,
        dap::SCENARIOS,
        expressions::SCENARIOS,
        debug::SCENARIOS,
        stacks::SCENARIOS,
        history::SCENARIOS,
        find::SCENARIOS,
        past::SCENARIOS,
        diff::SCENARIOS,
        last_good::SCENARIOS,
        files::SCENARIOS,
        check::SCENARIOS,
        state::SCENARIOS,
        inproc::SCENARIOS,
        bench::SCENARIOS,
        report::SCENARIOS,
        restore::SCENARIOS,
        retention::SCENARIOS,
        rollback::SCENARIOS,
        supervise::SCENARIOS,
        view::SCENARIOS,
    ]
    .concat()
}
