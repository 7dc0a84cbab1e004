//! The object model that everything above the store shares: names of resources, requests and their answers, errors,
//! encoded objects.
//!
//! Knows Kubernetes' conventions and no particular component. Performs no I/O and reads no clock.

pub mod decode;
pub mod error;
pub mod facts;
pub mod field;
pub mod name;
pub mod object;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod request;
pub mod schema;
pub mod selector;
pub mod servers;
pub mod user;
pub mod validate;

pub use error::{ApiError, Reason, Status, StatusCause, StatusDetails};
pub use name::{GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
pub use object::Object;
pub use quantity::Quantity;
pub use request::{
    Body, ListOptions, ObjectList, PatchType, Propagation, ResourceRequest, ResourceResponse, Verb, WatchEvent,
    WatchEventType, WriteOptions,
};
pub use servers::{ListedServer, SERVERS_PATH, ServerList};
pub use user::UserInfo;
