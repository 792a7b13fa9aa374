//! Brokers that bridges connect, in one process and in several. Some tests run this program again for the
//! other processes.

mod batches;
mod checks;
mod clients;
mod faults;
mod hostile;
mod hosting;
mod messages;
mod networks;
mod processes;
mod proxy;
mod recovery;
mod restarts;
mod ring;
mod room;
mod stranger;
mod support;
mod tls;
mod tool;
mod twins;
mod wire;
