//! The resident and charged memory that the system reports falls with an array's length, and is zero after
//! drop. The only test of its process, so that no other one takes the addresses that are released.
#![cfg(all(target_os = "linux", not(pagewise_model)))]

use pagewise::PageVec;

/// Bytes that are resident, and bytes that are charged, in a range of addresses.
fn memory_at(start: usize, len: usize) -> (usize, usize) {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut resident, mut charged) = (0, 0);
    let (mut inside, mut rss, mut size) = (false, 0, 0);
    for line in text.lines() {
        let first = line.split_whitespace().next().unwrap();
        if let Some((from, to)) = first.split_once('-')
            && let (Ok(from), Ok(to)) =
                (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
        {
            inside = from >= start && to <= start + len;
            size = to - from;
        } else if let Some(kib) = line.strip_prefix("Rss:") {
            rss = kib.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10;
        } else if let Some(flags) = line.strip_prefix("VmFlags:")
            && inside
        {
            resident += rss;
            charged += if flags.split_whitespace().any(|flag| flag == "ac") { size } else { 0 };
        }
    }
    (resident, charged)
}

#[test]
fn residency_and_charge_follow_the_length_down_and_are_zero_after_drop() {
    const MAX: usize = 256 << 20;
    let mut vec = PageVec::<u8>::builder(MAX).guard_pages(1).build().unwrap();
    let start = vec.as_ptr() as usize;
    vec.resize(64 << 20, 7);
    let (resident, charged) = memory_at(start, MAX);
    assert!(resident >= 64 << 20);
    assert_eq!(charged, vec.committed());
    vec.truncate(1 << 20);
    let (resident, charged) = memory_at(start, MAX);
    assert!((1 << 20..=3 << 19).contains(&resident), "{resident}");
    assert_eq!(charged, vec.committed());
    vec.clear();
    vec.shrink_to_fit();
    assert_eq!(memory_at(start, MAX), (0, 0));
    vec.push(1);
    let identity = vec.as_ptr() as usize;
    assert_eq!(identity, start);
    drop(vec);
    assert_eq!(memory_at(start, MAX), (0, 0));
}
