//! Dependencies of kernel modules, read from the modules: the packages have no modules.dep.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

/// The modules in `wanted` and all that they need, in loading order. A module of `wanted` that is not in `all` is left
/// out: it is built in, or this kernel lacks it. A module that another one needs must be in `all`.
///
/// # Errors
/// When a module cannot be read, needs a missing one, or modules need each other in a circle.
pub(crate) fn order(
    wanted: &[&str],
    all: &BTreeMap<String, std::path::PathBuf>,
    read: impl Fn(&std::path::Path) -> Result<Vec<u8>>,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut loaded = Vec::new();
    for name in wanted.iter().filter(|name| all.contains_key(**name)) {
        add(name, all, &read, &mut loaded, &mut Vec::new())?;
    }
    Ok(loaded)
}

fn add(
    name: &str,
    all: &BTreeMap<String, std::path::PathBuf>,
    read: &impl Fn(&std::path::Path) -> Result<Vec<u8>>,
    loaded: &mut Vec<(String, Vec<u8>)>,
    above: &mut Vec<String>,
) -> Result<()> {
    if loaded.iter().any(|(known, _)| known == name) {
        return Ok(());
    }
    if above.iter().any(|known| known == name) {
        bail!("the modules {} need each other", above.join(", "));
    }
    let path =
        all.get(name).with_context(|| format!("the module {} needs {name}, which is missing", above.join(", ")))?;
    let content = read(path)?;
    above.push(name.to_owned());
    for needed in depends(&content) {
        add(&needed, all, read, loaded, above)?;
    }
    above.pop();
    loaded.push((name.to_owned(), content));
    Ok(())
}

/// The name that other modules use: the file's name up to the first dot, with `_` for `-`.
pub(crate) fn name(file: &str) -> Option<String> {
    let (name, kind) = file.split_once('.')?;
    ["ko", "ko.xz", "ko.zst", "ko.gz"].contains(&kind).then(|| name.replace('-', "_"))
}

/// The modules that a module needs: the entry `depends` of its section .modinfo, which has strings that end with NUL.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    // No ELF reader is needed: nothing else in a module looks like this.
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    use anyhow::Result;

    use super::{depends, name, order};

    fn module(depends: &str) -> Vec<u8> {
        format!("\x7fELF…\0license=GPL\0depends={depends}\0retpoline=Y\0name=x\0").into_bytes()
    }

    fn ordered(wanted: &[&str], modules: &[(&str, &str)]) -> Result<Vec<String>> {
        let all: BTreeMap<String, PathBuf> = modules.iter().map(|(n, _)| ((*n).to_owned(), PathBuf::from(n))).collect();
        let read = |path: &Path| {
            let found = modules.iter().find(|(name, _)| Path::new(name) == path);
            Ok(module(found.expect("only what is listed is read").1))
        };
        Ok(order(wanted, &all, read)?.into_iter().map(|(name, _)| name).collect())
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let modules = [("tcp_diag", "inet_diag"), ("mptcp_diag", "inet_diag"), ("inet_diag", ""), ("veth", "")];
        let order = ordered(&["mptcp_diag", "tcp_diag", "veth", "sch_netem"], &modules).unwrap();
        assert_eq!(order, ["inet_diag", "mptcp_diag", "tcp_diag", "veth"]);
    }

    #[test]
    fn a_missing_module_and_a_circle_are_named() {
        let missing = ordered(&["tcp_diag"], &[("tcp_diag", "inet_diag")]).unwrap_err().to_string();
        assert_eq!(missing, "the module tcp_diag needs inet_diag, which is missing");
        let circle = ordered(&["a"], &[("a", "b"), ("b", "a")]).unwrap_err().to_string();
        assert_eq!(circle, "the modules a, b need each other");
    }

    #[test]
    fn names_and_dependencies_are_read() {
        assert_eq!(name("sch-netem.ko.xz").as_deref(), Some("sch_netem"));
        assert_eq!(name("veth.ko").as_deref(), Some("veth"));
        assert_eq!(name("modules.builtin"), None);
        assert_eq!(depends(&module("a,b-c")), ["a", "b_c"]);
        assert!(depends(&module("")).is_empty() && depends(b"no module").is_empty());
    }
}
