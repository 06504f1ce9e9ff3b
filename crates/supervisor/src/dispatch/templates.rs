//! The templates that have a process, as their events tell.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use tokio::time::Instant;

use crate::event::Event;
use crate::ids::TemplateId;
use crate::snapshot::TemplateSnapshot;

#[derive(Debug, Default)]
pub(crate) struct LiveTemplates {
    records: BTreeMap<TemplateId, TemplateRecord>,
}

#[derive(Debug)]
struct TemplateRecord {
    interpreter: PathBuf,
    backend: Option<String>,
    started_at: Instant,
    pid: Option<u32>,
    modules: Option<usize>,
    forked: u64,
}

impl LiveTemplates {
    /// Takes note of an event. Those of one template come in order, from its start
    /// to its end.
    pub fn note(&mut self, event: &Event, now: Instant) {
        match event {
            Event::TemplateStarting { template, interpreter, backend } => {
                let (interpreter, backend) = (interpreter.clone(), backend.clone());
                let record =
                    TemplateRecord { interpreter, backend, started_at: now, pid: None, modules: None, forked: 0 };
                self.records.insert(*template, record);
            }
            Event::TemplateReady { template, pid, modules, .. } => {
                if let Some(record) = self.records.get_mut(template) {
                    record.pid = Some(*pid);
                    record.modules = Some(*modules);
                }
            }
            Event::TemplateLearned { template, modules } => {
                if let Some(record) = self.records.get_mut(template) {
                    record.modules = Some(*modules);
                }
            }
            Event::TemplateFailed { template, .. } | Event::TemplateExited { template } => {
                self.records.remove(template);
            }
            _ => {}
        }
    }

    /// It has forked a worker.
    pub fn has_forked(&mut self, template: TemplateId) {
        if let Some(record) = self.records.get_mut(&template) {
            record.forked += 1;
        }
    }

    /// The executable of its interpreter.
    pub fn interpreter(&self, template: TemplateId) -> Option<&PathBuf> {
        Some(&self.records.get(&template)?.interpreter)
    }

    /// `in_use` has those that fork new workers, and whether they are learning.
    pub fn snapshot(&self, in_use: &HashMap<TemplateId, bool>, now: Instant) -> Vec<TemplateSnapshot> {
        let snapshot = |(id, record): (&TemplateId, &TemplateRecord)| TemplateSnapshot {
            id: *id,
            pid: record.pid,
            interpreter: record.interpreter.clone(),
            backend: record.backend.clone(),
            modules: record.modules,
            age: now - record.started_at,
            forked: record.forked,
            in_use: in_use.contains_key(id),
            learning: in_use.get(id).copied().unwrap_or(false),
        };
        self.records.iter().map(snapshot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_template_is_listed_from_its_start_to_its_end() {
        let now = Instant::now();
        let mut templates = LiveTemplates::default();
        for number in 1..=3 {
            let template = TemplateId(number);
            templates.note(&Event::TemplateStarting { template, interpreter: "/p".into(), backend: None }, now);
        }
        let (first, second, third) = (TemplateId(1), TemplateId(2), TemplateId(3));
        templates
            .note(&Event::TemplateReady { template: first, pid: 7, modules: 80, after: Duration::from_millis(1) }, now);
        templates.has_forked(first);
        templates.note(&Event::TemplateLearned { template: first, modules: 90 }, now);
        templates.note(&Event::TemplateExited { template: second }, now);
        templates.note(&Event::TemplateFailed { template: third, reason: "for the test".into() }, now);
        let snapshot = templates.snapshot(&HashMap::from([(first, true)]), now + Duration::from_secs(1));
        let [listed] = &snapshot[..] else { panic!("one is left, not {snapshot:?}") };
        assert_eq!((listed.id, listed.pid, listed.modules, listed.forked), (first, Some(7), Some(90), 1));
        assert_eq!((listed.in_use, listed.learning, listed.age), (true, true, Duration::from_secs(1)));
    }
}
