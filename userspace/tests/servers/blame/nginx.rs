//! nginx: its worker waits for a disk.

use std::fs;

use test_support::{Lab, Test, lab::PORT};

use super::{BUSY, NEARLY_ALL, NEEDS, while_busy};
use crate::support::{
    exchange::{http_once, page},
    server::{Folder, Server, User, installed},
    side_by_side, slow_disk,
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "blame::nginx::blocking_disk_read", needs: NEEDS, run: disk_read },
    Test { name: "blame::nginx::blocking_disk_read_with_sendfile", needs: NEEDS, run: disk_read_with_sendfile },
];

/// Starts it with one worker. The files are in the folder's `disk`.
fn start(folder: &Folder, options: &str) -> Server {
    let program = installed("/usr/sbin", "nginx", "nginx");
    let at = folder.path("");
    let text = format!(
        "daemon off; user root; worker_processes 1; pid {at}pid; error_log {at}errors;
        events {{ worker_connections 256; }}
        http {{
            access_log off; {options}
            client_body_temp_path {at}1; proxy_temp_path {at}2; fastcgi_temp_path {at}3;
            uwsgi_temp_path {at}4; scgi_temp_path {at}5;
            server {{
                listen 127.0.0.1:{PORT};
                location / {{ root {at}disk; }}
                location = / {{ return 200 'ok'; }}
            }}
        }}"
    );
    let configuration = folder.write("nginx.conf", &text);
    let server = Server::start(folder, User::Root, &program, &["-p", &at, "-c", &configuration]);
    server.listens(PORT, 1);
    server.has_workers(1);
    // As soon as it has a worker, that may not be ready to accept.
    page(PORT, "/");
    server
}

fn read(lab: &Lab, options: &str, function: &str) {
    let _machine = side_by_side();
    installed("/usr/sbin", "nginx", "nginx");
    let folder = Folder::new();
    let disk = folder.path("disk");
    fs::create_dir(&disk).expect("the folder is ours");
    let slow_disk = slow_disk::mount_on(&disk, BUSY);
    let server = start(&folder, options);
    let slow = format!("/{}", slow_disk::NAME);
    let blame = while_busy(lab, http_once, || assert!(page(PORT, &slow).contains("at last")));
    blame.state_is("asleep", NEARLY_ALL);
    blame.is_guilty("asleep", &[function]);
    blame.stacks_have(
        "asleep",
        &["fuse", function, "ngx_http_core_content_phase", "ngx_master_process_cycle"],
        NEARLY_ALL,
    );
    drop((server, slow_disk));
}

fn disk_read(lab: &Lab) {
    read(lab, "sendfile off;", "ngx_read_file");
}

/// Debian's configuration has it on.
fn disk_read_with_sendfile(lab: &Lab) {
    read(lab, "sendfile on;", "ngx_linux_sendfile");
}
