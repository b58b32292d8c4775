//! Real programs.

use super::{record, same_result, times};
use crate::scenarios::loads;
use crate::{Length, Outcome, passed, place, process, skip};
use anyhow::Result;
use std::path::{Path, PathBuf};

const PYTHON: &str = "
import hashlib, gc, re, json, collections, time
table, digest, words = {}, hashlib.sha256(), collections.deque(maxlen=5000)
x = 12345
for turn in range(900):
    for i in range(150):
        x = (x * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        table.setdefault(x % 3001, []).append(str(x))
        words.append(format(x, 'x'))
    if turn % 50 == 0:
        gc.collect()
        time.sleep(0.01)
        table = {k: v[-5:] for k, v in table.items()}
    digest.update(json.dumps(table.get(x % 3001, [])).encode())
    digest.update(''.join(re.findall('[a-f]+', ''.join(list(words)[-40:]))).encode())
print('ok', digest.hexdigest())
";

pub fn python(length: &Length) -> Result<Outcome> {
    let Some(python) = loads::python() else {
        return skip("there is no python3");
    };
    let dir = place::scratch()?;
    // Not a script that starts it: at a moment of that, the children it waits for are not recorded.
    let ask = ["-c", "import sys; print(sys.executable)"];
    let (_, out, _) = process::run(&mut process::command(python, &ask), dir.path())?;
    let cmd = [out.trim().into(), "-c".into(), PYTHON.into()];
    let run = record(dir.path(), "50", &cmd)?;
    passed(same_result(dir.path(), &run, times(length), &[])?)
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|d| d.join(program))
        .find(|p: &PathBuf| Path::is_file(p))
}

pub fn sqlite(length: &Length) -> Result<Outcome> {
    let Some(sqlite) = find("sqlite3") else {
        return skip("there is no sqlite3");
    };
    let dir = place::scratch()?;
    let sql = "
        pragma temp_store = memory;
        create table t(a integer primary key, b integer, c text);
        with recursive n(i) as (select 1 union all select i + 1 from n where i < 150000)
            insert into t select i, (i * 7919) % 10007, hex(i * 104729) from n;
        create index tb on t(b);
        update t set c = c || 'x' where b % 3 = 0;
        delete from t where b % 5 = 1;
        select 'ok', count(*), sum(b), sum(length(c)), max(c) from t;";
    let cmd = [sqlite.into(), ":memory:".into(), sql.into()];
    let run = record(dir.path(), "100", &cmd)?;
    passed(same_result(dir.path(), &run, times(length), &[])?)
}
