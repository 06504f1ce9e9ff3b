//! Metadata of wheels.

mod evil;

use evil::raw_zip::{Entry, entry, zip};
use hookpool_frontend::{EXTENSION_FILES, WheelProblem as Problem, wheel_extensions, wheel_metadata};

const METADATA: &str = "Metadata-Version: 2.1\nName: Foo.Bar\nVersion: 1.0\nRequires-Dist: b\n";

fn read(file_name: &str, bytes: &[u8]) -> Result<hookpool_frontend::CoreMetadata, Problem> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file_name);
    std::fs::write(&path, bytes).unwrap();
    wheel_metadata(&path).map_err(|error| {
        assert!(error.to_string().starts_with(path.to_str().unwrap()), "{error}");
        error.problem
    })
}

fn refused(entries: &[Entry]) -> Problem {
    read("foo_bar-1.0-py3-none-any.whl", &zip(entries)).unwrap_err()
}

#[test]
fn the_metadata_of_a_wheel() {
    let vendored = entry("foo/_vendor/x-1.dist-info/METADATA", "");
    let bytes = zip(&[entry("foo/__init__.py", ""), vendored, entry("Foo.Bar-1.0.dist-info/METADATA", METADATA)]);
    let metadata = read("foo_bar-1.0-py3-none-any.whl", &bytes).unwrap();
    assert_eq!(metadata.name, "Foo.Bar");
    assert_eq!(metadata.requires_dist, ["b"]);
    assert_eq!(metadata.text, METADATA);
}

#[test]
fn invalid_wheels() {
    let metadata = |folder: &str| entry(&format!("{folder}/METADATA"), METADATA);
    assert!(matches!(read("foo.whl", b"").unwrap_err(), Problem::Name(_)));
    assert!(matches!(read("foo_bar-1.0-py3-none-any.whl", b"nonsense").unwrap_err(), Problem::NotAZip(_)));
    assert!(matches!(refused(&[entry("foo/__init__.py", "")]), Problem::NoDistInfo));
    let several = refused(&[metadata("foo_bar-1.0.dist-info"), metadata("a-1.dist-info")]);
    assert_eq!(several.to_string(), "has several .dist-info folders: a-1.dist-info, foo_bar-1.0.dist-info");
    assert!(matches!(refused(&[metadata("a-1.dist-info")]), Problem::ForeignDistInfo { .. }));
    assert!(matches!(refused(&[entry("foo_bar-1.0.dist-info/WHEEL", "")]), Problem::Missing { .. }));
    assert!(matches!(refused(&[entry("foo_bar-1.0.dist-info/METADATA", "")]), Problem::Malformed { .. }));
    let other = METADATA.replace("1.0", "2.0");
    let other = refused(&[entry("foo_bar-1.0.dist-info/METADATA", &other)]).to_string();
    assert!(other.starts_with("has the name and version Foo.Bar 2.0 in foo_bar-1.0.dist-info/METADATA"), "{other}");
    let huge = Entry { content: vec![b'x'; (16 << 20) + 1], ..entry("foo_bar-1.0.dist-info/METADATA", "") };
    assert!(matches!(refused(&[huge]), Problem::TooLarge { .. }));
    let error = wheel_metadata(std::path::Path::new("/no/a-1-py3-none-any.whl")).unwrap_err();
    assert!(matches!(error.problem, Problem::Unreadable(_)), "{error}");
}

#[test]
fn the_extensions_of_a_wheel() {
    let info = "foo_bar-1.0.dist-info";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("foo_bar-1.0-py3-none-any.whl");
    let extensions = |more: &[Entry]| {
        std::fs::write(&path, zip(&[&[entry(&format!("{info}/METADATA"), METADATA)], more].concat())).unwrap();
        wheel_extensions(&path)
    };
    assert!(extensions(&[entry("foo/pydist.json", "{"), entry("metadata.json", "{")]).unwrap().is_empty());
    for file in EXTENSION_FILES {
        let name = format!("{info}/{file}");
        let text = r#"{"extensions": {"a.b": {"installer_must_handle": true}}}"#;
        let found = extensions(&[entry(&name, text)]).unwrap();
        assert_eq!((found.len(), found[0].name.as_str(), found[0].required, found[0].file), (1, "a.b", true, file));
        let error = extensions(&[entry(&name, "{\"extensions\": 1}")]).unwrap_err();
        assert!(matches!(&error.problem, Problem::MalformedExtensions { member, .. } if *member == name), "{error}");
        let other = METADATA.replace("1.0", "2.0");
        let other = refused(&[entry("foo_bar-1.0.dist-info/METADATA", &other)]).to_string();
        assert!(other.starts_with("has the name and version Foo.Bar 2.0 in foo_bar-1.0.dist-info/METADATA"), "{other}");
        let huge = Entry { content: vec![b' '; (16 << 20) + 1], ..entry(&name, "") };
        let error = extensions(&[huge]).unwrap_err();
        assert!(matches!(&error.problem, Problem::TooLarge { member } if *member == name), "{error}");
        // The core metadata can be read all the same.
        assert!(wheel_metadata(&path).is_ok());
    }
}
