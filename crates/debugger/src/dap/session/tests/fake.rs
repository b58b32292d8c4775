//! A made-up program: twenty checkpoints of a counter, a call that comes and goes, a thread that
//! begins late, and a crash at the end.

use crate::dap::debuggee::*;
use crate::dap::interrupt::Interrupt;
use stillframe_image::{CheckpointId, Marks};

/// How many checkpoints there are. Their numbers are even, as if others had been removed.
pub const COUNT: u64 = 20;
/// The main thread.
pub const MAIN: u32 = 100;
/// Exists from position 5 on.
pub const LATE: u32 = 101;
/// Where `counter` is.
pub const COUNTER: u64 = 0x5000;

#[derive(Debug, Default)]
pub struct Fake {
    at: u64,
    /// Checkpoints visited.
    pub visits: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Locals(FrameId),
    Registers,
    Big,
    Deep(u32),
}

/// The counter's value at a position: changes at 4, 9 and 15.
pub fn counter(position: u64) -> u64 {
    match position {
        0..4 => 0,
        4..9 => 7,
        9..15 => 8,
        _ => 1,
    }
}

/// Line of `main` at a position.
fn main_line(position: u64) -> u64 {
    match position {
        0..3 => 10,
        3..12 => 11,
        _ => 14,
    }
}

fn frame(name: &str, file: &str, line: u64, cfa: u64, pc: u64) -> FrameInfo {
    FrameInfo {
        name: name.to_owned(),
        pc,
        cfa: Some(cfa),
        inlined: false,
        place: (line > 0).then(|| Place {
            path: format!("/src/{file}"),
            line,
            column: 3,
        }),
        module: Some(0x400000),
    }
}

impl Fake {
    fn moment_at(&self, position: u64) -> Moment {
        Moment {
            checkpoint: CheckpointId(2 * position),
            at_ns: position * 10_000_000,
            marks: match position {
                0 => Marks::FULL,
                6 => Marks::POINT,
                19 => Marks::CRASH,
                _ => Marks::default(),
            },
            tags: if position == 8 {
                vec!["here".to_owned()]
            } else {
                Vec::new()
            },
            position,
            count: COUNT,
        }
    }

    fn stack(&self, tid: u32, position: u64) -> Option<Vec<FrameInfo>> {
        let outer = frame(
            "main",
            "main.c",
            main_line(position),
            0x9000,
            0x401000 + main_line(position),
        );
        match tid {
            MAIN => Some(match position {
                // work() runs from 5 to 8, and again from 10 to 11: two calls.
                5..=8 => vec![
                    frame("read", "", 0, 0x8000, 0x7000),
                    frame(
                        "work(int)",
                        "work.c",
                        30 + position / 7,
                        0x8800,
                        0x402000 + position / 7,
                    ),
                    outer,
                ],
                10..=11 => vec![frame("work(int)", "work.c", 32, 0x8700, 0x402002), outer],
                _ => vec![outer],
            }),
            LATE if position >= 5 => Some(vec![frame("late", "work.c", 50, 0x6000, 0x403000)]),
            _ => None,
        }
    }

    fn item(name: &str, value: String) -> Item<Node> {
        Item {
            name: name.to_owned(),
            value,
            type_name: Some("int".to_owned()),
            node: None,
            indexed: 0,
            named: 0,
            expression: Some(name.to_owned()),
            memory: None,
            points_to: None,
        }
    }
}

impl Debuggee for Fake {
    type Node = Node;

    fn about(&self) -> About {
        About {
            name: "fake".to_owned(),
            pid: MAIN,
            notes: vec!["nothing of this is real".to_owned()],
        }
    }

    fn moment(&self) -> Moment {
        self.moment_at(self.at)
    }

    fn go(&mut self, to: CheckpointId) -> Result<(), Failure> {
        if !to.0.is_multiple_of(2) || to.0 / 2 >= COUNT {
            return Err(Failure::told(format!("there is no checkpoint {to}")));
        }
        self.at = to.0 / 2;
        self.visits += 1;
        Ok(())
    }

    fn neighbour(&self, direction: Direction) -> Option<CheckpointId> {
        let at = match direction {
            Direction::Forward => self.at + 1,
            Direction::Backward => self.at.checked_sub(1)?,
        };
        (at < COUNT).then_some(CheckpointId(2 * at))
    }

