//! The parts of a [`Writer`] that do not depend on the host.

use std::time::Instant;

use super::host::{RawLoan, Writer};
use super::park;
use crate::error::LoanError;

impl Writer {
    /// Always `false`: the host takes care of forks.
    #[must_use]
    pub const fn is_inherited(&self) -> bool {
        false
    }

    /// Like [`try_loan`](Self::try_loan), but blocks the thread until a block comes free, or until
    /// `deadline`. In a guest, its other tasks do not run meanwhile: in `async` code, use
    /// [`poll_loanable`](Self::poll_loanable).
    ///
    /// # Errors
    /// [`LoanError::TooLarge`] at once, [`LoanError::Deadline`] at the deadline.
    pub fn loan(&mut self, len: usize, deadline: Option<Instant>) -> Result<RawLoan<'_>, LoanError> {
        park::until(deadline, |cx| self.poll_loanable(cx, len)).unwrap_or(Err(LoanError::Deadline))?;
        self.try_loan(len)
    }
}
