//! In which order the processes of a tree are made, and by whom.
//!
//! A process is what its parent was when it made it: a child of it, in its session. So a process whose
//! parent has become the leader of another session since must be made before that; and one whose
//! parent had ended is made by somebody in its session, by way of a helper that ends at once.

use std::collections::BTreeMap;
use stillframe_image::{Gap, ProcessImage};

/// One step. Processes are given by their positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first one is made.
    Root(usize),
    /// One is made by its parent.
    Fork {
        /// The child.
        child: usize,
        /// Its parent.
        by: usize,
    },
    /// One is made by a helper of another one, so that it has lost its parent.
    Orphan {
        /// The child.
        child: usize,
        /// Whose helper makes it.
        by: usize,
    },
    /// One begins a session of its own.
    Session(usize),
    /// One joins or, with its own number, begins a process group.
    Group {
        /// Which.
        process: usize,
        /// The group's number.
        group: u32,
    },
}

/// The order, and what is not as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Every process is made in one step, after the one that makes it.
    pub steps: Vec<Step>,
    /// Sessions and groups that cannot be had.
    pub gaps: Vec<Gap>,
}

/// A session: that of the process at a position, or one from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    Outside,
    Of(usize),
}

struct Family<'a> {
    images: &'a [&'a ProcessImage],
    parents: Vec<Option<usize>>,
    sessions: Vec<Session>,
    /// The session that a process has to be made in; any if it begins its own and nobody cares.
    births: Vec<Option<Session>>,
    /// It begins a session.
    leads: Vec<bool>,
    /// The session a process is in, once it is made.
    now: Vec<Option<Session>>,
    plan: Plan,
}

/// Plans. The first of `images` is the root; `detached`: it is to have a session of its own at least.
pub fn plan(images: &[&ProcessImage], detached: bool) -> Plan {
    let mut numbers = BTreeMap::new();
    for (at, image) in images.iter().enumerate() {
        numbers.entry(image.process.pid).or_insert(at);
    }
    let find = |pid: u32| numbers.get(&pid).copied().filter(|_| pid != 0);
    let parents: Vec<Option<usize>> = (0..images.len())
        .map(|at| {
            let parent = find(images.get(at)?.process.parent)?;
            // Whoever is its parent is older, but for a reaper of orphans (subreaper).
            (at != 0 && !descends(images, &find, parent, at)).then_some(parent)
        })
        .collect();
    let sessions: Vec<Session> = images
        .iter()
        .map(|image| {
            let leader = find(image.process.session);
            let leader = leader.filter(|l| images.get(*l).is_some_and(|l| leads_session(l)));
            leader.map_or(Session::Outside, Session::Of)
        })
        .collect();
    let leads = (0..images.len())
        .map(|at| sessions.get(at) == Some(&Session::Of(at)) || (detached && at == 0))
        .collect();
    let mut family = Family {
        images,
        births: vec![None; images.len()],
        now: vec![None; images.len()],
        parents,
        sessions,
        leads,
        plan: Plan::default(),
    };
    family.name_lost();
    family.bear();
    family.make();
    family.group();
    family.plan
}

/// Whether `parent` would be its own ancestor by way of `child`: outside input can say anything.
fn descends(
    images: &[&ProcessImage],
    find: &dyn Fn(u32) -> Option<usize>,
    parent: usize,
    child: usize,
) -> bool {
    let mut at = parent;
    for _ in 0..images.len() {
        if at == child {
            return true;
        }
        match images.get(at).and_then(|i| find(i.process.parent)) {
            Some(next) if at != 0 => at = next,
            _ => return false,
        }
    }
    true
}

fn leads_session(image: &ProcessImage) -> bool {
    image.process.session == image.process.pid
}

fn subject(image: &ProcessImage) -> String {
    format!("process {}", image.process.pid)
}

