//! Extracts the core module from a component.

/// Returns the first core module of a component, which is the program itself. If the file is a core module,
/// returns the file.
pub fn core_module(file: &[u8]) -> Option<&[u8]> {
    const CORE_MODULE: u8 = 1;
    if file.get(4..8)? == [1, 0, 0, 0] {
        return Some(file);
    }
    let mut rest = file.get(8..)?;
    while let [section, size @ ..] = rest {
        // Reads a number in LEB128.
        let bytes = size.iter().position(|byte| byte & 0x80 == 0)? + 1;
        let len = size[..bytes].iter().rev().fold(0, |len, byte| len << 7 | usize::from(byte & 0x7f));
        let content = size.get(bytes..bytes + len)?;
        if *section == CORE_MODULE {
            return Some(content);
        }
        rest = &size[bytes + len..];
    }
    None
}
