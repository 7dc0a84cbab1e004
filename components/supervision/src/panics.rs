//! The text of a panic, with its place.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};
use std::sync::Arc;

thread_local! {
    static LAST_PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes panics known to the log, with their place, instead of standard error. Call once at start.
pub fn install_hook() {
    panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let place = info.location().map(ToString::to_string);
        tracing::error!(place = place.as_deref().unwrap_or("unknown"), text = text(info.payload()), "panic");
        LAST_PLACE.with(|last| {
            if let Ok(mut last) = last.try_borrow_mut() {
                *last = place;
            }
        });
    }));
}

/// What a caught panic said, and where, if the hook is installed.
pub(crate) fn describe(payload: &(dyn Any + Send)) -> Arc<str> {
    let text = text(payload);
    match LAST_PLACE.with(|last| last.try_borrow_mut().ok().and_then(|mut l| l.take())) {
        Some(place) => format!("{text} (at {place})").into(),
        None => text.into(),
    }
}

fn text(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "a panic without text",
    }
}