    fn next_marked(&self, marks: Marks, direction: Direction) -> Option<CheckpointId> {
        let fits = |p: &u64| self.moment_at(*p).marks.0 & marks.0 != 0;
        match direction {
            Direction::Forward => (self.at + 1..COUNT).find(fits),
            Direction::Backward => (0..self.at).rev().find(fits),
        }
        .map(|p| CheckpointId(2 * p))
    }

    fn next_tagged(&self, direction: Direction) -> Option<CheckpointId> {
        match direction {
            Direction::Forward if self.at < 8 => Some(CheckpointId(16)),
            Direction::Backward if self.at > 8 => Some(CheckpointId(16)),
            _ => None,
        }
    }

    fn resolve(&self, moment: &str) -> Result<CheckpointId, Failure> {
        match moment {
            "first" => Ok(CheckpointId(0)),
            "last" | "crash" => Ok(CheckpointId(2 * (COUNT - 1))),
            "here" => Ok(CheckpointId(16)),
            other => other
                .parse()
                .map(CheckpointId)
                .map_err(|_| Failure::told(format!("{other:?} is no moment"))),
        }
    }

    fn moments(&self, start: u64, count: u64) -> Vec<Moment> {
        (start..start.saturating_add(count).min(COUNT))
            .map(|p| self.moment_at(p))
            .collect()
    }

    fn threads(&mut self) -> Result<Vec<ThreadInfo>, Failure> {
        let signal = (self.at == 19).then(|| Signal {
            name: "SIGSEGV".to_owned(),
            description: "SIGSEGV at 0x0".to_owned(),
        });
        let mut threads = vec![ThreadInfo {
            tid: MAIN,
            name: "fake".to_owned(),
            signal,
        }];
        if self.at >= 5 {
            threads.push(ThreadInfo {
                tid: LATE,
                name: "late".to_owned(),
                signal: None,
            });
        }
        Ok(threads)
    }

    fn frames(&mut self, tid: u32, limit: usize) -> Result<Vec<FrameInfo>, Failure> {
        let mut stack = self
            .stack(tid, self.at)
            .ok_or_else(|| Failure::told(format!("there is no thread {tid}")))?;
        stack.truncate(limit);
        Ok(stack)
    }

    fn scopes(&mut self, frame: FrameId) -> Result<Vec<ScopeInfo<Node>>, Failure> {
        Ok(vec![
            ScopeInfo {
                kind: ScopeKind::Locals,
                node: Node::Locals(frame),
                count: Some(3),
            },
            ScopeInfo {
                kind: ScopeKind::Registers,
                node: Node::Registers,
                count: None,
            },
        ])
    }

    fn parts(&mut self, of: &Node, page: Page) -> Result<Vec<Item<Node>>, Failure> {
        let all: Vec<Item<Node>> = match of {
            Node::Locals(frame) => vec![
                Item {
                    memory: Some((0x7ff0 + frame.level as u64, 4)),
                    ..Self::item("local", "3".to_owned())
                },
                Item {
                    node: Some(Node::Big),
                    indexed: 5_000_000,
                    ..Self::item("big", "{...}".to_owned())
                },
                Item {
                    node: Some(Node::Deep(0)),
                    named: 1,
                    ..Self::item("deep", "{...}".to_owned())
                },
            ],
            Node::Registers => vec![Self::item("rip", "0x401000".to_owned())],
            Node::Big => {
                let end = page.start.saturating_add(page.count).min(5_000_000);
                return Ok((page.start..end)
                    .map(|i| Self::item(&format!("[{i}]"), i.to_string()))
                    .collect());
            }
            Node::Deep(n) => vec![Item {
                node: Some(Node::Deep(n + 1)),
                named: 1,
                ..Self::item("next", n.to_string())
            }],
        };
        let start = usize::try_from(page.start).unwrap_or(usize::MAX);
        let count = usize::try_from(page.count).unwrap_or(usize::MAX);
        Ok(all.into_iter().skip(start).take(count).collect())
    }

    fn evaluate(
        &mut self,
        frame: Option<FrameId>,
        expression: &str,
        hex: bool,
    ) -> Result<Item<Node>, Failure> {
        let value = counter(self.at);
        match (expression, frame) {
            ("counter", _) => Ok(Item {
                memory: Some((COUNTER, 4)),
                ..Self::item(
                    "counter",
                    if hex {
                        format!("{value:#x}")
                    } else {
                        value.to_string()
                    },
                )
            }),
            ("local", Some(frame)) => Ok(Item {
                memory: Some((0x7ff0 + frame.level as u64, 4)),
                ..Self::item("local", "3".to_owned())
            }),
            ("rax", _) => Ok(Self::item("rax", "1".to_owned())),
            _ => Err(Failure::told(format!("{expression:?} names nothing here"))),
        }
    }

