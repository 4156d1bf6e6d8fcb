//! `/metrics`: what a server counted, by thread, as Prometheus' text exposition (0.0.4), in its base units.
//!
//! Invariants: a metric's samples stand together under one HELP and one TYPE; every counter that there is stands in [`FAMILIES`] once,
//! but for those in [`SUMS`], which a query makes (a test holds this); label values are escaped.
//!
//! Deliberately absent: sums over threads and rates, which queries make; timestamps.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::snapshot::About;
use crate::scenario::serve::Served;
use crate::server::board::Left;

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const PREFIX: &str = "ringsock_server_";

/// A metric with a sample for each thread, or several that a label tells apart.
struct Family {
    name: &'static str,
    /// What it is: `_total` says that it only grows.
    help: &'static str,
    label: Option<&'static str>,
    /// Counters, each with its label's value.
    samples: &'static [(&'static str, &'static str)],
}

const fn one(
    name: &'static str,
    help: &'static str,
    counter: &'static [(&'static str, &'static str)],
) -> Family {
    Family { name, help, label: None, samples: counter }
}

/// Counters that others add up to: a query sums those. And one that is told in another unit.
#[cfg(test)]
const SUMS: [&str; 6] = ["rejections", "faults", "timeouts", "messages", "pauses", "worked_ns"];
/// Of `messages`, what is neither of the other kinds.
const MESSAGES_PLAIN: &str = "messages_plain";

