//! Making an app's `async fn` the entry point of a component.

/// Makes `run` the app that a wasm component of this crate consists of. Natively it does nothing: there the
/// function is given to the broker.
///
/// `run` is an `async fn(Session) -> Result<(), AppError>`; any error that can be displayed will do. Use it
/// once per crate.
///
/// ```
/// use blockcast::{AppError, Level, Session};
///
/// pub async fn run(session: Session) -> Result<(), AppError> {
///     session.log(Level::Info, "nothing to do");
///     Ok(())
/// }
/// blockcast::export!(run);
/// ```
#[macro_export]
macro_rules! export {
    ($run:path) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct App;

            impl $crate::guest::bindings::Guest for App {
                fn run() -> u32 {
                    $crate::guest::start($run)
                }
            }

    $crate::guest::bindings::export_app!(App with_types_in $crate::guest::bindings);
        };
    };
}
