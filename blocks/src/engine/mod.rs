//! The engine: the side that owns a channel's shared memory, or maps it.
//!
//! - [`segment`] creates the memory: the arena with the blocks, and the control words;
//! - [`channel`] joins the parts, [`writer`] and [`reader`] are its two ends, [`pool`] tracks free blocks;
//! - [`ring`] is the protocol between them: publish, claim, reclaim;
//! - [`sample`] lets a subscriber keep a message without stopping reclamation;
//! - [`wake`] wakes sleepers without a fence on the hot path;
//! - [`remote`] lets other processes take part in a channel;
//! - [`biased`], [`shield`] and [`snapshot`] support them: a lock that its owner takes for free, calls into
//!   user code, and a list that is read without a lock.

pub mod biased;
pub(crate) mod channel;
pub(crate) mod config;
mod join;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod pool;
pub(crate) mod reader;
pub(crate) mod remote;
pub(crate) mod ring;
pub(crate) mod sample;
pub(crate) mod segment;
pub mod shield;
pub(crate) mod snapshot;
pub(crate) mod wake;
pub(crate) mod writer;

/// The items that the crate's root re-exports.
pub(crate) mod exports {
    pub use super::channel::traffic::{Traffic, TrafficTotals};
    pub use super::channel::{ArenaPin, Channel};
    pub use super::config::ChannelConfig;
    pub use super::reader::{RawBatch, RawMessage, Reader};
    #[cfg(not(loom))]
    pub use super::remote::{AnnexError, AnnexId, AnnexStats, AnnexTerms, ShareError, Trust};
    pub use super::sample::raw::RawSample;
    pub use super::segment::arena::{self, Arena};
    pub use super::segment::external_memory::ArenaMemory;
    #[cfg(not(loom))]
    pub use super::segment::{
        SegmentFiles,
        files::{SegmentError, SegmentFile},
        preamble::LAYOUT_VERSION,
        view::{SegmentView, ViewError},
    };
    #[cfg(not(loom))]
    pub use super::wake::bell::{Bell, BellError};
    pub use super::wake::park;
    pub use super::wake::signal::Signal;
    #[cfg(not(loom))]
    pub use super::writer::channel_to_share;
    pub use super::writer::{
        RawLoan, RawSendBatch, SuspendedLoan, Writer, channel, channel_over, channel_with,
    };
    pub use super::{biased, shield};
    pub use crate::sys::barrier::register_machine_wide;
    pub use crate::sys::file_size::file_size_limit;
    pub use crate::sys::fork::{ForkFlag, Process};
    pub use crate::sys::mappings::{NoMappings, charge_mappings, reserve_mappings};
    pub use crate::sys::{large_page_size, page_size};
}
