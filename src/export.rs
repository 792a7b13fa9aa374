//! Making an app's function the entry point of a component.

/// Makes `run` the app that a component of this crate consists of: built for wasm32, of a guest; built with
/// `--cfg blockcast_library`, of a shared library. Otherwise it only checks that `run` is an app: linked into a program
/// it is given to the broker.
///
/// `run` is an `async fn(Session) -> Result<(), AppError>`, or a plain `fn` of the same form; any error that can be displayed will do.
/// Use it once per crate.
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
///
/// A plain `fn` uses the blocking calls. Linked in and in a library it has a thread of its own, a guest is suspended while it waits:
///
/// ```
/// use blockcast::{AppError, Pod, RecvError, Session};
///
/// pub fn run(session: Session) -> Result<(), AppError> {
///     let mut numbers = session.blocking_subscriber::<Pod<u32>>("numbers", Default::default())?;
///     let mut sums = session.blocking_publisher::<Pod<u32>>("sums", Default::default())?;
///     loop {
///         let sum = match numbers.blocking_recv_ref(None) {
///             Ok(message) => message.view().iter().sum::<u32>(),
///             Err(RecvError::Ended) => return Ok(()),
///             Err(error) => return Err(error.into()),
///         };
///         sums.blocking_loan(None)?.send(&[sum][..])?;
///     }
/// }
/// blockcast::export!(run);
/// ```
///
/// When it is cancelled, a blocking call in which it waits does not return: linked in and in a library its stack is unwound from there,
/// a guest is gone. In a guest there is no `Instant` to make a deadline of: wait for several things with
/// [`Session::block_on`](crate::Session::block_on), of which one is [`Session::sleep`](crate::Session::sleep).
///
/// Anything else does not compile, in no deployment:
///
/// ```compile_fail,E0277
/// async fn run(lines: u32) -> Result<(), blockcast::AppError> { Ok(()) } // does not take a session
/// blockcast::export!(run);
/// ```
/// ```compile_fail,E0277
/// async fn run(session: blockcast::Session) {} // does not return a result
/// blockcast::export!(run);
/// ```
/// ```compile_fail,E0277
/// struct Silent;
/// async fn run(session: blockcast::Session) -> Result<(), Silent> { Ok(()) } // its error cannot be displayed
/// blockcast::export!(run);
/// ```
/// ```compile_fail,E0277
/// fn run(lines: u32) -> Result<(), blockcast::AppError> { Ok(()) } // does not take a session
/// blockcast::export!(run);
/// ```
/// ```compile_fail,E0277
/// fn run(session: blockcast::Session) {} // does not return a result
/// blockcast::export!(run);
/// ```
/// ```compile_fail,E0277
/// struct Silent;
/// fn run(session: blockcast::Session) -> Result<(), Silent> { Ok(()) } // its error cannot be displayed
/// blockcast::export!(run);
/// ```
/// ```compile_fail,E0428
/// async fn run(session: blockcast::Session) -> Result<(), blockcast::AppError> { Ok(()) }
/// blockcast::export!(run);
/// blockcast::export!(run); // there is one already
/// ```
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
#[macro_export]
macro_rules! export {
    ($run:path) => {
        #[allow(dead_code, reason = "checks that there is one app, and that it is one")]
        const ONE_APP_IS_EXPORTED: fn() = || $crate::check_app($run);
    };
}

/// Compiles if `app` is one.
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
#[doc(hidden)]
pub fn check_app<K>(app: impl crate::App<K>) {
    drop(app);
}

/// Makes `run` the app that a guest of this crate consists of: an `async fn(Session) -> Result<(), AppError>` or a plain `fn` of the
/// same form; any error that can be displayed will do. Use it once per crate.
#[cfg(target_family = "wasm")]
#[macro_export]
macro_rules! export {
    ($run:path) => {
        #[allow(dead_code, reason = "there is one app")]
        const ONE_APP_IS_EXPORTED: () = {
            struct App;

            impl $crate::client::export::Guest for App {
                fn run() -> u32 {
                    $crate::client::start($run)
                }
            }

    $crate::client::export::export_app!(App with_types_in $crate::client::export);
        };
    };
}

/// Makes `run` the app that a shared library of this crate consists of: an `async fn(Session) -> Result<(), AppError>` or a plain
/// `fn` of the same form; any error that can be displayed will do. Use it once per crate.
///
/// The library exports one symbol, `blockcast_app`; see [`abi`](crate::client::abi).
#[cfg(all(blockcast_library, not(target_family = "wasm")))]
#[macro_export]
macro_rules! export {
    ($run:path) => {
        #[allow(dead_code, reason = "there is one app")]
        const ONE_APP_IS_EXPORTED: () = {
            #[cfg(panic = "abort")]
            compile_error!(
                "a library is built with `panic = \"unwind\"`, so that a panic ends it alone and not its host"
            );

            // In a section of its own, so that its version can be read without running anything.
            #[unsafe(link_section = ".blockcast")]
            static BLOCKCAST_APP: $crate::client::abi::App = $crate::client::abi::App::new(
                blockcast_run,
                concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")),
            );

            unsafe extern "C" fn blockcast_run(host: *const $crate::client::abi::Host) -> u32 {
                // SAFETY: the host calls this with its table.
                unsafe { $crate::client::start(host, $run) }
            }

            #[unsafe(no_mangle)]
            extern "C" fn blockcast_app(
                _host: *const $crate::client::abi::Host,
            ) -> *const $crate::client::abi::App {
                &raw const BLOCKCAST_APP
            }
        };
    };
}
