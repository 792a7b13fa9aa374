//! Tests of the host's thread.

use blockcast_blocks::Schema;

use super::*;
use crate::Broker;
use crate::peers::protocol::SchemaRecord;

/// Otherwise a process that never stops sending would occupy the host.
#[test]
fn a_process_has_a_turn_and_then_others_have() {
    let broker = Broker::new();
    let path = std::env::temp_dir().join(format!("blockcast-turns-{}", std::process::id()));
    let place = Place::take(&path, 0o600).unwrap();
    let commands = Commands::new().unwrap();
    let mut host = HostThread::new(
        Arc::clone(broker.shared()),
        Some(place),
        ServeOptions::new(),
        commands,
        Arc::default(),
    )
    .unwrap();
    let (family, kind) = (rustix::net::AddressFamily::UNIX, rustix::net::SocketType::SEQPACKET);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::connect(&socket, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    let mut client = PacketSocket::new(socket).unwrap();
    let hello = Request::Hello { versions: Versions::current(), name: String::new() };
    client.send(&hello, Vec::new()).unwrap();
    host.accept_all();
    host.receive_all(0);
    assert!(matches!(client.receive().unwrap(), Some((Notice::Welcome { .. }, _))));
    let schema = SchemaRecord::from(&Schema::named("numbers"));
    let all = 2 * TURN as u64 + 1;
    for request in 0..all {
        let subscribe = Request::Subscribe { request, topic: format!("t{request}"), schema: schema.clone() };
        client.send(&subscribe, Vec::new()).unwrap();
    }
    let mut answered = Vec::new();
    for _ in 0..3 {
        host.receive_all(0);
        let before = answered.len();
        while let Some((Notice::Subscribed { request, .. }, _)) = client.receive().unwrap() {
            answered.push(request);
        }
        assert!(answered.len() - before <= TURN, "{} at once", answered.len() - before);
    }
    assert!(answered.into_iter().eq(0..all));
}
