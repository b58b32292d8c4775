//! Screens, as text files: keys and answers in, what is drawn out.
//!
//! The pictures are in `screens/`; `BLESS=1 cargo test` writes them anew, and then they are to be
//! looked at.

use super::asked::{
    Answer, Ask, Bookmark, Change, Excerpt, FrameLine, Moment, Place, Reading, ThreadId, ThreadLine,
};
use super::state::{Life, Over, Pane, State, Subject};
use super::{Theme, draw};
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::{Color, Modifier};
use std::path::Path;
use stillframe_image::{CheckpointId, Marks, Phases, SpaceId, Tick};
use stillframe_store::Row;

const UNICODE: Theme = Theme {
    colour: true,
    ascii: false,
};
const PLAIN: Theme = Theme {
    colour: false,
    ascii: true,
};

fn row(n: u64) -> Row {
    let marks = match n {
        0 => Marks::FULL,
        120 | 240 => Marks::POINT,
        200 => Marks::FORK,
        399 => Marks::CRASH,
        _ => Marks::default(),
    };
    let wave = (n % 80).min(80 - n % 80);
    Row {
        id: CheckpointId(n),
        tick: Tick {
            at_ns: 3_000_000 + n * 10_000_000,
            wall_ns: 1_790_000_000_000_000_000 + n * 10_000_000,
            marks,
            processes: 1,
            threads: 3,
            skipped: if n == 300 { 4 } else { 0 },
            dirty_pages: if n == 0 { 9000 } else { 20 + wave * 3 },
            phases: Phases {
                stop: 40_000,
                copy: if n == 0 {
                    9_000_000
                } else {
                    90_000 + wave * 4000 + (n == 250) as u64 * 900_000
                },
                ..Phases::default()
            },
            ..Tick::default()
        },
        stored_bytes: if n == 0 { 30 << 20 } else { 900 + wave * 700 },
        raw_bytes: 0,
    }
}

fn rows(count: u64) -> Vec<Row> {
    (0..count).map(row).collect()
}

fn subject() -> Subject {
    Subject {
        recording: "demo.still".to_owned(),
        command: "./queue --workers 2".to_owned(),
        pid: 4242,
        started_wall_ns: 1_790_000_000_000_000_000,
    }
}

fn place(function: &str, file: Option<&str>, line: u32) -> Place {
    Place {
        function: function.to_owned(),
        file: file.map(str::to_owned),
        line: file.map(|_| line),
    }
}

fn id(tid: u32) -> ThreadId {
    ThreadId {
        space: SpaceId(0),
        tid,
    }
}

fn moment(at: CheckpointId, thread: Option<ThreadId>) -> Moment {
    const FILE: Option<&str> = Some("/src/queue/worker.c");
    let line = |tid, name: &str, place| ThreadLine {
        id: id(tid),
        name: name.to_owned(),
        process: "queue 4242".to_owned(),
        place,
        signal: None,
    };
    let mut threads = vec![
        line(4242, "queue", place("poll+0x4f", None, 0)),
        line(4243, "worker-1", place("take", FILE, 61)),
        line(
            4244,
            "worker-2",
            place("__futex_abstimed_wait_common64+0xcb", None, 0),
        ),
    ];
    if at.0 == 399 {
        threads[1].signal = Some("SIGSEGV".to_owned());
    }
    let frame = |function: &str, line| FrameLine {
        place: place(function, FILE, line),
        inlined: function == "unlink_first",
        signal: false,
    };
    Moment {
        id: at,
        points: if at.0 == 120 {
            vec!["epoch".to_owned()]
        } else {
            Vec::new()
        },
        threads,
        more_threads: 0,
        thread: Some(thread.unwrap_or_else(|| id(4243))),
        stack: vec![
            frame("unlink_first", 44),
            frame("take", 61),
            frame("worker", 93),
            FrameLine {
                place: place("start_thread+0x2f8", None, 0),
                ..FrameLine::default()
            },
        ],
        source: Some(Ok(Excerpt {
            path: "/src/queue/worker.c".to_owned(),
            first: 40,
            lines: [
                "static struct job *unlink_first(struct queue *q)",
                "{",
                "\tstruct job *job = q->head;",
                "",
                "\tq->head = job->next;",
                "\tq->len--;",
                "\treturn job;",
                "}",
            ]
            .map(str::to_owned)
            .to_vec(),
            at: 44,
            frame: 0,
        })),
        trouble: None,
    }
}

