//! What was asked for in this process, and the environments that it keeps at
//! hand for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::{BoxFuture, WeakShared};
use hookpool_supervisor::EnvironmentRequirements;

use super::finding::Answer;
use super::handle::{Environment, Held};
use super::installer::Installation;

/// How far a question is.
pub(super) enum Asked {
    /// It is found or made by all who wait for it together, and dropped with the
    /// last of them.
    Running(WeakShared<BoxFuture<'static, Answer>>),
    Answered(Answered),
}

/// An environment that is kept at hand.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub held: Arc<Held>,
    pub at: Instant,
    /// When it was last used, as a number that grows.
    turn: u64,
}

/// The question that an answer is for.
#[derive(Clone, Debug)]
pub(super) struct Basis {
    pub key: String,
    pub installation: Arc<Installation>,
    /// What that said belongs to the question.
    pub told: String,
}

impl Basis {
    /// Whether it would be the same question now. Blocks, as looking at files
    /// does.
    pub fn still_holds(&self) -> bool {
        self.installation.question() == self.told
    }
}

/// What some requirements led to.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub environment: Environment,
    pub basis: Basis,
    pub answered: Answered,
}

/// Questions by their keys, and the requirements that lead to them.
#[derive(Default)]
pub(super) struct Answers {
    asked: HashMap<String, Asked>,
    known: HashMap<EnvironmentRequirements, (Environment, Basis)>,
    next_turn: u64,
}

impl Answers {
    /// How many environments that nobody uses just now are kept: with a lock and
    /// a list of its files each. The least recently used are let go.
    const KEPT: usize = 16;

    pub fn get(&mut self, key: &str) -> Option<&Asked> {
        self.next_turn += 1;
        let asked = self.asked.get_mut(key)?;
        if let Asked::Answered(answered) = asked {
            answered.turn = self.next_turn;
        }
        Some(asked)
    }

    pub fn begin(&mut self, key: String, running: WeakShared<BoxFuture<'static, Answer>>) {
        self.asked.insert(key, Asked::Running(running));
    }

    /// A question has its answer, or none. What is let go is returned: to drop
    /// it takes a look at the disk.
    pub fn end(&mut self, key: String, held: Option<&Arc<Held>>) -> Vec<Arc<Held>> {
        let Some(held) = held else {
            self.asked.remove(&key);
            return Vec::new();
        };
        self.next_turn += 1;
        let answered = Answered { held: held.clone(), at: Instant::now(), turn: self.next_turn };
        self.asked.insert(key, Asked::Answered(answered));
        self.let_go()
    }

    /// Notes what requirements have led to.
    pub fn know(&mut self, requirements: &EnvironmentRequirements, environment: &Environment, basis: Basis) {
        self.known.insert(requirements.clone(), (environment.clone(), basis));
    }

    pub fn known(&mut self, requirements: &EnvironmentRequirements) -> Option<Known> {
        let (environment, basis) = self.known.get(requirements)?.clone();
        match self.get(&basis.key)? {
            Asked::Answered(answered) if Arc::ptr_eq(&answered.held, &environment.held) => {
                Some(Known { answered: answered.clone(), environment, basis })
            }
            _ => None,
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) -> Vec<Arc<Held>> {
        let known = std::mem::take(&mut self.known).into_values().map(|(environment, _)| environment.held);
        let asked = std::mem::take(&mut self.asked).into_values();
        let answered = asked.filter_map(|asked| match asked {
            Asked::Answered(answered) => Some(answered.held),
            Asked::Running(_) => None,
        });
        known.chain(answered).collect()
    }

    fn let_go(&mut self) -> Vec<Arc<Held>> {
        let mut references: HashMap<*const Held, usize> = HashMap::new();
        let known = self.known.values().map(|(environment, _)| &environment.held);
        let asked = self.asked.values().filter_map(|asked| match asked {
            Asked::Answered(answered) => Some(&answered.held),
            Asked::Running(_) => None,
        });
        for held in known.chain(asked) {
            *references.entry(Arc::as_ptr(held)).or_default() += 1;
        }
        let is_idle = |held: &Arc<Held>| Arc::strong_count(held) <= references[&Arc::as_ptr(held)];
        let mut idle: Vec<(u64, String)> = Vec::new();
        for (key, asked) in &self.asked {
            if let Asked::Answered(answered) = asked
                && is_idle(&answered.held)
            {
                idle.push((answered.turn, key.clone()));
            }
        }
        idle.sort_unstable();
        let surplus = idle.len().saturating_sub(Self::KEPT);
        let mut gone = Vec::new();
        for (_, key) in idle.drain(..surplus) {
            if let Some(Asked::Answered(answered)) = self.asked.remove(&key) {
                gone.push(answered.held);
            }
        }
        let unknown = self.known.extract_if(|_, (_, basis)| !self.asked.contains_key(&basis.key));
        gone.extend(unknown.map(|(_, (environment, _))| environment.held));
        gone
    }
}
