//! The program that the tests run in processes of their own. Its parameter `do` selects its task.

mod sandbox;

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use blockcast::{AppError, Bytes, Level, Pod, PublisherOptions, RecvError, Session, SubscriberOptions};

type Numbers = Pod<u64>;

blockcast::main!(run);

fn run(session: Session) -> Result<(), AppError> {
    let task = session.parameter("do").unwrap_or_default();
    match &*task {
        "echo" => echo(&session),
        "publish" => publish(&session),
        "subscribe" => subscribe(&session),
        "follow" => follow(&session),
        "parameter" => say(&session, &session.parameter("long").unwrap_or_default().len().to_string()),
        "finish" => Ok(()),
        "fail" => Err("as asked".into()),
        "panic" => panic!("as asked"),
        "abort" => std::process::abort(),
        "segv" => segv(),
        "exit" => std::process::exit(session.parameter("status").unwrap_or_default().parse()?),
        "wait" => wait(&session),
        "ignore" => ignore(&session),
        "compute" => loop {
            std::hint::spin_loop();
        },
        "allocate" => allocate(&session),
        "open" => open(&session),
        "grandchild" => grandchild(&session),
        "impostor" => impostor(&session),
        "log" => log(&session),
        "flood" => flood(&session),
        "confinement" => confinement(&session),
        "escape" => sandbox::escape(&session),
        "files" => sandbox::files(&session),
        "change" => sandbox::change(&session),
        "sibling" => sandbox::sibling(&session),
        "start" => sandbox::start(&session),
        _ => Err(format!("nobody can {task:?}").into()),
    }
}

fn say(session: &Session, text: &str) -> Result<(), AppError> {
    session.log(Level::Info, text);
    Ok(())
}

