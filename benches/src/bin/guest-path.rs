//! Lets a guest publish a given number of messages of 64 bytes, so that callgrind can count the instructions
//! of one (benches/PROFILING.md).

use blockcast_bench::guests::publishing;
use blockcast_bench::work::{Content, Shape, Wait};

const SHAPE: Shape =
    Shape { payload: 64, subscribers: 1, blocks: 64, content: Content::Marked, wait: Wait::Spin };

fn main() {
    let mut paths = publishing(SHAPE);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = match &arguments[..] {
        [] => {
            paths.iter().for_each(|path| println!("{}", path.candidate));
            return;
        }
        [name, messages] => paths.iter_mut().find(|path| path.candidate == *name).zip(messages.parse().ok()),
        _ => None,
    };
    let Some((path, messages)) = wanted else {
        eprintln!("usage: guest-path [CANDIDATE MESSAGES]; without arguments it names the candidates");
        std::process::exit(2);
    };
    if let Err(failure) = path.run(messages) {
        eprintln!("guest-path: {failure}");
        std::process::exit(1);
    }
}
