//! A server that reads slowly: its receive queue fills, its window closes, and the client stops.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

/// A megabyte per request.
const LOAD: &str = "--rate 2 --request-bytes 1000000 --timeout-ms 30000";

pub(crate) const LESSON: Lesson = Lesson {
    name: "slow-reader",
    part: Part::ReadingAndSending,
    title: "a receive queue that fills up until the client stops",
    question: "A server reads more slowly than its clients send. Where do the bytes pile up, and who notices?",
    prediction: Prediction {
        ask: "Clients send a megabyte each. One server reads 16 KiB and then pauses for 5 ms, again and again. What \
              happens to what it has not read yet?",
        answers: &[
            "The kernel keeps it all for the server; the client is done at once",
            "The kernel drops what does not fit, and the client sends it again",
            "The kernel tells the client to stop: most of it stays on the client's side",
        ],
        right: 2,
        because: "The receive buffer is the window that TCP announces. When it is full the window is 0, and the \
                  client's kernel may not send. Its own send buffer fills, and the program waits in its write call.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::demo(
                "prompt",
                7001,
                "--pattern acceptor_readers --threads 4 --request-bytes 1000000 --receive-buffer 65536",
            ),
            Server::demo(
                "slow",
                7002,
                "--pattern acceptor_readers --threads 4 --request-bytes 1000000 --receive-buffer 65536 \
                 --read-bytes 16384 --read-delay-us 5000",
            ),
        ],
        loads: &[Load::stress("prompt", LOAD), Load::stress("slow", LOAD)],
    },
    steps: &[Step {
        name: "load",
        length_ms: 10_000,
        short_ms: 5_000,
        watch: "slow: unread bytes stay at the size of the receive buffer, and residency is long. prompt: the same \
                requests are read as they come. Nothing is lost, nothing is refused.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "client-stopped",
            what: "time per request in which slow's clients had data and no window",
            figure: "load:slow:receiver_limited_us / 1000 / load:slow:completed",
            unit: "ms",
            bounds: Bounds::AtLeast(150.0),
            short: None,
            widened: None,
            why: "61 reads of 16 KiB with a pause of 5 ms before each take 300 ms, and for most of that time the window \
                  is closed. The client's kernel counts it (tcpi_rwnd_limited)",
        },
        Expectation {
            id: "takes-longer",
            what: "response time (p50) of slow, in units of prompt's",
            figure: "load:slow:response_us.p50 / load:prompt:response_us.p50",
            unit: "times",
            bounds: Bounds::AtLeast(5.0),
            short: None,
            widened: None,
            why: "the pauses are all of it: reading a megabyte takes a few milliseconds",
        },
        Expectation {
            id: "zero-window",
            what: "times that a server announced a window of 0",
            figure: "kernel:TcpExtTCPToZeroWindowAdv",
            unit: "times",
            bounds: Bounds::AtLeast(5.0),
            short: None,
            widened: None,
            why: "some times per request of slow",
        },
        Expectation {
            id: "waits-unread",
            what: "residency (p90) at slow: the time that bytes wait for a read",
            figure: "listentop:slow:reads.residency_us.p90 / 1000",
            unit: "ms",
            bounds: Bounds::AtLeast(15.0),
            short: None,
            widened: None,
            why: "the kernel doubles the buffer, so it holds some eight reads, and each waits for those before it",
        },
        Expectation {
            id: "nothing-lost",
            what: "bytes that slow read, less those that its clients sent",
            figure: "server:slow:total.read_bytes - load:slow:sent_bytes",
            unit: "bytes",
            bounds: Bounds::Between(-4_000_000.0, 0.0),
            short: None,
            widened: None,
            why: "no byte twice. What is in the buffers when the clients end is sent and not read",
        },
    ],
    findings: &[],
    belief: "If a server is slow to read, its memory fills up with what it has not read.",
    mechanism: &[
        "Bytes that arrive go into the connection's receive queue (sk_receive_queue) until the program reads them. Its \
         size is SO_RCVBUF, or what the kernel found useful (tcp_rmem).",
        "Each ACK announces the free room as the window. At 0 the sender stops, and probes now and then whether there is \
         room again.",
        "This is back pressure: a slow reader slows its clients down, through two kernels and without a word of theirs. \
         Only a program that reads at once and queues in memory breaks it.",
    ],
    try_next: &[
        "`sudo nsenter -n -t \"$(pgrep -x slow)\" ss -tmi`, in another terminal while it runs: Recv-Q and Send-Q are \
         the bytes that wait on either side, and `rwnd_limited` is how long a window held a sender up.",
        "`cargo xtask demo slow-client`: the same in the other direction.",
    ],
    spoiler: Spoiler {
        what: "no pauses at slow",
        change: Change::Server("slow", "--read-delay-us 5000", "--read-delay-us 0"),
        fails: &["client-stopped", "takes-longer"],
    },
};
