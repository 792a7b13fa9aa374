//! Runs the three apps and ends them together.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use blockcast::{Broker, Component, ComponentReport, ExitReason};

use crate::waiting::{Interrupts, wait_for};

/// How long to wait for an app that may not end on its own.
pub const GRACE: Duration = Duration::from_secs(3);

/// The publisher, then the two subscribers.
pub struct Running {
    apps: [Component; 3],
}

impl Running {
    /// Their names in messages.
    pub const NAMES: [&str; 3] = ["publisher", "subscriber 1", "subscriber 2"];

    pub fn new(apps: [Component; 3]) -> Self {
        Self { apps }
    }

    /// Waits for the first app to end, and returns which one it is and why it ended.
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

    /// Waits for all apps to end, and returns whether the user `asked` for it.
    ///
    /// Normally, waits until every published message is received, however long that takes. If the user asks
    /// for the end, the subscribers stop delaying and get a grace period. The grace period also applies if an
    /// app can never finish: a publisher that waits for a failed subscriber, or a subscriber that waits for a
    /// failed publisher. After the grace period, or if the user asks again, the remaining apps are ended.
    pub async fn drain(
        &self,
        broker: &Broker,
        interrupts: &mut Interrupts,
        mut asked: bool,
    ) -> ([ComponentReport; 3], bool) {
        let mut ended = pin!(wait_for("the apps to receive what was published", self.all_ended()));
        if !asked {
            let stuck = async {
                tokio::time::sleep(GRACE).await;
                if self.has_published(broker).await {
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

    /// Whether the publisher has published lines.
    async fn has_published(&self, broker: &Broker) -> bool {
        match broker.topic("lines") {
            Some(lines) => lines.published() > 0,
            // Only other processes take part in the topic.
            None => self.apps[0].stats().await.published > 0,
        }
    }

    async fn all_ended(&self) -> [ComponentReport; 3] {
        let [publisher, first, second] = &self.apps;
        tokio::join!(publisher.ended(), first.ended(), second.ended()).into()
    }
}