/// Sends back every number, and one more.
fn echo(session: &Session) -> Result<(), AppError> {
    let mut numbers = session.blocking_subscriber::<Numbers>("in", SubscriberOptions::new())?;
    let mut answers = session.blocking_publisher::<Numbers>("out", few_blocks())?;
    say(session, &format!("running {}", std::process::id()))?;
    loop {
        let number = match numbers.blocking_recv_ref(None) {
            Ok(message) => message.view()[0],
            Err(RecvError::Ended) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        answers.blocking_loan(None)?.send(&[number + 1][..])?;
    }
}

/// Publishes numbers without end, and logs when it has begun.
fn publish(session: &Session) -> Result<(), AppError> {
    let mut numbers = session.blocking_publisher::<Numbers>("out", few_blocks())?;
    say(session, &format!("running {}", std::process::id()))?;
    for number in 0.. {
        numbers.blocking_loan(None)?.send(&[number][..])?;
    }
    Ok(())
}

/// Keeps samples, stays attached to a message, and waits.
fn subscribe(session: &Session) -> Result<(), AppError> {
    let mut numbers = session.blocking_subscriber::<Numbers>("in", SubscriberOptions::new())?;
    say(session, &format!("running {}", std::process::id()))?;
    let _samples = [numbers.blocking_recv(None)?, numbers.blocking_recv(None)?];
    let _message = numbers.blocking_recv_ref(None)?;
    say(session, "attached")?;
    session.blocking_shutdown();
    Ok(())
}

/// Receives until the end, and says where the numbers begin.
fn follow(session: &Session) -> Result<(), AppError> {
    let mut numbers = session.blocking_subscriber::<Numbers>("out", SubscriberOptions::new())?;
    say(session, &format!("running {}", std::process::id()))?;
    loop {
        match numbers.blocking_recv_ref(None) {
            Ok(message) if message.view() == [0] => say(session, "begins")?,
            Ok(_) => {}
            Err(RecvError::Ended) => return say(session, "ends"),
            Err(error) => return Err(error.into()),
        }
    }
}

fn few_blocks() -> PublisherOptions {
    PublisherOptions::new().blocks(8).block_size(64)
}

fn segv() -> Result<(), AppError> {
    // SAFETY: unsound on purpose. The process is meant to end here.
    unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
    Ok(())
}

fn wait(session: &Session) -> Result<(), AppError> {
    say(session, &format!("running {}", std::process::id()))?;
    session.blocking_shutdown();
    say(session, "asked to finish")
}

/// Ignores all requests to end.
fn ignore(session: &Session) -> Result<(), AppError> {
    say(session, &format!("running {}", std::process::id()))?;
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Uses memory until the system refuses.
fn allocate(session: &Session) -> Result<(), AppError> {
    let wanted: usize = session.parameter("bytes").unwrap_or_default().parse()?;
    let memory = vec![1_u8; wanted];
    say(session, &format!("{} bytes", memory.iter().map(|&byte| usize::from(byte)).sum::<usize>()))
}

/// Opens topics, and logs the results.
fn open(session: &Session) -> Result<(), AppError> {
    let mut publishers = Vec::new();
    for topic in session.parameter("publish").unwrap_or_default().split_whitespace() {
        match session.blocking_publisher::<Bytes>(topic, PublisherOptions::new().blocks(2).block_size(64)) {
            Ok(publisher) => publishers.push(publisher),
            Err(error) => say(session, &error.to_string())?,
        }
    }
    let mut subscribers = Vec::new();
    for topic in session.parameter("subscribe").unwrap_or_default().split_whitespace() {
        match session.blocking_subscriber::<Bytes>(topic, SubscriberOptions::new()) {
            Ok(subscriber) => subscribers.push(subscriber),
            Err(error) => say(session, &error.to_string())?,
        }
    }
    say(session, &format!("{} and {}", publishers.len(), subscribers.len()))
}

/// Starts a process that outlives this one unless something ends it.
fn grandchild(session: &Session) -> Result<(), AppError> {
    let mut command = Command::new("sleep");
    command.arg("100000");
    if session.parameter("leaves").is_some() {
        command.process_group(0);
    }
    let child = command.spawn()?;
    say(session, &format!("started {}", child.id()))
}

/// Forks a process that sends a message in the name of this one.
fn impostor(session: &Session) -> Result<(), AppError> {
    let socket = std::fs::read_dir("/proc/self/fd")?.filter_map(Result::ok).find_map(|entry| {
        let target = std::fs::read_link(entry.path()).ok()?;
        let is_socket = target.to_string_lossy().starts_with("socket:");
        // It has no other socket.
        if is_socket { entry.file_name().to_string_lossy().parse::<i32>().ok() } else { None }
    });
    let socket = socket.ok_or("there is a socket")?;
    // SAFETY: the child only makes system calls.
    match unsafe { libc::fork() } {
        0 => {
            // The number of the message `Announced`.
            let packet = [11_u8];
            // SAFETY: the packet is readable. The process ends here.
            unsafe {
                libc::send(socket, packet.as_ptr().cast(), packet.len(), 0);
                libc::_exit(0)
            }
        }
        // SAFETY: no place for the status.
        pid => assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid),
    }
    session.blocking_shutdown();
    Ok(())
}

fn log(session: &Session) -> Result<(), AppError> {
    session.log(Level::Warn, "by the session\nin one line");
    println!("standard output");
    eprintln!("standard error");
    print!("not terminated");
    std::io::stdout().flush()?;
    Ok(())
}

fn flood(session: &Session) -> Result<(), AppError> {
    for number in 0..5000 {
        session.log(Level::Info, &number.to_string());
        println!("{number}");
    }
    Ok(())
}

/// Logs the descriptors, limits and rights of the process.
fn confinement(session: &Session) -> Result<(), AppError> {
    for (name, value) in std::env::vars() {
        say(session, &format!("env {name}={value}"))?;
    }
    // By then, this program has opened other descriptors. They are closed when it becomes another one.
    for entry in std::fs::read_dir("/proc/self/fd")?.filter_map(Result::ok) {
        let (fd, target) = (entry.file_name(), std::fs::read_link(entry.path()).unwrap_or_default());
        say(session, &format!("fd {} {}", fd.display(), target.display()))?;
    }
    for line in std::fs::read_to_string("/proc/self/limits")?.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        say(session, &format!("limit {}", words.join(" ")))?;
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    for line in status.lines().filter(|line| line.starts_with("NoNewPrivs") || line.starts_with("SigIgn")) {
        say(session, &format!("status {}", line.split_whitespace().collect::<Vec<_>>().join(" ")))?;
    }
    let folder = std::env::current_dir()?;
    say(session, &format!("folder {}", folder.display()))?;
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    say(session, &format!("arguments {arguments:?}"))?;
    // SAFETY: system calls without arguments.
    let leads = unsafe { libc::getpgid(0) == libc::getpid() };
    say(session, &format!("leads its group: {leads}"))
}
