//! The results of the helpers of [`wat::component`](super::wat::component) for each error: -1 - its number.

pub const NO_STORAGE: i32 = -1;
pub const BUSY: i32 = -2;
pub const WRONG_SIZE: i32 = -3;
pub const INTERNAL: i32 = -4;
pub const DENIED: i32 = -5;
pub const CLOSED: i32 = -7;
pub const EXHAUSTED: i32 = -8;
pub const TOO_LARGE: i32 = -9;
pub const INVALID_PAYLOAD: i32 = -10;
pub const INVALID_HANDLE: i32 = -11;
pub const OUT_OF_BOUNDS: i32 = -12;
pub const LIMIT: i32 = -13;
