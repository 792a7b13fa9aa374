//! How a [`Channel`] is shared with other processes, and opened there.

use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};

use super::{AnnexError, AnnexId, AnnexStats, AnnexTerms, Bell, RemotePublisher, Trust};
use crate::engine::channel::{Channel, reader_stats};
use crate::engine::config::ChannelConfig;
use crate::engine::segment::annex::{AnnexFile, AnnexGeometry, Opened};
use crate::engine::segment::arena::Arena;
use crate::engine::segment::control::Control;
use crate::engine::segment::files::{ALL_SEALS, CheckedFiles, SegmentError, SegmentFile, check_file};
use crate::engine::segment::{Segment, SegmentFiles};
use crate::engine::wake::signal::Signal;
use crate::options::WriterOptions;
use crate::primitive::{LoadAcquire as _, Ordering};
use crate::sys::barrier::register_machine_wide;
use crate::units::Sequence;

/// A channel cannot be shared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// A file lacks a seal, as [`ArenaMemory`](crate::ArenaMemory) may, or the system has no barriers that
    /// reach other processes.
    #[error(transparent)]
    File(#[from] SegmentError),
    /// The channel's publisher is in another process. Share it there.
    #[error("the channel's publisher is in another process: share it there")]
    Remote,
    /// The publisher was dropped.
    #[error("the publisher has ended")]
    Ended,
    /// The process was forked after the channel was created.
    #[error("the channel belongs to the process that was forked: open one in this process")]
    Forked,
}

impl Channel {
    /// Returns new descriptors of the channel's two files, for another process to
    /// [open](Self::open_remote). They give no access to anything but the channel, and not for writing. Five
    /// system calls.
    ///
    /// Once the publisher is dropped, a channel can no longer be shared.
    ///
    /// # Errors
    /// [`ShareError`].
    pub fn share(&self) -> Result<SegmentFiles, ShareError> {
        if !register_machine_wide() {
            return Err(SegmentError::Barrier.into());
        }
        let files = self.files()?;
        check_file(&files.control, SegmentFile::Control, ALL_SEALS)?;
        check_file(&files.arena, SegmentFile::Arena, ALL_SEALS)?;
        Ok(files)
    }

    /// Returns new descriptors of the channel's files.
    pub(crate) fn files(&self) -> Result<SegmentFiles, ShareError> {
        if self.is_inherited() {
            return Err(ShareError::Forked);
        }
        if self.is_remote() {
            return Err(ShareError::Remote);
        }
        let arena = self.arena().open_file().ok_or(ShareError::Ended)?;
        let control = self.control_file.lock().unwrap_or_else(PoisonError::into_inner);
        let control = control.as_ref().ok_or(ShareError::Ended)?.try_clone();
        Ok(SegmentFiles { control: control.map_err(|error| SegmentError::System(error.to_string()))?, arena })
    }

