//! The file of requirements for an installer. It also has what may contain credentials:
//! everybody on the machine can read the arguments of a process.

use url::Url;

/// The name of the file.
pub(super) const NAME: &str = "requirements.txt";

/// Whether a place is an address. It may contain credentials anywhere: before the host,
/// in the path, in the query.
pub(super) fn is_address(place: &str) -> bool {
    place.contains("://")
}

/// The lines of the file: the places that are addresses, and the requirements.
pub(super) fn lines(requirements: &[String], places: &[String]) -> String {
    let places = places.iter().filter(|place| is_address(place));
    let places = places.map(|place| format!("--find-links {}\n", quoted(place)));
    places.chain(requirements.iter().map(|requirement| format!("{requirement}\n"))).collect()
}

/// An address, quoted for such files, in which variables (`${NAME}`), quotes,
/// continued lines and comments have a meaning.
pub(super) fn quoted(address: &str) -> String {
    let mut text = address.to_owned();
    if let Ok(mut url) = Url::parse(address) {
        // Servers do not see it.
        url.set_fragment(None);
        text = url.into();
    }
    text.replace('$', "%24").replace('\'', "%27").replace('\\', "%5C")
}

/// The output of a program without references to the file, which is gone when somebody
/// reads them. `file` is its path as it was given to the program.
pub(in crate::environment) fn without_places(words: &str, file: &str) -> String {
    let own = without(words, &format!(" (from -r {file} (line "), "))");
    without(&own, &format!("->-r {file} (line "), ")").replace(file, NAME)
}

/// Removes everything from each `start` to the next `end`.
fn without(words: &str, start: &str, end: &str) -> String {
    let mut parts = words.split(start);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once(end).map_or(part, |(_, rest)| rest));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_quoted() {
        for (address, expected) in [
            ("https://user:pass@host/wheels/", "https://user:pass@host/wheels/"),
            ("https://host/?t=${HOME}", "https://host/?t=%24{HOME}"),
            ("https://host/it's a \"page\"#part", "https://host/it%27s%20a%20%22page%22"),
            ("https://host/?a=\\", "https://host/?a=%5C"),
            ("https://u:p@:bad/'", "https://u:p@:bad/%27"),
        ] {
            assert_eq!(quoted(address), expected);
        }
    }

    #[test]
    fn only_addresses_of_places_are_in_the_file() {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let places = texts(&["/with space", "https://u:p@host/w", "file:///w"]);
        let expected = "--find-links https://u:p@host/w\n--find-links file:///w\na>=1\nb\n";
        assert_eq!(lines(&texts(&["a>=1", "b"]), &places), expected);
    }

    #[test]
    fn references_to_the_file_are_removed() {
        let words = "no a>=1 (from -r /t/r.txt (line 1)) (from versions: none)\nb (from -r /t/r.txt (line 12))";
        assert_eq!(without_places(words, "/t/r.txt"), "no a>=1 (from versions: none)\nb");
        assert_eq!(without_places(words, "/other.txt"), words);
        assert_eq!(without_places("c (from b->a->-r /t/r.txt (line 1))", "/t/r.txt"), "c (from b->a)");
        assert_eq!(without_places("in `/t/r.txt`\nat 1", "/t/r.txt"), "in `requirements.txt`\nat 1");
    }
}
