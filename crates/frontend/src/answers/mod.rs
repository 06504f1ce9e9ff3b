//! Answers: what hooks returned, made and printed, kept between runs.
//!
//! What is kept is found under a [`Digest`] of everything that it depends on. The
//! store knows nothing of that: it keeps what it is given under the key that it
//! is given.
#![allow(dead_code, unused_imports, reason = "the builds do not use it yet")]

mod answer;
mod digest;
mod files;
mod pruning;
mod records;
mod statistics;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use answer::{Answer, Outcome, Output, Variables};
pub(crate) use digest::Digest;
pub use pruning::{AnswersUsage, answers_usage};
pub(crate) use pruning::{PrunedAnswers, prune_answers};
pub use statistics::AnswerStatistics;
pub(crate) use store::{Answers, Fact, Found, NewAnswer, NotRestored};
