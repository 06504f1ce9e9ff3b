//! `setup.cfg`: whether setuptools may take core metadata from it.

/// Sections in which none is. setuptools writes the first into each source distribution; its tags
/// are part of the version, which `PKG-INFO` has.
const WITHOUT_METADATA: [&str; 3] = ["[egg_info]", "[bdist_wheel]", "[flake8]"];

/// Whether a `setup.cfg` may determine core metadata. It may if it could not be read (`None`).
pub(crate) fn may_determine_metadata(setup_cfg: Option<Vec<u8>>) -> bool {
    let Some(text) = setup_cfg.and_then(|bytes| String::from_utf8(bytes).ok()) else { return true };
    // Not every line with a bracket begins a section, but every section begins with such a line.
    text.split(['\n', '\r']).any(|line| line.contains('[') && !WITHOUT_METADATA.contains(&line.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_sections_have_no_metadata() {
        for (text, expected) in [
            ("", false),
            ("[egg_info]\ntag_build = \ntag_date = 0\n\n", false),
            ("[flake8]\r\nmax-line-length = 100\r\n[bdist_wheel]\r\nuniversal = 1\r\n", false),
            ("[egg_info]\n[metadata]\nrequires-dist = b\n", true),
            ("[egg_info]\n[options]\ninstall_requires = b\n", true),
            ("[egg_info]\r[options]\rinstall_requires = b\r", true),
            ("\u{feff}[options]\n", true),
            ("[egg_info]\nx = 1\n [options.extras_require]\n", true),
            ("[egg_info] [options]\n", true),
            ("[files]\n", true),
        ] {
            assert_eq!(may_determine_metadata(Some(text.into())), expected, "{text:?}");
        }
        assert!(may_determine_metadata(Some(b"[egg_info]\n\xff".to_vec())), "it is no text");
        assert!(may_determine_metadata(None), "it cannot be read");
    }
}
