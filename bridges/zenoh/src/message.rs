//! [`Incoming`]: what has arrived, and what of it is left to do.

use std::borrow::Cow;

use blockcast_bridge_core::{Attachment, BatchError, Origin, Unpacking};
use zenoh::bytes::ZBytes;

/// A publisher elsewhere: a broker and its number there, or all clients that are not bridges together.
pub(crate) type Remote = Option<(Origin, u64)>;

/// A message, a batch of them, or the end of a publisher.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// `None` from a client that is not a bridge.
    pub(crate) attachment: Option<Attachment>,
    pub(crate) payload: ZBytes,
    /// Messages that are missing before it and not reported yet.
    pub(crate) missing: u64,
    /// The position of the first message of its publisher that was dropped before it, if none has arrived
    /// since.
    pub(crate) dropped: Option<u64>,
    /// Whether its number was taken note of.
    pub(crate) is_noted: bool,
    /// What is left of a batch. Its payload is in one piece.
    rest: Option<Unpacking>,
}

impl Incoming {
    /// # Errors
    /// [`BatchError`] if the payload is not the batch that the attachment says.
    pub(crate) fn new(attachment: Option<Attachment>, payload: ZBytes) -> Result<Self, BatchError> {
        let several = attachment.map_or(1, |attachment| attachment.messages);
        let (payload, rest) = match several {
            0 | 1 => (payload, None),
            _ => {
                let joined = match payload.to_bytes() {
                    Cow::Owned(joined) => Some(joined),
                    Cow::Borrowed(_) => None,
                };
                let payload = joined.map_or(payload, ZBytes::from);
                let rest = Unpacking::new(&payload.to_bytes(), several)?;
                (payload, Some(rest))
            }
        };
        Ok(Self { attachment, payload, missing: 0, dropped: None, is_noted: false, rest })
    }

    pub(crate) fn remote(&self) -> Remote {
        self.attachment.map(|attachment| (attachment.origin, attachment.publisher))
    }

    /// Whether its publisher has ended.
    pub(crate) fn is_end(&self) -> bool {
        self.attachment.is_some_and(|attachment| attachment.is_end())
    }

    pub(crate) fn is_batch(&self) -> bool {
        self.rest.is_some()
    }

    /// The number of messages that are left.
    pub(crate) fn messages(&self) -> usize {
        self.rest.map_or(usize::from(!self.is_end()), |rest| rest.messages() as usize)
    }

    /// Passes the messages of a batch that are left to `use_them`.
    pub(crate) fn with_rest<R>(&self, use_them: impl FnOnce(&mut dyn Iterator<Item = &[u8]>) -> R) -> R {
        let payload = self.payload.to_bytes();
        let mut messages = self.rest.into_iter().flat_map(|rest| rest.iter(&payload));
        use_them(&mut messages)
    }

    /// Leaves out the next messages of a batch. Returns the number of their bytes.
    pub(crate) fn skip(&mut self, messages: u32) -> usize {
        let payload = self.payload.to_bytes();
        let Some(rest) = &mut self.rest else { return 0 };
        let skipped = std::iter::from_fn(|| rest.next(&payload));
        skipped.take(messages as usize).map(<[u8]>::len).sum()
    }

    /// Bytes of the next message of a batch.
    pub(crate) fn next_len(&self) -> usize {
        let payload = self.payload.to_bytes();
        self.rest.and_then(|mut rest| rest.next(&payload)).map_or(0, <[u8]>::len)
    }
}

#[cfg(test)]
mod tests {
    use blockcast_bridge_core::Packing;

    use super::*;

    #[test]
    fn a_batch_in_parts_is_read_and_left_out_message_by_message() {
        let mut packing = Packing::default();
        assert!([&b"one"[..], b"", b"three"].iter().all(|message| packing.push(message)));
        let (bytes, _) = packing.take();
        let mut parts = ZBytes::writer();
        bytes.chunks(5).for_each(|part| parts.append(ZBytes::from(part)));
        let parts = parts.finish();
        assert!(parts.slices().count() > 1);
        let attachment = Attachment::message(Origin::new(1), 2, 3);
        let mut batch = Incoming::new(Some(attachment.messages(3)), parts.clone()).expect("a batch");
        let rest = |batch: &Incoming| batch.with_rest(|rest| rest.map(<[u8]>::to_vec).collect::<Vec<_>>());
        assert_eq!(
            (batch.messages(), rest(&batch)),
            (3, vec![b"one".to_vec(), Vec::new(), b"three".to_vec()])
        );
        assert_eq!((batch.next_len(), batch.skip(1), batch.next_len()), (3, 3, 0));
        assert_eq!((batch.messages(), rest(&batch)), (2, vec![Vec::new(), b"three".to_vec()]));
        assert_eq!((batch.skip(2), batch.messages(), batch.skip(9), batch.next_len()), (5, 0, 0, 0));
        assert!(batch.is_batch() && rest(&batch).is_empty());

        for wrong in [2, 4] {
            assert!(Incoming::new(Some(attachment.messages(wrong)), parts.clone()).is_err());
        }
        let single = Incoming::new(Some(attachment), parts).expect("a message");
        assert_eq!((single.is_batch(), single.messages()), (false, 1));
        let end = Incoming::new(Some(attachment.messages(0)), ZBytes::new()).expect("an end");
        assert_eq!((end.is_end(), end.messages()), (true, 0));
    }
}
