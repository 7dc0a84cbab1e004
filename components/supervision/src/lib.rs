//! The tree of supervised actors and tasks.
//!
//! actix gives actors, not a tree: an actor that panics is gone. Here a [`SupervisorSpec`] names children and how they are
//! built; [`Tree::start`] runs it. A child that panics, fails or ends is rebuilt from its factory by the rules of its
//! supervisor; what hold a [`Ref`] to it keep it over every restart. Restarts have two phases: everything affected stops
//! in reverse order, then starts in order. Too many restarts in a period stop the supervisor and escalate to its parent;
//! at the root they end [`Tree::wait`].
//!
//! A child's future is owned by its launcher: a panic is caught where the future is polled, so that it is seen, named and
//! never takes a neighbour with it. Nothing here knows what the children do.
//!
//! A trap of actix: a handler that returns `ResponseFuture` has it run as a detached task, which outlives the actor and
//! whose panic only the caller sees. Return `ResponseActFuture`, or spawn on the actor's context.

mod actor;
pub mod fault;
mod gate;
mod launch;
mod panics;
pub mod policy;
mod reference;
mod spec;
mod supervisor;
mod task;
#[cfg(test)]
mod tests;
mod tree;
mod watchdog;

pub use gate::GateState;
pub use panics::install_hook;
pub use policy::{Backoff, Intensity, Restart, Strategy};
pub use reference::{CallError, Ref};
pub use spec::{ChildHandle, ChildSpec, Exit, Placement, SupervisorSpec};
pub use supervisor::{ChildError, SupervisorRef};
pub use task::TaskContext;
pub use tree::{Kind, NodeState, Tree, TreeSnapshot};