/// What is not said by a name alone is said where the counter is declared; here it is said for those who see nothing else.
#[rustfmt::skip]
const FAMILIES: [Family; 50] = [
    one("connections", "Connections now, those included that are opening or leaving.", &[("connections", "")]),
    one("connections_opened_total", "Connections accepted.", &[("opened", "")]),
    one("connections_closed_total", "Connections that are gone.", &[("closed", "")]),
    Family {
        name: "connections_lost_total",
        help: "Connections that ended without a closing handshake: reset or broken, ended by the peer without a Close frame, or dropped as \
               one of far too many from its address.",
        label: Some("how"),
        samples: &[("resets", "reset"), ("hangups", "hangup"), ("drops_from_address", "dropped")],
    },
    one("upgrades_total", "Opening handshakes accepted.", &[("upgrades", "")]),
    one("upgrades_without_takeover_total", "Opening handshakes that agreed to compress without context takeover, for want of memory.", &[("upgrades_without_takeover", "")]),
    one("closes_total", "Closing handshakes completed, whoever began them.", &[("closes", "")]),
    one("pages_total", "Requests for pages, such as this one, that were answered.", &[("pages", "")]),
    Family {
        name: "rejections_total",
        help: "Opening handshakes turned down, by what was wrong; the HTTP status of the answer tells the same.",
        label: Some("reason"),
        samples: &[
            ("rejections_malformed", "malformed"), ("rejections_forbidden", "forbidden"), ("rejections_not_found", "not_found"),
            ("rejections_not_websocket", "not_websocket"), ("rejections_from_address", "from_address"),
            ("rejections_head_too_long", "head_too_long"), ("rejections_full", "full"),
        ],
    },
    Family {
        name: "faults_total",
        help: "Connections failed for what the peer sent, by kind; the close code tells the same.",
        label: Some("kind"),
        samples: &[
            ("faults_protocol", "protocol"), ("faults_invalid_data", "invalid_data"), ("faults_policy", "policy"),
            ("faults_too_big", "too_big"), ("faults_no_memory", "no_memory"),
        ],
    },
    Family {
        name: "timeouts_total",
        help: "Times that a peer took too long, by what was waited for.",
        label: Some("awaited"),
        samples: &[
            ("timeouts_handshake", "handshake"), ("timeouts_idle", "bytes"), ("timeouts_ping", "pong"),
            ("timeouts_close", "close"), ("timeouts_stall", "progress"),
        ],
    },
    Family {
        name: "messages_total",
        help: "Messages received whole, by kind of connection.",
        label: Some("connection"),
        samples: &[(MESSAGES_PLAIN, "plain"), ("messages_stamped", "stamped"), ("messages_compressed", "compressed")],
    },
    Family {
        name: "frames_received_total",
        help: "Frames received, by opcode.",
        label: Some("opcode"),
        samples: &[
            ("frames_text", "text"), ("frames_binary", "binary"), ("frames_continuation", "continuation"),
            ("frames_ping", "ping"), ("frames_pong", "pong"), ("frames_close", "close"),
        ],
    },
    one("published_total", "Messages published to topics, with subscribers or without.", &[("published", "")]),
    one("delivered_total", "Messages that subscribers were sent.", &[("delivered", "")]),
    Family {
        name: "slow_subscribers_total",
        help: "What became of subscribers that did not read, by --slow-consumer: messages dropped, subscribers closed, times that publishers \
               waited.",
        label: Some("policy"),
        samples: &[("slow_dropped", "drop_newest"), ("slow_closed", "close"), ("slow_blocked", "block")],
    },
    one("pushed_total", "Messages that were pushed.", &[("pushed", "")]),
    one("json_errors_total", "JSON messages that were answered with an error.", &[("json_errors", "")]),
    one("worked_seconds_total", "Time that was worked for messages of the scenario work.", &[(WORKED, "")]),
    one("pings_sent_total", "Pings sent because a peer was silent.", &[("pings", "")]),
    one("received_bytes_total", "Bytes received from TCP: frames, handshakes, TLS records.", &[("received_bytes", "")]),
    one("sent_bytes_total", "Bytes sent to TCP: frames, handshakes, TLS records.", &[("sent_bytes", "")]),
    one("inflated_bytes_total", "Bytes that messages came to on connections that compress.", &[("inflated_bytes", "")]),
    one("receives_total", "Receives that brought bytes.", &[("receives", "")]),
    one("sends_total", "Sends that were tried.", &[("sends", "")]),
    one("short_sends_total", "Sends that the kernel took in part or not at all: the peer reads too slowly.", &[("short_sends", "")]),
    Family {
        name: "read_pauses_total",
        help: "Times that a peer was no longer read from because of what waited for it, or for all together.",
        label: Some("cause"),
        samples: &[(PAUSES_OF_ONE, "one"), ("pauses_in_all", "all")],
    },
    one("send_queue_bytes", "Bytes that wait now for peers which do not take them.", &[("waiting_bytes", "")]),
    one("send_queue_connections", "Connections that they wait on.", &[("waiting_connections", "")]),
    one("ring_enters_total", "System calls that submit and wait; 0 where the engine does not show them.", &[("enters", "")]),
    one("ring_completions_total", "Completions seen; by enters, how much one system call found to do.", &[("completions", "")]),
    one("ring_overflows_total", "Times that the completion queue was full.", &[("cq_overflows", "")]),
    one("ring_no_buffers_total", "Receives ended by want of a buffer (ENOBUFS).", &[("no_buffers", "")]),
    Family {
        name: "ring_rearms_total",
        help: "Operations that ended and were begun again; each one, where they are not multishot.",
        label: Some("operation"),
        samples: &[("recv_rearms", "receive"), ("accept_rearms", "accept")],
    },
    one("accept_refusals_total", "Accepts that failed for want of a descriptor.", &[("accept_refusals", "")]),
    one("zero_copy_sends_total", "Sends made without a copy of ours.", &[("zero_copies", "")]),
    one("zero_copy_sends_copied_total", "Of those, sends that the kernel copied after all.", &[("zero_copies_copied", "")]),
    one("tls_handshakes_total", "TLS handshakes completed.", &[("tls_handshakes", "")]),
    one("tls_resumed_total", "Of those, resumed sessions.", &[("tls_resumed", "")]),
    one("tls_not_tls_total", "Connections that did not speak TLS.", &[("tls_not_tls", "")]),
    one("tls_failures_total", "TLS handshakes that failed.", &[("tls_failures", "")]),
    one("tls_timeouts_total", "TLS handshakes that were not over in time.", &[("tls_timeouts", "")]),
    one("tls_put_off_total", "Steps of TLS handshakes that had to wait for another turn.", &[("tls_put_off", "")]),
    one("tls_faults_total", "Connections failed for their TLS records.", &[("tls_faults", "")]),
    one("tls_used_up_total", "Connections ended because their keys were used up.", &[("tls_used_up", "")]),
    one("tls_truncated_total", "Connections that ended without close_notify.", &[("tls_truncated", "")]),
    one("tls_kernel_total", "Connections handed to the kernel's TLS.", &[("tls_kernel", "")]),
    one("tls_kernel_refused_total", "Connections that the kernel's TLS refused.", &[("tls_kernel_refused", "")]),
    one("tls_kernel_missed_total", "Connections never quiet enough to be handed to the kernel's TLS.", &[("tls_kernel_missed", "")]),
    one("thread_cpu_seconds_total", "Processor time of the thread.", &[(CPU, "")]),
];
/// Of `pauses`, those that are for one peer alone.
const PAUSES_OF_ONE: &str = "pauses_of_one";
/// Not a counter of the server's but of the kernel's.
const CPU: &str = "cpu";
/// `worked_ns`, in the base unit.
const WORKED: &str = "worked";

/// A thread's counters by name, and what is made of them.
fn values(left: &Left) -> BTreeMap<&'static str, f64> {
    let Served { messages, messages_stamped, messages_compressed, engine, .. } = left.served;
    let counted = left.served.all_named().map(|(name, count)| (name, count as f64));
    let made = [
        (MESSAGES_PLAIN, (messages - messages_stamped - messages_compressed) as f64),
        (PAUSES_OF_ONE, (engine.pauses - engine.pauses_in_all) as f64),
        (CPU, left.cpu_ns as f64 / 1e9),
        (WORKED, left.served.scenes.worked_ns as f64 / 1e9),
    ];
    counted.chain(made).collect()
}

