//! [`export!`](crate::export) and [`main!`](crate::main): make an app a component, or a program.

/// Exports `run` as the app of this crate. Use it once per crate.
///
/// Built for wasm32, the crate becomes a guest. Built with `--cfg blockcast_library`, it becomes a shared
/// library. In any other build, the macro only checks that `run` is an app, which the program passes to the
/// broker itself.
///
/// `run` is an `async fn(Session) -> Result<(), AppError>`, or a plain `fn` of the same form. Any error that
/// implements `Display` will do.
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
/// A plain `fn` uses the blocking calls. Linked in or in a library, it has a thread of its own. A guest is
/// suspended while it waits:
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
/// If the app is cancelled, the blocking call in which it waits does not return. Linked in or in a library,
/// the stack is unwound from there. A guest simply ends. Guests have no `Instant` to express a deadline.
/// Instead, use [`Session::block_on`](crate::Session::block_on) to wait for several futures, with
/// [`Session::sleep`](crate::Session::sleep) as one of them.
///
/// Anything else does not compile, in any deployment:
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
/// blockcast::export!(run); // only one app per crate
/// ```
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
#[macro_export]
macro_rules! export {
    ($run:path) => {
        #[allow(dead_code, reason = "checks that there is only one app, and that it is one")]
        const ONE_APP_IS_EXPORTED: fn() = || $crate::check_app($run);
    };
}

/// Compiles only if `app` is an app.
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
#[doc(hidden)]
pub fn check_app<K>(app: impl crate::App<K>) {
    drop(app);
}

/// Exports `run` as the app of this guest. It is an `async fn(Session) -> Result<(), AppError>` or a plain
/// `fn` of the same form. Any error that implements `Display` will do. Use it once per crate.
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

/// Exports `run` as the app of this shared library. It is an `async fn(Session) -> Result<(), AppError>` or a
/// plain `fn` of the same form. Any error that implements `Display` will do. Use it once per crate.
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
                "build libraries with `panic = \"unwind\"`, so that a panic ends only the component and not its host"
            );

            // In a section of its own, so that its version can be read without running any code.
            #[unsafe(link_section = ".blockcast")]
            static BLOCKCAST_APP: $crate::client::abi::App = $crate::client::abi::App::new(
                blockcast_run,
                concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")),
            );

            unsafe extern "C" fn blockcast_run(host: *const $crate::client::abi::Host) -> u32 {
                // SAFETY: the host passes its table.
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

/// Makes `run` the whole program: defines its `main`. `run` is the function of an app, as for
/// [`export!`](crate::export).
///
/// If a broker starts the program with [`Broker::spawn_process`](crate::Broker::spawn_process), the app is a
/// component of that broker. If it is started by hand, it [connects](crate::Connection) to the host at the
/// path in the variable `BLOCKCAST_SOCKET`, or else at the [default path](crate::default_socket). Then the
/// arguments are the app's parameters, as in `words file=README.md fast=1`, and its log goes to standard
/// error. The first `SIGINT` or `SIGTERM` asks it to finish, the second one ends it.
///
/// ```no_run
/// use blockcast::{AppError, Pod, Session};
///
/// fn run(session: Session) -> Result<(), AppError> {
///     let mut numbers = session.blocking_publisher::<Pod<u32>>("numbers", Default::default())?;
///     numbers.try_loan()?.send(&[1, 2, 3][..])?;
///     Ok(())
/// }
/// blockcast::main!(run);
/// ```
///
/// # Exit status
/// | status | meaning |
/// | --- | --- |
/// | 0 | the app finished |
/// | 1 | it failed, or was cancelled |
/// | 2 | it was not started: there is no host, or the arguments make no sense |
/// | 101 | it panicked |
/// | 128 and more | a second signal ended the program: 128 and the number of the signal |
#[cfg(not(any(target_family = "wasm", blockcast_library)))]
#[macro_export]
macro_rules! main {
    ($run:path) => {
        fn main() -> ::std::process::ExitCode {
            $crate::process_main($run)
        }
    };
}

/// Makes `run` the whole program. In builds for guests and libraries, whose hosts call an
/// [exported](crate::export) app instead, the program does nothing.
#[cfg(any(target_family = "wasm", blockcast_library))]
#[macro_export]
macro_rules! main {
    ($run:path) => {
        fn main() {
            let _ = $run;
        }
    };
}
