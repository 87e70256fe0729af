//! A column of records that grows while references to earlier records are in use elsewhere.

use pagewise::PageVec;

struct Record {
    id: u64,
    name: String,
}

fn main() -> Result<(), pagewise::Error> {
    // Addresses for a billion records; memory for those that come, and never more than 64 MiB.
    let mut column = PageVec::builder(1 << 30).limit(64 << 20).name("records").build()?;
    column.push(Record { id: 0, name: String::from("first") });

    // An index of raw pointers: with a `Vec`, every growth would leave it dangling.
    let first: *const Record = &column[0];
    for id in 1..500_000 {
        column.push(Record { id, name: format!("record {id}") });
    }
    assert!(std::ptr::eq(first, &column[0]), "nothing moved");
    // SAFETY: the record was not removed, so it is where it was.
    assert_eq!(unsafe { (&*first).name.as_str() }, "first");

    let payload = column.len() * size_of::<Record>();
    println!("{} records, {payload} bytes, {} committed", column.len(), column.committed());
    assert!(column.committed() <= payload + payload / 8 + (64 << 10));

    // The limit is an error with the record in it, not a crash.
    let refused = loop {
        let id = column.len() as u64;
        if let Err(refused) = column.try_push(Record { id, name: String::new() }) {
            break refused;
        }
    };
    println!("{refused}");
    assert_eq!(refused.into_value().id, column.len() as u64);

    // Old records go, and so does their memory.
    column.truncate(1000);
    println!("{} records, {} bytes committed", column.len(), column.committed());
    assert!(column.committed() < 1 << 20);
    Ok(())
}
