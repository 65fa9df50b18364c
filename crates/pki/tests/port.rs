//! The certificate of a client port: replaced while it is served, kept when the files are broken.
#![allow(clippy::unwrap_used)] // a test; the lint spares only code inside `#[test]`

use floeberg_env::{Disk, Env, OpenMode};
use floeberg_pki::{Authority, NODE_LIFETIME, NodeKey, PortTls, Reload, Subject};
use floeberg_telemetry::testing::CapturedLog;
use floeberg_types::{ClusterId, NodeId};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};
use std::path::Path;
use std::sync::Arc;

const CLUSTER: ClusterId = ClusterId::from_bytes([0xc1; 16]);
const CERTIFICATE: &str = "/tls/port.pem";
const KEY: &str = "/tls/port.key";

fn write(disk: &dyn Disk, path: &str, text: &str) {
    let path = Path::new(path);
    if disk.exists(path) {
        disk.remove_file(path).unwrap();
    }
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    file.write_at(text.as_bytes(), 0).unwrap();
}

/// A server certificate for `localhost` and its key, as an operator would have them.
fn pair(authority: &Authority, env: &Env) -> (String, String) {
    let key = NodeKey::generate().unwrap();
    let subject = Subject {
        cluster: CLUSTER,
        node: NodeId(1),
        names: vec!["localhost".into()],
    };
    let chain = authority
        .sign(&key.request().unwrap(), &subject, NODE_LIFETIME, env)
        .unwrap();
    let dir = Path::new("/made");
    let credentials = floeberg_pki::Credentials::new(key, chain).unwrap();
    credentials.save(env.disk.as_ref(), dir).unwrap();
    let file = env
        .disk
        .open(&dir.join("node.pem"), OpenMode::Read)
        .unwrap();
    let mut text = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut text, 0).unwrap();
    let text = String::from_utf8(text).unwrap();
    let at = text.find("-----BEGIN CERTIFICATE").unwrap();
    (text[at..].to_owned(), text[..at].to_owned())
}

/// The certificate that a client of the port is shown.
fn shown(port: &PortTls, authority: &Authority, env: &Env) -> CertificateDer<'static> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // The clock of the simulation is in the validity of the certificate, whatever the machine's is.
    let _ = env;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut server = ServerConnection::new(port.server_config()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets().unwrap();
    }
    client.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn a_new_certificate_is_served_and_a_broken_one_is_not() {
    let (mut env, _) = Env::simulated(1);
    // Clients in this test go by the machine's clock.
    env.clock = Env::real().clock;
    let disk = env.disk.clone();
    disk.create_dir_all(Path::new("/tls")).unwrap();
    let authority = Authority::create(CLUSTER, &env).unwrap();
    let load = || {
        PortTls::load(
            CERTIFICATE.into(),
            KEY.into(),
            disk.clone(),
            env.clock.clone(),
        )
    };
    let missing = load().unwrap_err().to_string();
    assert!(missing.contains(CERTIFICATE), "{missing}");

    let (certificate, key) = pair(&authority, &env);
    write(disk.as_ref(), CERTIFICATE, &certificate);
    write(disk.as_ref(), KEY, &key);
    let port = load().unwrap();
    let first = shown(&port, &authority, &env);
    assert_eq!(port.reload(), Reload::Unchanged);

    // The certificate is replaced before its key.
    let log = CapturedLog::start("floeberg_pki=info");
    let (certificate, key) = pair(&authority, &env);
    write(disk.as_ref(), CERTIFICATE, &certificate);
    assert_eq!(port.reload(), Reload::Kept);
    assert_eq!(port.reload(), Reload::Unchanged, "it is reported once");
    assert_eq!(shown(&port, &authority, &env), first);
    write(disk.as_ref(), KEY, &key);
    assert_eq!(port.reload(), Reload::Replaced);
    let second = shown(&port, &authority, &env);
    assert_ne!(second, first);

    disk.remove_file(Path::new(KEY)).unwrap();
    assert_eq!(port.reload(), Reload::Kept);
    write(disk.as_ref(), KEY, "nonsense");
    assert_eq!(port.reload(), Reload::Kept);
    assert_eq!(shown(&port, &authority, &env), second);
    // One that has ended does not take the place of one that has not.
    let (past, _) = Env::simulated(2);
    let (certificate, key) = pair(&Authority::create(CLUSTER, &past).unwrap(), &past);
    write(disk.as_ref(), KEY, &key);
    write(disk.as_ref(), CERTIFICATE, &certificate);
    assert_eq!(port.reload(), Reload::Kept);
    assert_eq!(shown(&port, &authority, &env), second);
    let errors = log.lines().iter().filter(|l| l.contains("ERROR")).count();
    assert_eq!(errors, 4, "{:#?}", log.lines());
}
