//! Where nothing can make us root, the bench says so before it builds anything.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const NOBODY: u32 = 65534;

/// A directory that is removed when this is dropped.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn no_root_and_no_sudo() {
    let directory = Directory(std::env::temp_dir().join(format!("listentop-bench-no-sudo-{}", std::process::id())));
    fs::create_dir_all(&directory.0).unwrap();
    // Any user may run it there.
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o755)).unwrap();
    let bench = directory.0.join("bench");
    fs::copy(env!("CARGO_BIN_EXE_listentop-bench"), &bench).unwrap();
    let mut command = Command::new(&bench);
    command.env_clear().env("PATH", &directory.0).current_dir(&directory.0).stdin(Stdio::null());
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for part in ["the bench loads probes", "needs root", "there is no sudo", "run it as root"] {
        assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
    }
}
