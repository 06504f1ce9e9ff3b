//! Tests of the selection, without processes.

use super::*;
use crate::interpreter::Freshness;
use crate::tree::imports::Offered;
use tokio::sync::mpsc;

struct Fixture {
    selector: TemplateSelector,
    interpreter: Arc<KnownInterpreter>,
    /// The commands to the templates' tasks.
    inboxes: HashMap<TemplateId, mpsc::UnboundedReceiver<TemplateCommand>>,
}

impl Fixture {
    fn new(max_templates: usize) -> Self {
        let interpreter = Arc::new(known_interpreter());
        Self { selector: TemplateSelector::new(max_templates, None), interpreter, inboxes: HashMap::new() }
    }

    fn select(&mut self, key: &TemplateKey, imports: &TreeImports) -> Option<Arc<Template>> {
        self.select_for(key, &Arc::default(), imports)
    }

    fn select_for(
        &mut self,
        key: &TemplateKey,
        variables: &Arc<Variables>,
        imports: &TreeImports,
    ) -> Option<Arc<Template>> {
        match self.selector.select(key, &self.interpreter, variables, imports) {
            Selected::Template(template) => Some(template),
            Selected::Spawn => None,
            Selected::Start(start) => {
                let (commands, inbox) = mpsc::unbounded_channel();
                let template = Arc::new(Template::new(start.id, start.variables, commands));
                self.inboxes.insert(start.id, inbox);
                self.selector.started(key, start.variant, template.clone());
                Some(template)
            }
        }
    }

    fn start(&mut self, backend: &str) -> NewTemplate {
        let selected = self.selector.select(&key(backend), &self.interpreter, &Arc::default(), &TreeImports::default());
        let Selected::Start(start) = selected else { panic!("expected the start of a template") };
        start
    }

    fn id(&mut self, backend: &str) -> Option<TemplateId> {
        self.select(&key(backend), &TreeImports::default()).map(|template| template.id)
    }

    fn is_retired(&mut self, template: TemplateId) -> bool {
        let inbox = self.inboxes.get_mut(&template).unwrap();
        std::iter::from_fn(|| inbox.try_recv().ok()).any(|command| matches!(command, TemplateCommand::Retire))
    }

    fn learn(&mut self, backend: &str, name: &str) {
        let module = ImportedModule { name: name.into(), file: None, mtime_ns: None, size: None, preloadable: true };
        self.selector.learn(&key(backend), &[module]);
    }
}

fn known_interpreter() -> KnownInterpreter {
    let interpreter = serde_json::from_value(serde_json::json!({
        "executable": "/usr/bin/python", "version": [3, 11, 7], "implementation": "cpython", "prefix": "/usr",
        "base_prefix": "/usr", "scripts": "/usr/bin", "runs_code_at_start": false,
    }))
    .unwrap();
    KnownInterpreter { interpreter, freshness: Freshness::new(Vec::new()) }
}

fn key(backend: &str) -> TemplateKey {
    TemplateKey { executable: "/usr/bin/python".into(), backend: Some(backend.into()) }
}

fn offering(name: &str) -> TreeImports {
    TreeImports { backend: None, offered: Offered::These([name.to_owned()].into()) }
}

#[test]
fn one_template_for_each_key() {
    let mut fixture = Fixture::new(16);
    let first = fixture.id("a");
    assert!(first.is_some());
    assert_eq!(fixture.id("a"), first);
    assert_ne!(fixture.id("b"), first);
}

#[test]
fn the_least_recently_used_makes_room() {
    let mut fixture = Fixture::new(2);
    let (a, b) = (fixture.id("a").unwrap(), fixture.id("b").unwrap());
    assert_eq!(fixture.id("a"), Some(a));
    let c = fixture.id("c").unwrap();
    assert!(fixture.is_retired(b) && !fixture.is_retired(a) && !fixture.is_retired(c));
    assert_eq!(fixture.id("a"), Some(a));
    assert_ne!(fixture.id("b"), Some(b));
}

#[test]
fn a_tree_with_a_learned_name_gets_a_template_without_them() {
    let mut fixture = Fixture::new(16);
    let learned = fixture.select(&key("a"), &offering("toml")).unwrap();
    fixture.learn("a", "toml");
    assert!(!fixture.selector.suits(&key("a"), &learned, &offering("toml")));
    assert!(fixture.selector.suits(&key("a"), &learned, &offering("json")));
    let plain = fixture.select(&key("a"), &offering("toml")).unwrap();
    assert_ne!(plain.id, learned.id);
    assert!(fixture.selector.suits(&key("a"), &plain, &offering("toml")));
    assert_eq!(fixture.select(&key("a"), &offering("json")).unwrap().id, learned.id);
    assert!(!fixture.is_retired(learned.id));
}

fn variables(pairs: &[(&str, &str)]) -> Arc<Variables> {
    Arc::new(pairs.iter().map(|(name, value)| (name.into(), value.into())).collect())
}

fn read(name: &str) -> ReadVariables {
    ReadVariables { names: [name.to_owned()].into(), all: false }
}

#[test]
fn variables_that_no_module_has_read_share_a_template() {
    let mut fixture = Fixture::new(16);
    let (one, two) = (variables(&[("RUN", "1"), ("MODE", "x")]), variables(&[("RUN", "2"), ("MODE", "x")]));
    let first = fixture.select_for(&key("a"), &one, &TreeImports::default()).unwrap();
    fixture.selector.add_read(&key("a"), &read("MODE"));
    let second = fixture.select_for(&key("a"), &two, &TreeImports::default()).unwrap();
    assert_eq!(first.id, second.id);
}

