//! Which container a task belongs to.

pub mod attribute;
pub mod claim;
pub mod life;
pub mod path;
pub mod place;
pub mod registry;
pub mod say;