fn change(n: u64, number: f64) -> Change {
    Change {
        id: CheckpointId(n),
        at_ns: row(n).tick.at_ns,
        value: Ok(reading(number)),
    }
}

fn reading(number: f64) -> Reading {
    Reading {
        text: number.to_string(),
        number: Some(number),
        truth: Some(number != 0.0),
    }
}

/// Answers what is asked as a recording of this queue would.
fn serve(state: &mut State) {
    loop {
        let asks = state.take();
        if asks.is_empty() {
            return;
        }
        for ask in asks {
            match ask {
                Ask::Moment {
                    turn,
                    at,
                    context,
                    watches,
                } => {
                    let moment = Box::new(moment(at, context.thread));
                    state.answer(Answer::Moment { turn, moment });
                    for (watch, text, _) in watches {
                        let value = value(&text, at.0).ok_or("no such variable".to_owned());
                        state.answer(Answer::Value { turn, watch, value });
                    }
                }
                Ask::History {
                    turn,
                    watch,
                    text,
                    from,
                    ..
                } => {
                    let last = state.rows.last().map(|r| r.id).unwrap_or_default();
                    let known = value(&text, 0).is_some();
                    let changes = (from.0..=last.0).filter_map(|n| {
                        Some(Change {
                            id: CheckpointId(n),
                            at_ns: row(n).tick.at_ns,
                            value: Ok(value(&text, n)?),
                        })
                    });
                    let changes = changes.collect();
                    let done = if known {
                        Ok(())
                    } else {
                        Err(format!("no variable `{text}`"))
                    };
                    state.answer(Answer::History {
                        turn,
                        watch,
                        changes,
                        covered: known.then_some(last),
                        done: Some(done),
                        local: false,
                    });
                }
                Ask::Resolve { turn, text } => {
                    let found = text.parse().map(CheckpointId);
                    let found = found.map_err(|_| format!("there is no moment `{text}`"));
                    state.answer(Answer::Resolved { turn, found });
                }
                Ask::Keep { at, note } => {
                    let mut all = state.bookmarks.clone();
                    all.push(Bookmark {
                        at,
                        at_ns: Some(row(at.0).tick.at_ns),
                        name: format!("at-{at}"),
                        note,
                    });
                    state.answer(Answer::Bookmarks(all));
                }
                Ask::Remove { bookmark } => {
                    let mut all = state.bookmarks.clone();
                    all.retain(|b| *b != bookmark);
                    state.answer(Answer::Bookmarks(all));
                }
                Ask::Forget { .. } => {}
            }
        }
    }
}

fn value(text: &str, n: u64) -> Option<Reading> {
    let length = if n > 350 {
        350.0 - n as f64
    } else {
        (n / 10 % 9) as f64
    };
    match text {
        "q.len" => Some(reading(length)),
        "q.len < 0" => Some(Reading {
            text: (length < 0.0).to_string(),
            number: None,
            truth: Some(length < 0.0),
        }),
        "state" => Some(Reading {
            text: if (n / 90).is_multiple_of(2) {
                "IDLE"
            } else {
                "DRAINING"
            }
            .to_owned(),
            number: None,
            truth: None,
        }),
        _ => None,
    }
}

fn state() -> State {
    let mut state = State::new(
        subject(),
        rows(400),
        Life::Ended(Some("killed by SIGSEGV".to_owned())),
        399,
    );
    serve(&mut state);
    state
}

fn press(state: &mut State, keys: &str) {
    for c in keys.chars() {
        let code = match c {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\u{1b}' => KeyCode::Esc,
            '←' => KeyCode::Left,
            '→' => KeyCode::Right,
            '↑' => KeyCode::Up,
            '↓' => KeyCode::Down,
            '«' => KeyCode::PageUp,
            '»' => KeyCode::PageDown,
            '⇤' => KeyCode::Home,
            '⇥' => KeyCode::End,
            '⌫' => KeyCode::Backspace,
            c => KeyCode::Char(c),
        };
        state.key(KeyEvent::from(code));
        serve(state);
    }
}

