//! [`Candidate`]: how a candidate with several processes works.

use std::any::Any;
use std::sync::Arc;

use crate::processes::board::Board;
use crate::processes::meeting::{Meeting, Task};
use crate::work::{Shape, Sink, Source};

/// One of the compared programs.
pub trait Candidate: Sync {
    /// Its name in tables and records.
    fn name(&self) -> &'static str;

    /// Whether all its ends are threads of one process.
    fn is_one_process(&self) -> bool {
        false
    }

    /// Whether it can do this work.
    fn can(&self, _: Task, _: Shape) -> bool {
        true
    }

    /// Whether messages are in blocks, all of which should be used in a slice.
    fn has_blocks(&self) -> bool {
        true
    }

    /// Number of bytes of the board that it uses.
    fn board_bytes(&self, _: Shape) -> usize {
        0
    }

    /// Runs in the comparing process, and prepares whatever the ends need to meet. The result lives as long
    /// as the ends.
    ///
    /// # Errors
    /// The system refused.
    fn prepare(&self, _: &Meeting) -> anyhow::Result<Box<dyn Any>> {
        Ok(Box::new(()))
    }

    /// Runs in the process of an end, and joins the meeting.
    ///
    /// # Errors
    /// The end could not join.
    fn join(&self, meeting: &Meeting, board: &Arc<Board>) -> anyhow::Result<Box<dyn Member>>;

    /// Removes what killed ends have left on the system.
    fn clear(&self) {}
}

/// A candidate in the process of an end. If the process has several ends, they share it.
pub trait Member: Sync {
    /// Opens a subscriber, the `index`th of the topic.
    ///
    /// # Errors
    /// The subscriber could not be opened.
    fn sink(&self, topic: usize, index: usize) -> anyhow::Result<Box<dyn Sink>>;

    /// Opens the publisher. All subscribers of all ends exist.
    ///
    /// # Errors
    /// The publisher could not be opened.
    fn source(&self, topic: usize) -> anyhow::Result<Box<dyn Source>>;
}