    /// Opens a channel whose publisher is in another process, which has [shared](Self::share) it. Returns the
    /// channel, and the file of this process's annex. The publisher's process must
    /// [attach](Self::attach) it, by the same terms, before anybody [joins](Self::join) the channel here.
    /// About twenty-five system calls.
    ///
    /// `config` names the publisher, the schema and the history. The sizes and numbers of blocks come from
    /// the files, and so does whether the publisher is a relay. The number of subscribers comes from the
    /// terms.
    ///
    /// `bell` is this process's end of a [`Bell`], which a thread of the caller answers. The publisher's
    /// process has the other end.
    ///
    /// # Errors
    /// [`SegmentError`]. The numbers in the files are read once, and checked before anything is mapped.
    ///
    /// # Safety
    /// The publisher's process neither changes a message after publishing it, nor reuses the block of a
    /// message to which a subscriber of this process is attached. It keeps that promise if it attaches the
    /// annex before anybody joins here, detaches it only after this process has ended or has dropped the
    /// channel and its samples, grants a [quota](AnnexTerms::quota) that this process does not exceed, and
    /// writes into the arena by the publisher's loans only. With [`Trust::Shared`], each message that it
    /// marks as valid is a value of the schema.
    ///
    /// With [`Trust::Walled`], the publisher's process need not keep any promise. Instead, this process only
    /// reads the messages by [`RawSample::copy_to`](crate::RawSample::copy_to).
    ///
    /// # Example
    /// Both sides, in one process:
    /// ```
    /// use blockcast_blocks::{
    ///     AnnexTerms, Bell, Channel, ChannelConfig, PublisherId, ReaderOptions, Schema, Signal, Trust, channel,
    /// };
    ///
    /// let schema = Schema::named("greeting");
    /// let config = ChannelConfig::new(PublisherId::new(1), schema.clone());
    /// let mut writer = channel(config.clone())?;
    /// let ((publisher_bell, bell), terms) = (Bell::pair()?, AnnexTerms::default());
    ///
    /// let files = writer.channel().share()?;
    /// // SAFETY: the annex is attached before anybody joins, and never detached.
    /// let opened = unsafe { Channel::open_remote(files, config, &terms, Trust::Checked, bell) };
    /// let (remote, annex) = opened?;
    /// writer.channel().attach(annex, terms, publisher_bell)?;
    ///
    /// let mut reader = remote.join(&schema, ReaderOptions::default(), Signal::new())?;
    /// let mut loan = writer.try_loan(5)?;
    /// loan[..5].copy_from_slice(b"hello");
    /// loan.publish(5)?;
    /// assert_eq!(reader.receive()?.bytes(), b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn open_remote(
        files: SegmentFiles,
        config: ChannelConfig,
        terms: &AnnexTerms,
        trust: Trust,
        bell: Bell,
    ) -> Result<(Arc<Self>, OwnedFd), SegmentError> {
        if !register_machine_wide() {
            return Err(SegmentError::Barrier);
        }
        let checked = CheckedFiles::new(&files.control, &files.arena, ALL_SEALS)?;
        let arena = Arena::open(&files.arena, checked.arena_len)?;
        let mut classes = checked.preamble.classes.iter().copied();
        let Some(first) = classes.next() else {
            return Err(SegmentError::Geometry("there is no size class".to_owned()));
        };
        let options = WriterOptions {
            block_size: first.block_size,
            blocks: first.blocks,
            max_blocks: Some(first.max_blocks),
            larger: classes.collect(),
            max_subscribers: terms.seats,
            relay: checked.preamble.geometry.relay,
            ..config.options
        };
        let config = ChannelConfig { options, ..config };
        let publisher = RemotePublisher::new(checked.layout.clone(), trust, terms.may_block, bell);
        let (control, annex) = Control::open(&files.control, &checked, terms.seats, publisher)?;
        let segment = Segment::of(control, arena, checked.layout);
        let channel = Self::of(config, segment, Signal::new(), (None, Some(files.arena)));
        Ok((Arc::new(channel), annex))
    }

    /// Whether the channel's publisher is in another process.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.control().remote().is_some()
    }

    /// Attaches a process that has [opened](Self::open_remote) this channel, with the file of its annex.
    /// `bell` is this process's end of the [`Bell`], which a thread of the caller answers. From now on, the
    /// other process's subscribers may join. About eight system calls.
    ///
    /// # Errors
    /// [`AnnexError`].
    pub fn attach(&self, annex: OwnedFd, terms: AnnexTerms, bell: Bell) -> Result<AnnexId, AnnexError> {
        if self.is_inherited() {
            return Err(AnnexError::Forked);
        }
        let annexes = self.control().annexes().ok_or(AnnexError::Remote)?;
        if !register_machine_wide() {
            return Err(SegmentError::Barrier.into());
        }
        let expected = AnnexGeometry { seats: terms.seats, blocks: self.layout().blocks };
        let (file, side) = match AnnexFile::open(&annex, expected)? {
            Opened::Annex(file, side) => (file, side),
            Opened::NoAnnex => return Err(AnnexError::Magic),
            Opened::Different(found) => {
                return Err(AnnexError::Geometry {
                    seats: found.seats,
                    blocks: found.blocks,
                    expected_seats: expected.seats,
                    expected_blocks: expected.blocks,
                });
            }
        };
        let terms = AnnexTerms { name: crate::text::line(&terms.name).into_owned(), ..terms };
        let id = annexes.attach(self.control().header(), side, terms, bell, file);
        // A publisher that was dropped meanwhile may not have rung the bell.
        if self.is_closed() {
            annexes.detach(self.control().header(), id);
            return Err(AnnexError::Ended);
        }
        // The publisher may wait for blocks, some of which the new process keeps.
        self.publisher.wake();
        Ok(id)
    }

    /// Detaches a process. Everything that its subscribers claim and hold comes free immediately, and the
    /// publisher is woken. Returns the process's last counters, which are empty if it was detached before.
    /// The annex and the bell stay open until the publisher next looks for free blocks.
    ///
    /// Call this once the process has ended, which only its pidfd proves, or has reported that it dropped the
    /// channel and all samples. A process that still reads would read blocks that the publisher reuses.
    pub fn detach(&self, annex: AnnexId) -> AnnexStats {
        let Some(annexes) = self.control().annexes().filter(|_| !self.is_inherited()) else {
            return AnnexStats::default();
        };
        let detached = annexes.detach(self.control().header(), annex);
        self.publisher.wake();
        let Some(annex) = detached else { return AnnexStats::default() };
        let published = self.control().header().head.next.load_acquire();
        let cursors = annex.side().used_cursors().iter();
        AnnexStats {
            readers: cursors
                .filter_map(|line| reader_stats(line, published, &annex.terms().name, 0))
                .collect(),
            holds: annex.side().words().held.load(Ordering::Relaxed),
        }
    }

    /// Returns the attached processes that hold the publisher back while it finds no block: those with
    /// subscribers that lose nothing and have not released the oldest message. Gives that message's sequence
    /// number for each. A process that is returned for a long time with the same number has probably stopped.
    ///
    /// Empty if the publisher has not tried to loan a block since it last published, or is in another
    /// process. Only loads.
    #[must_use]
    pub fn held_back_by(&self) -> Vec<(AnnexId, Sequence)> {
        let Some(annexes) = self.control().annexes().filter(|_| !self.is_inherited()) else {
            return Vec::new();
        };
        let header = self.control().header();
        let published = header.head.next.load_acquire();
        // Ordering: Relaxed; the caller calls this repeatedly.
        if self.wanted.load(Ordering::Relaxed) != published {
            return Vec::new();
        }
        let watermark = header.state.watermark.load(Ordering::Relaxed);
        let mut holding = Vec::new();
        annexes.each(|annex| {
            let oldest = annex.oldest_awaited().filter(|&low| low < published && low <= watermark);
            holding.extend(oldest.map(|low| (annex.id(), Sequence::new(low))));
        });
        holding
    }

    /// Call this after a bell of this channel has rung and was [drained](Bell::drain). If another process
    /// asks for it, wakes the publisher if it is in this process, and otherwise the waiting subscribers of
    /// this process. Never waits.
    pub fn bell_rang(&self) {
        if self.is_inherited() {
            return;
        }
        let control = self.control();
        if let Some(publisher) = control.remote() {
            if publisher.has_rung(control.header()) || self.is_closed() {
                self.subscribers.wake_all();
            }
        } else if let Some(annexes) = control.annexes() {
            let mut has_rung = false;
            annexes.each(|annex| has_rung |= annex.has_rung());
            if has_rung {
                self.publisher.wake();
            }
        }
    }

    /// Call this after the publisher's process has ended, which only its pidfd proves. Subscribers receive
    /// everything that it has published, then the end. Samples stay readable. Does nothing if the publisher
    /// is in this process.
    pub fn publisher_is_gone(&self) {
        if !self.is_remote() || self.is_inherited() {
            return;
        }
        // Ordering: Release pairs with the Acquire in `Control::is_publisher_gone`.
        self.control().side().words().waiting.publisher_gone.store(1, Ordering::Release);
        self.subscribers.wake_all();
        self.release_if_unneeded();
    }
}