    fn holds(&mut self, _: Option<FrameId>, expression: &str) -> Result<bool, Failure> {
        match expression.strip_prefix("counter == ") {
            Some(n) => Ok(n.parse() == Ok(counter(self.at))),
            None => Err(Failure::told("no condition")),
        }
    }

    fn next_change(
        &mut self,
        watched: &[Watch],
        direction: Direction,
        interrupt: &Interrupt,
    ) -> Result<Option<Change>, Failure> {
        if interrupt.is_set() {
            return Err(Failure::Interrupted);
        }
        let on_counter = |w: &Watch| match w {
            Watch::Expression(text) => text == "counter",
            Watch::Bytes { address, .. } => *address == COUNTER,
        };
        let which: Vec<usize> = (0..watched.len())
            .filter(|i| on_counter(&watched[*i]))
            .collect();
        let edges = [4, 9, 15];
        let edge = match direction {
            Direction::Forward => edges.into_iter().find(|e| *e > self.at),
            Direction::Backward => edges.into_iter().rev().find(|e| *e <= self.at),
        };
        Ok(edge.filter(|_| !which.is_empty()).map(|edge| Change {
            which,
            before: CheckpointId(2 * edge - 2),
            after: CheckpointId(2 * edge),
        }))
    }

    fn history(
        &mut self,
        _: Option<FrameId>,
        expression: &str,
        range: (CheckpointId, CheckpointId),
        _: &Interrupt,
        visit: &mut dyn FnMut(HistoryStep) -> bool,
    ) -> Result<(), Failure> {
        if expression != "counter" {
            return Err(Failure::told(format!("{expression:?} names nothing here")));
        }
        for p in [0, 4, 9, 15] {
            let moment = self.moment_at(p);
            if moment.checkpoint < range.0 || moment.checkpoint > range.1 {
                continue;
            }
            let value = counter(p).to_string();
            if !visit(HistoryStep { moment, value }) {
                break;
            }
        }
        Ok(())
    }

    fn read(&mut self, address: u64, out: &mut [u8]) -> usize {
        // One page, which begins with the counter.
        let end = COUNTER + 4096;
        if !(COUNTER..end).contains(&address) {
            return 0;
        }
        let n = out.len().min(usize::try_from(end - address).unwrap());
        out[..n].fill(0);
        if address == COUNTER && n > 0 {
            out[0] = u8::try_from(counter(self.at)).unwrap();
        }
        n
    }

    fn modules(&mut self) -> Result<Vec<ModuleInfo>, Failure> {
        Ok(vec![ModuleInfo {
            start: 0x400000,
            end: 0x500000,
            path: "/bin/fake".to_owned(),
            status: "lines and types".to_owned(),
        }])
    }

    fn sources(&mut self) -> Result<Vec<String>, Failure> {
        Ok(vec!["/src/main.c".to_owned(), "/src/work.c".to_owned()])
    }

    fn lines(&mut self, path: &str) -> Result<Option<Vec<u64>>, Failure> {
        Ok(match path {
            "/src/main.c" => Some(vec![10, 11, 14]),
            "/src/work.c" => Some(vec![30, 31, 32, 50]),
            _ => None,
        })
    }

    fn has_function(&mut self, name: &str) -> Result<bool, Failure> {
        Ok(matches!(name, "main" | "work" | "late"))
    }

    fn place_source(&mut self, path: &str) -> SourceAt {
        SourceAt {
            path: path.to_owned(),
            found: path == "/src/main.c",
        }
    }

    fn source(&mut self, path: &str) -> Result<String, Failure> {
        match path {
            "/src/main.c" => Ok("int main() {}\n".to_owned()),
            _ => Err(Failure::told(format!("{path} is not on this machine"))),
        }
    }

    fn disassemble(
        &mut self,
        address: u64,
        _: i64,
        count: u64,
    ) -> Result<Vec<Disassembled>, Failure> {
        Ok((0..count)
            .map(|i| Disassembled {
                address: address + i,
                bytes: vec![0x90],
                text: "nop".to_owned(),
                symbol: Some("main".to_owned()),
            })
            .collect())
    }

    fn completions(&mut self, _: Option<FrameId>, prefix: &str) -> Result<Vec<String>, Failure> {
        let all = ["counter", "local"].map(str::to_owned);
        Ok(all.into_iter().filter(|n| n.starts_with(prefix)).collect())
    }
}
