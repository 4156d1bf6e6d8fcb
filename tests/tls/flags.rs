//! What the flags about TLS refuse, and what they say then.

use std::fs;

use base64::Engine;
use clap::Parser;
use ringsock::engine::{Probe, ktls};
use ringsock::server;
use ringsock::tls::{Identity, Offer, Trust};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    server: server::Options,
}

fn refusal(flags: &[&str]) -> String {
    let flags = Flags::parse_from([&["server", "--listen", "127.0.0.1:0"], flags].concat());
    let error = flags.server.validate(&Probe::of_this_kernel()).unwrap_err();
    error.to_string()
}

#[test]
fn certificates_and_keys_that_cannot_be_used_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let identity = Identity::self_signed([127, 0, 0, 1].into()).unwrap();
    fs::write(path("certificate.pem"), identity.certificate_pem()).unwrap();
    fs::write(path("nothing.pem"), "no PEM at all").unwrap();
    // Of another pair.
    let key =
        base64::engine::general_purpose::STANDARD.encode(rcgen::KeyPair::generate().unwrap().serialize_der());
    fs::write(path("key.pem"), format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n"))
        .unwrap();
    for (certificate, key, names, mend) in [
        ("absent.pem", "key.pem", "--tls-cert", "No such file"),
        ("nothing.pem", "key.pem", "--tls-cert", "BEGIN CERTIFICATE"),
        ("key.pem", "key.pem", "--tls-cert", "BEGIN CERTIFICATE"),
        ("certificate.pem", "absent.pem", "--tls-key", "No such file"),
        ("certificate.pem", "certificate.pem", "--tls-key", "BEGIN PRIVATE KEY"),
        ("certificate.pem", "key.pem", "--tls-cert and --tls-key", "made with it"),
    ] {
        let refusal = refusal(&["--tls-cert", &path(certificate), "--tls-key", &path(key)]);
        assert!(refusal.contains(names) && refusal.contains(mend), "{certificate}, {key}: {refusal}");
    }
    let roots = Trust::File(path("nothing.pem").into()).client("localhost", &Offer::default());
    let refusal = roots.unwrap_err().to_string();
    assert!(refusal.contains("--ca") && refusal.contains("BEGIN CERTIFICATE"), "{refusal}");
}

#[test]
fn kernel_tls_is_refused_with_the_reason() {
    for (flags, reason) in [
        (&["--ktls"][..], "--tls-self-signed"),
        (&["--tls-self-signed", "--ktls", "--engine", "tokio-uring"], "--engine uring or epoll"),
        (&["--tls-self-signed", "--ktls", "--uring-features", "+zero-copy"], "+zero-copy"),
    ] {
        let refusal = refusal(flags);
        assert!(refusal.contains("--ktls") && refusal.contains(reason), "{refusal}");
    }
    let release = Probe::of_this_kernel().release;
    match ktls::survey(&release) {
        Ok(offer) => assert!(offer.contains("TLS 1."), "{offer}"),
        Err(_) => {
            for engine in ["uring", "epoll"] {
                let refusal = refusal(&["--tls-self-signed", "--ktls", "--engine", engine]);
                for expected in ["--ktls", &release, "CONFIG_TLS", "modprobe tls", "leave out --ktls"] {
                    assert!(refusal.contains(expected), "{refusal}");
                }
            }
        }
    }
}
