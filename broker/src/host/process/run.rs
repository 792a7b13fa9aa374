//! One run of a component in a process of its own, from its start until nothing is left of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blockcast_blocks::abi::Level;
use blockcast_blocks::shield::shielded;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::leash::Leash;
use super::output::OutputPipe;
use super::source::ProcessProgram;
use super::spawn::{Ended, Ends, How, Running, spawn};
use super::usage;
use crate::component::cancellation::ComponentControl;
use crate::component::exit::{ComponentReport, ExitReason};
use crate::component::limit_policy::{Limit, LimitExceeded, LimitPolicy};
use crate::component::limits::ComponentLimits;
use crate::component::stats::ComponentStats;
use crate::control::grants::Grants;
use crate::hosting::log::LogSink;
use crate::hosting::meter::LineRate;
use crate::peers::children::{ChildEvent, ChildEventReceiver, ChildEvents, ChildLink, Children, NewChild};
use crate::peers::job::{Job, Outcome, Tally};
use crate::peers::protocol::Notice;
use crate::peers::registry::ComponentNumber;

/// How often a component's processor time is checked, if it is limited.
const COMPUTE_TICK: Duration = Duration::from_millis(5);

/// Turns in which to read the output of a process that has ended. Processes that it has left behind may write
/// forever.
const LAST_TURNS: usize = 16;

/// The inputs of a run.
#[derive(Clone)]
pub(crate) struct ProcessSetup {
    pub(crate) name: String,
    pub(crate) grants: Grants,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) await_restarts: bool,
    pub(crate) log: LogSink,
    pub(crate) control: Arc<ComponentControl>,
    pub(crate) children: Arc<Children>,
    /// The component, if it is restarted.
    pub(crate) component: Option<ComponentNumber>,
}

impl ProcessProgram {
    /// Runs the program to its end. When the future completes, nothing is left of the process. Dropping the
    /// future kills it.
    pub(crate) async fn run(&self, setup: ProcessSetup) -> ComponentReport {
        let leash = match Leash::new() {
            Ok(leash) => Arc::new(leash),
            Err(error) => return not_started(format!("the system refused to create an event: {error}")),
        };
        let control = Arc::clone(&setup.control);
        let counted = Arc::downgrade(&leash);
        control.count_with(Arc::new(move || {
            counted.upgrade()?.ask(|asked| asked.count = true);
            None // the process answers
        }));
        let (sender, mut ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name(setup.name.clone()).spawn({
            let (program, leash) = (self.clone(), Arc::clone(&leash));
            move || {
                // This fails if nobody waits for it any more.
                let _ = sender.send(run(&program, setup, &leash));
            }
        });
        if let Err(error) = thread {
            return not_started(format!("cannot start a thread: {error}"));
        }
        let kill_on_drop = KillOnDrop(&leash);
        let asks = async {
            control.shutdown().await;
            if !control.is_cancelled() {
                leash.ask(|asked| asked.finish = true);
            }
            control.cancelled().await;
            leash.ask(|asked| asked.cancel = true);
            std::future::pending().await
        };
        let report = tokio::select! {
            biased;
            report = &mut ended => report.ok(),
            () = asks => None,
        };
        drop(kill_on_drop);
        report.unwrap_or_else(|| {
            let reason = ExitReason::HostPanicked("has lost its thread".to_owned());
            ComponentReport { reason, stats: ComponentStats::default() }
        })
    }
}

/// Kills a process once nobody waits for it any more.
struct KillOnDrop<'r>(&'r Leash);

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        self.0.ask(|asked| asked.kill = true);
    }
}

fn not_started(why: String) -> ComponentReport {
    ComponentReport { reason: ExitReason::NotStarted(why), stats: ComponentStats::default() }
}

/// The body of a run's thread.
fn run(program: &ProcessProgram, setup: ProcessSetup, leash: &Leash) -> ComponentReport {
    match Run::start(program, setup, leash) {
        Ok(run) => run.attend(),
        Err(why) => not_started(why),
    }
}

/// A running process.
struct Run<'r> {
    leash: &'r Leash,
    limits: ComponentLimits,
    log: LogSink,
    control: Arc<ComponentControl>,
    lines: LineRate,
    policy: LimitPolicy,
    process: Running,
    link: ChildLink,
    events: ChildEventReceiver,
    outputs: Vec<OutputPipe>,
    /// When it has connected.
    connected: Option<Instant>,
    started: Instant,
    /// When it is killed, because it was asked to end.
    deadline: Option<(Instant, ExitReason)>,
    /// Why this process has killed it, if it has.
    killed: Option<ExitReason>,
    /// The connection has ended, because the host has given up the process for this reason, if there is one.
    disconnected: Option<Option<String>>,
    outcome: Option<Outcome>,
    tally: Tally,
    /// Bytes of memory when last measured.
    memory: u64,
}

