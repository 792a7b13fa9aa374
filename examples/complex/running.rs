//! The three apps while they run, and how they come to an end together.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use blockcast::{Broker, Component, ExitReason, GuestReport};

use crate::waiting::{Interrupts, wait_for};

/// How long whoever may not be able to end by itself is waited for.
pub const GRACE: Duration = Duration::from_secs(3);

/// The publisher, then the two subscribers.
pub struct Running {
    apps: [Component; 3],
}

impl Running {
    /// What messages call them.
    pub const NAMES: [&str; 3] = ["publisher", "subscriber 1", "subscriber 2"];

    pub fn new(apps: [Component; 3]) -> Self {
        Self { apps }
    }

    /// Waits for the first app to end and says which it is, and why it ended.
    pub async fn one_ended(&self) -> (usize, ExitReason) {
        let [mut first, mut second, mut third] = self.apps.each_ref().map(|app| Box::pin(app.ended()));
        poll_fn(|cx| {
            for (index, app) in [&mut first, &mut second, &mut third].into_iter().enumerate() {
                if let Poll::Ready(report) = app.as_mut().poll(cx) {
                    return Poll::Ready((index, report.reason));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits for all to end, and says whether the user has `asked` for it.
    ///
    /// What was published is drained, which takes as long as it takes; if the user asks for the end, then
    /// without delay and within a grace. A grace is also all there is if nothing will ever come: a publisher
    /// waits for a subscriber that has failed, or a subscriber for a publisher. After that, or if the user
    /// asks again, those that are left are ended.
    pub async fn drain(
        &self,
        broker: &Broker,
        interrupts: &mut Interrupts,
        mut asked: bool,
    ) -> ([GuestReport; 3], bool) {
        let mut ended = pin!(wait_for("the apps to receive what was published", self.all_ended()));
        if !asked {
            let stuck = async {
                tokio::time::sleep(GRACE).await;
                if broker.topic("lines").is_some_and(|lines| lines.published() > 0) {
                    pending::<()>().await;
                }
            };
            tokio::select! {
                reports = &mut ended => return (reports, false),
                () = interrupts.recv() => asked = true,
                () = stuck => {}
            }
        }
        if asked {
            let [_, subscribers @ ..] = &self.apps;
            subscribers.iter().for_each(Component::request_shutdown);
            tokio::select! {
                reports = &mut ended => return (reports, true),
                () = interrupts.recv() => {}
                () = tokio::time::sleep(GRACE) => {}
            }
        }
        self.apps.iter().for_each(Component::cancel);
        (ended.await, asked)
    }

    async fn all_ended(&self) -> [GuestReport; 3] {
        let [publisher, first, second] = &self.apps;
        tokio::join!(publisher.ended(), first.ended(), second.ended()).into()
    }
}