fn drawn(state: &mut State, width: u16, height: u16, theme: Theme) -> Buffer {
    state.resize(width, height);
    state.prepare();
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw::screen(frame, state, theme))
        .unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let mut out = String::new();
    for y in 0..buffer.area.height {
        let line: String = (0..buffer.area.width)
            .map(|x| buffer[(x, y)].symbol())
            .collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn screen(name: &str, state: &mut State, width: u16, height: u16, theme: Theme) -> String {
    let drawn = text(&drawn(state, width, height, theme));
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/view/screens")
        .join(format!("{name}.txt"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &drawn).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(wanted == drawn, "{name}: wanted\n{wanted}drawn\n{drawn}");
    drawn
}

#[test]
fn a_whole_recording_in_the_smallest_usual_terminal() {
    let mut state = state();
    press(&mut state, "wq.len\nwstate\n/q.len < 0\nbfirst negative\n");
    screen("crash", &mut state, 80, 24, UNICODE);
}

#[test]
fn without_colours_and_without_utf8_nothing_is_lost() {
    let mut state = state();
    press(&mut state, "wq.len\ng120\n\t");
    let buffer = drawn(&mut state, 80, 24, PLAIN);
    for cell in buffer.content() {
        assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset));
        assert!(cell.symbol().is_ascii(), "{}", cell.symbol());
    }
    let reversed = buffer.content().iter();
    let reversed = reversed.filter(|c| c.modifier.contains(Modifier::REVERSED));
    assert!(reversed.count() > 10, "cursor and focus must show");
    screen("ascii", &mut state, 80, 24, PLAIN);
}

#[test]
fn a_large_terminal_shows_more_of_everything() {
    let mut state = state();
    press(&mut state, "wq.len\nwstate\ng250\n+++t");
    screen("large", &mut state, 132, 50, UNICODE);
}

#[test]
fn popups() {
    let mut state = state();
    press(&mut state, "?");
    screen("help", &mut state, 80, 24, UNICODE);
    press(&mut state, "qwstate\ng120\nbhere it was fine\ng300\nb\nB");
    screen("bookmarks", &mut state, 80, 24, UNICODE);
    press(&mut state, "\u{1b}\n");
    assert_eq!(state.over, Some(Over::Value(0)));
    screen("value", &mut state, 80, 24, UNICODE);
}

#[test]
fn typing() {
    let mut state = state();
    press(
        &mut state,
        "wa rather long expression that does not fit into one line of the terminal + 1",
    );
    let drawn = screen("typing", &mut state, 80, 24, UNICODE);
    assert!(drawn.trim_end().ends_with("+ 1"));
}

#[test]
fn moving() {
    let mut state = state();
    let at = |state: &State| state.row().unwrap().id.0;
    press(&mut state, "⇤");
    assert_eq!(at(&state), 0);
    press(&mut state, "→→L");
    assert_eq!(at(&state), 12);
    press(&mut state, "hH←←←");
    assert_eq!(at(&state), 0, "there is nothing before the first");
    state.key(KeyEvent::new(KeyCode::Right, KeyModifiers::SHIFT));
    assert_eq!(at(&state), 10);
    press(&mut state, "]");
    assert_eq!(at(&state), 120);
    press(&mut state, "]]]");
    assert_eq!(at(&state), 399);
    press(&mut state, "]");
    assert!(state.message.is_some());
    press(&mut state, "[");
    assert_eq!(at(&state), 240);
    press(&mut state, "»");
    assert!((330..350).contains(&at(&state)), "{}", at(&state));
    press(&mut state, "«g17\n");
    assert_eq!(at(&state), 17);
    press(&mut state, "gnowhere\n");
    assert_eq!(at(&state), 17);
    assert!(state.message.as_ref().unwrap().bad);
    press(&mut state, "⇥");
    assert_eq!(at(&state), 399);
}

