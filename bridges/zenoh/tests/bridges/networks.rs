//! Brokers in two processes, each in a network namespace of its own. Packets between them are delayed and
//! vanish, and the link goes down.
//!
//! Needs the right to create namespaces and network devices, and the programs `unshare`, `nsenter` and `ip`.
//! Without them, the test says so and does nothing, unless the variable `BLOCKCAST_NETWORKS` is `required`.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::slice::from_ref;
use std::time::Duration;

use crate::faults::Flow;
use crate::support::{
    Counting, Other, Side, This, all, patient, publish, publisher, session, subscriber, test_name, until,
};
use crate::wire::{Weather, Wire};

const NAME: &str = "messages_survive_bad_networks_between_namespaces";
const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
const DEVICES: [&str; 2] = ["blockcast0", "blockcast1"];

#[test]
fn messages_survive_bad_networks_between_namespaces() {
    match This::get() {
        None => {
            let Some(enter) = namespace() else { return skip("namespaces are not permitted here") };
            let mut world = Other::start_in(enter, test_name!(NAME), "world", "");
            match world.talk.hear().as_str() {
                "done" => world.end(),
                why => skip(why),
            }
        }
        Some(mut this) => match this.role.as_str() {
            "world" => match Wire::new(DEVICES) {
                Ok(wire) => {
                    test(&wire);
                    this.talk.say("done");
                }
                Err(error) => this.talk.say(&format!("network devices are not permitted here: {error}")),
            },
            "publisher" => publish_on_demand(&mut this),
            _ => receive_on_demand(&mut this),
        },
    }
}

fn skip(why: &str) {
    assert!(std::env::var("BLOCKCAST_NETWORKS").is_err(), "BLOCKCAST_NETWORKS is set: {why}");
    // Past the capture of output.
    writeln!(std::io::stderr(), "{NAME}: skipped: {why}").expect("standard error is open");
}

