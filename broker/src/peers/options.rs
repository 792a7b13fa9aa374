//! [`ServeOptions`] and [`ConnectOptions`]: what a host grants to connecting processes, and how a process
//! connects.

use std::time::Duration;

use blockcast_blocks::{AnnexTerms, Trust};
use serde::{Deserialize, Serialize};

use crate::control::grants::Grants;
use crate::peers::identity::Credentials;

/// How long to wait for other processes by default.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest time to wait for other processes: one day, far from what clocks can count.
const MOST_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// The shortest time after which a process is killed.
const LEAST_STALL: Duration = Duration::from_millis(10);

/// Limits for the processes that connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerLimits {
    /// Processes at a time, 64 by default.
    pub peers: u32,
    /// Publishers of one process at a time, 1024 by default.
    pub publishers: u32,
    /// Topics to which one process subscribes at a time, 1024 by default.
    pub subscriptions: u32,
    /// Bytes of the channels of one process's publishers together, 64 GiB by default. A block counts even
    /// before it is first written.
    pub bytes: u64,
    /// Subscribers of one process to one publisher at a time, 64 by default: 1 to 65,536.
    pub seats: u32,
    /// Whether publishers wait for subscribers of other processes that lose no messages. `true` by default.
    /// Otherwise such subscribers cannot join publishers of other processes.
    pub may_block: bool,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self { peers: 64, publishers: 1024, subscriptions: 1024, bytes: 64 << 30, seats: 64, may_block: true }
    }
}

/// Policy for a process whose subscriber holds a publisher back and does not move.
///
/// The publisher finds no block, because a subscriber that loses nothing has not released the oldest message.
/// As long as its process runs, the subscriber may still read that message, so nothing but its end frees the
/// block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stall {
    /// The publisher waits, as it does for a subscriber of its own process.
    #[default]
    Wait,
    /// The host kills the process, with `SIGKILL`, once the subscriber has not released any message for this
    /// time while the publisher waited: at least 10 ms and one day at most. Whatever else the process does
    /// ends too.
    Kill(Duration),
}

impl Stall {
    /// How long a subscriber may hold a publisher back.
    fn patience(self) -> Option<Duration> {
        match self {
            Self::Wait => None,
            Self::Kill(after) => Some(after.clamp(LEAST_STALL, MOST_PATIENCE)),
        }
    }
}

/// The terms by which a process takes part in a channel of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    seats: u32,
    may_block: bool,
    /// Whether the subscribing process trusts that the publisher's messages are valid.
    is_trusted: bool,
    /// Milliseconds for which a subscriber may hold the publisher back before its process reports it.
    stall: Option<u64>,
}

impl Default for Terms {
    fn default() -> Self {
        ServeOptions::new().terms()
    }
}

impl Terms {
    /// The engine's terms for the process with this name.
    pub(crate) fn annex(self, name: &str) -> AnnexTerms {
        let Self { seats, may_block, .. } = self;
        // No quota: a process does not limit itself to one, and would read blocks that the publisher reuses.
        AnnexTerms { seats, may_block, quota: u32::MAX, name: name.to_owned() }
    }

    /// The terms by which the host itself takes part, in order to copy messages. Publishers always wait for
    /// it: it only stops if it must wait for others, by these terms.
    pub(crate) fn walled(self) -> Self {
        Self { may_block: true, ..self }
    }

    /// The terms for a process with these limits.
    pub(crate) fn with_limits(self, limits: &PeerLimits) -> Self {
        Self { seats: limits.seats.clamp(1, 65_536), may_block: limits.may_block, ..self }
    }

    /// The terms for channels of a publisher with this trust.
    pub(crate) fn with_trust(self, trust: Trust) -> Self {
        Self { is_trusted: trust == Trust::Shared, ..self }
    }

    /// How long a subscriber may hold the publisher back before its process reports it. `None` if forever.
    pub(crate) fn stall(self) -> Option<Duration> {
        self.stall.map(Duration::from_millis)
    }

    pub(crate) fn trust(self) -> Trust {
        if self.is_trusted { Trust::Shared } else { Trust::Checked }
    }
}

/// Who may connect to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    User(u32),
    Group(u32),
}

/// Who may connect to a broker that serves its topics, and with which grants and limits.
///
/// By default, the processes of the user that runs the host may publish and subscribe to every topic, and
/// nobody else may connect.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    rules: Vec<(Who, Grants)>,
    own_user: Option<Grants>,
    limits: PeerLimits,
    trust: Trust,
    trust_others: Trust,
    stall: Stall,
    patience: Duration,
    mode: u32,
    name: String,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            own_user: Some(Grants::all()),
            limits: PeerLimits::default(),
            trust: Trust::Checked,
            trust_others: Trust::Walled,
            stall: Stall::Wait,
            patience: PATIENCE,
            mode: 0o600,
            name: String::new(),
        }
    }
}

