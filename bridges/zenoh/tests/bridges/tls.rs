//! Links that are encrypted, and on which both ends show certificates. Zenoh's configuration is in files.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use zenoh::{Session, Wait};

use crate::proxy::Proxy;
use crate::support::{
    Counting, Folder, Side, all, options, port, publish, publish_until_one_arrives, publisher, subscriber,
    until,
};

/// An authority that issues certificates, whose own one is in a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    certificate: PathBuf,
}

/// Files with a certificate and its key.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    fn new(folder: &Folder, name: &str) -> Self {
        let mut parameters = CertificateParams::new([]).expect("no names");
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(parameters, key).expect("a certificate");
        let certificate = folder.socket(&format!("{name}.pem"));
        fs::write(&certificate, issuer.pem()).expect("it is written");
        Self { issuer, certificate }
    }

    /// Both for servers and clients, as the end of a link may be either.
    fn issue(&self, folder: &Folder, name: &str) -> Identity {
        let parameters = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        let identity = Identity {
            certificate: folder.socket(&format!("{name}.pem")),
            key: folder.socket(&format!("{name}.key")),
        };
        fs::write(&identity.certificate, certificate.pem()).expect("it is written");
        fs::write(&identity.key, key.serialize_pem()).expect("it is written");
        identity
    }
}

/// A configuration file with this endpoint, for an end that trusts the authority and has an identity.
fn file(folder: &Folder, name: &str, ends: &str, trusted: &Authority, own: Option<&Identity>) -> PathBuf {
    let identity = own.map(|own| {
        let (certificate, key) = (&own.certificate, &own.key);
        format!(
            "listen_certificate: {certificate:?}, listen_private_key: {key:?}, connect_certificate: \
             {certificate:?}, connect_private_key: {key:?},"
        )
    });
    let text = format!(
        r#"{{
            mode: "peer",
            scouting: {{ multicast: {{ enabled: false }}, gossip: {{ enabled: false }} }},
            {ends},
            transport: {{ link: {{ tls: {{
                root_ca_certificate: {:?}, enable_mtls: {}, {}
            }} }} }},
        }}"#,
        trusted.certificate,
        own.is_some(),
        identity.unwrap_or_default()
    );
    let path = folder.socket(&format!("{name}.json5"));
    fs::write(&path, text).expect("it is written");
    path
}

fn open(file: &PathBuf) -> Session {
    let config = zenoh::Config::from_file(file).expect("a correct file");
    zenoh::open(config).wait().expect("a session")
}

/// A broker that listens, and what others need to connect.
struct Listening {
    folder: Folder,
    authority: Authority,
    port: u16,
    side: Side,
}

impl Listening {
    fn new() -> Self {
        let folder = Folder::new();
        let authority = Authority::new(&folder, "authority");
        let identity = authority.issue(&folder, "listening");
        let ends = "listen: { endpoints: [\"tls/127.0.0.1:0\"] }";
        let session = open(&file(&folder, "listening", ends, &authority, Some(&identity)));
        let port = port(&session);
        let side = Side::new(&session, all(), options().back_pressure(true));
        Self { folder, authority, port, side }
    }

    /// A broker that connects to this port, which leads here.
    fn connect(&self, port: u16, name: &str, trusted: &Authority, own: Option<&Identity>) -> Side {
        // Without an endpoint to listen at, it would listen for connections without encryption.
        let ends = format!(
            "listen: {{ endpoints: [] }}, connect: {{ endpoints: [\"tls/localhost:{port}\"], timeout_ms: -1, \
             exit_on_failure: false, retry: {{ period_init_ms: 20, period_max_ms: 100 }} }}"
        );
        Side::new(&open(&file(&self.folder, name, &ends, trusted, own)), all(), options().back_pressure(true))
    }

    /// Messages pass both ways.
    fn talks_with(&self, other: &Side) {
        for (from, to) in [(&self.side, other), (other, &self.side)] {
            let mut received = subscriber(&to.broker, "numbers");
            let mut numbers = publisher(&from.broker, "numbers");
            from.sends(1);
            let next = publish_until_one_arrives(&mut numbers, 0, &mut received);
            publish(&mut numbers, next..next + 100);
            drop(numbers);
            let mut counting = Counting::new(received);
            while counting.step() {}
            assert_eq!(counting.next, Some(next + 100));
        }
    }
}

#[test]
fn bridges_with_certificates_of_one_authority_talk() {
    let listening = Listening::new();
    let identity = listening.authority.issue(&listening.folder, "connecting");
    let other = listening.connect(listening.port, "connecting", &listening.authority, Some(&identity));
    listening.talks_with(&other);
}

#[test]
fn bridges_without_a_certificate_or_with_one_of_others_are_refused() {
    let listening = Listening::new();
    let stranger = Authority::new(&listening.folder, "stranger");
    let foreign = stranger.issue(&listening.folder, "foreign");
    let own = listening.authority.issue(&listening.folder, "connecting");
    let proxies = [(); 3].map(|()| Proxy::new(listening.port));
    let ports = proxies.each_ref().map(Proxy::port);
    let refused = [
        listening.connect(ports[0], "without", &listening.authority, None),
        listening.connect(ports[1], "foreign", &listening.authority, Some(&foreign)),
        // This one does not trust the end that listens.
        listening.connect(ports[2], "distrusting", &stranger, Some(&own)),
    ];
    // While these try again and again, one that is accepted connects.
    let other = listening.connect(listening.port, "accepted", &listening.authority, Some(&own));
    listening.talks_with(&other);
    let _numbers = publisher(&listening.side.broker, "numbers");
    let _received: Vec<_> = refused.iter().map(|side| subscriber(&side.broker, "numbers")).collect();
    let _accepted = subscriber(&other.broker, "numbers");
    until("the accepted one hears of the publisher", || other.bridge.stats().receiving == 1);
    for proxy in &proxies {
        until("it was refused, and tries again", || proxy.connections() > 1);
    }
    for side in &refused {
        let stats = side.bridge.stats();
        assert_eq!((stats.peers, stats.receiving), (0, 0));
        assert_eq!(side.session.info().peers_zid().wait().count(), 0, "it is connected");
    }
    assert_eq!(listening.side.session.info().peers_zid().wait().count(), 1);
}
