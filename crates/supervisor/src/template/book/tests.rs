//! Which template for whom, without processes.

use super::*;
use crate::interpreter::Freshness;
use crate::tree::imports::Offered;
use tokio::sync::mpsc;

struct Bench {
    book: Book,
    interpreter: Arc<KnownInterpreter>,
    /// The inboxes of the templates' tasks.
    inboxes: HashMap<TemplateId, mpsc::UnboundedReceiver<TemplateCommand>>,
}

impl Bench {
    fn new(max_templates: usize) -> Self {
        let interpreter = Arc::new(known_interpreter());
        Self { book: Book::new(max_templates, None), interpreter, inboxes: HashMap::new() }
    }

    fn choose(&mut self, key: &TemplateKey, imports: &TreeImports) -> Option<Arc<Template>> {
        match self.book.choose(key, &self.interpreter, imports) {
            Choice::Template(template) => Some(template),
            Choice::Spawn => None,
            Choice::Start(start) => {
                let (commands, inbox) = mpsc::unbounded_channel();
                let template = Arc::new(Template::new(start.id, commands));
                self.inboxes.insert(start.id, inbox);
                self.book.started(key, start.variant, template.clone());
                Some(template)
            }
        }
    }

    fn start(&mut self, backend: &str) -> Start {
        let choice = self.book.choose(&key(backend), &self.interpreter, &TreeImports::default());
        let Choice::Start(start) = choice else { panic!("there is a template, or none is to be used") };
        start
    }

    fn id(&mut self, backend: &str) -> Option<TemplateId> {
        self.choose(&key(backend), &TreeImports::default()).map(|template| template.id)
    }

    fn is_retired(&mut self, template: TemplateId) -> bool {
        let inbox = self.inboxes.get_mut(&template).unwrap();
        std::iter::from_fn(|| inbox.try_recv().ok()).any(|command| matches!(command, TemplateCommand::Retire))
    }

    fn learn(&mut self, backend: &str, name: &str) {
        let module = ImportedModule { name: name.into(), file: None, mtime_ns: None, size: None, preloadable: true };
        self.book.learn(&key(backend), &[module]);
    }
}

fn known_interpreter() -> KnownInterpreter {
    let interpreter = serde_json::from_value(serde_json::json!({
        "executable": "/usr/bin/python", "version": [3, 11, 7], "implementation": "cpython", "prefix": "/usr",
        "base_prefix": "/usr", "scripts": "/usr/bin",
    }))
    .unwrap();
    KnownInterpreter { interpreter, freshness: Freshness::new(Vec::new()) }
}

fn key(backend: &str) -> TemplateKey {
    TemplateKey { executable: "/usr/bin/python".into(), env: Arc::default(), backend: Some(backend.into()) }
}

fn offering(name: &str) -> TreeImports {
    TreeImports { backend: None, offered: Offered::These([name.to_owned()].into()) }
}

#[test]
fn one_template_for_each_key() {
    let mut bench = Bench::new(16);
    let first = bench.id("a");
    assert!(first.is_some());
    assert_eq!(bench.id("a"), first);
    assert_ne!(bench.id("b"), first);
}

#[test]
fn the_least_recently_used_makes_room() {
    let mut bench = Bench::new(2);
    let (a, b) = (bench.id("a").unwrap(), bench.id("b").unwrap());
    assert_eq!(bench.id("a"), Some(a));
    let c = bench.id("c").unwrap();
    assert!(bench.is_retired(b) && !bench.is_retired(a) && !bench.is_retired(c));
    assert_eq!(bench.id("a"), Some(a));
    assert_ne!(bench.id("b"), Some(b));
}

#[test]
fn a_tree_with_a_learned_name_gets_a_template_without_them() {
    let mut bench = Bench::new(16);
    let learned = bench.choose(&key("a"), &offering("toml")).unwrap();
    bench.learn("a", "toml");
    assert!(!bench.book.suits(&key("a"), &learned, &offering("toml")));
    assert!(bench.book.suits(&key("a"), &learned, &offering("json")));
    let plain = bench.choose(&key("a"), &offering("toml")).unwrap();
    assert_ne!(plain.id, learned.id);
    assert!(bench.book.suits(&key("a"), &plain, &offering("toml")));
    assert_eq!(bench.choose(&key("a"), &offering("json")).unwrap().id, learned.id);
    assert!(!bench.is_retired(learned.id));
}

#[test]
fn variables_of_a_request_get_a_template_at_their_second_use() {
    let mut bench = Bench::new(16);
    let env = Arc::new([("SOURCE_DATE_EPOCH".into(), "1".into())].into());
    let key = TemplateKey { env, ..key("a") };
    assert!(bench.choose(&key, &TreeImports::default()).is_none());
    assert!(bench.choose(&key, &TreeImports::default()).is_some());
}

#[test]
fn after_two_failures_workers_are_spawned_until_something_changes() {
    let mut bench = Bench::new(16);
    for expected in [None, Some("it ended".to_owned())] {
        let template = bench.choose(&key("a"), &TreeImports::default()).unwrap();
        assert_eq!(bench.book.failed(&key("a"), &template, "it ended"), expected);
    }
    assert_eq!(bench.id("a"), None);
    assert!(bench.id("b").is_some());
    // Another environment by the same name.
    bench.interpreter = Arc::new(known_interpreter());
    assert!(bench.id("a").is_some());
}

#[test]
fn recycling_retires_all() {
    let mut bench = Bench::new(16);
    let (a, b) = (bench.id("a").unwrap(), bench.id("b").unwrap());
    bench.book.recycle();
    assert!(bench.is_retired(a) && bench.is_retired(b));
    assert_ne!(bench.id("a"), Some(a));
}

#[test]
fn a_backend_that_is_refused_is_left_out() {
    let mut bench = Bench::new(16);
    let template = bench.choose(&key("a"), &TreeImports::default()).unwrap();
    bench.book.refuse_backend(&key("a"));
    assert!(bench.book.retire(&template));
    assert_eq!(bench.start("a").backend, None);
    bench.book.recycle();
    assert_eq!(bench.start("a").backend, Some("a".to_owned()));
}

#[test]
fn learned_modules_that_are_refused_are_left_out_until_something_changes() {
    let mut bench = Bench::new(16);
    let template = bench.choose(&key("a"), &TreeImports::default()).unwrap();
    bench.learn("a", "toml");
    bench.book.refuse_learned(&key("a"));
    assert!(bench.book.retire(&template));
    bench.learn("a", "toml");
    assert!(bench.start("a").learned.is_empty());
    bench.book.recycle();
    bench.learn("a", "toml");
    assert_eq!(bench.start("a").learned, ["toml"]);
}