impl ServeOptions {
    /// The default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the topics that processes of the host's own user may publish and subscribe to: all by default.
    #[must_use]
    pub fn own_user(mut self, grants: Grants) -> Self {
        self.own_user = Some(grants);
        self
    }

    /// Lets processes of another user connect. Also open the [socket](Self::mode) to them.
    ///
    /// If the host runs in a user namespace, all users that have no number there appear as the overflow user,
    /// usually 65534: a rule for that one lets all of them in.
    ///
    /// Their publishers are [walled](Trust::Walled), unless [told otherwise](Self::trust_others).
    #[must_use]
    pub fn user(mut self, uid: u32, grants: Grants) -> Self {
        self.rules.push((Who::User(uid), grants));
        self
    }

    /// Like [`user`](Self::user), for processes whose effective group is `gid`. Rules for users come first.
    #[must_use]
    pub fn group(mut self, gid: u32, grants: Grants) -> Self {
        self.rules.push((Who::Group(gid), grants));
        self
    }

    /// Sets the limits of each process.
    #[must_use]
    pub fn limits(mut self, limits: PeerLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how far processes trust the publishers of the host's own user, the host's among them:
    /// [`Trust::Checked`] by default.
    ///
    /// | trust | a message is read | protects from | costs |
    /// | --- | --- | --- | --- |
    /// | [`Shared`](Trust::Shared) | in the publisher's memory | crashes | nothing |
    /// | [`Checked`](Trust::Checked) | there, after each typed subscriber has validated it | also wrong bytes | a validation for each reader |
    /// | [`Walled`](Trust::Walled) | in a copy that the host makes and validates | also processes that change messages while they are read | a copy, a wake-up |
    ///
    /// The host validates a copy if its own process has a typed end of the topic. Otherwise, each typed
    /// subscriber does. A copy has the time at which it was made. The host's own publishers are never walled:
    /// everybody who connects trusts the host. A walled publisher counts the host as a subscriber, in
    /// addition to those of its own process.
    ///
    /// # Safety
    /// This concerns every process of the user that may publish. With [`Trust::Shared`], it publishes only
    /// messages that are valid in their topic's layout, like processes that use this crate's typed
    /// publishers. With [`Trust::Shared`] and [`Trust::Checked`], it never changes a message after publishing
    /// it, like processes that use this crate. There is no obligation with [`Trust::Walled`].
    #[must_use]
    pub unsafe fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Sets what happens to a process whose subscriber holds a publisher of another process back and does not
    /// move: [`Stall::Wait`] by default.
    ///
    /// With [`Stall::Kill`], the publisher's process reports the subscriber, and the host kills its process
    /// by its pidfd. It only does so if it may
    /// ([`kill(2)`](https://man7.org/linux/man-pages/man2/kill.2.html): the same user, or privileged), and if
    /// the process that reports runs as the same user as the other one, as root, or is the host itself:
    /// nobody gets a process killed that it could not kill itself. The host's own process is never killed.
    /// Without a host, publishers wait. [`Serving::killed`](crate::Serving::killed) counts the processes.
    ///
    /// A debugger, `SIGSTOP`, a suspended container and a handler that takes long all look the same. Choose a
    /// time that no process needs for a message.
    #[must_use]
    pub fn stall(mut self, stall: Stall) -> Self {
        self.stall = stall;
        self
    }

    /// Like [`trust`](Self::trust), for the publishers of processes of other users: [`Trust::Walled`] by
    /// default.
    ///
    /// # Safety
    /// The same as for [`trust`](Self::trust).
    #[must_use]
    pub unsafe fn trust_others(mut self, trust: Trust) -> Self {
        self.trust_others = trust;
        self
    }

    /// Copies the messages of all processes, even those of the host's own user: [`Trust::Walled`].
    #[must_use]
    pub fn walled(self) -> Self {
        Self { trust: Trust::Walled, trust_others: Trust::Walled, ..self }
    }

    /// Sets how long opening a publisher or a subscriber waits for the other processes of its topic, 5
    /// seconds by default and one day at most. It goes on without those that do not answer, such as stopped
    /// ones, which join later. Nobody waits for such a process again until it answers.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience.min(MOST_PATIENCE);
        self
    }