#[test]
fn matches_and_changes() {
    let mut state = state();
    let at = |state: &State| state.row().unwrap().id.0;
    press(&mut state, "⇤n");
    assert!(state.message.is_some(), "there is nothing to look for");
    press(&mut state, "wstate\nn");
    assert_eq!(at(&state), 90);
    press(&mut state, "nn");
    assert_eq!(at(&state), 270);
    press(&mut state, "N");
    assert_eq!(at(&state), 180);
    press(&mut state, "/q.len < 0\n");
    assert_eq!(at(&state), 351);
    press(&mut state, "n");
    assert_eq!(at(&state), 351);
    assert!(state.message.as_ref().unwrap().text.contains("after this"));
    press(&mut state, "⇥N");
    assert_eq!(at(&state), 351);
    press(&mut state, "/");
    for _ in 0.."q.len < 0".len() {
        press(&mut state, "⌫");
    }
    press(&mut state, "\n");
    assert!(state.search.is_none());
    press(&mut state, "/nothing\n");
    assert!(
        state
            .message
            .as_ref()
            .unwrap()
            .text
            .contains("no variable `nothing`")
    );
}

#[test]
fn a_match_is_awaited_and_can_be_given_up() {
    let mut state = state();
    press(&mut state, "⇤");
    for c in "/q.len < 0".chars() {
        state.key(KeyEvent::from(KeyCode::Char(c)));
    }
    state.key(KeyEvent::from(KeyCode::Enter));
    let Some(Ask::History { turn, watch, .. }) = state.take().pop() else {
        panic!("nothing was asked")
    };
    assert!(state.seeking.is_some());
    let part = |changes, covered| Answer::History {
        turn,
        watch,
        changes,
        covered: Some(CheckpointId(covered)),
        done: None,
        local: false,
    };
    state.answer(part(vec![change(0, 0.0)], 50));
    assert!(state.seeking.is_some());
    // Keys work all the while.
    state.key(KeyEvent::from(KeyCode::Right));
    assert_eq!(state.row().unwrap().id.0, 1);
    state.answer(part(vec![change(70, 1.0)], 90));
    assert_eq!((state.row().unwrap().id.0, state.seeking), (70, None));
    state.key(KeyEvent::from(KeyCode::Char('n')));
    assert!(state.seeking.is_some());
    state.key(KeyEvent::from(KeyCode::Esc));
    state.answer(part(vec![change(95, 0.0), change(100, 1.0)], 120));
    assert_eq!(state.row().unwrap().id.0, 70);
}

#[test]
fn late_answers_do_not_show() {
    let mut state = state();
    state.key(KeyEvent::from(KeyCode::Left));
    let Some(Ask::Moment { turn, at, .. }) = state.take().pop() else {
        panic!("nothing was asked")
    };
    state.key(KeyEvent::from(KeyCode::Left));
    let late = Answer::Moment {
        turn,
        moment: Box::new(moment(at, None)),
    };
    state.answer(late);
    assert!(state.current().is_none());
    serve(&mut state);
    assert_eq!(state.current().unwrap().id.0, 397);
}

#[test]
fn a_growing_recording_is_followed_until_one_looks_back() {
    let mut state = State::new(subject(), rows(1), Life::Live, 0);
    state.watch("q.len");
    serve(&mut state);
    state.renew(&rows(40), Life::Live);
    serve(&mut state);
    assert_eq!((state.row().unwrap().id.0, state.follow), (39, true));
    assert_eq!(state.watches[0].covered, Some(CheckpointId(39)));
    press(&mut state, "←");
    state.renew(&rows(80), Life::Live);
    serve(&mut state);
    assert_eq!((state.row().unwrap().id.0, state.follow), (38, false));
    assert_eq!(state.window.end(), row(79).tick.at_ns + 1);
    // The beginning is removed while it is looked at.
    let left: Vec<Row> = (60..90).map(row).collect();
    state.renew(&left, Life::Live);
    serve(&mut state);
    assert_eq!(state.row().unwrap().id.0, 60);
    assert_eq!(state.watches[0].covered, Some(CheckpointId(89)));
    press(&mut state, "⇥");
    assert!(state.follow);
    state.renew(&left, Life::Ended(None));
    press(&mut state, "⇤⇥");
    assert!(!state.follow);
    state.renew(&[], Life::Live);
    drawn(&mut state, 80, 24, UNICODE);
}

