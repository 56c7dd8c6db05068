//! How long one command takes at the greatest length VPD page B0h allows, alone on a mirrored LUN in the page cache:
//! it holds its range meanwhile. Fails when one takes a second or more.
//!
//! The lengths come from the page itself, so that whoever raises a limit sees here what that does.

use std::io;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};
use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes};
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Settings, cdb};

/// No command may hold its range this long.
const TIME_MAX: Duration = Duration::from_secs(1);

const BLOCK_BYTES: usize = 512;

const LUN: Lun = Lun { number: 0, mib: 512, main: 0, mirror: true };

/// Measures the longest commands.
#[derive(Parser)]
#[command(after_help = "Exit status: 0 if every command took less than a second; 1 if one took longer; \
                  2 for a mistake on the command line.")]
struct Arguments {
    /// How often each command is executed
    #[arg(long, default_value_t = 7)]
    times: usize,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// What VPD page B0h (SBC-3 6.6.4) says, in blocks.
struct Limits {
    transfer: u32,
    compare_and_write: u8,
    unmap: u32,
    unmap_descriptors: u32,
    write_same: u32,
    /// Of ORWRITE, too, which has no field of its own.
    atomic: u32,
}

struct Case {
    name: &'static str,
    blocks: u32,
    cdb: Cdb,
    out: Vec<u8>,
    in_bytes: u32,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let appliance = Appliance::start("longest", &[LUN], Processes::Two)?;
    let mut sessions = [log_in(&appliance, 0)?, log_in(&appliance, 1)?];
    let limits = limits(&mut sessions[0])?;
    let mut cases = cases(&limits);
    // No limit is told for what is not there.
    cases.retain(|case| case.blocks > 0);
    let mut rows = Vec::new();
    for case in &cases {
        let mut row = Vec::new();
        for session in &mut sessions {
            row.push(measure(session, case, &limits, arguments.times)?);
        }
        rows.push(row);
    }
    if arguments.json {
        println!("{}", to_json(&cases, &rows));
    } else {
        print(&cases, &rows);
    }
    let longest = rows.iter().flatten().map(|(_, longest)| *longest).max().unwrap_or_default();
    if longest >= TIME_MAX {
        return Err(io::Error::other(format!(
            "a command took {longest:?}, {TIME_MAX:?} and more is too long"
        )));
    }
    Ok(())
}

fn log_in(appliance: &Appliance, controller: usize) -> io::Result<Session> {
    let name = format!("iqn.1993-08.org.debian:longest{controller}");
    let mut session = Session::connect(appliance.portals[controller], Settings::linux(&name, IQN, 1))?;
    execute(&mut session, Cdb::test_unit_ready(), Vec::new(), 0)?;
    Ok(session)
}

/// Executes what must end with GOOD.
fn execute(session: &mut Session, cdb: Cdb, out: Vec<u8>, in_bytes: u32) -> io::Result<Vec<u8>> {
    let code = cdb.0[0];
    let response = session.execute(&Request { lun: LUN.number, cdb, out, in_bytes })?;
    if response.is_good() {
        Ok(response.data.to_vec())
    } else {
        Err(io::Error::other(format!("the command {code:02x}h ended with {response:?}")))
    }
}

fn limits(session: &mut Session) -> io::Result<Limits> {
    let page = execute(session, Cdb::inquiry(Some(0xb0), 64), Vec::new(), 64)?;
    let short = || io::Error::other("VPD page B0h is too short");
    let word = |at: usize| -> io::Result<u32> {
        Ok(u32::from_be_bytes(*page.get(at..).and_then(|rest| rest.first_chunk()).ok_or_else(short)?))
    };
    Ok(Limits {
        transfer: word(8)?,
        compare_and_write: *page.get(5).ok_or_else(short)?,
        unmap: word(20)?,
        unmap_descriptors: word(24)?,
        // MAXIMUM WRITE SAME LENGTH has 64 bits; the upper half is no limit of ours.
        write_same: word(40)?,
        atomic: word(44)?,
    })
}

fn cases(limits: &Limits) -> Vec<Case> {
    let transfer = limits.transfer;
    let data = vec![0xa5; transfer as usize * BLOCK_BYTES];
    let bytes = transfer * BLOCK_BYTES as u32;
    let compared = u32::from(limits.compare_and_write);
    let unmap = |descriptors: u32| {
        let (each, mut lba) = (limits.unmap / descriptors, 0);
        let ranges: Vec<(u64, u32)> = (0..descriptors)
            .map(|_| {
                lba += u64::from(each);
                (lba - u64::from(each), each)
            })
            .collect();
        cdb::unmap_list(&ranges)
    };
    let (one, many) = (unmap(1), unmap(limits.unmap_descriptors));
    let same = limits.write_same;
    let atomic = limits.atomic;
    let atomic_data = &data[..atomic as usize * BLOCK_BYTES];
    let case =
        |name, blocks, cdb, out: &[u8], in_bytes| Case { name, blocks, cdb, out: out.to_vec(), in_bytes };
    vec![
        case("READ", transfer, Cdb::read_16(0, transfer), &[], bytes),
        case("WRITE", transfer, Cdb::write_16(0, transfer, false), &data, 0),
        case("WRITE, FUA", transfer, Cdb::write_16(0, transfer, true), &data, 0),
        case("VERIFY", transfer, Cdb::verify_16(0, transfer), &data, 0),
        case("WRITE AND VERIFY", transfer, Cdb::write_and_verify_16(0, transfer), &data, 0),
        case("WRITE ATOMIC", atomic, Cdb::write_atomic_16(0, atomic as u16, false), atomic_data, 0),
        case("ORWRITE", atomic, Cdb::or_write_16(0, atomic, false), atomic_data, 0),
        case(
            "COMPARE AND WRITE",
            compared,
            Cdb::compare_and_write(0, limits.compare_and_write),
            &data[..2 * compared as usize * BLOCK_BYTES],
            0,
        ),
        case("WRITE SAME", same, Cdb::write_same_16(0, same, false), &[0x5a; BLOCK_BYTES], 0),
        case("WRITE SAME, zeros", same, Cdb::write_same_16(0, same, false), &[0; BLOCK_BYTES], 0),
        case("WRITE SAME, UNMAP", same, Cdb::write_zeros_16(0, same, true), &[], 0),
        case("UNMAP, one range", limits.unmap, Cdb::unmap(one.len() as u16), &one, 0),
        case("UNMAP, most ranges", limits.unmap, Cdb::unmap(many.len() as u16), &many, 0),
    ]
}

/// Median and longest time.
fn measure(
    session: &mut Session,
    case: &Case,
    limits: &Limits,
    times: usize,
) -> io::Result<(Duration, Duration)> {
    let mut taken = Vec::new();
    for _ in 0..times.max(1) {
        prepare(session, case, limits)?;
        let begun = Instant::now();
        execute(session, case.cdb.clone(), case.out.clone(), case.in_bytes)?;
        taken.push(begun.elapsed());
    }
    taken.sort_unstable();
    Ok((taken[taken.len() / 2], taken[taken.len() - 1]))
}

/// Fills what the command works on: with what VERIFY compares, and so that there is something to make holes of.
fn prepare(session: &mut Session, case: &Case, limits: &Limits) -> io::Result<()> {
    let data = vec![0xa5; limits.transfer as usize * BLOCK_BYTES];
    let mut lba = 0;
    while lba < case.blocks {
        execute(session, Cdb::write_16(lba.into(), limits.transfer, false), data.clone(), 0)?;
        lba += limits.transfer;
    }
    // What was prepared is not to be flushed by what is measured.
    execute(session, Cdb::synchronize_cache_16(), Vec::new(), 0)?;
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn to_json(cases: &[Case], rows: &[Vec<(Duration, Duration)>]) -> Value {
    let row = |(case, times): (&Case, &Vec<(Duration, Duration)>)| {
        let of = |at: usize| {
            times.get(at).map_or(Value::Null, |(median, longest)| {
            json!({ "median_ms": milliseconds(*median), "longest_ms": milliseconds(*longest) })
        })
        };
        json!({ "command": case.name, "blocks": case.blocks, "main": of(0), "sub": of(1) })
    };
    json!({ "time_max_ms": milliseconds(TIME_MAX), "commands": cases.iter().zip(rows).map(row).collect::<Vec<_>>() })
}

fn print(cases: &[Case], rows: &[Vec<(Duration, Duration)>]) {
    println!("| one command, mirrored, cached | KiB | main ms | main, longest | sub ms | sub, longest |");
    println!("|---|---|---|---|---|---|");
    for (case, row) in cases.iter().zip(rows) {
        let kib = u64::from(case.blocks) * BLOCK_BYTES as u64 / 1024;
        let times: Vec<String> = row
            .iter()
            .map(|(median, longest)| format!("{:.1} | {:.1}", milliseconds(*median), milliseconds(*longest)))
            .collect();
        println!("| {} | {kib} | {} |", case.name, times.join(" | "));
    }
}
