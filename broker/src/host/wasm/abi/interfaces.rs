//! The names under which guests import the host's interfaces.

pub(crate) const TYPES: &str = "blockcast:blocks/types@0.1.0";
pub(crate) const TOPICS: &str = "blockcast:blocks/topics@0.1.0";
pub(crate) const BLOCKS: &str = "blockcast:blocks/memory-blocks@0.1.0";
pub(crate) const SESSION: &str = "blockcast:blocks/session@0.1.0";