impl<'r> Run<'r> {
    fn start(program: &ProcessProgram, setup: ProcessSetup, leash: &'r Leash) -> Result<Self, String> {
        let ProcessSetup { name, grants, parameters, await_restarts, log, control, children, component } =
            setup;
        let limits = grants.get_limits().clone();
        let job = Job::new(&name, &parameters, await_restarts, &limits).to_file();
        let job = Arc::new(job.map_err(|error| format!("the parameters cannot be passed on: {error}"))?);
        let (process, ends) = spawn(program, &limits)?;
        let Ends { socket, stdout, stderr } = ends;
        let failed = |error: std::io::Error| format!("the system refused to watch the process: {error}");
        let outputs = vec![
            OutputPipe::new(stdout, Level::Info).map_err(failed)?,
            OutputPipe::new(stderr, Level::Warn).map_err(failed)?,
        ];
        let pidfd = process.pidfd().try_clone().map_err(failed)?;
        let is_walled = program.is_sandboxed();
        let (events, receiver) = ChildEvents::new(Arc::clone(leash.event()));
        let pid = process.pid().as_raw_nonzero().get();
        let new = NewChild { socket, pid, pidfd, name, grants, is_walled, component, job, events };
        let link = children.add(new)?;
        Ok(Self {
            leash,
            lines: LineRate::new(limits.log_lines),
            policy: LimitPolicy::new(&limits),
            limits,
            log,
            control,
            process,
            link,
            events: receiver,
            outputs,
            connected: None,
            started: Instant::now(),
            deadline: None,
            killed: None,
            disconnected: None,
            outcome: None,
            tally: Tally::default(),
            memory: 0,
        })
    }

    /// Serves the process until it has ended.
    fn attend(mut self) -> ComponentReport {
        while !self.wait() {
            self.obey();
            self.handle_events();
            self.enforce_time();
        }
        self.finish()
    }

    /// Waits for the next event, and reads the output. Returns `true` once the process has ended.
    fn wait(&mut self) -> bool {
        let timeout = self.next_deadline().map(|deadline| {
            // Not before the deadline.
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        let mut polled = vec![
            PollFd::new(self.process.pidfd(), PollFlags::IN),
            PollFd::new(&**self.leash.event(), PollFlags::IN),
        ];
        polled.extend(self.outputs.iter().map(|output| PollFd::new(output, PollFlags::IN)));
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                let why = format!("the system refused to wait for its process: {error}");
                drop(polled);
                self.kill(ExitReason::System(why));
                return true;
            }
        }
        let is_ready = |polled: &PollFd<'_>| !polled.revents().is_empty();
        let (has_ended, writes) = (is_ready(&polled[0]), polled[2..].iter().any(is_ready));
        drop(polled);
        if writes {
            self.read_outputs();
        }
        has_ended
    }

    fn next_deadline(&self) -> Option<Instant> {
        let start_up = match self.connected {
            None => self.started.checked_add(self.limits.start_up),
            Some(connected) => self.limits.run_time.and_then(|time| connected.checked_add(time)),
        };
        let tick = self.limits.compute.map(|_| Instant::now() + COMPUTE_TICK);
        let grace = self.deadline.as_ref().map(|(deadline, _)| *deadline);
        [start_up, tick, grace].into_iter().flatten().min().filter(|_| self.killed.is_none())
    }

    /// Follows the requests of the component's owner.
    fn obey(&mut self) {
        let asked = self.leash.take();
        if asked.finish && self.deadline.is_none() {
            self.link.tell(Notice::Finish);
            self.end_within(self.grace(), ExitReason::Killed(Limit::ShutdownGrace));
        }
        if asked.cancel {
            self.link.tell(Notice::Cancel);
            self.end_within(self.grace(), ExitReason::Cancelled);
        }
        if asked.kill {
            self.kill(ExitReason::Cancelled);
        }
        if asked.count {
            self.link.tell(Notice::Count);
        }
    }

    /// How long to wait after the component was asked to end. A process that cannot have received the request
    /// has nothing to finish.
    fn grace(&self) -> Duration {
        if self.connected.is_some() { self.limits.shutdown_grace } else { Duration::ZERO }
    }

    fn end_within(&mut self, grace: Duration, reason: ExitReason) {
        self.deadline = Instant::now().checked_add(grace).map(|deadline| (deadline, reason));
    }

    fn enforce_time(&mut self) {
        let now = Instant::now();
        if self.killed.is_some() {
            return;
        }
        let is_over = |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
        let (compute, process) = (self.limits.compute, &self.process);
        let computes = || compute.is_some_and(|limit| usage::computed(process.pid()) > Some(limit));
        let reason = match (&self.deadline, self.connected) {
            (Some((deadline, reason)), _) if *deadline <= now => reason.clone(),
            (_, None) if is_over(self.started, self.limits.start_up) => ExitReason::Killed(Limit::StartUp),
            (_, Some(connected)) if self.limits.run_time.is_some_and(|time| is_over(connected, time)) => {
                ExitReason::Killed(Limit::RunTime)
            }
            _ if computes() => ExitReason::Killed(Limit::Compute),
            _ => return,
        };
        self.kill(reason);
    }

    /// Kills the process. The first reason counts.
    fn kill(&mut self, reason: ExitReason) {
        self.killed.get_or_insert(reason);
        self.process.kill();
    }