/// Every metric, by thread.
pub(super) fn render(about: &About, left: &[Left]) -> String {
    let mut text = Text(String::with_capacity(8192));
    let snapshot = about.snapshot(left);
    let who = &snapshot.server;
    text.metric("ringsock_server_info", "What runs; always 1.");
    let labels = [
        ("version", who.version),
        ("revision", who.revision.unwrap_or("")),
        ("engine", who.engine),
        ("features", &who.features.join(", ")),
        ("kernel", &who.kernel),
        ("tls", if who.tls { "true" } else { "false" }),
        ("deflate", if who.deflate { "true" } else { "false" }),
    ];
    text.sample("ringsock_server_info", &labels, 1.0);
    text.metric("ringsock_server_draining", "1 while the server ends, 0 while it takes connections.");
    text.sample("ringsock_server_draining", &[], f64::from(u8::from(snapshot.state == "draining")));
    text.metric("ringsock_server_uptime_seconds", "Time since the server began.");
    text.sample("ringsock_server_uptime_seconds", &[], snapshot.uptime_s);
    text.metric("ringsock_server_connections_max", "Connections that there may be at a time.");
    text.sample("ringsock_server_connections_max", &[], who.connections_max as f64);
    text.metric("process_cpu_seconds_total", "Processor time of the process.");
    text.sample("process_cpu_seconds_total", &[], snapshot.process.cpu_s);
    text.metric("process_resident_memory_bytes", "Memory of the process that is resident.");
    text.sample("process_resident_memory_bytes", &[], snapshot.process.resident_bytes as f64);
    let values: Vec<_> = left.iter().map(values).collect();
    for family in &FAMILIES {
        text.family(family, &values);
    }
    text.0
}

/// The text so far.
struct Text(String);

impl Text {
    fn metric(&mut self, name: &str, help: &str) {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn family(&mut self, family: &Family, values: &[BTreeMap<&str, f64>]) {
        let name = format!("{PREFIX}{}", family.name);
        self.metric(&name, family.help);
        for (thread, values) in values.iter().enumerate() {
            let thread = thread.to_string();
            for (counter, value) in family.samples {
                let told_apart = family.label.map(|label| (label, *value));
                let labels: Vec<_> = std::iter::once(("thread", &*thread)).chain(told_apart).collect();
                self.sample(&name, &labels, values[counter]);
            }
        }
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let label = |(name, value): &(&str, &str)| format!("{name}=\"{}\"", escaped(value));
        let labels = labels.iter().map(label).collect::<Vec<_>>().join(",");
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

/// A label's value between its quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_counter_is_told_once() {
        let mut told: Vec<&str> =
            FAMILIES.iter().flat_map(|family| family.samples.iter().map(|(counter, _)| *counter)).collect();
        let made = [MESSAGES_PLAIN, PAUSES_OF_ONE, CPU, WORKED];
        told.retain(|counter| !made.contains(counter));
        let count = told.len();
        let told: BTreeSet<&str> = told.into_iter().collect();
        assert_eq!(told.len(), count, "one is told twice");
        let there: BTreeSet<&str> =
            Served::default().all_named().map(|(name, _)| name).filter(|name| !SUMS.contains(name)).collect();
        assert_eq!(told, there, "told (left) and counted (right)");
    }

    #[test]
    fn names_are_unique_and_say_their_unit() {
        let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        for family in &FAMILIES {
            assert_eq!(family.label.is_some(), family.samples.len() > 1, "{}", family.name);
            let values: BTreeSet<_> = family.samples.iter().map(|(_, value)| value).collect();
            assert_eq!(values.len(), family.samples.len(), "{}", family.name);
        }
    }

    #[test]
    fn what_others_add_up_to_is_divided_among_them() {
        let mut served =
            Served { messages: 10, messages_stamped: 1, messages_compressed: 2, ..Served::default() };
        (served.engine.pauses, served.engine.pauses_in_all) = (5, 2);
        let text = render(&About::example(), &[Left { served, cpu_ns: 250_000_000 }]);
        for line in [
            r#"ringsock_server_messages_total{thread="0",connection="plain"} 7"#,
            r#"ringsock_server_messages_total{thread="0",connection="compressed"} 2"#,
            r#"ringsock_server_read_pauses_total{thread="0",cause="one"} 3"#,
            r#"ringsock_server_thread_cpu_seconds_total{thread="0"} 0.25"#,
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}:\n{text}");
        }
        assert!(text.contains(r#"features="one \"thing\", another\\""#), "{text}");
    }
}