    /// Sets the permissions of the socket: `0o600` by default, for the host's own user.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o777;
        self
    }

    /// Sets the host's name in the statistics of other processes, which also show its process id.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    pub(crate) fn get_name(&self) -> &str {
        &self.name
    }

    pub(crate) fn get_limits(&self) -> &PeerLimits {
        &self.limits
    }

    pub(crate) fn get_patience(&self) -> Duration {
        self.patience
    }

    pub(crate) fn get_mode(&self) -> u32 {
        self.mode
    }

    /// The terms of every seat.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            seats: self.limits.seats.clamp(1, 65_536),
            may_block: self.limits.may_block,
            is_trusted: self.trust == Trust::Shared,
            stall: self
                .stall
                .patience()
                .map(|patience| u64::try_from(patience.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// How far the publishers of a process with these credentials are trusted.
    pub(crate) fn trust_in(&self, credentials: Credentials) -> Trust {
        if credentials.uid == Credentials::own().uid { self.trust } else { self.trust_others }
    }

    /// How far the host's own publishers are trusted.
    pub(crate) fn trust_in_host(&self) -> Trust {
        if self.trust == Trust::Shared { Trust::Shared } else { Trust::Checked }
    }

    /// Returns the grants of a process with these credentials. `None` if it may not connect.
    pub(crate) fn grants_of(&self, credentials: Credentials) -> Option<&Grants> {
        let rule = |wanted| self.rules.iter().find(|(who, _)| *who == wanted).map(|(_, grants)| grants);
        rule(Who::User(credentials.uid))
            .or_else(|| self.own_user.as_ref().filter(|_| credentials.uid == Credentials::own().uid))
            .or_else(|| rule(Who::Group(credentials.gid)))
    }
}

/// How to connect to a host.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    name: String,
    patience: Duration,
    host_user: Option<u32>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { name: String::new(), patience: PATIENCE, host_user: None }
    }
}

impl ConnectOptions {
    /// The default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the process's name in the statistics of other processes, which also show its process id.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets how long to wait for the host when connecting and when opening publishers and subscribers, 5
    /// seconds by default and one day at most. Opening them also waits for other processes, as long as the
    /// host [lets it](ServeOptions::patience).
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience.min(MOST_PATIENCE);
        self
    }

    /// Connects to a host of another user. By default, the host must belong to the user of this process or to
    /// root. The host decides with whom this process shares memory, so it must be trusted.
    #[must_use]
    pub fn host_user(mut self, uid: u32) -> Self {
        self.host_user = Some(uid);
        self
    }

    pub(crate) fn get_name(&self) -> &str {
        &self.name
    }

    pub(crate) fn get_patience(&self) -> Duration {
        self.patience
    }

    /// Whether a process of this user may be the host.
    pub(crate) fn trusts_host_of(&self, uid: u32) -> bool {
        uid == 0 || uid == Credentials::own().uid || self.host_user == Some(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hosts_own_user_may_connect_by_default() {
        let own = Credentials::own();
        let other = Credentials { uid: own.uid + 1, gid: own.gid + 1, ..own };
        let options = ServeOptions::new();
        assert!(options.grants_of(own).is_some_and(|grants| grants.may_publish("any").is_ok()));
        assert!(options.grants_of(other).is_none());
        // The group of the host's user is not its user.
        assert!(options.grants_of(Credentials { gid: own.gid, ..other }).is_none());
    }

    #[test]
    fn publishers_of_other_users_are_walled_unless_they_are_trusted_explicitly() {
        let own = Credentials::own();
        let other = Credentials { uid: own.uid + 1, ..own };
        let trust = |options: &ServeOptions| {
            [options.trust_in(own), options.trust_in(other), options.trust_in_host()]
        };
        let options = ServeOptions::new();
        assert_eq!(trust(&options), [Trust::Checked, Trust::Walled, Trust::Checked]);
        assert_eq!(trust(&options.clone().walled()), [Trust::Walled, Trust::Walled, Trust::Checked]);
        // SAFETY: nobody connects.
        let options = unsafe { options.trust(Trust::Shared) };
        assert_eq!(trust(&options), [Trust::Shared, Trust::Walled, Trust::Shared]);
        // SAFETY: as above.
        let options = unsafe { options.trust_others(Trust::Checked) };
        assert_eq!(trust(&options), [Trust::Shared, Trust::Checked, Trust::Shared]);
    }

    #[test]
    fn rules_for_users_come_before_those_for_groups() {
        let own = Credentials::own();
        let other = Credentials { uid: own.uid + 1, gid: own.gid + 1, ..own };
        let options = ServeOptions::new()
            .group(other.gid, Grants::new().subscribe("group"))
            .user(other.uid, Grants::new().subscribe("user"));
        let grants = options.grants_of(other).expect("there are two rules");
        assert!(grants.may_subscribe("user").is_ok() && grants.may_subscribe("group").is_err());
        let grants = options.grants_of(Credentials { uid: other.uid + 1, ..other }).expect("the group's");
        assert!(grants.may_subscribe("group").is_ok() && grants.may_publish("group").is_err());
        assert!(options.own_user(Grants::new()).grants_of(own).expect("a rule").may_publish("a").is_err());
    }
}
