//! Texts that must read as they did. Deliberately absent: what may differ from run to run; callers leave it out.

use std::fs;
use std::path::Path;

/// `text` is that of `tests/golden/NAME`; with `RINGSOCK_BLESS` in the environment it becomes it.
pub(crate) fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("RINGSOCK_BLESS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == golden, "{name} reads otherwise now (RINGSOCK_BLESS=1 accepts it):\n{text}");
}
