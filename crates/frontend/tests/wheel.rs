//! Metadata of wheels.

mod support;

use hookpool_frontend::{WheelProblem as Problem, wheel_metadata};
use support::raw_zip::{Entry, entry, zip};

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
fn wheels_that_are_none() {
    let metadata = |folder: &str| entry(&format!("{folder}/METADATA"), METADATA);
    assert!(matches!(read("foo.whl", b"").unwrap_err(), Problem::Name(_)));
    assert!(matches!(read("foo_bar-1.0-py3-none-any.whl", b"nonsense").unwrap_err(), Problem::NotAZip(_)));
    assert!(matches!(refused(&[entry("foo/__init__.py", "")]), Problem::NoDistInfo));
    let several = refused(&[metadata("foo_bar-1.0.dist-info"), metadata("a-1.dist-info")]);
    assert_eq!(several.to_string(), "has several .dist-info folders: a-1.dist-info, foo_bar-1.0.dist-info");
    assert!(matches!(refused(&[metadata("a-1.dist-info")]), Problem::ForeignDistInfo { .. }));
    assert!(matches!(refused(&[entry("foo_bar-1.0.dist-info/WHEEL", "")]), Problem::NoMetadata { .. }));
    assert!(matches!(refused(&[entry("foo_bar-1.0.dist-info/METADATA", "")]), Problem::Malformed { .. }));
    let huge = Entry { content: vec![b'x'; (16 << 20) + 1], ..entry("foo_bar-1.0.dist-info/METADATA", "") };
    assert!(matches!(refused(&[huge]), Problem::TooLarge { .. }));
    let error = wheel_metadata(std::path::Path::new("/no/a-1-py3-none-any.whl")).unwrap_err();
    assert!(matches!(error.problem, Problem::Unreadable(_)), "{error}");
}