    fn handle_events(&mut self) {
        let dropped = self.events.take_dropped();
        if dropped > 0 {
            self.lines.count_dropped(dropped);
            self.policy.note(Limit::LogLines);
            self.settle();
        }
        while let Some(event) = self.events.next() {
            match event {
                ChildEvent::Connected => self.connected = Some(Instant::now()),
                ChildEvent::Line { level, text } => self.write(Level::of_number(level), &text),
                ChildEvent::Tally(tally) => {
                    self.tally = tally;
                    self.look_at_memory();
                    if let Some(asked) = self.control.stats_asked() {
                        self.control.show_stats(asked, self.stats(usage::computed(self.process.pid())));
                    }
                }
                ChildEvent::Outcome(outcome, tally) => {
                    self.look_at_memory();
                    (self.tally, self.outcome) = (tally, Some(outcome));
                }
                ChildEvent::Disconnected(why) => {
                    self.disconnected = Some(why);
                }
            }
        }
        // One that has reported its end closes the connection, and one that ends for another reason, too.
        if let (Some(why), None, None) = (&self.disconnected, &self.outcome, &self.deadline) {
            let why = why.as_ref().map_or_else(
                || "it has closed its connection to the host".to_owned(),
                |why| format!("the host has ended its connection: {why}"),
            );
            self.end_within(self.limits.shutdown_grace, ExitReason::System(why));
        }
    }

    fn read_outputs(&mut self) {
        let mut outputs = std::mem::take(&mut self.outputs);
        outputs.retain_mut(|output| {
            let level = output.level();
            let goes_on = output.read(|level, line| self.write(level, &String::from_utf8_lossy(line)));
            if !goes_on && let Some(rest) = output.take_rest() {
                self.write(level, &String::from_utf8_lossy(&rest));
            }
            goes_on
        });
        self.outputs = outputs;
    }

    /// Writes a line of the component's log, unless there are too many.
    fn write(&mut self, level: Level, text: &str) {
        let (admission, log) = (self.lines.admit(), &self.log);
        match shielded(|| admission.write(log, level, text)) {
            Ok(true) => {}
            Ok(false) => {
                self.policy.note(Limit::LogLines);
                self.settle();
            }
            Err(panicked) => self.kill(ExitReason::HostPanicked(panicked.to_string())),
        }
    }

    fn settle(&mut self) {
        if let Err(LimitExceeded(limit)) = self.policy.settle() {
            self.kill(ExitReason::Killed(limit));
        }
    }

    fn look_at_memory(&mut self) {
        // A process that has ended has none.
        if !self.process.is_reaped()
            && let Some(memory) = usage::memory(self.process.pid())
        {
            self.memory = memory;
        }
    }

    fn stats(&self, computed: Option<Duration>) -> ComponentStats {
        let (log_lines, log_lines_dropped) = self.lines.counts();
        let stats = self.tally.stats();
        ComponentStats {
            log_lines,
            log_lines_dropped,
            refusals: stats.refusals + self.policy.refusals(),
            computed: computed.unwrap_or_default(),
            memory: self.memory,
            ..stats
        }
    }

    /// Call this when the process has ended, or was killed. When this returns, nothing is left of it.
    fn finish(mut self) -> ComponentReport {
        let Ended { how, computed } = self.process.reap();
        // By now, its last messages have been received.
        self.link.remove();
        self.handle_events();
        for _ in 0..LAST_TURNS {
            self.read_outputs();
        }
        // Processes that it has left behind may still write.
        for mut output in std::mem::take(&mut self.outputs) {
            if let Some(rest) = output.take_rest() {
                self.write(output.level(), &String::from_utf8_lossy(&rest));
            }
        }
        ComponentReport { reason: self.reason(how), stats: self.stats(Some(computed)) }
    }

    /// Returns why the component has ended.
    fn reason(&mut self, how: How) -> ExitReason {
        if let Some(reason) = self.killed.take() {
            return reason;
        }
        if self.control.is_cancelled() {
            return ExitReason::Cancelled;
        }
        match how {
            // The system's own limit, if the host was too slow.
            How::Signalled(libc::SIGXCPU) if self.limits.compute.is_some() => {
                return ExitReason::Killed(Limit::Compute);
            }
            How::Signalled(signal) => return ExitReason::Signalled { signal },
            How::Exited(_) | How::Unknown => {}
        }
        if let Some(Some(why)) = self.disconnected.take() {
            return match self.connected {
                Some(_) => ExitReason::System(format!("the host has ended its connection: {why}")),
                None => ExitReason::NotStarted(why),
            };
        }
        match (self.outcome.take(), how) {
            (Some(outcome), _) => outcome.reason(),
            (None, How::Exited(status)) if self.connected.is_none() => ExitReason::NotStarted(format!(
                "its program ended with exit status {status} before it connected to the host, as `blockcast::main!` does"
            )),
            (None, How::Exited(0)) => ExitReason::Finished,
            (None, How::Exited(status)) => ExitReason::Failed(format!("exit status {status}")),
            (None, _) => ExitReason::System("somebody else has waited for its process".to_owned()),
        }
    }
}