#[test]
fn threads_and_frames_are_chosen() {
    let mut state = state();
    press(&mut state, "t↓");
    assert_eq!(state.context.thread, Some(id(4244)));
    press(&mut state, "↑↑↑\n↓↓");
    assert_eq!(
        (state.context.thread, state.context.frame),
        (Some(id(4242)), 2)
    );
    assert_eq!(state.pane, Pane::Stack);
    press(&mut state, "t↓");
    assert_eq!(state.context.frame, 0);
    let asked = state.turn_of_moment();
    press(&mut state, "↓↓↓↓");
    assert!(
        state.turn_of_moment() <= asked + 1,
        "the end of the list asks nothing"
    );
}

#[test]
fn what_depends_on_the_frame_is_asked_again() {
    let mut state = state();
    press(&mut state, "wq.len\n");
    state.watches[0].local = true;
    press(&mut state, "\t\t");
    assert_eq!(state.pane, Pane::Stack);
    state.key(KeyEvent::from(KeyCode::Down));
    let asks = state.take();
    assert!(
        asks.iter()
            .any(|a| matches!(a, Ask::History { context, .. } if context.frame == 1))
    );
}

#[test]
fn watches_are_changed_and_removed() {
    let mut state = state();
    press(&mut state, "wq.len\nwstate\n");
    press(&mut state, "e⌫⌫⌫⌫⌫q.len < 0\n");
    assert_eq!(state.watches[1].text, "q.len < 0");
    press(&mut state, "dd");
    assert!(state.watches.is_empty());
    press(&mut state, "dn↓↑");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Any keys on any recording of any length on any terminal: it goes on, and it draws.
    #[test]
    fn nothing_panics(
        keys in prop::collection::vec(
            prop_oneof![
                prop::sample::select("hlHL[]g+-0w/nNbBt\tjk\ned\u{1b}?q←→↑↓«»⇤⇥⌫".chars().collect::<Vec<_>>()),
                any::<char>(),
            ],
            0..60,
        ),
        count in 0u64..60,
        live: bool,
        sizes in prop::collection::vec((0u16..140, 0u16..60), 1..4),
        ascii: bool,
    ) {
        let life = if live { Life::Live } else { Life::Ended(None) };
        let mut state = State::new(subject(), rows(count), life.clone(), 7);
        serve(&mut state);
        let theme = Theme { colour: true, ascii };
        for (n, key) in keys.iter().enumerate() {
            press(&mut state, &key.to_string());
            if n % 9 == 0 && live {
                state.renew(&rows(count + n as u64), life.clone());
                serve(&mut state);
            }
            if n % 7 == 0 {
                let (width, height) = sizes[n % sizes.len()];
                drawn(&mut state, width, height, theme);
            }
            prop_assert!(state.at < state.rows.len().max(1));
        }
        for (width, height) in sizes {
            drawn(&mut state, width, height, theme);
        }
    }

    /// Whatever a recording says, the screen has the characters of text only.
    #[test]
    fn hostile_names_are_only_text(text in any::<String>()) {
        let mut state = State::new(
            Subject { command: super::text::tame(&text), ..subject() },
            rows(3),
            Life::Ended(Some(text.clone())),
            1,
        );
        state.take();
        let mut told = moment(CheckpointId(1), None);
        told.threads[0].name.clone_from(&text);
        told.threads[1].place.function.clone_from(&text);
        told.stack[0].place.file = Some(text.clone());
        told.points = vec![super::text::tame(&text)];
        told.source = Some(Err(text.clone()));
        let turn = state.turn_of_moment();
        state.answer(Answer::Moment { turn, moment: Box::new(told) });
        state.answer(Answer::Bookmarks(vec![Bookmark { at: CheckpointId(1), at_ns: None, name: text.clone(), note: text.clone() }]));
        state.over = Some(Over::Bookmarks(0));
        let buffer = drawn(&mut state, 80, 24, UNICODE);
        for cell in buffer.content() {
            prop_assert!(!cell.symbol().chars().any(char::is_control), "{:?}", cell.symbol());
        }
    }
}