/// The program that runs another one in a network namespace of its own, if that is permitted.
fn namespace() -> Option<&'static [&'static str]> {
    const WAYS: [&[&str]; 2] = [&["unshare", "--net"], &["unshare", "--user", "--map-root-user", "--net"]];
    let works = |way: &&[&str]| {
        // The programs that are used within it.
        let status = Command::new(way[0])
            .args(&way[1..])
            .args(["nsenter", "--net=/proc/self/ns/net", "ip", "link", "set", "lo", "up"])
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    WAYS.into_iter().find(works)
}

/// In a namespace around the two others.
fn test(wire: &Wire) {
    let mut one = Machine::start(0, "publisher");
    let mut other = Machine::start(1, "subscriber");
    assert_eq!(one.ask("wait"), "done");
    assert_eq!(one.ask("first"), "done");
    other.reach(0);
    assert_eq!(one.ask("flow"), "done");

    wire.weather(Weather { delay: Duration::from_millis(5), loss: 0 });
    other.resume(&mut one);
    wire.weather(Weather { delay: Duration::from_millis(2), loss: 20 });
    let before = wire.packets();
    // Long enough for packets to have vanished, and come again.
    until("packets vanish", || {
        other.resume(&mut one);
        wire.packets().1 >= before.1 + 20
    });
    assert_eq!((one.peers(), other.peers()), (1, 1), "lost packets do not end the link");

    wire.weather(Weather::BROKEN);
    until("both sides give up the link", || one.peers() == 0 && other.peers() == 0);
    wire.weather(Weather::default());
    other.resume(&mut one);

    one.ip(&["link", "set", DEVICES[0], "down"]);
    until("both sides give up the link", || one.peers() == 0 && other.peers() == 0);
    one.ip(&["link", "set", DEVICES[0], "up"]);
    other.resume(&mut one);

    let published = one.ask("end");
    let (lost, sums) = other.finish();
    assert_eq!(sums, format!("{published} {published}"));
    assert!(lost > 0, "the link was down");
    one.other.talk.say("exit");
    one.other.end();
    other.other.end();
}

/// A process in a namespace.
struct Machine {
    other: Other,
}

impl Machine {
    fn start(index: usize, role: &str) -> Self {
        let mut other = Other::start_in(&["unshare", "--net"], test_name!(NAME), role, ADDRESSES[0]);
        assert_eq!(other.talk.hear(), "here");
        let device = DEVICES[index];
        run("ip", &["link", "set", device, "netns", &other.id().to_string()]);
        let machine = Self { other };
        machine.ip(&["address", "add", &format!("{}/24", ADDRESSES[index]), "dev", device]);
        machine.ip(&["link", "set", device, "up"]);
        let mut machine = machine;
        assert_eq!(machine.ask("start"), "ready");
        machine
    }

    /// Runs `ip` in the namespace.
    fn ip(&self, arguments: &[&str]) {
        let net = format!("--net=/proc/{}/ns/net", self.other.id());
        run("nsenter", &[&[net.as_str(), "ip"], arguments].concat());
    }

    fn ask(&mut self, question: &str) -> String {
        self.other.talk.say(question);
        self.other.talk.hear()
    }

    fn peers(&mut self) -> u64 {
        self.ask("peers").parse().expect("a number")
    }

    /// The subscriber has received a message after this one.
    fn reach(&mut self, number: u64) {
        assert_eq!(self.ask(&format!("reach {number}")), "done");
    }

    /// The subscriber receives a message that the publisher publishes after now.
    fn resume(&mut self, publisher: &mut Self) {
        let now: u64 = publisher.ask("count").parse().expect("a number");
        self.reach(now);
    }

    /// Receives until the end. Returns how many messages were lost, and `NEXT TOTAL`.
    fn finish(&mut self) -> (u64, String) {
        let answer = self.ask("finish");
        let (lost, sums) = answer.split_once(' ').expect("numbers");
        (lost.parse().expect("a number"), sums.to_owned())
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().expect("it ran before");
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// Waits until there is a network.
fn start(this: &mut This) -> String {
    this.talk.say("here");
    assert_eq!(this.talk.hear(), "start");
    format!("tcp/{}:7447", this.place)
}

fn publish_on_demand(this: &mut This) {
    let listening = session(from_ref(&start(this)), &[]);
    let side = Side::new(&listening, all(), patient());
    let (mut numbers, mut flow) = (Some(publisher(&side.broker, "numbers")), None::<Flow>);
    this.talk.say("ready");
    loop {
        let answer = match this.talk.hear().as_str() {
            "wait" => {
                side.sends(1);
                "done".to_owned()
            }
            "first" => {
                publish(numbers.as_mut().expect("before the flow"), 0..1);
                "done".to_owned()
            }
            "flow" => {
                flow = numbers.take().map(|numbers| Flow::start(numbers, 1));
                "done".to_owned()
            }
            "count" => flow.as_ref().expect("it flows").after_now().to_string(),
            "peers" => side.bridge.stats().peers.to_string(),
            "end" => flow.take().expect("it flows").end().to_string(),
            _ => return,
        };
        this.talk.say(&answer);
    }
}

fn receive_on_demand(this: &mut This) {
    let connecting = session(&[], from_ref(&start(this)));
    let side = Side::new(&connecting, all(), patient());
    let mut counting = Counting::new(subscriber(&side.broker, "numbers"));
    this.talk.say("ready");
    loop {
        let question = this.talk.hear();
        let answer = match question.split_once(' ') {
            Some((_, number)) => {
                let number: u64 = number.parse().expect("a number");
                while counting.next.is_none_or(|next| next <= number) {
                    assert!(counting.step(), "the publisher has not ended");
                }
                "done".to_owned()
            }
            None if question == "peers" => side.bridge.stats().peers.to_string(),
            None => break,
        };
        this.talk.say(&answer);
    }
    while counting.step() {}
    let total = counting.received + counting.lost;
    this.talk.say(&format!("{} {} {total}", counting.lost, counting.next.expect("a message")));
}
