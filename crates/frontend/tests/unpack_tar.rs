//! Valid and invalid `.tar.gz` archives.

mod evil;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use evil::{Lab, file, folder, gzip, hard_link, pax, pax_records, raw, symlink, tar};
use hookpool_frontend::ArchiveProblem as Problem;
use tar::EntryType;

/// Asserts that an archive with these members is refused because of this problem, which names
/// this member.
macro_rules! refuses {
    ($members:expr, $problem:pat, $name:expr) => {{
        let (problem, member) = Lab::tar(&$members).refused();
        assert!(matches!(problem, $problem), "{problem:?}");
        assert_eq!(member.as_deref(), $name);
    }};
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_source_distribution() {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let lab = Lab::tar(&[
        raw(b"pax_global_header", EntryType::XGlobalHeader, 0o644, b"", &pax_records(&[("comment", "c0ffee")])),
        folder("./"),
        raw(b"./a-1", EntryType::Directory, 0o2777, b"", b""),
        file("./a-1/PKG-INFO", "Name: a"),
        raw(b"a-1/bin/run", EntryType::Regular, 0o6777, b"", b"#!"),
        raw(b"a-1/empty/", EntryType::Regular, 0o644, b"", b""),
        symlink("a-1/bin/link", "../PKG-INFO"),
        symlink("a-1/src", "./bin"),
        symlink("a-1/dangling", "not/there"),
        hard_link("a-1/COPY", "a-1/PKG-INFO"),
    ]);
    let tree = lab.unpack().unwrap();
    assert_eq!(tree, lab.target().join("a-1"));
    let content = |name: &str| fs::read_to_string(tree.join(name)).unwrap();
    assert_eq!(
        (content("PKG-INFO"), content("src/link"), content("COPY")),
        ("Name: a".into(), "Name: a".into(), "Name: a".into())
    );
    assert_eq!(fs::read_link(tree.join("dangling")).unwrap(), Path::new("not/there"));
    assert!(tree.join("empty").is_dir());
    // Less the umask, which is usually 022 or 077.
    assert_eq!(mode(&tree.join("bin/run")) & 0o700, 0o700);
    assert_eq!(mode(&tree.join("PKG-INFO")) & 0o711, 0o600);
    assert_eq!(tree.metadata().unwrap().modified().unwrap(), time);
    assert_eq!(tree.join("PKG-INFO").metadata().unwrap().modified().unwrap(), time);
    assert_eq!(lab.pkg_info().unwrap().unwrap(), b"Name: a");
}

#[test]
fn names_that_lead_out() {
    for name in ["../evil", "a-1/../../evil", "..", "a-1/.."] {
        refuses!([folder("a-1"), file(name, "x")], Problem::ParentInName, Some(name));
    }
    refuses!([file("/tmp/evil", "x")], Problem::AbsoluteName, Some("/tmp/evil"));
    refuses!([file("", "x")], Problem::EmptyName, Some(""));
    refuses!([pax(&[("path", "a-1/\0/x")]), file("x", "x")], Problem::NulInName, Some("a-1/\\0/x"));
    refuses!([pax(&[("path", "../evil")]), file("a-1/x", "x")], Problem::ParentInName, Some("../evil"));
    let long = raw(b"././@LongLink", EntryType::GNULongName, 0o644, b"", b"/evil\0");
    refuses!([long, file("a-1/x", "x")], Problem::AbsoluteName, Some("/evil"));
}

#[test]
fn symbolic_links_that_lead_out() {
    refuses!([symlink("a-1/x", "/etc/passwd")], Problem::AbsoluteLink { .. }, Some("a-1/x"));
    for target in ["..", "../outside", "b/../../outside", "../a-1", "./.."] {
        refuses!([symlink("a-1/x", target)], Problem::OutsideLink { .. }, Some("a-1/x"));
    }
    refuses!([symlink("a-1/d/x", "../../outside")], Problem::OutsideLink { .. }, Some("a-1/d/x"));
    refuses!([symlink("a-1/x", "")], Problem::MalformedLink, Some("a-1/x"));
    refuses!([symlink("a-1", "..")], Problem::OutsideLink { .. }, Some("a-1"));
    let link = symlink("a-1/x", "y");
    refuses!([pax(&[("linkpath", "../outside")]), link], Problem::OutsideLink { .. }, Some("a-1/x"));
}

#[test]
fn links_through_links_stay_inside() {
    // Without the other link, `up/..` would be the folder around the tree.
    let lab = Lab::tar(&[folder("a-1/d/e"), symlink("a-1/d/e/up", "../.."), symlink("a-1/x", "d/e/up/../outside")]);
    let tree = lab.unpack().unwrap();
    assert_eq!(fs::read_link(tree.join("x")).unwrap(), Path::new("d/e/outside"));
    // The same with the links in the other order, and one that leads to itself.
    Lab::tar(&[symlink("a-1/x", "y/.."), symlink("a-1/y", "."), symlink("a-1/z", "z")]).unpack().unwrap();
}

#[test]
fn nothing_is_written_through_a_link() {
    let link = || symlink("a-1/d", "e");
    refuses!(
        [folder("a-1/e"), link(), file("a-1/d/x", "x")],
        Problem::Below { kind: "symbolic link", .. },
        Some("a-1/d/x")
    );
    refuses!([link(), folder("a-1/d/x/y")], Problem::Below { kind: "symbolic link", .. }, Some("a-1/d/x/y"));
    refuses!([link(), folder("a-1/d")], Problem::Conflict { earlier: "symbolic link" }, Some("a-1/d"));
    // A file replaces a link, and not the file that the link points to.
    let lab = Lab::tar(&[file("a-1/e", "kept"), link(), file("a-1/d", "new")]);
    let tree = lab.unpack().unwrap();
    assert!(tree.join("d").symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read_to_string(tree.join("e")).unwrap(), "kept");
}

#[test]
fn hard_links_are_to_files_of_the_archive() {
    for target in ["../outside", "/etc/passwd", "outside", "a-1/later", "a-1/link", "a-1", "a-1/x", ""] {
        let members = [
            folder("a-1"),
            symlink("a-1/link", "y"),
            file("a-1/x", ""),
            hard_link("a-1/x", target),
            file("a-1/later", ""),
        ];
        refuses!(members, Problem::BadHardLink { .. }, Some("a-1/x"));
    }
}

#[test]
fn other_kinds_of_members_are_refused() {
    for entry_type in [EntryType::Char, EntryType::Block] {
        refuses!([raw(b"a-1/x", entry_type, 0o644, b"", b"")], Problem::UnsupportedType("device"), Some("a-1/x"));
    }
    refuses!([raw(b"a-1/x", EntryType::Fifo, 0o644, b"", b"")], Problem::UnsupportedType("named pipe"), Some("a-1/x"));
    let sparse = raw(b"a-1/x", EntryType::GNUSparse, 0o644, b"", b"");
    refuses!([sparse], Problem::UnsupportedType("sparse file"), Some("a-1/x"));
    let pax_sparse = [pax(&[("GNU.sparse.major", "1")]), file("a-1/x", "")];
    refuses!(pax_sparse, Problem::UnsupportedType("sparse file"), Some("a-1/x"));
    refuses!([raw(b"a-1/x", EntryType::new(b'V'), 0o644, b"", b"")], Problem::UnsupportedType(_), Some("a-1/x"));
}

#[test]
fn the_last_of_several_members_counts() {
    let lab = Lab::tar(&[
        file("a-1/x", "first"),
        hard_link("a-1/y", "a-1/x"),
        file("a-1/x", "last"),
        folder("a-1/d"),
        folder("a-1/d/"),
        file("a-1/f", ""),
        symlink("a-1/f", "x"),
    ]);
    let tree = lab.unpack().unwrap();
    assert_eq!(fs::read_to_string(tree.join("x")).unwrap(), "last");
    assert_eq!(fs::read_to_string(tree.join("y")).unwrap(), "first");
    assert_eq!(fs::read_link(tree.join("f")).unwrap(), Path::new("x"));
    assert_eq!(tree.join("y").metadata().unwrap().nlink(), 1);
    refuses!([folder("a-1/x"), file("a-1/x", "")], Problem::Conflict { earlier: "folder" }, Some("a-1/x"));
    refuses!([folder("a-1/x"), symlink("a-1/x", "y")], Problem::Conflict { earlier: "folder" }, Some("a-1/x"));
    refuses!([file("a-1/x", ""), folder("a-1/x")], Problem::Conflict { earlier: "file" }, Some("a-1/x"));
    refuses!([file("a-1/x", ""), file("a-1/x/y", "")], Problem::Below { kind: "file", .. }, Some("a-1/x/y"));
}

#[test]
fn the_tree_is_the_one_folder_at_the_top_or_all_of_it() {
    let lab = Lab::tar(&[file("./a-1/x", ""), folder("./a-1")]);
    assert_eq!(lab.unpack().unwrap(), lab.target().join("a-1"));
    let lab = Lab::tar(&[file("setup.py", ""), file("d/x", ""), symlink("d/y", "../setup.py"), symlink("z", "d")]);
    assert_eq!(lab.unpack().unwrap(), lab.target());
    assert!(lab.target().join("z/y").is_file());
    let two = [symlink("a-1/x", "../b-2/x"), file("b-2/x", "")];
    Lab::tar(&two).unpack().unwrap();
    refuses!([two[0].clone()], Problem::OutsideLink { .. }, Some("a-1/x"));
    refuses!([symlink("x", "../outside"), file("y", "")], Problem::OutsideLink { .. }, Some("x"));
    refuses!([], Problem::Nothing, None);
    refuses!([folder("./")], Problem::Nothing, None);
    refuses!([symlink("./", "x")], Problem::EmptyName, Some("./"));
}

#[test]
fn descriptions_of_members() {
    let long = format!("a-1/{}", "d/".repeat(50) + &"x".repeat(200));
    let gnu = |entry_type, text: &str| raw(b"././@LongLink", entry_type, 0o644, b"", format!("{text}\0").as_bytes());
    let lab = Lab::tar(&[
        pax(&[("path", &long), ("SCHILY.xattr.x", "1\n18 path=../evil\n\n"), ("mtime", "1.5")]),
        file("x", "pax"),
        gnu(EntryType::GNULongName, "a-1/gnu"),
        gnu(EntryType::GNULongLink, &long),
        hard_link("x", "y"),
        raw(b"a-1/\xff", EntryType::Continuous, 0o644, b"", b"bytes"),
    ]);
    let tree = lab.unpack().unwrap();
    let modified = tree.parent().unwrap().join(&long).metadata().unwrap().modified().unwrap();
    assert_eq!(modified, SystemTime::UNIX_EPOCH + Duration::from_millis(1500));
    assert_eq!(fs::read_to_string(tree.parent().unwrap().join(&long)).unwrap(), "pax");
    assert_eq!(fs::read_to_string(tree.join("gnu")).unwrap(), "pax");
    assert_eq!(fs::read_dir(&tree).unwrap().count(), 3);
}

#[test]
fn descriptions_that_could_mislead() {
    let refused = |members: &[Vec<u8>], reason: &str| match Lab::tar(members).refused().0 {
        Problem::Damaged(text) => assert!(text.contains(reason), "{text}"),
        other => panic!("{other:?}"),
    };
    refused(&[pax(&[("size", "5")]), file("a-1/x", "x")], "size in the pax header");
    refused(&[pax(&[("size", "x")]), file("a-1/x", "x")], "no number");
    refused(&[pax(&[("path", "a-1/x")]), pax(&[("path", "a-1/y")]), file("a-1/z", "x")], "two pax headers");
    let long = raw(b"L", EntryType::GNULongName, 0o644, b"", b"a-1/y\0");
    refused(&[pax(&[("path", "a-1/x")]), long.clone(), file("a-1/z", "x")], "two names");
    refused(&[file("a-1/x", "x"), long], "not there");
    refused(&[raw(b"x", EntryType::XHeader, 0o644, b"", b"nonsense"), file("a-1/z", "x")], "malformed");
    let global = |records: &[(&str, &str)]| raw(b"g", EntryType::XGlobalHeader, 0o644, b"", &pax_records(records));
    refused(&[global(&[("path", "a-1/x")]), file("a-1/z", "x")], "global");
    refused(&[raw(b"a-1/d", EntryType::Directory, 0o755, b"", b"content")], "has content");
    let huge = vec![b'x'; (1 << 20) + 1];
    refused(&[raw(b"L", EntryType::GNULongName, 0o644, b"", &huge), file("a-1/z", "x")], "expected at most 1048576");
}

#[test]
fn limits_stop_bombs() {
    let members = [file("a-1/x", &"x".repeat(10_000)), file("a-1/d/y", "y")];
    let mut lab = Lab::tar(&members);
    lab.limits.total_bytes = 5_000;
    assert!(matches!(lab.refused().0, Problem::TooManyBytes { limit: 5_000, .. }));

    let mut lab = Lab::tar(&members);
    (lab.limits.ratio, lab.limits.ratio_floor) = (2, 1_000);
    assert!(matches!(lab.refused().0, Problem::TooManyBytes { .. }));
    assert!(matches!(lab.pkg_info().unwrap_err().problem, Problem::TooManyBytes { .. }));

    // Two files and two folders.
    let mut lab = Lab::tar(&members);
    lab.limits.members = 3;
    assert!(matches!(lab.refused(), (Problem::TooManyMembers { limit: 3 }, Some(member)) if member == "a-1/d/y"));
    let mut lab = Lab::tar(&members);
    lab.limits.members = 4;
    lab.unpack().unwrap();

    let mut lab = Lab::tar(&members);
    lab.limits.depth = 2;
    assert!(matches!(lab.refused(), (Problem::TooDeep { limit: 2 }, Some(member)) if member == "a-1/d/y"));
    let mut lab = Lab::tar(&members);
    lab.limits.name_bytes = 5;
    assert!(matches!(lab.refused(), (Problem::NameTooLong { limit: 5 }, Some(member)) if member == "a-1/d/y"));
}

#[test]
fn a_bomb_in_what_is_not_unpacked_is_one_too() {
    let mut bomb = tar(&[file("a-1/x", "x")]);
    bomb.resize(1 << 20, 0);
    let mut lab = Lab::new("a-1.tar.gz", &gzip(&bomb));
    (lab.limits.ratio, lab.limits.ratio_floor) = (10, 1 << 10);
    assert!(matches!(lab.refused().0, Problem::TooManyBytes { .. }));
}

#[test]
fn what_is_cut_off_is_damaged() {
    let whole = gzip(&tar(&[folder("a-1"), file("a-1/x", "some content")]));
    for end in 0..whole.len() {
        let (problem, _) = Lab::new("a-1.tgz", &whole[..end]).refused();
        assert!(matches!(problem, Problem::Damaged(_)), "{end} of {} bytes: {problem:?}", whole.len());
    }
    // The tar file is truncated, in a complete gzip file.
    let within = [folder("a-1"), file("a-1/x", &"x".repeat(1000))].concat();
    for end in [100, 512 + 100, 1024 + 100, 1024 + 512] {
        let (problem, _) = Lab::new("a-1.tgz", &gzip(&within[..end])).refused();
        assert!(matches!(problem, Problem::Damaged(_)), "{end}: {problem:?}");
    }
}

#[test]
fn what_follows_the_archive_does_no_harm() {
    let archive = tar(&[folder("a-1"), file("a-1/x", &"content".repeat(100))]);
    let (one, two) = archive.split_at(700);
    let members = [gzip(one), gzip(two)].concat();
    let tree = Lab::new("a-1.tgz", &[&members[..], b"\0\0\0garbage"].concat());
    assert_eq!(fs::read_to_string(tree.unpack().unwrap().join("x")).unwrap(), "content".repeat(100));
}

#[test]
fn what_is_no_archive() {
    assert!(matches!(Lab::new("a-1.tar.gz", b"not gzip").refused().0, Problem::Damaged(_)));
    assert!(matches!(Lab::new("a-1.tar.gz", &gzip(&[b'x'; 2000])).refused().0, Problem::Damaged(_)));
    assert!(matches!(Lab::new("a-1.tar.xz", b"x").refused().0, Problem::UnknownSuffix));
    let mut lab = Lab::tar(&[]);
    lab.archive = "/no/such.tar.gz".into();
    assert!(matches!(lab.refused().0, Problem::Unreadable(_)));
}

#[test]
fn a_folder_that_is_not_empty_is_not_unpacked_into() {
    let lab = Lab::tar(&[file("a-1/x", "x")]);
    fs::write(lab.target().join("mine"), "").unwrap();
    assert!(matches!(lab.refused().0, Problem::NotEmpty(_)));
}

#[test]
fn unpacking_can_be_cancelled() {
    let lab = Lab::tar(&[file("a-1/x", "x")]);
    let cancelled = AtomicBool::new(true);
    let error = hookpool_frontend::unpack(&lab.archive, &lab.target(), &lab.limits, &cancelled).unwrap_err();
    assert!(matches!(error.problem, Problem::Cancelled), "{error}");
    let error = hookpool_frontend::read_files(&lab.archive, ["x"], &lab.limits, &cancelled).unwrap_err();
    assert!(matches!(error.problem, Problem::Cancelled), "{error}");
}

#[test]
fn the_pkg_info_of_the_tree_is_found() {
    let egg_info = || file("a-1/a.egg-info/PKG-INFO", "no");
    let pkg_info = |members: &[Vec<u8>]| Lab::tar(members).pkg_info().unwrap();
    let found = |text: &str| Some(text.as_bytes().to_vec());
    assert_eq!(pkg_info(&[egg_info(), file("./a-1/PKG-INFO", "yes"), file("a-1/x", "")]), found("yes"));
    assert_eq!(pkg_info(&[file("a-1/PKG-INFO", "no"), file("a-1/PKG-INFO", "last")]), found("last"));
    assert_eq!(pkg_info(&[egg_info(), symlink("a-1/PKG-INFO", "x")]), None);
    // The tree is the whole archive.
    let flat = [file("a.egg-info/PKG-INFO", "no"), file("setup.py", ""), file("PKG-INFO", "yes")];
    assert_eq!(pkg_info(&flat), found("yes"));
    assert_eq!(pkg_info(&flat[..2]), None);
    let mut cut_off = file("a-1/PKG-INFO", "yes");
    cut_off.extend(&file("a-1/x", "x")[..300]);
    assert!(Lab::new("a-1.tgz", &gzip(&cut_off)).pkg_info().is_err());
    let huge = raw(b"a-1/PKG-INFO", EntryType::Regular, 0o644, b"", &vec![b'x'; (16 << 20) + 1]);
    let error = Lab::tar(&[huge]).pkg_info().unwrap_err();
    assert!(matches!(error.problem, Problem::MemberTooLarge { .. }), "{error}");
}

#[test]
fn messages_say_which_archive_which_member_and_why() {
    let lab = Lab::tar(&[folder("a-1"), file("a-1/\x1b[2J/../x", "")]);
    let message = lab.unpack().unwrap_err().to_string();
    let expected = format!(
        "{}: member \"a-1/\\u{{1b}}[2J/../x\": its name has `..`: expected one below the archive's folder",
        lab.archive.display()
    );
    assert_eq!(message, expected);
}

/// Archives that the crate `tar` writes are unpacked.
#[test]
fn archives_of_the_tar_crate() {
    let mut builder = tar::Builder::new(Vec::new());
    let long = format!("a-1/{}/x.py", "long".repeat(50));
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    builder.append_data(&mut header, &long, &b"x"[..]).unwrap();
    let bytes = builder.into_inner().unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&bytes).unwrap();
    let lab = Lab::new("a-1.tar.gz", &encoder.finish().unwrap());
    lab.unpack().unwrap();
    assert_eq!(fs::read_to_string(lab.target().join(long)).unwrap(), "x");
}