#[test]
fn further_values_of_a_variable_that_was_read_get_a_template_at_their_second_use() {
    let mut fixture = Fixture::new(16);
    let (one, two) = (variables(&[("MODE", "x")]), variables(&[("MODE", "y")]));
    let first = fixture.select_for(&key("a"), &one, &TreeImports::default()).unwrap();
    // Before that is known, it is the template that refuses the fork.
    assert_eq!(fixture.select_for(&key("a"), &two, &TreeImports::default()).unwrap().id, first.id);
    fixture.selector.add_read(&key("a"), &read("MODE"));
    assert!(fixture.select_for(&key("a"), &two, &TreeImports::default()).is_none());
    assert!(fixture.selector.would_fork(&key("a"), &two));
    let second = fixture.select_for(&key("a"), &two, &TreeImports::default()).unwrap();
    assert_ne!(first.id, second.id);
    for (variables, template) in [(&one, &first), (&two, &second)] {
        assert_eq!(fixture.select_for(&key("a"), variables, &TreeImports::default()).unwrap().id, template.id);
        assert!(fixture.selector.forks_for(&key("a"), template, &TreeImports::default()));
    }
    // A failure is that of its own variables.
    for _ in 0..2 {
        let failing = fixture.select_for(&key("a"), &two, &TreeImports::default()).unwrap();
        fixture.selector.failed(&key("a"), &failing, "it ended");
    }
    assert!(!fixture.selector.would_fork(&key("a"), &two) && fixture.selector.would_fork(&key("a"), &one));
}

#[test]
fn code_that_runs_at_the_start_may_read_any_variable() {
    let mut fixture = Fixture::new(16);
    let mut interpreter = known_interpreter();
    interpreter.interpreter.runs_code_at_start = true;
    fixture.interpreter = Arc::new(interpreter);
    assert!(fixture.select_for(&key("a"), &variables(&[("RUN", "1")]), &TreeImports::default()).is_some());
    assert!(fixture.select_for(&key("a"), &variables(&[("RUN", "2")]), &TreeImports::default()).is_none());
    // That code is gone.
    fixture.interpreter = Arc::new(known_interpreter());
    let first = fixture.select_for(&key("a"), &variables(&[("RUN", "3")]), &TreeImports::default()).unwrap();
    let second = fixture.select_for(&key("a"), &variables(&[("RUN", "4")]), &TreeImports::default()).unwrap();
    assert_eq!(first.id, second.id);
}

#[test]
fn after_two_failures_workers_are_spawned_until_something_changes() {
    let mut fixture = Fixture::new(16);
    for expected in [None, Some("it ended".to_owned())] {
        let template = fixture.select(&key("a"), &TreeImports::default()).unwrap();
        assert_eq!(fixture.selector.failed(&key("a"), &template, "it ended"), expected);
    }
    assert_eq!(fixture.id("a"), None);
    assert!(fixture.id("b").is_some());
    // The environment of the same interpreter has changed.
    fixture.interpreter = Arc::new(known_interpreter());
    assert!(fixture.id("a").is_some());
}

#[test]
fn a_restart_of_all_retires_all() {
    let mut fixture = Fixture::new(16);
    let (a, b) = (fixture.id("a").unwrap(), fixture.id("b").unwrap());
    fixture.selector.restart(|_, _| true);
    assert!(fixture.is_retired(a) && fixture.is_retired(b));
    assert_ne!(fixture.id("a"), Some(a));
}

#[test]
fn a_restart_retires_what_it_selects() {
    let mut fixture = Fixture::new(16);
    let (a, b) = (fixture.id("a").unwrap(), fixture.id("b").unwrap());
    assert_eq!(fixture.selector.restart(|executable, _| executable == Path::new("/other")), 0);
    assert_eq!(fixture.selector.restart(|_, id| id == Some(a)), 1);
    assert!(fixture.is_retired(a) && !fixture.is_retired(b));
    assert_eq!(fixture.id("b"), Some(b));
    let executable = key("b").executable;
    assert_eq!(fixture.selector.restart(|other, _| other == executable), 1);
    assert!(fixture.is_retired(b));
}

#[test]
fn an_interpreter_that_is_retired_loses_its_templates_and_keeps_what_is_known_of_it() {
    let mut fixture = Fixture::new(16);
    let template = fixture.select(&key("a"), &TreeImports::default()).unwrap();
    let other = fixture.id("b").unwrap();
    fixture.selector.refuse_backend(&key("a"), &template);
    fixture.selector.retire_interpreter(&HashSet::from(["/other".into()]));
    assert!(!fixture.is_retired(template.id));
    fixture.selector.retire_interpreter(&HashSet::from([key("a").executable]));
    assert!(fixture.is_retired(template.id) && fixture.is_retired(other));
    assert_eq!(fixture.start("a").backend, None);
}

#[test]
fn a_backend_that_is_refused_is_left_out() {
    let mut fixture = Fixture::new(16);
    let template = fixture.select(&key("a"), &TreeImports::default()).unwrap();
    fixture.selector.refuse_backend(&key("a"), &template);
    assert!(fixture.selector.retire(&template));
    assert_eq!(fixture.start("a").backend, None);
    fixture.selector.restart(|_, _| true);
    assert_eq!(fixture.start("a").backend, Some("a".to_owned()));
}

#[test]
fn learned_modules_that_are_refused_are_left_out_until_something_changes() {
    let mut fixture = Fixture::new(16);
    let template = fixture.select(&key("a"), &TreeImports::default()).unwrap();
    fixture.learn("a", "toml");
    fixture.selector.refuse_learned(&key("a"));
    assert!(fixture.selector.retire(&template));
    fixture.learn("a", "toml");
    assert!(fixture.start("a").learned.is_empty());
    fixture.selector.restart(|_, _| true);
    fixture.learn("a", "toml");
    assert_eq!(fixture.start("a").learned, ["toml"]);
}
