//! The numbers that stand for options in the tables, and back.

use super::values::{
    OVERFLOW_BLOCK, OVERFLOW_DROP_NEWEST, OVERFLOW_DROP_OLDEST, REUSE_BY_SIZE, REUSE_HOTTEST, REUSE_OLDEST,
    TIMESTAMPS_COARSE, TIMESTAMPS_OFF, TIMESTAMPS_PRECISE,
};
use crate::options::{Overflow, Reuse, Timestamps};

/// Gives an enum of options its numbers in the tables.
macro_rules! codes {
    ($options:ident: $($case:ident = $code:ident,)+) => {
        impl $options {
            /// The number that stands for it in the tables of [`abi`](crate::abi).
            #[must_use]
            pub fn abi_code(self) -> u32 {
                match self {
                    $(Self::$case => $code,)+
                }
            }

            /// The option with this number in the tables of [`abi`](crate::abi), if there is one.
            #[must_use]
            pub fn from_abi_code(code: u32) -> Option<Self> {
                match code {
                    $($code => Some(Self::$case),)+
                    _ => None,
                }
            }
        }
    };
}

codes! { Overflow:
    Block = OVERFLOW_BLOCK, DropOldest = OVERFLOW_DROP_OLDEST, DropNewest = OVERFLOW_DROP_NEWEST,
}
codes! { Timestamps: Off = TIMESTAMPS_OFF, Coarse = TIMESTAMPS_COARSE, Precise = TIMESTAMPS_PRECISE, }
codes! { Reuse: BySize = REUSE_BY_SIZE, Oldest = REUSE_OLDEST, Hottest = REUSE_HOTTEST, }
