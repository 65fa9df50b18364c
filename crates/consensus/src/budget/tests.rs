//! The budget against a sum that is kept by hand.

use super::*;
use futures::FutureExt as _;
use proptest::prelude::*;
use std::future::Future;
use std::pin::Pin;

const COMMANDS: usize = 16;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Somebody asks in a group for some of the largest command's eighths.
    Ask { group: usize, eighths: usize },
    /// Somebody who still waits, or has not looked yet, goes.
    Leave(usize),
    /// A command becomes larger or smaller than was asked for.
    Resize { who: usize, eighths: usize },
    /// The outcome of a command is known.
    Land(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0usize..2, 0usize..9).prop_map(|(group, eighths)| Step::Ask { group, eighths }),
        3 => any::<usize>().prop_map(Step::Leave),
        2 => (any::<usize>(), 0usize..9).prop_map(|(who, eighths)| Step::Resize { who, eighths }),
        3 => any::<usize>().prop_map(Step::Land),
    ]
}

fn bytes(eighths: usize) -> usize {
    limits::COMMAND_BYTES / 8 * eighths
}

type Asking = Pin<Box<dyn Future<Output = Permit>>>;

/// Two groups of one node, and who is where.
struct Model {
    node: CommandBudget,
    groups: [Admission; 2],
    asking: Vec<(usize, Asking)>,
    held: Vec<(usize, Permit)>,
    /// What the planted bug does with the room of somebody who leaves.
    leaves: fn(Permit),
}

impl Model {
    fn new(leaves: fn(Permit)) -> Self {
        let node = CommandBudget::default();
        let group = || Admission::new(COMMANDS, node.clone());
        Self {
            groups: [group(), group()],
            node,
            asking: Vec::new(),
            held: Vec::new(),
            leaves,
        }
    }

    /// Everybody who got room has it from now on.
    fn settle(&mut self) {
        for (group, mut asking) in std::mem::take(&mut self.asking) {
            match asking.as_mut().now_or_never() {
                Some(permit) => self.held.push((group, permit)),
                None => self.asking.push((group, asking)),
            }
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Ask { group, eighths } => {
                let room = self.groups[group].clone();
                let asking = async move { room.reserve(bytes(eighths)).await };
                self.asking.push((group, Box::pin(asking)));
                self.settle();
            }
            Step::Leave(who) if !self.asking.is_empty() => {
                let (_, asking) = self.asking.swap_remove(who % self.asking.len());
                drop(asking);
                self.settle();
            }
            Step::Leave(who) | Step::Land(who) if !self.held.is_empty() => {
                let (_, permit) = self.held.swap_remove(who % self.held.len());
                match step {
                    Step::Leave(_) => (self.leaves)(permit),
                    _ => drop(permit),
                }
                self.settle();
            }
            Step::Resize { who, eighths } if !self.held.is_empty() => {
                let at = who % self.held.len();
                let (had, wanted) = (self.held[at].1.bytes(), bytes(eighths));
                let resized = self.held[at].1.resize(wanted);
                let has = if resized.is_ok() { wanted } else { had };
                assert_eq!(self.held[at].1.bytes(), has);
                self.settle();
            }
            Step::Leave(_) | Step::Land(_) | Step::Resize { .. } => {}
        }
    }

    /// What differs from the sum of what is held; those who wait may have a part of what they want.
    fn check(&self) -> Result<(), String> {
        let mut all = 0;
        for (number, group) in self.groups.iter().enumerate() {
            let own = || self.held.iter().filter(|(group, _)| *group == number);
            let sum: usize = own().map(|(_, permit)| permit.bytes()).sum();
            let waiting = self.asking.iter().any(|(group, _)| *group == number);
            let (held, commands) = (group.held(), own().count());
            if !waiting
                && held
                    != (Held {
                        commands,
                        bytes: sum,
                    })
            {
                return Err(format!("group {number}: {held:?}, not {sum} bytes"));
            }
            all += sum;
        }
        let held = limits::COMMANDS_HELD_BYTES - self.node.free_bytes();
        match self.asking.is_empty() && held != all {
            true => Err(format!("{held} bytes of the node are held, not {all}")),
            false => Ok(()),
        }
    }

    fn run(leaves: fn(Permit), steps: Vec<Step>) -> Result<(), String> {
        let mut model = Self::new(leaves);
        for step in steps {
            model.take(step);
            model.check()?;
        }
        model.asking.clear();
        model.held.clear();
        model.check()
    }
}

proptest! {
    #[test]
    fn what_is_held_is_what_is_counted_whoever_leaves(
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        prop_assert_eq!(Model::run(drop, steps), Ok(()));
    }
}

#[test]
fn a_budget_that_leaks_when_somebody_leaves_is_found() {
    let steps = [
        Step::Ask {
            group: 0,
            eighths: 1,
        },
        Step::Leave(0),
    ];
    assert_eq!(Model::run(drop, steps.to_vec()), Ok(()));
    let leaked = Model::run(std::mem::forget, steps.to_vec());
    assert!(leaked.is_err_and(|found| found.contains("group 0")));
}

#[test]
fn a_group_that_stands_still_leaves_room_to_another_and_the_large_are_not_passed_by() {
    let mut model = Model::new(drop);
    for _ in 0..COMMANDS {
        model.take(Step::Ask {
            group: 0,
            eighths: 8,
        });
    }
    let full = limits::GROUP_COMMANDS_HELD_BYTES / limits::COMMAND_BYTES;
    assert_eq!(model.held.len(), full);
    model.take(Step::Ask {
        group: 1,
        eighths: 8,
    });
    assert_eq!(model.held.len(), full + 1, "the other group");
    model.take(Step::Resize { who: 0, eighths: 1 });
    model.take(Step::Ask {
        group: 0,
        eighths: 1,
    });
    assert_eq!(
        model.held.len(),
        full + 1,
        "seven eighths are free, and eight wanted first"
    );
    model.take(Step::Land(0));
    assert_eq!(model.held.len(), full + 1, "the first who waits");
}
