//! Extracts small BTF from a kernel's: `cargo run -p listentop-btf --features reduce --example reduce -- DIRECTORY
//! [BTF]`. One file for each group of types that listentop looks at. Seeds for the fuzzer, and fixtures of the tests.

use std::{fs, path::Path, process::ExitCode};

use listentop_btf::{KernelBtf, VMLINUX};

/// File name and what is in it.
const GROUPS: &[(&str, &[&str])] = &[
    ("sockets", &["sock", "request_sock", "tcp_request_sock", "socket_alloc", "SOCK_DEAD"]),
    ("tcp", &["tcp_sock", "sk_buff"]),
    ("tasks", &["task_struct", "pid", "upid", "files_struct", "fdtable", "pt_regs"]),
    (
        "functions",
        &[
            "inet_csk_accept",
            "inet_csk_reqsk_queue_add",
            "inet_csk_reqsk_queue_hash_add",
            "tcp_conn_request",
            "tcp_recvmsg",
            "tcp_sendmsg",
            "tcp_check_req",
            "tcp_v4_syn_recv_sock",
            "io_uring_cqe",
        ],
    ),
    (
        "tracepoints",
        &[
            "btf_trace_inet_sock_set_state",
            "btf_trace_sk_data_ready",
            "btf_trace_kfree_skb",
            "btf_trace_io_uring_complete",
            "SKB_DROP_REASON_TCP_LISTEN_OVERFLOW",
            "IORING_OP_ACCEPT",
        ],
    ),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(directory) = arguments.next() else {
        eprintln!("usage: reduce DIRECTORY [BTF]");
        return ExitCode::from(2);
    };
    let source = arguments.next().unwrap_or_else(|| VMLINUX.into());
    match reduce(Path::new(&source), Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reduce: {error}");
            ExitCode::FAILURE
        }
    }
}

fn reduce(source: &Path, directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let btf = KernelBtf::from_file(source)?;
    fs::create_dir_all(directory)?;
    for (name, types) in GROUPS {
        let path = directory.join(format!("{name}.btf"));
        let data = btf.reduced(types)?;
        fs::write(&path, &data)?;
        println!("{}: {} bytes", path.display(), data.len());
    }
    Ok(())
}
