//! Whether a run is watched by nobody.

use std::env;

/// Whether CI is set, to anything but nothing, `0` or `false`: then a test that is skipped is a failure.
pub(crate) fn is_set() -> bool {
    env::var("CI").is_ok_and(|value| means_yes(&value))
}

fn means_yes(value: &str) -> bool {
    !matches!(value, "" | "0" | "false")
}

#[cfg(test)]
mod tests {
    use super::means_yes;

    #[test]
    fn values_of_ci() {
        assert!(means_yes("true") && means_yes("1") && means_yes("some-ci"));
        assert!(!means_yes("") && !means_yes("0") && !means_yes("false"));
    }
}