impl Family<'_> {
    fn session(&self, at: usize) -> Session {
        self.sessions.get(at).copied().unwrap_or(Session::Outside)
    }

    fn leads(&self, at: usize) -> bool {
        self.leads.get(at).copied().unwrap_or(false)
    }

    fn gap(&mut self, at: usize, reason: String) {
        let subject = self.images.get(at).map_or_else(String::new, |i| subject(i));
        self.plan.gaps.push(Gap { subject, reason });
    }

    /// Sessions whose leader has ended become the one of us all.
    fn name_lost(&mut self) {
        let outside = self.images.first().map_or(0, |i| i.process.session);
        for at in 0..self.images.len() {
            let session = self.images.get(at).map_or(0, |i| i.process.session);
            if self.session(at) == Session::Outside && session != outside && session != 0 {
                let why = format!(
                    "its session {session} has no leader any more; it is in that of the restorer"
                );
                self.gap(at, why);
            }
        }
    }

    /// Which session each is to be made in: the one it is in, or for a leader the one that children
    /// of its are in that it made before.
    fn bear(&mut self) {
        for at in (0..self.images.len()).rev() {
            let birth = if self.session(at) == Session::Of(at) {
                let children = (at + 1..self.images.len())
                    .filter(|c| self.parents.get(*c).copied().flatten() == Some(at));
                let mut wants = children.filter_map(|c| self.births.get(c).copied().flatten());
                wants.find(|s| *s != Session::Of(at))
            } else {
                Some(self.session(at))
            };
            if let Some(place) = self.births.get_mut(at) {
                *place = birth;
            }
        }
    }

    fn make(&mut self) {
        if self.images.is_empty() {
            return;
        }
        self.plan.steps.push(Step::Root(0));
        self.set_now(0, Some(Session::Outside));
        self.grow(0);
        // Orphans, each once somebody in its session is there.
        loop {
            let orphans: Vec<usize> = (0..self.images.len())
                .filter(|at| self.is_made(*at).is_none())
                .filter(|at| self.parents.get(*at).copied().flatten().is_none())
                .collect();
            let ready = orphans
                .iter()
                .find_map(|at| Some((*at, self.maker(*at)?)))
                .or_else(|| orphans.first().map(|at| (*at, 0)));
            let Some((child, by)) = ready else {
                break;
            };
            self.plan.steps.push(Step::Orphan { child, by });
            self.born(child, by);
            self.grow(child);
        }
    }

    fn is_made(&self, at: usize) -> Option<Session> {
        self.now.get(at).copied().flatten()
    }

    fn set_now(&mut self, at: usize, session: Option<Session>) {
        if let Some(now) = self.now.get_mut(at) {
            *now = session;
        }
    }

    /// Somebody whose helper is born in the session that an orphan needs.
    fn maker(&self, child: usize) -> Option<usize> {
        let wanted = self.births.get(child).copied().flatten();
        (0..self.images.len()).find(|at| match (self.is_made(*at), wanted) {
            (Some(now), Some(wanted)) => now == wanted,
            (Some(_), None) => true,
            (None, _) => false,
        })
    }

    /// A child is in the session that its maker is in.
    fn born(&mut self, child: usize, by: usize) {
        let now = self.is_made(by);
        self.set_now(child, now);
        let wanted = self.births.get(child).copied().flatten();
        if wanted.is_some() && wanted != now {
            let session = self.images.get(child).map_or(0, |i| i.process.session);
            if self.session(child) != Session::Of(child) {
                let why = format!("its session {session} cannot be had; it is in its parent's");
                self.gap(child, why);
            }
        }
    }

    /// Has a process make its children, those first that are in the session it was made in, and their
    /// children in turn. Not recursive: a tree can be deep.
    fn grow(&mut self, first: usize) {
        let mut next = vec![first];
        while let Some(at) = next.pop() {
            let children: Vec<usize> = (0..self.images.len())
                .filter(|c| self.parents.get(*c).copied().flatten() == Some(at))
                .filter(|c| self.is_made(*c).is_none())
                .collect();
            let early = |this: &Self, child: &usize| {
                let birth = this.births.get(*child).copied().flatten();
                let begins = this.session(at) == Session::Of(at);
                begins && birth.is_some() && birth == this.is_made(at)
            };
            let (before, after): (Vec<usize>, Vec<usize>) =
                children.iter().partition(|c| early(self, c));
            for child in before {
                self.fork(child, at);
            }
            if self.leads(at) {
                self.plan.steps.push(Step::Session(at));
                // The session of a root that is to live on its own stands for what was outside.
                let session = self.session(at);
                self.set_now(at, Some(session));
            }
            for child in after {
                self.fork(child, at);
            }
            next.extend(children.iter().rev());
        }
    }

    fn fork(&mut self, child: usize, by: usize) {
        self.plan.steps.push(Step::Fork { child, by });
        self.born(child, by);
    }

    /// Groups, once everybody is there: leaders first.
    fn group(&mut self) {
        let leads_group = |image: &ProcessImage| image.process.group == image.process.pid;
        let outside = self.images.first().map_or(0, |i| i.process.group);
        let mut members = Vec::new();
        let mut lost = Vec::new();
        for (at, image) in self.images.iter().enumerate() {
            let group = image.process.group;
            let step = Step::Group { process: at, group };
            if leads_group(image) {
                // The leader of a session leads its group already.
                if !self.leads(at) {
                    self.plan.steps.push(step);
                }
            } else if self
                .images
                .iter()
                .any(|l| l.process.pid == group && leads_group(l))
            {
                members.push(step);
            } else if group != outside && group != 0 {
                lost.push((at, group));
            }
        }
        self.plan.steps.extend(members);
        for (at, group) in lost {
            let why =
                format!("its process group {group} has no leader any more; it is in its parent's");
            self.gap(at, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillframe_image::SpaceId;

    /// Pid, parent, group, session.
    fn images(all: &[(u32, u32, u32, u32)]) -> Vec<ProcessImage> {
        let image = |(at, (pid, parent, group, session)): (usize, &(u32, u32, u32, u32))| {
            let mut image = ProcessImage {
                id: SpaceId(u32::try_from(at).unwrap()),
                ..ProcessImage::default()
            };
            image.process.pid = *pid;
            image.process.parent = *parent;
            image.process.group = *group;
            image.process.session = *session;
            image
        };
        all.iter().enumerate().map(image).collect()
    }

    fn of(all: &[(u32, u32, u32, u32)], detached: bool) -> Plan {
        let images = images(all);
        plan(&images.iter().collect::<Vec<_>>(), detached)
    }

    #[test]
    fn children_are_made_by_their_parents() {
        let got = of(&[(10, 1, 5, 5), (11, 10, 5, 5), (12, 11, 5, 5)], false);
        let fork = |child, by| Step::Fork { child, by };
        assert_eq!(got.steps, [Step::Root(0), fork(1, 0), fork(2, 1)]);
        assert_eq!(got.gaps, []);
    }

    #[test]
    fn sessions_begin_between_children() {
        // 11 made 12 and then a session of its own, in which it made 13.
        let tree = [
            (10, 1, 5, 5),
            (11, 10, 11, 11),
            (12, 11, 5, 5),
            (13, 11, 11, 11),
        ];
        let got = of(&tree, false);
        let fork = |child, by| Step::Fork { child, by };
        let group = Step::Group {
            process: 3,
            group: 11,
        };
        assert_eq!(
            got.steps,
            [
                Step::Root(0),
                fork(1, 0),
                fork(2, 1),
                Step::Session(1),
                fork(3, 1),
                group
            ]
        );
        assert_eq!(got.gaps, []);
    }

    #[test]
    fn orphans_are_made_in_their_session() {
        // A daemon of 10, and a worker of a process of its session that has ended.
        let tree = [(10, 1, 10, 10), (20, 1, 20, 20), (30, 1, 20, 20)];
        let got = of(&tree, true);
        let orphan = |child, by| Step::Orphan { child, by };
        assert_eq!(
            got.steps,
            [
                Step::Root(0),
                Step::Session(0),
                orphan(1, 0),
                Step::Session(1),
                orphan(2, 1),
                Step::Group {
                    process: 2,
                    group: 20
                }
            ]
        );
    }

    #[test]
    fn what_has_lost_its_leader_is_named() {
        let got = of(&[(10, 1, 5, 5), (11, 10, 8, 5), (12, 10, 9, 9)], false);
        assert_eq!(got.gaps.len(), 3);
        assert!(!got.steps.iter().any(|s| matches!(s, Step::Group { .. })));
    }

    #[test]
    fn any_figures_make_a_plan_with_every_process_once() {
        // A small generator of its own: figures that form circles, repeat, and are nobody's.
        let mut state = 7u32;
        let mut next = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        for _ in 0..500 {
            let count = 1 + next(12);
            let tree: Vec<_> = (0..count)
                .map(|_| (next(14), next(14), next(14), next(14)))
                .collect();
            let got = of(&tree, next(2) == 1);
            let mut made: Vec<usize> = got
                .steps
                .iter()
                .filter_map(|s| match s {
                    Step::Root(at) => Some(*at),
                    Step::Fork { child, .. } | Step::Orphan { child, .. } => Some(*child),
                    _ => None,
                })
                .collect();
            made.sort_unstable();
            assert_eq!(made, (0..tree.len()).collect::<Vec<_>>(), "{tree:?}");
        }
    }
}
