//! What a worker writes beside the protocol.

use super::machine::Effect;
use crate::event::{Event, WorkerId};

/// The end of what a worker wrote beside the protocol: what interpreters say
/// when they cannot start stands there.
#[derive(Default)]
pub(crate) struct LogTail {
    text: Vec<u8>,
}

impl LogTail {
    const LIMIT: usize = 4 * 1024;

    /// Keeps the bytes, and shows their lines to the observers.
    pub fn push(&mut self, bytes: &[u8], worker: WorkerId) -> Vec<Effect> {
        self.text.extend_from_slice(bytes);
        let excess = self.text.len().saturating_sub(Self::LIMIT);
        self.text.drain(..excess);
        let text = String::from_utf8_lossy(bytes);
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.map(|line| Effect::observe(Event::WorkerLog { worker, line: line.to_owned() })).collect()
    }

    /// A line on the protocol's pipe before the worker was ready.
    pub fn noise(&mut self, line: &[u8], worker: WorkerId) -> Vec<Effect> {
        if line.is_empty() || line.starts_with(b"EXPECT ") || line.starts_with(b"DEBUG ") {
            return Vec::new();
        }
        let mut bytes = line.to_vec();
        bytes.push(b'\n');
        self.push(&bytes, worker)
    }

    /// The reason of an end, with the worker's last words where there are any.
    pub fn explain(&self, reason: String) -> String {
        match String::from_utf8_lossy(&self.text).trim() {
            "" => reason,
            log => format!("{reason}; its last words: {log}"),
        }
    }
}
