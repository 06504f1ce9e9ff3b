//! Valid and invalid `.zip` archives.

mod evil;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use evil::Lab;
use evil::raw_zip::{Entry, entry, zip};
use hookpool_frontend::ArchiveProblem as Problem;
use zip::write::SimpleFileOptions;

fn lab(entries: &[Entry]) -> Lab {
    Lab::new("a-1.zip", &zip(entries))
}

fn with_mode(mode: u32, entry: Entry) -> Entry {
    Entry { mode, ..entry }
}

fn symlink(name: &str, target: &str) -> Entry {
    with_mode(0o120_777, entry(name, target))
}

/// Asserts that an archive with these entries is refused because of this problem, which names
/// this member.
macro_rules! refuses {
    ($entries:expr, $problem:pat, $name:expr) => {{
        let (problem, member) = lab(&$entries).refused();
        assert!(matches!(problem, $problem), "{problem:?}");
        assert_eq!(member.as_deref(), $name);
    }};
}

#[test]
fn a_source_distribution() {
    let lab = lab(&[
        with_mode(0o040_755, entry("a-1/", "")),
        entry("a-1/PKG-INFO", "Name: a"),
        with_mode(0o106_777, entry("a-1/bin/run", "#!")),
        // Without a type, as Python's `writestr` writes it.
        with_mode(0o600, entry("a-1/plain", "plain")),
        symlink("a-1/link", "bin/run"),
        Entry { name: b"a-1/\x81".to_vec(), ..entry("", "code page 437") },
    ]);
    let tree = lab.unpack().unwrap();
    assert_eq!(tree, lab.target().join("a-1"));
    let content = |name: &str| fs::read_to_string(tree.join(name)).unwrap();
    assert_eq!(
        (content("link"), content("plain"), content("ü")),
        ("#!".into(), "plain".into(), "code page 437".into())
    );
    assert_eq!(tree.join("bin/run").metadata().unwrap().permissions().mode() & 0o7700, 0o700);
    assert_eq!(tree.join("plain").metadata().unwrap().permissions().mode() & 0o7711, 0o600);
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    assert_eq!(tree.join("plain").metadata().unwrap().modified().unwrap(), time);
    assert_eq!(lab.pkg_info().unwrap().unwrap(), b"Name: a");
}

/// Archives that the crate `zip` writes are unpacked.
#[test]
fn archives_of_the_zip_crate() {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    writer.add_directory("a-1", options).unwrap();
    writer.start_file("a-1/x", options.unix_permissions(0o755)).unwrap();
    writer.write_all(&b"content".repeat(1000)).unwrap();
    writer.add_symlink("a-1/y", "x", options).unwrap();
    let lab = Lab::new("a-1.zip", writer.finish().unwrap().get_ref());
    let tree = lab.unpack().unwrap();
    assert_eq!(fs::read(tree.join("y")).unwrap(), b"content".repeat(1000));
    assert_eq!(fs::read_link(tree.join("y")).unwrap(), Path::new("x"));
    assert_eq!(lab.pkg_info().unwrap(), None);
}

#[test]
fn names_that_lead_out() {
    for name in ["../evil", "a-1/../../evil", ".."] {
        refuses!([entry(name, "x")], Problem::ParentInName, Some(name));
    }
    refuses!([entry("/tmp/evil", "x")], Problem::AbsoluteName, Some("/tmp/evil"));
    refuses!([entry("a-1\\..\\evil", "x")], Problem::BackslashInName, Some("a-1\\\\..\\\\evil"));
    refuses!([entry("", "x")], Problem::EmptyName, Some(""));
    refuses!([entry("a-1/\0", "x")], Problem::NulInName, Some("a-1/\\0"));
    refuses!([], Problem::Nothing, None);
}

#[test]
fn links_that_lead_out() {
    refuses!([symlink("a-1/x", "/etc/passwd")], Problem::AbsoluteLink { .. }, Some("a-1/x"));
    refuses!([symlink("a-1/x", "../outside")], Problem::OutsideLink { .. }, Some("a-1/x"));
    refuses!([symlink("a-1/x", "")], Problem::MalformedLink, Some("a-1/x"));
    refuses!([symlink("a-1/x", &"y".repeat(2000))], Problem::NameTooLong { .. }, Some("a-1/x"));
    refuses!([symlink("a-1/x", "y"), entry("a-1/x/z", "")], Problem::Below { .. }, Some("a-1/x/z"));
}

#[test]
fn other_kinds_of_members_are_refused() {
    for kind in [0o010_000, 0o020_000, 0o060_000, 0o140_000] {
        refuses!([with_mode(kind, entry("a-1/x", ""))], Problem::UnsupportedType(_), Some("a-1/x"));
    }
}

#[test]
fn what_cannot_be_decompressed() {
    let encrypted = Entry { flags: 1, ..entry("a-1/x", "x") };
    refuses!([encrypted], Problem::Encrypted, Some("a-1/x"));
    let lzma = Entry { method: 14, ..entry("a-1/x", "x") };
    let (problem, _) = lab(&[lzma]).refused();
    assert_eq!(problem.to_string(), "it is compressed by the method Lzma: expected Stored or Deflated");
    let not_deflated = Entry { method: 8, ..entry("a-1/x", "\u{7}xxxx") };
    refuses!([not_deflated], Problem::Damaged(_), Some("a-1/x"));
    let mut wrong_checksum = zip(&[entry("a-1/x", "content")]);
    let content = wrong_checksum.windows(7).position(|window| window == b"content").unwrap();
    wrong_checksum[content] = b'C';
    let (problem, member) = Lab::new("a-1.zip", &wrong_checksum).refused();
    assert!(matches!(problem, Problem::Damaged(_)) && member.as_deref() == Some("a-1/x"), "{problem:?}");
}

#[test]
fn members_that_overlap() {
    let first = entry("a-1/x", &"x".repeat(1000));
    let second = Entry { offset: Some(0), ..entry("a-1/y", &"x".repeat(1000)) };
    refuses!([first, second], Problem::Overlap, None);
}

#[test]
fn limits_stop_bombs() {
    let members = [entry("a-1/x", &"x".repeat(10_000)), entry("a-1/y", &"y".repeat(10_000))];
    let mut bomb = lab(&members);
    bomb.limits.total_bytes = 15_000;
    assert!(matches!(bomb.refused(), (Problem::TooManyBytes { .. }, Some(member)) if member == "a-1/y"));
    let mut many = lab(&members);
    many.limits.members = 2;
    assert!(matches!(many.refused(), (Problem::TooManyMembers { limit: 2 }, Some(member)) if member == "a-1/y"));
}

#[test]
fn what_is_cut_off_is_damaged() {
    let whole = zip(&[entry("a-1/x", "content")]);
    for end in 0..whole.len() {
        let (problem, _) = Lab::new("a-1.zip", &whole[..end]).refused();
        assert!(matches!(problem, Problem::Damaged(_)), "{end} of {} bytes: {problem:?}", whole.len());
    }
}
