//! All tests that hold for components and core modules alike.

#[path = "broker.rs"]
mod broker;
#[path = "delivery.rs"]
mod delivery;
#[path = "donations.rs"]
mod donations;
#[path = "in_place/mod.rs"]
mod in_place;
#[path = "lifecycle.rs"]
mod lifecycle;
#[path = "memory_blocks.rs"]
mod memory_blocks;
#[path = "publishing.rs"]
mod publishing;
#[path = "straight_line.rs"]
mod straight_line;
#[path = "texts.rs"]
mod texts;
#[path = "violations.rs"]
mod violations;
#[path = "zero_copy.rs"]
mod zero_copy;

use super::KIND;
